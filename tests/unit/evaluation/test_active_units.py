import numpy as np
import pytest
import tensorflow as tf
from small_models import SMALL_DIM, binary_images, small_model

from iwae_tf import IWAE, InputError
from iwae_tf.evaluation import active_units, unit_activities


def freeze(stage, units):
    """Makes the posterior mean of some units a constant: their column of the kernel of loc is 0."""
    kernel = stage.head.loc.kernel.numpy()
    kernel[:, units] = 0.0
    stage.head.loc.kernel.assign(kernel)
    stage.head.loc.bias.assign(np.linspace(-2.0, 2.0, kernel.shape[1]))


def linear_model(loc1, log_scale1, loc2, units=(3, 2)):
    """Two layers without hidden units: h1 ~ N(x loc1, exp(log_scale1)^2), E[h2 | h1] = h1 loc2 exactly."""
    model = IWAE(SMALL_DIM, latent_units=units, hidden_units=((), ()))
    first, second = model.inference_network.stages
    first.head.loc.kernel.assign(np.broadcast_to(loc1, (SMALL_DIM, units[0])))
    first.head.log_scale.kernel.assign(np.zeros((SMALL_DIM, units[0])))
    first.head.log_scale.bias.assign(np.full(units[0], log_scale1))
    second.head.loc.kernel.assign(np.broadcast_to(loc2, units))
    return model


# ---------------------------------------------------------------------------------------------- the first layer


def test_the_activity_of_the_first_layer_is_the_variance_of_its_posterior_mean():
    model, x = small_model(), binary_images(250)  # three batches, the last one uneven
    (activity,) = unit_activities(model, x)
    loc = model.encode(x)[0].loc.numpy().astype(np.float64)
    assert activity.dtype == np.float64
    np.testing.assert_allclose(activity, loc.var(axis=0, ddof=1), rtol=1e-4)  # float32 means of other batches


def test_units_of_the_first_layer_with_a_constant_posterior_mean_are_inactive():
    model, x = small_model(), binary_images(250)
    assert active_units(model, x) == [5]
    freeze(model.inference_network.stages[0], [1, 3])
    (activity,) = unit_activities(model, x)
    assert (activity < 1e-10).tolist() == [False, True, False, True, False]  # loc rounds to 1e-7 at most
    assert active_units(model, x) == [3]


def test_the_activity_of_the_first_layer_takes_no_samples():
    model, x = small_model(2), binary_images(20)
    first, other = (unit_activities(model, x, num_samples=n, seed=seed) for n, seed in ((2, 0), (10, 1)))
    np.testing.assert_array_equal(first[0], other[0])
    assert (first[1] != other[1]).all()


# ---------------------------------------------------------------------------------------------- deeper layers


def test_units_of_the_second_layer_with_a_constant_posterior_mean_are_inactive():
    model, x = small_model(2), binary_images(250)
    assert active_units(model, x) == [5, 3]
    freeze(model.inference_network.stages[1], [0])
    assert active_units(model, x) == [5, 2]
    assert abs(unit_activities(model, x)[1][0]) < 1e-10  # as in the first layer


def test_sampling_noise_is_not_counted_as_activity():
    # q(h1 | x) = N(0, 1) whatever x is, and E[h2 | h1] = 2 h1 in unit 0: no unit tells anything about x, but every draw
    # of E[h2 | h1] has a variance of 4, and the average over all 100 draws still 0.04, above the threshold.
    model = linear_model(loc1=0.0, log_scale1=0.0, loc2=[[2.0, 0.1], [0.0, 0.0], [0.0, 0.0]])
    x, num_samples = binary_images(4000), 100
    noise = np.random.default_rng(0).normal(size=(num_samples, len(x), 5)).astype(np.float32)
    h, _ = model.inference_network.transform(tf.constant(x), tf.constant(noise))
    loc = model.inference_network.stages[1](h[0]).loc.numpy()[..., 0]  # [k, N]
    one_draw, average = loc[0].var(ddof=1), loc.mean(axis=0).var(ddof=1)
    assert one_draw > 3.0
    assert average > 0.03
    first, second = unit_activities(model, x, num_samples)
    np.testing.assert_array_equal(first, np.zeros(3))
    # the covariance of two independent averages of variance 4 / 50 over 4,000 rows: standard error 0.08 / sqrt(4000)
    assert abs(second[0]) < 4.0 * 0.08 / np.sqrt(4000.0)
    assert active_units(model, x) == [0, 0]


def test_the_activity_of_the_second_layer_is_right_on_average():
    # E[h2 | x] = x loc1 loc2 exactly, so its variance over x is known; one draw would add 0.5^2 |loc2|^2 to it.
    rng = np.random.default_rng(0)
    loc1, loc2 = rng.normal(0.0, 0.3, (SMALL_DIM, 3)), rng.normal(0.0, 1.0, (3, 2))
    model, x = linear_model(loc1, np.log(0.5), loc2), binary_images(1000)
    exact = (x @ loc1 @ loc2).var(axis=0, ddof=1)
    noise = 0.25 * np.sum(loc2**2, axis=0)
    assert (noise > exact / 3).all()
    estimates = np.array([unit_activities(model, x, num_samples=2, seed=seed)[1] for seed in range(25)])
    standard_error = estimates.std(axis=0, ddof=1) / 5.0
    assert (
        np.abs(estimates.mean(axis=0) - exact) < 5.0 * standard_error
    ).all()  # Student's t with 24 degrees: p = 4e-5
    assert (standard_error < noise / 50).all()  # so that the test would see a tenth of the noise


def test_every_batch_of_rows_has_noise_of_its_own():
    # 400 equal rows: with the same noise in every batch of 100, the halves would agree over batches.
    model = linear_model(loc1=0.0, log_scale1=0.0, loc2=[[1.0, 0.0]] * 3)
    means = [
        unit_activities(model, np.zeros((rows, SMALL_DIM), np.float32), num_samples=2, seed=0)[1][0]
        for rows in (100, 200)
    ]
    # twice the same 100 rows would change the sum by a factor of 2 and the divisor from 99 to 199
    assert means[1] != pytest.approx(means[0] * 2 * 99 / 199, rel=1e-3)


def test_a_model_of_three_layers_gets_three_activities():
    activities = unit_activities(small_model(3), binary_images(30), num_samples=4)
    assert [len(activity) for activity in activities] == [5, 3, 2]
    assert active_units(small_model(3), binary_images(30)) == [
        int((activity > 0.01).sum()) for activity in unit_activities(small_model(3), binary_images(30))
    ]


# ---------------------------------------------------------------------------------------------- threshold, seed, errors


def test_a_unit_is_active_above_the_threshold_and_not_at_it():
    model, x = small_model(), binary_images(100)
    activity = np.sort(unit_activities(model, x)[0])
    assert active_units(model, x, threshold=0.0) == [5]
    assert active_units(model, x, threshold=activity[2]) == [2]
    assert active_units(model, x, threshold=np.nextafter(activity[2], 0.0)) == [3]
    assert active_units(model, x, threshold=activity[-1]) == [0]


def test_the_seed_alone_decides_the_noise():
    model, x = small_model(2), binary_images(20)
    first, again, other = (unit_activities(model, x, seed=seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.parametrize(("rows", "num_samples"), [(1, 10), (0, 10), (5, 0), (5, 1), (5, 7), (5, -2)])
def test_fewer_than_two_rows_or_an_odd_number_of_samples_is_refused(rows, num_samples):
    with pytest.raises(InputError, match=f"even number of samples, got {rows} rows, {num_samples} samples"):
        unit_activities(small_model(2), binary_images(rows), num_samples)


@pytest.mark.parametrize("bad", ["narrow", "nan", "255"])
def test_images_that_the_model_cannot_read_are_refused(bad):
    x = binary_images(5)
    x = {"narrow": x[:, :7], "nan": np.where(np.eye(5, 12) == 1, np.nan, x), "255": 255.0 * x}[bad]
    with pytest.raises(InputError, match=r"x must be \[batch, 12\] with values in \[0, 1\]"):
        active_units(small_model(), x)


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(InputError, match="seed must be an integer"):
        active_units(small_model(2), binary_images(5), seed=-1)
