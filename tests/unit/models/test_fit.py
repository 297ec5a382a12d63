"""Training as a Keras user writes it: every kind of input, callbacks, steps per call, saving, and errors of bad data."""

import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import SMALL_DIM, SMALL_NETWORKS, binary_images, small_model

import iwae_tf
from iwae_tf import replicas, seeds
from iwae_tf.declarations import find
from iwae_tf.models import streaming
from iwae_tf.models.checks import largest_divisor, steps_per_call
from iwae_tf.models.gradients import bound_and_gradients
from iwae_tf.objectives import ELBO, AnalyticKLELBO, DReG, IWAEBound, KLAnnealing
from iwae_tf.objectives.objective import GradientWeights
from iwae_tf.replicas import Share, num_sub_batches, whole


def images(n):
    """n noisy copies of three patterns: something to learn, unlike independent pixels."""
    rng = np.random.default_rng(1)
    patterns = rng.random((3, SMALL_DIM)) < 0.5
    return (patterns[rng.integers(3, size=n)] ^ (rng.random((n, SMALL_DIM)) < 0.1)).astype(np.float32)


def compiled(objective=None, optimizer=None, model=None, **arguments):
    model = model or iwae_tf.IWAE(SMALL_DIM, **SMALL_NETWORKS[1], data_mean=images(64).mean(axis=0))
    model.compile(optimizer or keras.optimizers.Adam(0.01), objective=objective or IWAEBound(5), **arguments)
    return model


@pytest.fixture(scope="module")
def shared():
    """A compiled model that traces its step once; tests may train it."""
    return compiled(steps_per_execution=1)


# ------------------------------------------------------------------------------------------- data


def endless_batches(x):
    while True:
        for first in range(0, len(x), 16):
            yield (x[first : first + 16],)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return (images(64)[16 * index : 16 * index + 16],)


@pytest.mark.parametrize(
    "data",
    [
        lambda x: {"x": x, "batch_size": 16},
        lambda x: {"x": x, "y": x, "batch_size": 16},  # labels are ignored
        lambda x: {"x": tf.constant(x), "batch_size": 16},
        lambda x: {"x": tf.data.Dataset.from_tensor_slices(x).batch(16)},
        lambda x: {"x": tf.data.Dataset.from_tensor_slices((x, x)).batch(16)},
        lambda x: {"x": endless_batches(x), "steps_per_epoch": 4},
        lambda x: {"x": Batches()},
    ],
    ids=["array", "array with labels", "tensor", "dataset", "dataset of pairs", "generator", "PyDataset"],
)
def test_fit_takes_every_kind_of_input(shared, data):
    x, before = images(64), shared.step
    history = shared.fit(**data(x), epochs=2, validation_data=(x, None), shuffle=False, verbose=0).history
    assert set(history) == {"loss", "bound", "val_loss", "val_bound"}
    assert history["bound"][-1] != history["bound"][0]
    assert history["loss"] == [-bound for bound in history["bound"]]
    evaluated = shared.evaluate(x, return_dict=True, verbose=0)["bound"]
    assert history["val_bound"][-1] == pytest.approx(evaluated, rel=1e-6)  # float32, graphs of their own
    assert shared.step == before + 8


BAD_DATA = {
    "8-bit grey values": (np.full((32, SMALL_DIM), 255, np.uint8), "255"),
    "NaN": (np.full((32, SMALL_DIM), np.nan, np.float32), "nan|values from"),
    "negative": (np.full((32, SMALL_DIM), -0.5, np.float32), "-0.5"),
    "wrong size": (np.zeros((32, 5), np.float32), "5"),
    "images not flattened": (np.zeros((32, 3, 4), np.float32), "3"),
    "rows of images": (np.zeros((32, 3, SMALL_DIM), np.float32), "3"),
}


@pytest.mark.parametrize(
    ("name", "as_generator"),
    [*((name, False) for name in BAD_DATA), ("8-bit grey values", True), ("images not flattened", True)],
)
def test_bad_data_are_refused_in_fit_and_evaluate_with_what_came_and_what_to_do(shared, name, as_generator):
    x, came = BAD_DATA[name]
    before = [variable.numpy() for variable in shared.variables]
    for method in (shared.fit, shared.evaluate):
        with pytest.raises(iwae_tf.InputError, match=came) as error:
            data = ((batch,) for batch in (x[:16], x[16:])) if as_generator else x
            method(data, verbose=0, **({"shuffle": False} if method == shared.fit else {}))
        assert f"[batch, {SMALL_DIM}]" in str(error.value)
        assert "divide 8-bit grey values by 255" in str(error.value)
    for variable, value in zip(shared.trainable_variables, before, strict=False):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("weights", [{"sample_weight": np.ones(16)}, {"class_weight": {0: 1.0}}])
def test_weights_of_examples_are_refused(shared, weights):
    with pytest.raises(iwae_tf.InputError, match=f"{next(iter(weights))} is not supported"):
        shared.fit(images(16), **weights, verbose=0)
    if "sample_weight" in weights:
        with pytest.raises(iwae_tf.InputError, match="sample_weight is not supported"):
            shared.evaluate(images(16), **weights, verbose=0)
        with pytest.raises(iwae_tf.InputError, match="sample_weight is not supported"):
            x = images(16)
            shared.fit(tf.data.Dataset.from_tensors((x, x, np.ones(16))), shuffle=False, verbose=0)


def test_run_eagerly_trains_and_reports_bad_data():
    model, x = compiled(run_eagerly=True), images(64)
    assert np.isfinite(model.fit(x, batch_size=32, verbose=0).history["loss"]).all()
    with pytest.raises(iwae_tf.InputError, match="values from, to"):
        model.fit(255 * x, verbose=0)


# ------------------------------------------------------------------------------------------- bound and noise


@pytest.mark.parametrize("objective", [IWAEBound(7), AnalyticKLELBO(7)])
def test_evaluate_gives_the_bound_on_the_first_samples_of_every_rows_stream_whatever_the_batches(objective):
    x, model = images(33), compiled(objective, model=small_model(gain=1.0, seed=3))
    found = model.evaluate(x, batch_size=32, return_dict=True, verbose=0)  # row 33 counts as much as the others
    noise = streaming.batch_noise(tf.constant(x), 3, 7, 5)
    expected = np.mean(objective.bound(objective.log_weights(model, tf.constant(x), noise)))
    assert found == {"bound": -found["loss"], "loss": pytest.approx(-expected, rel=1e-5)}  # float32
    again = model.evaluate(x[::-1], batch_size=32, return_dict=True, verbose=0)
    assert again["bound"] == pytest.approx(found["bound"], rel=1e-6)


def test_noise_in_training_comes_from_the_key_of_seed_and_step():
    x, bounds = images(16), []
    model = compiled(IWAEBound(5), keras.optimizers.SGD(0.0), small_model(seed=3))
    history = model.fit(x, batch_size=8, epochs=2, shuffle=False, verbose=0).history["bound"]
    for step in range(4):
        rows = seeds.row_normals(0, 8, 5 * 5, seeds.key(3, seeds.Purpose.TRAIN_NOISE, step))
        noise = tf.transpose(tf.reshape(rows, [8, 5, 5]), [1, 0, 2])
        batch = x[8 * (step % 2) :][:8]
        bounds.append(np.mean(model.objective.bound(model.log_weights_from_noise(batch, noise))))
    assert history == pytest.approx([np.mean(bounds[:2]), np.mean(bounds[2:])], rel=1e-5)  # float32
    assert len(set(bounds)) == 4


@pytest.mark.slow
def test_xla_draws_new_noise_at_every_step_trains_and_is_saved(tmp_path):
    model, x = compiled(jit_compile=True), images(64)
    assert model.uses_xla
    first, second = (model._forward_backward(tf.constant(x[:16]), tf.constant(s, tf.int64))[0] for s in (0, 1))
    assert (first.numpy() != second.numpy()).all()
    bounds = model.fit(x, batch_size=16, epochs=6, verbose=0).history["bound"]
    assert bounds[-1] > bounds[0] + 0.1
    model.save(tmp_path / "m.keras")
    assert keras.saving.load_model(tmp_path / "m.keras").get_compile_config()["jit_compile"] is True
    model.optimizer.learning_rate = 1e30
    with pytest.raises(iwae_tf.InputError, match=r"not finite at step (\d+)"):
        model.fit(x, batch_size=16, verbose=0)


def test_a_bound_that_is_not_finite_stops_the_run_at_its_step():
    model = compiled(optimizer=keras.optimizers.SGD(1e6), model=small_model(likelihood="gaussian"))
    x = 100 * np.random.default_rng(0).standard_normal((64, SMALL_DIM))
    with pytest.raises(iwae_tf.InputError, match=r"not finite at step (\d+)") as error:
        model.fit(x, batch_size=16, epochs=50, verbose=0)
    assert f"step {model.step}," in str(error.value)
    assert all(np.isfinite(variable.numpy()).all() for variable in model.trainable_variables)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_that_is_not_taken_is_not_counted(optimizer):
    model = compiled(ELBO(1), optimizer, small_model(likelihood="gaussian"), run_eagerly=True)
    before = [variable.numpy() for variable in model.trainable_variables]
    with pytest.raises(iwae_tf.InputError, match="not finite at step 0,"):
        model.fit(np.full((8, SMALL_DIM), 1e15, np.float32), verbose=0)  # its squared gradient overflows
    assert model.step == 0
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


class OtherRows(DReG):
    """A subclass whose rows are not its base's: the generative network learns from the first sample alone."""

    def gradient_weights(self, log_w):
        first = tf.concat([tf.ones_like(log_w[:1]), tf.zeros_like(log_w[1:])], axis=0)
        return GradientWeights(generative=first, path=None, score=2.0 * first)


class DerivedFromBound(DReG):
    """A subclass of an estimator that goes back to the derivative of its bound."""

    def gradient_weights(self, log_w):
        return GradientWeights.of_bound(IWAEBound.gradient_weights(self, log_w).generative)


def test_a_subclass_that_returns_other_rows_gets_their_gradient():
    model, x = small_model(gain=1.0), tf.constant(images(6))
    noise = tf.random.stateless_normal([4, 6, 5], [0, 1])
    phi, theta = (tuple(n.trainable_variables) for n in (model.inference_network, model.generative_network))
    with tf.GradientTape(persistent=True) as tape:
        h, _ = model.inference_network.transform(x, noise)
        h = [tf.stop_gradient(layer) for layer in h]
        log_q = model.inference_network.log_prob(x, h)
        log_p = model.generative_network.log_prob(x, h)
        score, likelihood = -2.0 * tf.reduce_mean(log_q[0]), -tf.reduce_mean(log_p[0])
    expected = [
        *tape.gradient(score, [v.value for v in phi]),
        *tape.gradient(likelihood, [v.value for v in theta]),
    ]
    of_the_bound = bound_and_gradients(model, IWAEBound(4), x, noise)[1]
    for objective, its in ((OtherRows(4), expected), (DerivedFromBound(4), of_the_bound)):
        for one, other in zip(bound_and_gradients(model, objective, x, noise)[1], its, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)  # float32


# ------------------------------------------------------------------------------------------- callbacks and steps


class Recorder(keras.callbacks.Callback):
    """Records the weight of the KL divergence at every batch, and the batches' numbers."""

    def __init__(self):
        super().__init__()
        self.weights, self.batches = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)
        if hasattr(self.model.objective, "kl_weight"):
            self.weights.append(round(float(self.model.objective.kl_weight), 6))


def test_the_kl_weight_rises_to_1_in_the_epochs_that_the_objective_asks_for():
    model, recorder = compiled(ELBO(2, kl_annealing=3), run_eagerly=True), Recorder()
    given = [recorder]
    model.fit(images(16), batch_size=8, epochs=4, callbacks=given, verbose=0)
    assert recorder.weights == [0.333333] * 2 + [0.666667] * 2 + [1.0] * 4
    assert given == [recorder]  # the caller's list stays as it was


@pytest.fixture
def keras_fit(monkeypatch):
    """Calls of `keras.Model.fit`, which does nothing: (the model, arguments by name)."""
    calls, original = [], keras.Model.fit

    @functools.wraps(original)
    def fit(self, *args, **kwargs):
        calls.append(inspect.signature(original).bind_partial(self, *args, **kwargs).arguments)

    monkeypatch.setattr(keras.Model, "fit", fit)
    return calls


@pytest.mark.parametrize("annealing", [3, None])
@pytest.mark.parametrize("wrap", [lambda c: [c], lambda c: c, lambda c: (c,), None])
def test_callbacks_of_the_objective_are_added_to_the_users(keras_fit, annealing, wrap):
    model, stop = compiled(ELBO(2, kl_annealing=annealing)), keras.callbacks.EarlyStopping("bound")
    model.objective.kl_weight.assign(0.2)  # as an interrupted fit leaves it
    given = wrap(stop) if wrap else None
    model.fit(images(16), batch_size=8, callbacks=given)
    assert float(model.objective.kl_weight) == 1.0
    passed = keras_fit[0]["callbacks"]
    if annealing is None:
        assert passed is given
    else:
        assert passed[:-1] == [stop] * bool(wrap)
        assert isinstance(passed[-1], KLAnnealing)
        assert passed[-1].epochs == 3


@pytest.mark.parametrize(
    ("arguments", "expected"), [({}, 4), ({"steps_per_execution": 3}, 3), ({"run_eagerly": True}, 1)]
)
def test_steps_that_are_asked_for_stay_and_eager_steps_are_single(keras_fit, arguments, expected):
    model = compiled(**arguments)
    model.fit(images(64), None, 16, epochs=2)  # arguments by position count too
    assert keras_fit[0]["self"] is model
    assert model.steps_per_execution == expected


def after_fit(images=70, **arguments):
    model = compiled(IWAEBound(4), keras.optimizers.SGD(0.05), small_model(gain=1.0))
    history = model.fit(binary_images(images), batch_size=8, shuffle=False, **{"verbose": 0, **arguments}).history
    return model, history["bound"], np.concatenate([np.ravel(weights) for weights in model.get_weights()])


@pytest.mark.slow
def test_several_steps_in_a_call_are_the_steps_one_by_one_of_a_fit_whose_callback_counts_batches(capfd):
    recorder = Recorder()
    single, single_bound, single_weights = after_fit(epochs=2, callbacks=[recorder])
    assert (recorder.batches, single.steps_per_execution) == (2 * list(range(9)), 1)
    model, bound, weights = after_fit(epochs=2, verbose=1)
    assert (model.steps_per_execution, model.step) == (9, single.step)
    assert "9/9" in capfd.readouterr().out  # Keras' bar counts the batches of an epoch
    np.testing.assert_allclose(bound, single_bound, rtol=1e-5)  # float32
    np.testing.assert_allclose(weights, single_weights, rtol=1e-4, atol=1e-6)


EARLY = keras.callbacks.EarlyStopping("bound")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 20),
        ({"callbacks": [], "steps_per_epoch": 65}, 13),
        ({"callbacks": [EARLY], "steps_per_epoch": 3000}, 20),
        ({"callbacks": EARLY, "steps_per_epoch": 7}, 7),
        ({"callbacks": [keras.callbacks.ModelCheckpoint("a.keras")]}, 20),
        ({"callbacks": [keras.callbacks.ModelCheckpoint("a.keras", save_freq=10)]}, 1),
        ({"callbacks": [keras.callbacks.TerminateOnNaN()]}, 1),
        ({"callbacks": [keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]}, 1),
        ({"callbacks": keras.callbacks.CallbackList([Recorder()])}, 1),
        ({"x": np.zeros([1, 4])}, 1),
        ({"x": np.zeros([32 * 20, 4])}, 20),
        ({"x": np.zeros([13 * 8, 4]), "batch_size": 8}, 13),
        ({"x": np.zeros([13 * 8, 4]), "batch_size": 8, "validation_split": 0.5}, 7),
        ({"x": np.zeros([65 * 8 - 3, 4]), "batch_size": 8}, 13),
        ({"x": np.zeros([67 * 8, 4]), "batch_size": 8}, 17),  # 68 steps, and the last finds no batch
        ({"x": np.zeros([0, 4])}, 20),
    ],
)
def test_steps_in_a_call_divide_the_epoch_and_are_one_where_batches_are_counted(arguments, expected):
    assert steps_per_call(arguments) == expected


def test_the_largest_divisor():
    assert [largest_divisor(number, 20) for number in (1, 19, 23, 40, 65)] == [1, 19, 1, 20, 13]


# ------------------------------------------------------------------------------------------- sub-batches


SUB_BATCH_CASES = {
    "iwae": {},
    "dreg": {},
    "iwae with backward samples": {"backward_samples": 2},
    "rws-sleep": {},
    "ciwae": {"learn_beta": True},
    "vimco": {},
}


@pytest.mark.parametrize("case", SUB_BATCH_CASES)
def test_a_step_in_sub_batches_is_the_step_of_the_whole_batch(case, monkeypatch):
    model, x, results = small_model(2, gain=1.0), tf.constant(binary_images(7)), []
    model.compile(objective=find("objective", case.split()[0]).load()(4, **SUB_BATCH_CASES[case]))
    for number in (1, 3):
        monkeypatch.setattr(replicas, "num_sub_batches", lambda num_samples, batch_size, number=number: number)
        bound, gradients = model._bound_and_gradients(x, tf.constant(0, tf.int64))
        results.append((bound, np.concatenate([np.ravel(gradient) for gradient in gradients])))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)  # float32 sums in another order


def test_shares_have_all_rows_in_their_order_and_know_their_place_in_the_batch():
    x, numbers = tf.range(10)[:, None], tf.range(30)[None]
    shares = Share(size=30, here=10, first=5).split(x, 4)
    np.testing.assert_array_equal(tf.concat([rows for rows, _ in shares], axis=0), x)
    assert [(share.first, share.here) for _, share in shares] == [(5, 2), (7, 3), (10, 2), (12, 3)]
    for rows, share in shares:
        np.testing.assert_array_equal(share.of(numbers)[0], rows[:, 0] + 5)
    assert whole(tf.zeros([30, 2])).of(numbers) is numbers


def test_a_batch_of_unknown_size_may_leave_a_sub_batch_without_rows(monkeypatch):
    model, x, step = compiled(IWAEBound(4), model=small_model(gain=1.0)), binary_images(1), tf.constant(0, tf.int64)
    expected, _ = model._bound_and_gradients(tf.constant(x), step)
    monkeypatch.setattr(replicas, "num_sub_batches", lambda num_samples, batch_size: 2)
    function = model._forward_backward.get_concrete_function(tf.TensorSpec([None, SMALL_DIM]), step)
    bound, gradients = function(tf.constant(x), step)
    np.testing.assert_allclose(bound, expected, rtol=1e-5)  # float32
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "expected"),
    [(1, 20, 1), (5, 20, 1), (50, 20, 2), (50, 100, 10), (500, 3, 3), (50, None, 2), (5, None, 1)],
)
def test_a_sub_batch_is_of_500_rows_and_every_core_has_as_many(monkeypatch, num_samples, batch_size, expected):
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 1)
    monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: 2)
    assert num_sub_batches(num_samples, batch_size) == expected
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 0)
    assert num_sub_batches(num_samples, batch_size) == 1


@pytest.mark.parametrize(
    ("cores", "environment", "gpu", "expected"),
    [(3, {}, False, (1, 3)), (1, {}, False, None), (5, {}, False, None), (3, {}, True, None)]
    + [(3, {"TF_NUM_INTRAOP_THREADS": "3"}, False, None)],
)
def test_few_cores_give_an_operation_one_thread_each_unless_told_otherwise(
    monkeypatch, cores, environment, gpu, expected
):
    calls = {}
    for name in ("intra", "inter"):
        setter = f"set_{name}_op_parallelism_threads"
        monkeypatch.setattr(tf.config.threading, setter, lambda number, name=name: calls.update({name: number}))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU"] * gpu)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    replicas.one_thread_per_operation()
    assert calls == ({} if expected is None else {"intra": expected[0], "inter": expected[1]})


# ------------------------------------------------------------------------------------------- compile, save, strategy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "mse"}, "takes objective="),
        ({"metrics": ["accuracy"]}, "takes objective="),
        ({"objective": "iwae"}, "objective must be an iwae_tf.objectives.Objective, got 'iwae'"),
        ({"jit_compile": "yes"}, "jit_compile must be True, False or 'auto', got 'yes'"),
    ],
)
def test_compile_refuses_what_it_does_not_do(arguments, message):
    with pytest.raises(iwae_tf.InputError, match=message):
        small_model().compile(**arguments)


def test_compile_without_arguments_is_the_papers_optimizer_50_samples_and_no_xla_without_a_gpu():
    model = small_model()
    model.compile()
    assert isinstance(model.objective, IWAEBound)
    assert model.objective.num_samples == 50
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert (float(model.optimizer.learning_rate), model.optimizer.epsilon) == (pytest.approx(1e-3), 1e-4)
    assert model.uses_xla == bool(tf.config.list_physical_devices("GPU"))


def test_a_compiled_model_is_saved_with_objective_and_optimizer_and_continues_the_same(tmp_path):
    model, x = compiled(DReG(7), run_eagerly=True), images(32)
    model.fit(x, batch_size=16, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert isinstance(loaded.objective, DReG)
    assert loaded.objective.num_samples == 7
    for one in (model, loaded):
        one.fit(x, batch_size=16, shuffle=False, verbose=0)
    assert loaded.step == 4
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_a_model_trains_inside_a_strategy_scope():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = compiled(steps_per_execution=1)
    bounds = model.fit(images(64), batch_size=16, epochs=3, verbose=0).history["bound"]
    assert bounds[-1] > bounds[0]
