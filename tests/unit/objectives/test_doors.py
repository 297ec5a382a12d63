"""Values that an objective refuses, with what its error advises, and the settings that each declares."""

import types

import pytest
import tensorflow as tf
from objective_table import TABLE, declared_settings, made, of_kind
from small_models import small_model

from iwae_tf import objectives
from iwae_tf.errors import InputError
from iwae_tf.objectives import (
    CIWAE,
    JVI,
    MIWAE,
    PIWAE,
    TVO,
    VRIWAE,
    DReG,
    DReGAlpha,
    GradientWeights,
    IWAEBound,
    KLAnnealing,
    build_objective,
    objective_class,
)

NOT_COUNTS = [0, -3, 1.5, "5", True]
NOT_NUMBERS = [float("nan"), float("inf"), "0.5", True, None]
COMMON = {"num_samples", "backward_samples"}
NEED_OTHERS = ("vimco", "rws", "rws-dreg", "tvo")


def _refused(match, build):
    with pytest.raises(InputError, match=match):
        build()


@pytest.mark.parametrize("name", TABLE)
def test_numbers_of_samples_are_checked_by_every_objective(name):
    cls = TABLE[name].cls
    _refused("num_samples must be an integer >= 1, got 0", lambda: cls(0))
    _refused("backward_samples must be an integer >= 1, got 0", lambda: cls(10, backward_samples=0))
    made(name, 50, backward_samples=50)
    _refused("must be at most the number of samples, 10, got 11", lambda: cls(10, backward_samples=11))
    if name in NEED_OTHERS:
        _refused(rf"^{name} needs at least 2 samples, got 1: .*; raise --k \(num_samples\)", lambda: cls(1))


class Weighted:
    def log_weights(self, model, x, noise):
        return 4.0 * super().log_weights(model, x, noise)


class OfBound(Weighted, IWAEBound):
    pass


class OfRows(Weighted, DReG):
    pass


def test_other_log_weights_are_for_objectives_that_train_on_them():
    small_model().compile(objective=OfBound(4))
    with pytest.raises(InputError, match=r"OfRows replaces log_weights, which training reads only .*GradientWeights"):
        small_model().compile(objective=OfRows(4))


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize(
    ("method", "function", "words"),
    [
        ("bound", lambda self, log_w: tf.reduce_logsumexp(log_w, axis=1), "must reduce the samples, axis 0"),
        ("bound", lambda self, log_w: tf.reduce_mean(log_w), r"must reduce the samples, axis 0: .*, got \(\)"),
        ("gradient_weights", lambda self, log_w: tf.nn.softmax(log_w, 0), "must return GradientWeights, got Eager"),
        (
            "gradient_weights",
            lambda self, log_w: GradientWeights(log_w, None, log_w[:1]),
            r"must give rows of the shape of log_w, .*, got score of shape \(1, ",
        ),
    ],
)
def test_an_objective_that_returns_other_shapes_is_refused(k, method, function, words):
    wrong = type("Wrong", (IWAEBound,), {method: function})
    with pytest.raises(InputError, match=words):
        small_model().compile(objective=wrong(k))


def test_arguments_of_an_undeclared_objective_are_saved_or_refused():
    class Kept(IWAEBound):
        def __init__(self, num_samples=1, share=0.5, **kwargs):
            super().__init__(num_samples, **kwargs)
            self.share = share

    class Lost(IWAEBound):
        def __init__(self, num_samples=1, share=0.5):
            super().__init__(num_samples)

    config = Kept(3, share=0.25, backward_samples=2).get_config()
    assert config == {"num_samples": 3, "share": 0.25, "backward_samples": 2}
    assert Kept.from_config(config).get_config() == config
    with pytest.raises(InputError, match="Lost cannot be saved: keep its argument share as an attribute, or define"):
        Lost(3).get_config()


@pytest.mark.parametrize(
    ("build", "name", "values"),
    [
        (IWAEBound, "num_samples", [*NOT_COUNTS, None]),
        (lambda value: IWAEBound(5, backward_samples=value), "backward_samples", NOT_COUNTS),
        (lambda value: MIWAE(50, groups=value), "groups", [*NOT_COUNTS, None]),
        (lambda value: PIWAE(50, groups=value), "groups", [*NOT_COUNTS, None]),
        (lambda value: JVI(50, order=value), "order", [*NOT_COUNTS, None]),
        (lambda value: TVO(50, points=value), "points", [*NOT_COUNTS, None]),
        (KLAnnealing, "epochs", [*NOT_COUNTS, None]),
    ],
)
def test_a_value_that_is_no_count_is_refused_by_name(build, name, values):
    for value in values:
        _refused(f"{name} must be an integer >= 1, got {value!r}", lambda value=value: build(value))


@pytest.mark.parametrize(("cls", "name"), [(CIWAE, "beta"), (VRIWAE, "alpha"), (DReGAlpha, "alpha")])
def test_a_value_that_is_no_finite_number_is_refused_by_name(cls, name):
    for value in NOT_NUMBERS:
        _refused(f"{name} must be a number, got {value!r}", lambda value=value: cls(5, **{name: value}))


@pytest.mark.parametrize(
    ("cls", "k", "settings", "match"),
    [
        (MIWAE, 50, {"groups": 7}, "groups must divide the number of samples, 50, got 7; 5 does"),
        (PIWAE, 6, {"groups": 12}, "groups must divide the number of samples, 6, got 12; 6 does"),
        (CIWAE, 5, {"beta": -0.1}, r"beta must be in \[0, 1\], got -0.1: 0 is the bound of iwae, 1 that of"),
        (CIWAE, 5, {"beta": 1.1}, r"beta must be in \[0, 1\], got 1.1"),
        (CIWAE, 5, {"beta": 0, "learn_beta": True}, "must start between 0 and 1, got 0"),
        (CIWAE, 5, {"beta": 1.0, "learn_beta": True}, "must start between 0 and 1, got 1.0"),
        (CIWAE, 5, {"learn_beta": "false"}, "learn_beta must be True or False, got 'false'"),
        (VRIWAE, 5, {"alpha": 1}, "alpha must be below 1, got 1: its limit at 1 is the objective elbo"),
        (VRIWAE, 5, {"alpha": -0.1}, "got -0.1: below 0 the value is no bound .* objective vr-max"),
        (DReGAlpha, 5, {"alpha": -0.1}, r"alpha must be in \[0, 1\], got -0.1: 0 is dreg, 1 is rws-dreg"),
        (DReGAlpha, 5, {"alpha": 1.1}, r"alpha must be in \[0, 1\], got 1.1"),
        (DReGAlpha, 1, {"alpha": 1.0}, "alpha = 1 needs at least 2 samples, got 1"),
        (JVI, 50, {"order": 3}, "order must be 1 or 2, got 3"),
        (JVI, 1, {"order": 1}, r"a jackknife of order 1 .* got 1: raise --k \(num_samples\)"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_with_the_range_and_what_lies_beyond(cls, k, settings, match):
    _refused(match, lambda: cls(k, **settings))


def test_the_ends_of_a_range_are_allowed():
    made_at_ends = [MIWAE(6, groups=6), CIWAE(5, beta=0), CIWAE(5, beta=1), VRIWAE(5, alpha=0), DReGAlpha(1, alpha=0.9)]
    made_at_ends += [JVI(3, order=2), *(objective_class(name)(2) for name in NEED_OTHERS)]
    assert [each.num_samples for each in made_at_ends] == [6, 5, 5, 5, 1, 3, 2, 2, 2, 2]


def test_the_analytic_kl_is_refused_for_more_than_one_layer():
    _refused("one stochastic layer, got 2", lambda: small_model(2).compile(objective=objectives.AnalyticKLELBO(1)))


def test_binary_units_are_for_objectives_without_a_path_and_others_are_refused_with_the_reason():
    model = small_model(1, latent="bernoulli")
    for name in of_kind("discrete"):
        model.compile(objective=made(name))
    for name in of_kind("own", "path", "mixed"):
        text = rf"^{name} needs samples that a gradient can pass through.*use vimco, tvo, rws or rws-sleep"
        _refused(text, lambda name=name: model.compile(objective=made(name)))


def test_annealing_is_refused_where_the_divergence_is_no_term_of_the_bound():
    for name in TABLE:
        callback = KLAnnealing(3)
        callback.set_model(types.SimpleNamespace(objective=made(name)))
        if name in ("elbo", "elbo-kl"):
            callback.on_train_begin()
        else:
            _refused("KL annealing is for the objectives elbo and elbo-kl, got", callback.on_train_begin)


def test_the_config_of_an_objective_holds_its_declared_settings_and_makes_the_same_again():
    for name, declared in declared_settings().items():
        config = made(name, 50, backward_samples=3).get_config()
        assert set(config) - COMMON == declared
        assert (config["num_samples"], config["backward_samples"]) == (50, 3)
        again = objective_class(name).from_config({**config, "num_samples": 30})
        assert type(again) is TABLE[name].cls
        assert again.get_config() == {**config, "num_samples": 30}


@pytest.mark.parametrize(
    ("name", "setting", "owners"),
    [("iwae", "groups", "miwae, piwae"), ("miwae", "alpha", "vr-iwae, dreg-alpha"), ("elbo", "learn_beta", "ciwae")],
)
def test_a_setting_of_another_objective_is_refused_with_its_owners(name, setting, owners):
    flag = "--" + setting.replace("_", "-")
    text = f"objective '{name}' has no {flag}; it belongs to {owners}"
    _refused(text, lambda: build_objective(name, 6, {setting: 1}))


def test_an_objective_is_built_from_its_declared_name_and_settings():
    for name in TABLE:
        given = {setting: value for setting, value in made(name).get_config().items() if setting != "num_samples"}
        assert build_objective(name, 6, given).get_config() == made(name).get_config()


def test_an_unknown_objective_is_answered_with_the_nearest():
    _refused("did you mean 'iwae'", lambda: objective_class("iawe"))
