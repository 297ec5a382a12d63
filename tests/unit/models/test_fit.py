"""Training as a Keras user writes it: every kind of input, callbacks, saving, and the errors of bad data."""

import contextlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import SMALL_DIM, SMALL_NETWORKS, small_model

import iwae_tf
from iwae_tf import seeds
from iwae_tf.objectives import ELBO, STL, AnalyticKLELBO, DReG, IWAEBound


def _images(n):
    """n noisy copies of three patterns: something to learn, unlike independent pixels."""
    rng = np.random.default_rng(1)
    patterns = rng.random((3, SMALL_DIM)) < 0.5
    return (patterns[rng.integers(3, size=n)] ^ (rng.random((n, SMALL_DIM)) < 0.1)).astype(np.float32)


@pytest.fixture(autouse=True)
def _same_order_of_images():
    keras.utils.set_random_seed(0)  # Keras shuffles arrays by the global generators


def _compiled(layers=1, objective=None, **kwargs):
    model = iwae_tf.IWAE(SMALL_DIM, **SMALL_NETWORKS[layers], data_mean=_images(64).mean(axis=0))
    model.compile(keras.optimizers.Adam(0.01), objective=objective or IWAEBound(5), **kwargs)
    return model


def _batches(x):
    while True:
        for first in range(0, len(x), 16):
            yield (x[first : first + 16],)


class _Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return (_images(64)[16 * index : 16 * index + 16],)


@pytest.mark.parametrize(
    "data",
    [
        lambda x: {"x": x, "batch_size": 16},
        lambda x: {"x": x, "y": x, "batch_size": 16},  # labels are ignored
        lambda x: {"x": tf.constant(x), "batch_size": 16},
        lambda x: {"x": tf.data.Dataset.from_tensor_slices(x).batch(16), "shuffle": False},
        lambda x: {"x": tf.data.Dataset.from_tensor_slices((x, x)).batch(16), "shuffle": False},
        lambda x: {"x": _batches(x), "steps_per_epoch": 4, "shuffle": False},
        lambda x: {"x": _Sequence(), "shuffle": False},
    ],
    ids=["array", "array with labels", "tensor", "dataset", "dataset of pairs", "generator", "PyDataset"],
)
def test_fit_takes_every_kind_of_input(data):
    model, x = _compiled(), _images(64)
    history = model.fit(**data(x), epochs=3, validation_data=(x, None), verbose=0).history
    assert set(history) == {"loss", "bound", "val_loss", "val_bound"}
    assert history["val_bound"][-1] > history["val_bound"][0]
    assert history["loss"] == [-bound for bound in history["bound"]]
    assert int(model.optimizer.iterations) == 12


@pytest.mark.parametrize(
    ("layers", "objective"),
    [(1, AnalyticKLELBO(4)), *itertools.product([1, 2], [ELBO(4), IWAEBound(4), DReG(4), STL(4)])],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else f"{value} layers",
)
def test_every_objective_trains(layers, objective):
    model, x = _compiled(layers, objective), _images(64)
    before = np.mean(model.log_likelihood(x, 200))
    model.fit(x, batch_size=16, epochs=25, verbose=0)
    assert np.mean(model.log_likelihood(x, 200)) > before + 0.1


def test_xla_trains_too():
    model, x = _compiled(jit_compile=True), _images(64)
    bounds = model.fit(x, batch_size=16, epochs=8, verbose=0).history["bound"]
    assert bounds[-1] > bounds[0] + 0.1


def test_run_eagerly_trains_and_reports_bad_data():
    model, x = _compiled(run_eagerly=True), _images(64)
    assert np.isfinite(model.fit(x, batch_size=32, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match="values from, to"):
        model.fit(255 * x, verbose=0)


def test_several_steps_in_one_execution_are_the_same_steps():
    x = _images(64)
    histories = []
    for steps in (1, 4):
        model = _compiled(steps_per_execution=steps)
        model.fit(x, batch_size=16, epochs=2, shuffle=False, verbose=0)
        histories.append([variable.numpy() for variable in model.trainable_variables])
    for one, other in zip(*histories, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)  # float32, graphs are fused differently


def test_early_stopping_watches_the_validation_bound():
    x = _images(64)
    model = _compiled()
    model.optimizer.learning_rate = 0.0
    stop = keras.callbacks.EarlyStopping(monitor="val_bound", mode="max", patience=2)
    history = model.fit(x, epochs=20, validation_data=(x, None), callbacks=[stop], verbose=0)
    # Nothing is learnt and the validation noise is the same in each pass, so it stops as soon as it may.
    assert len(history.history["val_bound"]) == 3


def test_evaluate_gives_the_mean_bound_and_the_same_one_each_time():
    model, x = _compiled(objective=IWAEBound(50)), _images(300)
    first = model.evaluate(x, batch_size=32, return_dict=True, verbose=0)
    assert first == model.evaluate(x, batch_size=32, return_dict=True, verbose=0)
    bounds = model.log_likelihood(x, 50).numpy()
    spread = model.log_weights(x, 50).numpy().std() / np.sqrt(50 * 300)
    assert abs(first["bound"] - bounds.mean()) < 5 * spread  # other noise, same expectation
    assert first["loss"] == -first["bound"]


def test_the_mean_over_uneven_batches_counts_every_image_once():
    model = _compiled(objective=ELBO(500))
    x = _images(33)
    exact = np.mean(model.log_weights(x, 2000))
    assert abs(model.evaluate(x, batch_size=32, verbose=0, return_dict=True)["bound"] - exact) < 0.05
    # A mean of batch means would give image 33 half of the weight and miss by more than that:
    other = model.log_weights(x, 2000).numpy().mean(axis=0)
    assert abs((other[:32].mean() + other[32]) / 2 - exact) > 0.2


def test_noise_changes_with_the_step_and_the_seed():
    x = _images(16)

    def bounds(seed):
        model = small_model(seed=seed)
        model.compile(keras.optimizers.SGD(0.0), objective=IWAEBound(5))
        return model.fit(x, batch_size=16, epochs=3, shuffle=False, verbose=0).history["bound"]

    assert len({*bounds(0), *bounds(1)}) == 6
    assert bounds(0) == bounds(0)


def _expected_bounds(model, x, purpose, counters):
    """The bound of each batch of 8 on the noise of the keys (seed, purpose, counter), as documented."""
    bounds = []
    for batch, counter in zip(np.split(x, len(x) // 8), counters, strict=True):
        k, units = model.objective.num_samples, sum(model.latent_units)
        rows = seeds.row_normals(0, 8, k * units, seeds.key(model.seed, purpose, counter))
        noise = tf.transpose(tf.reshape(rows, [8, k, units]), [1, 0, 2])
        log_w = model.objective.log_weights(model, tf.constant(batch), noise)
        bounds.append(np.mean(model.objective.bound(log_w)))
    return bounds


@pytest.mark.parametrize("objective", [IWAEBound(5), AnalyticKLELBO(5)])
def test_noise_in_training_and_validation_comes_from_the_documented_keys(objective):
    x = _images(16)
    model = small_model(seed=3)
    model.compile(keras.optimizers.SGD(0.0), objective=objective)
    history = model.fit(x, batch_size=8, shuffle=False, validation_data=(x, None), validation_batch_size=8, verbose=0)
    train = _expected_bounds(model, x, seeds.Purpose.TRAIN_NOISE, [0, 1])  # the step
    validation = _expected_bounds(model, x, seeds.Purpose.VALIDATION_NOISE, [0, 8])  # images seen
    assert history.history["bound"][0] == pytest.approx(np.mean(train), rel=1e-5)  # float32
    assert history.history["val_bound"][0] == pytest.approx(np.mean(validation), rel=1e-5)


def test_a_compiled_model_is_saved_with_objective_and_optimizer_and_goes_on_the_same(tmp_path):
    model, x = _compiled(objective=DReG(7)), _images(64)
    model.fit(x, batch_size=16, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert isinstance(loaded.objective, DReG)
    assert loaded.objective.num_samples == 7
    for one in (model, loaded):
        one.fit(x, batch_size=16, shuffle=False, verbose=0)
    assert int(loaded.optimizer.iterations) == 8
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_a_model_trains_inside_a_strategy_scope():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = _compiled()
    bounds = model.fit(_images(64), batch_size=16, epochs=3, verbose=0).history["bound"]
    assert bounds[-1] > bounds[0]


BAD_DATA = {
    "8-bit grey values": (np.full((32, SMALL_DIM), 255, np.uint8), "255"),
    "NaN": (np.full((32, SMALL_DIM), np.nan, np.float32), "nan|values from"),
    "negative": (np.full((32, SMALL_DIM), -0.5, np.float32), "-0.5"),
    "wrong size": (np.zeros((32, 5), np.float32), "5"),
    "images not flattened": (np.zeros((32, 3, 4), np.float32), "3"),
}


@pytest.mark.parametrize(("x", "came"), BAD_DATA.values(), ids=BAD_DATA.keys())
@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: tf.data.Dataset.from_tensor_slices(x).batch(16),
        lambda x: ((b,) for b in (x[:16], x[16:])),
    ],
    ids=["array", "dataset", "generator"],
)
def test_bad_data_are_refused_in_fit_and_evaluate_with_what_came_and_what_to_do(x, came, wrap):
    model = _compiled()
    before = [variable.numpy() for variable in model.trainable_variables]
    for method in (model.fit, model.evaluate):
        arguments = {"shuffle": False} if method == model.fit else {}
        with pytest.raises(ValueError, match=came) as error:
            method(wrap(x), verbose=0, **arguments)
        assert f"[batch, {SMALL_DIM}]" in str(error.value)
        assert "divide 8-bit grey values by 255" in str(error.value)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_bound_that_is_not_finite_stops_the_run_at_its_step(jit_compile):
    model = small_model(likelihood="gaussian")
    model.compile(keras.optimizers.SGD(1e6), objective=IWAEBound(5), jit_compile=jit_compile)
    x = 100 * np.random.default_rng(0).standard_normal((64, SMALL_DIM))
    with pytest.raises(ValueError, match=r"not finite at step (\d+)") as error:
        model.fit(x, batch_size=16, epochs=50, verbose=0)
    assert f"step {int(model.optimizer.iterations)}," in str(error.value)
    assert all(np.isfinite(variable.numpy()).all() for variable in model.trainable_variables)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_that_is_not_taken_is_not_counted(optimizer):
    model = small_model(likelihood="gaussian")
    model.compile(optimizer, objective=ELBO(1))
    before = [variable.numpy() for variable in model.trainable_variables]
    with pytest.raises(ValueError, match="not finite at step 0,"):
        model.fit(np.full((8, SMALL_DIM), 1e15, np.float32), verbose=0)  # its squared gradient overflows
    assert int(model.optimizer.iterations) == 0
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "mse"}, "takes objective="),
        ({"metrics": ["accuracy"]}, "takes objective="),
        ({"objective": "iwae"}, "must be an iwae_tf.objectives.Objective, got 'iwae'"),
        ({"jit_compile": "yes"}, "jit_compile must be"),
    ],
)
def test_compile_refuses_what_it_does_not_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_model().compile(**arguments)


@pytest.mark.parametrize("weights", [{"sample_weight": np.ones(16)}, {"class_weight": {0: 1.0}}])
def test_weights_of_examples_are_refused(weights):
    with pytest.raises(ValueError, match=r"_weight is not supported"):
        _compiled().fit(_images(16), **weights, verbose=0)
    if "sample_weight" in weights:
        with pytest.raises(ValueError, match="sample_weight is not supported"):
            _compiled().evaluate(_images(16), **weights, verbose=0)


def test_weights_that_come_with_the_data_are_refused():
    x = _images(16)
    with pytest.raises(ValueError, match="sample_weight is not supported"):
        _compiled().fit(tf.data.Dataset.from_tensors((x, x, np.ones(16))), shuffle=False, verbose=0)


def test_compile_without_arguments_is_the_papers_optimizer_and_50_samples():
    model = small_model()
    model.compile()
    assert isinstance(model.objective, IWAEBound)
    assert model.objective.num_samples == 50
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert (float(model.optimizer.learning_rate), model.optimizer.epsilon) == (pytest.approx(1e-3), 1e-4)


@pytest.mark.parametrize("jit_compile", [True, False, "auto"])
def test_xla_is_used_where_it_is_asked_for_and_by_default_on_a_gpu(tmp_path, jit_compile):
    model = small_model()
    model.compile(jit_compile=jit_compile)
    expected = bool(tf.config.list_physical_devices("GPU")) if jit_compile == "auto" else jit_compile
    assert model.uses_xla == expected
    arguments = tf.constant(_images(4)), tf.constant(0)
    with contextlib.nullcontext() if expected else pytest.raises(ValueError, match="jit_compile=True"):
        model._forward_backward.experimental_get_compiler_ir(*arguments)
    model.save(tmp_path / "m.keras")
    assert keras.saving.load_model(tmp_path / "m.keras").get_compile_config()["jit_compile"] == jit_compile
