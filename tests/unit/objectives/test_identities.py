"""Where objectives meet: equal bounds, equal rows, and which bound lies below which."""

import numpy as np
import pytest
import tensorflow as tf

from iwae_tf.evaluation import jackknife
from iwae_tf.objectives import (
    CIWAE,
    ELBO,
    JVI,
    MIWAE,
    OBJECTIVES,
    PIWAE,
    STL,
    TVO,
    VRIWAE,
    DReG,
    DReGAlpha,
    IWAEBound,
    RWSDReG,
    VRMax,
    objective_class,
)

FLOAT32 = {"rtol": 1e-5, "atol": 1e-7}  # exp of float32 numbers, in another order


def _log_w(k=6, batch=50, mean=0.0, spread=3.0):
    return tf.constant(np.random.default_rng(k).normal(mean, spread, (k, batch)).astype(np.float32))


def _rows(objective, log_w):
    rows = objective.gradient_weights(log_w)
    return np.stack([np.zeros(log_w.shape) if row is None else row for row in rows[:3]])


SAME = {
    "miwae of one group is iwae": (MIWAE(6, groups=1), IWAEBound(6)),
    "miwae of groups of one is elbo": (MIWAE(6, groups=6), ELBO(6)),
    "piwae of one group is iwae": (PIWAE(6, groups=1), IWAEBound(6)),
    "ciwae without elbo is iwae": (CIWAE(6, beta=0.0), IWAEBound(6)),
    "ciwae of elbo alone is elbo": (CIWAE(6, beta=1.0), ELBO(6)),
    "a beta to be learned starts as it was given": (CIWAE(6, beta=0.3, learn_beta=True), CIWAE(6, beta=0.3)),
    "vr-iwae of order 0 is iwae": (VRIWAE(6, alpha=0.0), IWAEBound(6)),
    "dreg-alpha at 0 is dreg": (DReGAlpha(6, alpha=0.0), DReG(6)),
    "dreg-alpha at 1 is rws-dreg": (DReGAlpha(6, alpha=1.0), RWSDReG(6)),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_the_same_bound_and_rows(one, other):
    log_w = _log_w()
    np.testing.assert_allclose(one.bound(log_w), other.bound(log_w), rtol=1e-5, atol=1e-6)  # float32
    np.testing.assert_allclose(_rows(one, log_w), _rows(other, log_w), **FLOAT32)


def test_halfway_from_dreg_to_rws_dreg_is_half_of_stls_path():
    log_w = _log_w()
    np.testing.assert_allclose(_rows(DReGAlpha(6), log_w)[1], 0.5 * _rows(STL(6), log_w)[1], **FLOAT32)


def test_the_gradients_of_one_sample_through_the_path_are_the_same():
    log_w = _log_w(k=1)
    np.testing.assert_array_equal(_rows(DReG(1), log_w), _rows(STL(1), log_w))


def test_the_renyi_bound_near_order_1_is_near_the_elbo():
    log_w = _log_w(k=50)
    alpha = 0.9999
    gap = VRIWAE(50, alpha=alpha).bound(log_w) - ELBO(50).bound(log_w)
    # To first order in 1 - alpha it is (1 - alpha) / 2 times the variance of the log-weights, here 9; rounding is 1e-6,
    # over 1 - alpha.
    np.testing.assert_allclose(gap, 0.5 * (1.0 - alpha) * np.var(log_w, axis=0), atol=5e-3)
    np.testing.assert_allclose(_rows(VRIWAE(50, alpha=alpha), log_w), _rows(ELBO(50), log_w), rtol=2e-3)


def test_the_thermodynamic_bound_of_one_point_is_the_elbo():
    log_w = _log_w()
    np.testing.assert_allclose(TVO(6, points=1).bound(log_w), ELBO(6).bound(log_w), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(_rows(TVO(6, points=1), log_w)[0], _rows(ELBO(6), log_w)[0], **FLOAT32)


def test_the_thermodynamic_bound_of_many_points_is_near_the_bound_of_the_same_samples():
    log_w = _log_w()  # the integral from 0 to 1 of the mean of log w under w^beta is log mean w, exactly
    np.testing.assert_allclose(TVO(6, points=3000).bound(log_w), IWAEBound(6).bound(log_w), atol=0.02)  # left sum
    assert (TVO(6, points=3000).bound(log_w) < IWAEBound(6).bound(log_w)).numpy().all()


def test_the_jackknife_of_two_samples_is_twice_their_bound_less_the_mean():
    log_w = _log_w(k=2)
    expected = 2.0 * IWAEBound(2).bound(log_w) - ELBO(2).bound(log_w)
    np.testing.assert_allclose(JVI(2).bound(log_w), expected, rtol=1e-5, atol=1e-5)  # float32


NEEDS_TWO = [name for name in OBJECTIVES if objective_class(name).needs_others]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("k", [3, 7, 50])
def test_the_jackknife_in_training_is_that_of_evaluation(k, order):
    log_w = _log_w(k, mean=-90.0)
    np.testing.assert_allclose(JVI(k, order=order).bound(log_w), jackknife(log_w, order), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in (*NEEDS_TWO, "jvi", "vr-max")])
def test_with_one_sample_every_bound_is_the_vaes(name):
    parameters = {"groups": 1} if name in ("miwae", "piwae") else {}
    log_w = _log_w(k=1, mean=-90.0)
    np.testing.assert_allclose(objective_class(name)(1, **parameters).bound(log_w), log_w[0], rtol=1e-6)
    np.testing.assert_allclose(VRMax(1).bound(log_w), log_w[0], rtol=1e-6)


def test_for_the_same_weights_a_looser_bound_lies_below_a_tighter_one():
    log_w = _log_w()
    rising = {
        "a chain of Renyi bounds": [ELBO(6), VRIWAE(6, alpha=0.9), VRIWAE(6, alpha=0.2), IWAEBound(6)],
        "a chain of groups": [ELBO(6), MIWAE(6, groups=3), MIWAE(6, groups=1)],
        "a chain of mixtures": [ELBO(6), CIWAE(6, beta=0.7), CIWAE(6, beta=0.1), IWAEBound(6)],
        "left sums": [ELBO(6), TVO(6, points=2), IWAEBound(6)],
        "the largest alone": [VRMax(6), IWAEBound(6), JVI(6)],
    }
    for chain in rising.values():
        bounds = np.stack([objective.bound(log_w) for objective in chain])
        assert (np.diff(bounds, axis=0) > 0.0).all()
    assert (IWAEBound(6).bound(log_w).numpy() < log_w.numpy().max(axis=0)).all()
