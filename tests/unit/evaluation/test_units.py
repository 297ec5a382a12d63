"""Activities of latent units, and models without the inactive ones: weights that stay, and constants for the others."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import SMALL_DIM, SMALL_NETWORKS, binary_images, reference_weights, small_model

from iwae_tf import IWAE, InputError
from iwae_tf.declarations import declared
from iwae_tf.evaluation import active_units, pruned, unit_activities
from iwae_tf.layers import ColumnModel

# ------------------------------------------------------------------------------------------------------- activities


def linear_model(loc1, log_scale1, loc2, units=(3, 2)):
    """Two layers without hidden units: h1 ~ N(x loc1, exp(log_scale1)^2), E[h2 | h1] = h1 loc2 exactly."""
    model = IWAE(SMALL_DIM, latent_units=units, hidden_units=((), ()))
    first, second = model.inference_network.stages
    first.head.loc.kernel.assign(np.broadcast_to(loc1, (SMALL_DIM, units[0])))
    first.head.log_scale.kernel.assign(np.zeros((SMALL_DIM, units[0])))
    first.head.log_scale.bias.assign(np.full(units[0], log_scale1))
    second.head.loc.kernel.assign(np.broadcast_to(loc2, units))
    return model


def test_first_layer_activity_is_the_variance_of_its_mean_and_takes_no_samples():
    model, x = small_model(2), binary_images(250)  # three batches, the last one uneven
    first, other = (unit_activities(model, x, num_samples=n, seed=seed) for n, seed in ((2, 0), (10, 1)))
    loc = model.encode(x)[0].loc.numpy().astype(np.float64)
    assert first[0].dtype == np.float64
    np.testing.assert_allclose(first[0], loc.var(axis=0, ddof=1), rtol=1e-4)  # float32 means of other batches
    np.testing.assert_array_equal(first[0], other[0])
    np.testing.assert_array_equal(unit_activities(model, x, num_samples=10, seed=1)[1], other[1])
    assert (first[1] != other[1]).all()


def test_units_with_a_constant_mean_are_inactive_in_every_layer():
    model, x = small_model(3), binary_images(40)
    assert active_units(model, x) == [5, 3, 2]
    for stage, units in zip(model.inference_network.stages, ([1, 3], [0], [1]), strict=True):
        set_columns(stage, units, 0.7, 0.0)
    activities = unit_activities(model, x)
    frozen = [(np.abs(activity) < 1e-10).tolist() for activity in activities]  # loc rounds to 1e-7 at most
    assert frozen == [[False, True, False, True, False], [True, False, False], [False, True]]
    assert active_units(model, x) == [3, 2, 1]


def test_sampling_noise_is_not_counted_as_activity():
    # q(h1 | x) = N(0, 1) whatever x is, and E[h2 | h1] = 2 h1 in unit 0: no unit tells anything about x, but every draw
    # of E[h2 | h1] has a variance of 4, and the average over all 100 draws still 0.04, above the threshold.
    model = linear_model(loc1=0.0, log_scale1=0.0, loc2=[[2.0, 0.1], [0.0, 0.0], [0.0, 0.0]])
    x = binary_images(4000)
    first, second = unit_activities(model, x)
    np.testing.assert_array_equal(first, np.zeros(3))
    # the covariance of two independent averages of variance 4 / 50 over 4,000 rows: standard error 0.08 / sqrt(4000)
    assert abs(second[0]) < 4.0 * 0.08 / np.sqrt(4000.0)
    assert active_units(model, x) == [0, 0]


def test_second_layer_activity_is_right_on_average():
    # E[h2 | x] = x loc1 loc2 exactly, so its variance over x is known; one draw would add 0.5^2 |loc2|^2 to it.
    rng = np.random.default_rng(0)
    loc1, loc2 = rng.normal(0.0, 0.3, (SMALL_DIM, 3)), rng.normal(0.0, 1.0, (3, 2))
    model, x = linear_model(loc1, np.log(0.5), loc2), binary_images(1000)
    exact = (x @ loc1 @ loc2).var(axis=0, ddof=1)
    noise = 0.25 * np.sum(loc2**2, axis=0)
    assert (noise > exact / 3).all()
    estimates = np.array([unit_activities(model, x, num_samples=2, seed=seed)[1] for seed in range(6)])
    error = estimates.std(axis=0, ddof=1) / np.sqrt(6)
    assert (np.abs(estimates.mean(axis=0) - exact) < 6.0 * error).all()  # Student's t with 5 degrees: p = 0.002
    assert (error < noise / 25).all()  # so that the test would see a fifth of the noise


def test_every_batch_of_rows_has_its_own_noise():
    # 200 equal rows: the same noise in both batches would double the sum and change the divisor from 99 to 199.
    model, x = linear_model(0.0, 0.0, [[1.0, 0.0]] * 3), np.zeros((200, SMALL_DIM), np.float32)
    one, two = (unit_activities(model, x[:rows], num_samples=2)[1][0] for rows in (100, 200))
    assert two != pytest.approx(one * 2 * 99 / 199, rel=1e-3)


def test_a_unit_is_active_above_the_threshold_and_not_at_it():
    model, x = small_model(), binary_images(20)
    activity = np.sort(unit_activities(model, x)[0])
    thresholds = (0.0, activity[2], np.nextafter(activity[2], 0.0), activity[-1])
    assert [active_units(model, x, threshold)[0] for threshold in thresholds] == [5, 2, 3, 0]
    with pytest.raises(InputError, match="threshold must be a number, got nan"):
        active_units(model, x, np.nan)


def test_a_dataset_has_the_activity_of_its_rows():
    model, x = small_model(2), binary_images(20)
    for one, other in zip(
        unit_activities(model, tf.data.Dataset.from_tensor_slices(x).batch(7)), unit_activities(model, x), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": binary_images(1)}, "even number of samples, got 1 rows, 10 samples"),
        ({"num_samples": 7}, "even number of samples, got 5 rows, 7 samples"),
        ({"num_samples": 0}, "num_samples must be an integer >= 1, got 0"),
        ({"num_samples": 4.0}, "num_samples must be an integer >= 1, got 4.0"),
        ({"x": binary_images(5)[:, :7]}, r"x must be \[batch, 12\] with values in \[0, 1\]"),
        ({"x": np.full((5, 12), np.nan, np.float32)}, r"x must be \[batch, 12\] with values in \[0, 1\]"),
        ({"seed": -1}, "seed must be an integer"),
    ],
)
def test_what_has_no_activity_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        unit_activities(small_model(2), **{"x": binary_images(5), "num_samples": 10, **change})


# ---------------------------------------------------------------------------------------------------------- pruning

# Units that are dropped below: another number in each layer, neither the first nor the last alone.
DROPPED = {1: ([1, 3],), 2: ([0, 3], [1]), 3: ([1, 3], [0, 2], [1])}
NETWORKS = {
    "hidden": SMALL_NETWORKS,
    "no hidden": {n: {**SMALL_NETWORKS[n], "hidden_units": ((),) * n} for n in (1, 2, 3)},
}


def mild_model(layers, networks="hidden", **kwargs):
    """A small model with random biases and scales near 1, so that no square is huge: log-weights of tens of nats."""
    model = small_model(layers, gain=1.0, **{**NETWORKS[networks][layers], **kwargs})
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:
        if variable.name == "bias":
            variable.assign(0.3 * rng.standard_normal(variable.shape))
    for stage in (*model.inference_network.stages, *model.generative_network.stages):
        if hasattr(stage.head, "log_scale"):
            stage.head.log_scale.kernel.assign(0.1 * stage.head.log_scale.kernel)
    return model


def activities_of(model, dropped):
    """Activities 1, and 0 for the units that are to go."""
    activities = [np.ones(units) for units in model.latent_units]
    for activity, units in zip(activities, dropped, strict=True):
        activity[units] = 0.0
    return activities


def noise_for(model, activities):
    """Noise for all units and for those that stay: [6, 4, H] and [6, 4, H']."""
    noise = np.random.default_rng(1).standard_normal((6, 4, sum(model.latent_units))).astype(np.float32)
    return noise, noise[..., np.concatenate(activities) > 0.01]


def set_columns(stage, units, loc, raw_log_scale):
    """Makes some units of a stage N(loc, exp(7 tanh(raw / 7))^2) whatever the condition."""
    for dense, value in ((stage.head.loc, loc), (stage.head.log_scale, raw_log_scale)):
        kernel, bias = dense.kernel.numpy(), dense.bias.numpy()
        kernel[:, units], bias[units] = 0.0, value
        dense.kernel.assign(kernel)
        dense.bias.assign(bias)


def make_inactive(model, dropped, loc=0.0, raw_log_scale=0.0, read=False):
    """Gives q(u | .) = p(u | .) = N(loc, scale^2) to some units, N(0, 1) at the top; nothing reads them then."""
    inference, generative = model.inference_network.stages, model.generative_network.stages
    for layer, units in enumerate(dropped):
        top = layer == len(dropped) - 1
        set_columns(inference[layer], units, 0.0 if top else loc, 0.0 if top else raw_log_scale)
        if not top:
            set_columns(generative[layer + 1], units, loc, raw_log_scale)
        for stage in () if read and not top else (generative[layer], *inference[layer + 1 : layer + 2]):
            heads = [getattr(stage.head, n) for n in ("loc", "log_scale", "logits") if hasattr(stage.head, n)]
            for dense in stage.hidden.dense[:1] or heads:
                kernel = dense.kernel.numpy()
                kernel[units] = 0.0
                dense.kernel.assign(kernel)


def reference_log_weights(model, x, noise, activities):
    """Log-weights by NumPy from the large model's own weights, cut as `pruned` has to cut them; units are read as 0."""
    masks = [activity > 0.01 for activity in activities]
    weights = reference_weights(model)
    upwards, downwards = weights["inference"], weights["generative"][::-1]  # nearest x first
    for layer, mask in enumerate(masks):
        for stage in (upwards[layer], *downwards[layer + 1 : layer + 2]):  # they make the units
            for head in ("loc", "log_scale"):
                stage[head] = stage[head][0][:, mask], stage[head][1][mask]
        for stage in (downwards[layer], *upwards[layer + 1 : layer + 2]):  # they read the units
            if stage["hidden"]:
                stage["hidden"][0] = stage["hidden"][0][0][mask], stage["hidden"][0][1]
            else:
                stage.update({head: (pair[0][mask], pair[1]) for head, pair in stage.items() if head != "hidden"})
    split = np.split(noise.astype(np.float64), np.cumsum([mask.sum() for mask in masks])[:-1], axis=-1)
    return reference.iwae_log_weights(x, split, **weights)


@pytest.mark.parametrize("likelihood", sorted(set(declared("likelihood")) - {"columns"}))
def test_pruning_nothing_leaves_every_bit_of_the_log_weights(likelihood):
    levels = 3 if declared("likelihood")[likelihood].facts.get("needs_levels") else None
    model, x = mild_model(2, likelihood=likelihood, levels=levels), binary_images(4)
    for weight in model.generative_network.likelihood_stage.head.weights:  # those without features too
        weight.assign(weight + np.linspace(-0.2, 0.2, weight.shape[-1]))
    activities = activities_of(model, [[], []])
    same = pruned(model, activities)
    assert same is not model
    assert same.latent_units == model.latent_units
    noise = tf.constant(noise_for(model, activities)[0])
    np.testing.assert_array_equal(same.log_weights_from_noise(x, noise), model.log_weights_from_noise(x, noise))


@pytest.mark.parametrize(
    ("layers", "networks", "likelihood"),
    [
        (1, "no hidden", "gaussian"),
        (2, "hidden", "gaussian"),
        (3, "hidden", "bernoulli"),
        (3, "no hidden", "bernoulli"),
    ],
)
def test_the_rows_and_columns_that_stay_are_those_of_the_active_units(layers, networks, likelihood):
    # Where the generative network gives the dropped units the mean 0, their readers' biases stay as they are.
    model, x = mild_model(layers, networks, likelihood=likelihood), binary_images(4)
    for stage, units in zip(model.generative_network.stages[1:], DROPPED[layers][:-1], strict=True):
        set_columns(stage, units, 0.0, 0.0)
    activities = activities_of(model, DROPPED[layers])
    smaller = pruned(model, activities)
    assert smaller.latent_units == tuple(int(activity.sum()) for activity in activities)
    noise = noise_for(model, activities)[1]
    log_w = smaller.log_weights_from_noise(x, tf.constant(noise))
    # float32 sums of some tens of terms of size 10 and less
    np.testing.assert_allclose(log_w, reference_log_weights(model, x, noise, activities), rtol=5e-6, atol=5e-5)


@pytest.mark.parametrize("hidden", [(), (8,)])
def test_units_are_cut_from_the_heads_of_columns(hidden):
    columns = [ColumnModel("a", "student-t"), ColumnModel("b", "categorical", levels=3)]
    model = IWAE(2, (4,), (hidden,), likelihood="columns", columns=columns, missing=True, seed=0)
    x, activities = np.float32([[0.5, 2], [np.nan, 1]] * 2), activities_of(model, [[1, 3]])
    set_columns(model.inference_network.stages[0], [1, 3], 0.0, 0.0)
    stage = model.generative_network.likelihood_stage
    of_heads = [layer for head in stage.head.heads for layer in vars(head).values() if hasattr(layer, "kernel")]
    for dense in stage.hidden.dense[:1] or of_heads:
        dense.kernel.assign(np.where(np.isin(np.arange(4), [1, 3])[:, None], 0.0, dense.kernel.numpy()))
    noise, kept = noise_for(model, activities)
    log_w = model.log_weights_from_noise(x, tf.constant(noise)).numpy()
    smaller = pruned(model, activities)
    assert smaller.latent_units == (2,)
    np.testing.assert_allclose(smaller.log_weights_from_noise(x, tf.constant(kept)), log_w, rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("networks", ["hidden", "no hidden"])
@pytest.mark.parametrize("read", [False, True])
def test_inactive_units_take_no_log_weight_with_them_and_are_read_at_their_mean(layers, networks, read):
    # Units that are 1.5 with the smallest scale there is, e^-7, act as biases of the layers that read them.
    model, x = mild_model(layers, networks), binary_images(4)
    loc, raw_log_scale = (1.5, -100.0) if read else (0.7, -0.4)
    make_inactive(model, DROPPED[layers], loc, raw_log_scale, read)
    activities = activities_of(model, DROPPED[layers])
    noise, kept = noise_for(model, activities)
    log_w = model.log_weights_from_noise(x, tf.constant(noise)).numpy()
    smaller = pruned(model, activities).log_weights_from_noise(x, tf.constant(kept))
    # float32, the units' terms cancel up to rounding; or noise of 0.0009 in units that are read with weights of about 1
    np.testing.assert_allclose(smaller, log_w, rtol=2e-6, atol=0.03 if read and layers > 1 else 2e-5)
    if read and layers > 1:
        assert np.abs(reference_log_weights(model, x, kept, activities) - log_w).max() > 1.0  # read as 0


def test_the_mean_below_a_layer_is_taken_at_the_mean_of_that_layer():
    # E[h2] = 0.5 in each unit (bias of p(h2 | h3)); E[h1 | h2] = 2 h2 + 0.1 by hand: 1.1 for every unit.
    model = small_model(3, hidden_units=((), (), ()), latent_units=(2, 2, 2))
    likelihood, below, top = model.generative_network.stages
    for stage, kernel, bias in ((below, 2.0 * np.eye(2), 0.1), (top, np.eye(2), 0.5)):
        stage.head.loc.kernel.assign(kernel)
        stage.head.loc.bias.assign([bias, bias])
    kernel, bias = likelihood.head.logits.kernel.numpy(), likelihood.head.logits.bias.numpy()
    smaller = pruned(model, ([0.0, 1.0], [1.0, 0.0], [1.0, 0.0])).generative_network.stages
    np.testing.assert_allclose(smaller[0].head.logits.bias, bias + 1.1 * kernel[0], rtol=1e-6)  # float32
    # Unit 0 of layer 1 is gone, unit 1 reads 2 h2[1], of which 0.5 stays; the top layer's dropped unit is at 0.
    np.testing.assert_allclose(smaller[1].head.loc.bias, [0.1 + 2.0 * 0.5], rtol=1e-6)
    np.testing.assert_allclose(smaller[2].head.loc.bias, [0.5], rtol=1e-6)


def test_a_pruned_model_is_a_model_like_any_other(tmp_path):
    model, x = small_model(2, data_mean=np.full(SMALL_DIM, 0.3), seed=5), binary_images(20)
    smaller = pruned(model, activities_of(model, DROPPED[2]))
    assert {**smaller.get_config(), "latent_units": None} == {**model.get_config(), "latent_units": None}
    smaller.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    noise = np.random.default_rng(1).standard_normal((6, 20, 5)).astype(np.float32)
    np.testing.assert_array_equal(loaded.log_weights_from_noise(x, noise), smaller.log_weights_from_noise(x, noise))
    before = [variable.numpy() for variable in model.trainable_variables]
    for variable in smaller.trainable_variables:
        variable.assign(variable + 1.0)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)  # the large model shares nothing with the small one


def test_units_at_the_threshold_go_but_the_most_active_of_a_layer_stays_with_a_warning():
    model = small_model(2, hidden_units=((), ()))
    activities = ([0.25, 0.001, 0.26, 0.0, 0.5], [0.001, 0.004, 0.002])
    with pytest.warns(UserWarning, match=r"stochastic layer 2 is above 0\.25: .* unit 1 with 0\.004, is kept"):
        smaller = pruned(model, activities, threshold=0.25)
    assert smaller.latent_units == (2, 1)
    old, new = (
        network.stages[1].head.loc.kernel.numpy() for network in (model.inference_network, smaller.inference_network)
    )
    np.testing.assert_array_equal(new, old[[2, 4], 1:2])
    assert pruned(model, activities, threshold=0).latent_units == (4, 3)


@pytest.mark.parametrize(
    ("activities", "threshold", "message"),
    [
        ([np.ones(5)], 0.01, r"layers \(5, 3\), got arrays of shapes \[\(5,\)\]: take them from"),
        ([np.ones(3), np.ones(5)], 0.01, r"shapes \[\(3,\), \(5,\)\]"),
        ([np.ones(5), np.full(3, np.nan)], 0.01, "activities must be finite"),
        ([np.ones(5), np.ones(3)], "much", "threshold must be a number, got 'much'"),
    ],
)
def test_activities_that_do_not_fit_are_refused(activities, threshold, message):
    with pytest.raises(InputError, match=message):
        pruned(small_model(2), activities, threshold)
