"""Training as a Keras user writes it: inputs, callbacks, steps per call, sub-batches, saving, and what is refused."""

import functools
import inspect
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import SMALL_DIM, binary_images, small_model

from iwae_tf import InputError, replicas, seeds
from iwae_tf.adam import Adam
from iwae_tf.declarations import find
from iwae_tf.models import streaming
from iwae_tf.models.checks import steps_per_call
from iwae_tf.objectives import CIWAE, ELBO, AnalyticKLELBO, IWAEBound, KLAnnealing
from iwae_tf.replicas import Share, num_sub_batches, whole

CALLBACKS = keras.callbacks


def images(n):
    """n noisy copies of three patterns: something to learn, unlike independent pixels."""
    rng = np.random.default_rng(1)
    patterns = rng.random((3, SMALL_DIM)) < 0.5
    return (patterns[rng.integers(3, size=n)] ^ (rng.random((n, SMALL_DIM)) < 0.1)).astype(np.float32)


def compiled(objective=None, optimizer=None, model=None, **arguments):
    model = model or small_model(gain=1.0)
    model.compile(optimizer or keras.optimizers.Adam(0.01), objective=objective or IWAEBound(5), **arguments)
    return model


@pytest.fixture(scope="module")
def shared():
    """A compiled model that traces its step once; tests may train it."""
    return compiled(steps_per_execution=1)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return (images(64)[16 * index : 16 * index + 16],)


INPUTS = {
    "array with labels, which are ignored": lambda x: {"x": x, "y": x, "batch_size": 16},
    "dataset": lambda x: {"x": tf.data.Dataset.from_tensor_slices(x).batch(16)},
    "generator": lambda x: {"x": ((x[16 * (i % 4) :][:16],) for i in range(100)), "steps_per_epoch": 4},
    "PyDataset": lambda x: {"x": Batches()},
}


@pytest.mark.parametrize("data", INPUTS.values(), ids=INPUTS)
def test_fit_takes_every_kind_of_input(shared, data):
    x, before = images(64), shared.step
    history = shared.fit(**data(x), epochs=2, validation_data=(x, None), shuffle=False, verbose=0).history
    assert set(history) == {"loss", "bound", "val_loss", "val_bound"}
    assert history["loss"] == [-bound for bound in history["bound"]]
    evaluated = shared.evaluate(x, return_dict=True, verbose=0)["bound"]
    assert history["val_bound"][-1] == pytest.approx(evaluated, rel=1e-6)  # float32, graphs of their own
    assert shared.step == before + 8


BAD_DATA = {
    "8-bit grey values": (np.full((32, SMALL_DIM), 255, np.uint8), "255"),
    "NaN": (np.full((32, SMALL_DIM), np.nan, np.float32), "nan|values from"),
    "wrong size": (np.zeros((32, 5), np.float32), "5"),
    "rows of images": (np.zeros((32, 3, SMALL_DIM), np.float32), "3"),
}


GENERATORS = ["8-bit grey values", "rows of images"]


@pytest.mark.parametrize(("case", "as_generator"), [(c, False) for c in BAD_DATA] + [(c, True) for c in GENERATORS])
def test_bad_data_are_refused_in_fit_and_evaluate_with_what_came_and_what_to_do(shared, case, as_generator):
    x, came = BAD_DATA[case]
    before = [variable.numpy() for variable in shared.trainable_variables]
    for method in (shared.fit, shared.evaluate):
        data = ((batch,) for batch in (x[:16], x[16:])) if as_generator else x
        arguments = {"shuffle": False} if method == shared.fit else {}
        with pytest.raises(InputError, match=came) as error:
            method(data, verbose=0, **arguments)
        assert f"[batch, {SMALL_DIM}]" in str(error.value)
        assert "divide 8-bit grey values by 255" in str(error.value)
    for variable, value in zip(shared.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_weights_of_examples_are_refused(shared):
    x, ones = images(16), np.ones(16)
    for method, arguments in (
        (shared.fit, {"x": x, "sample_weight": ones}),
        (shared.fit, {"x": x, "class_weight": {0: 1.0}}),
        (shared.evaluate, {"x": x, "sample_weight": ones}),
        (shared.fit, {"x": tf.data.Dataset.from_tensors((x, x, ones)), "shuffle": False}),
    ):
        with pytest.raises(InputError, match=r"^(sample|class)_weight is not supported"):
            method(**arguments, verbose=0)


@pytest.mark.parametrize("objective", [IWAEBound(7), AnalyticKLELBO(7)])
def test_evaluate_gives_the_bound_on_the_first_samples_of_every_rows_stream_whatever_the_batches(objective):
    x, model = images(33), compiled(objective, model=small_model(gain=1.0, seed=3))
    found = model.evaluate(x, batch_size=32, return_dict=True, verbose=0)  # row 33 counts as much as the others
    noise = streaming.batch_noise(tf.constant(x), 3, 0, 7, 5)
    expected = np.mean(objective.bound(objective.log_weights(model, tf.constant(x), noise)))
    assert found == {"bound": -found["loss"], "loss": pytest.approx(-expected, rel=1e-5)}  # float32
    again = model.evaluate(x[::-1], batch_size=32, return_dict=True, verbose=0)
    assert again["bound"] == pytest.approx(found["bound"], rel=1e-6)


def once_more(model, folder):
    return model


def compiled_again(model, folder):
    return compiled(optimizer=keras.optimizers.SGD(0.0), model=model)


def saved_and_loaded(model, folder):
    model.save(folder / "m.keras")
    return keras.saving.load_model(folder / "m.keras")


def with_its_weights(model, folder):
    model.save_weights(folder / "m.weights.h5")
    optimizer = keras.optimizers.SGD.from_config(model.optimizer.get_config())
    other = compiled(optimizer=optimizer, model=small_model(seed=3))
    other.load_weights(folder / "m.weights.h5")
    return other


@pytest.mark.parametrize(
    ("between", "accumulated"),
    [(once_more, None), (compiled_again, None), (saved_and_loaded, 4), (with_its_weights, None)],
)
def test_noise_in_training_comes_from_the_key_of_seed_and_batches_seen(between, accumulated, tmp_path):
    x, bounds = images(16), []
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=accumulated)
    model = compiled(optimizer=optimizer, model=small_model(seed=3))
    history = model.fit(x, batch_size=8, shuffle=False, verbose=0).history["bound"]
    model = between(model, tmp_path)
    history += model.fit(x, batch_size=8, shuffle=False, verbose=0).history["bound"]
    for number in range(4):
        rows = seeds.row_normals(0, 8, 5 * 5, seeds.key(3, seeds.Purpose.TRAIN_NOISE, number))
        noise = tf.transpose(tf.reshape(rows, [8, 5, 5]), [1, 0, 2])
        batch = x[8 * (number % 2) :][:8]
        bounds.append(np.mean(model.objective.bound(model.log_weights_from_noise(batch, noise))))
    assert history == pytest.approx([np.mean(bounds[:2]), np.mean(bounds[2:])], rel=1e-5)  # float32
    assert len(set(bounds)) == 4
    assert int(model.batches_seen) == 4


@pytest.mark.slow
def test_xla_draws_new_noise_at_every_step_is_saved_and_reports_a_bound_that_is_not_finite():
    model, x = compiled(optimizer=keras.optimizers.SGD(1e30), jit_compile=True), images(64)
    assert model.uses_xla
    first, second = (model._forward_backward(tf.constant(x[:16]), tf.constant(s, tf.int64))[0] for s in (0, 1))
    assert (first.numpy() != second.numpy()).all()
    assert model.get_compile_config()["jit_compile"] is True
    with pytest.raises(InputError, match=r"not finite at step (\d+)") as error:
        model.fit(x, batch_size=16, verbose=0)
    assert f"step {model.step}," in str(error.value)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_that_is_not_taken_is_not_counted(optimizer):
    model = compiled(ELBO(1), optimizer, small_model(likelihood="gaussian"), run_eagerly=True)
    before = [variable.numpy() for variable in model.trainable_variables]
    with pytest.raises(InputError, match="not finite at step 0,"):
        model.fit(np.full((8, SMALL_DIM), 1e15, np.float32), verbose=0)  # its squared gradient overflows
    assert model.step == int(model.batches_seen) == 0
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.fixture
def keras_fit(monkeypatch):
    """Arguments, by name, of calls of `keras.Model.fit`, which does nothing else."""
    calls, original = [], keras.Model.fit

    @functools.wraps(original)
    def fit(self, *args, **kwargs):
        bound = inspect.signature(original).bind_partial(self, *args, **kwargs)
        calls.append(bound.arguments | {"steps in a call": self.steps_per_execution})

    monkeypatch.setattr(keras.Model, "fit", fit)
    return calls


@pytest.mark.parametrize("annealing", [3, None])
@pytest.mark.parametrize("wrap", [lambda c: [c], lambda c: c, lambda c: (c,), None])
def test_callbacks_of_the_objective_are_added_to_the_users(keras_fit, annealing, wrap):
    model, stop = compiled(ELBO(2, kl_annealing=annealing)), CALLBACKS.EarlyStopping("bound")
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
    model.fit(images(64), None, 16, epochs=2)
    assert keras_fit[0]["self"] is model
    assert keras_fit[0]["steps in a call"] == expected
    assert model.steps_per_execution == arguments.get("steps_per_execution", 1)


def test_evaluate_and_batches_give_the_loss_first(shared):
    x = images(32)
    loss, bound = shared.evaluate(x, verbose=0)
    assert shared.metrics_names == ["loss", "bound"]
    assert (loss, bound) == (-bound, pytest.approx(shared.evaluate(x, verbose=0, return_dict=True)["bound"]))
    assert shared.test_on_batch(x)[0] == -shared.test_on_batch(x)[1] > 0.0


def test_an_objective_can_be_looked_into_eagerly_and_the_choice_is_saved(tmp_path):
    seen = []

    class Looked(IWAEBound):
        def bound(self, log_w):
            if seen is not None and hasattr(log_w, "numpy"):
                seen.append(log_w.numpy().shape)
            return super().bound(log_w)

    model = compiled(Looked(5), run_eagerly=True, steps_per_execution=3)
    seen.clear()
    model.fit(images(32), batch_size=16, verbose=0)
    assert seen == [(5, 16), (5, 16)]
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert (again.run_eagerly, again.steps_per_execution) == (True, 3)
    compiled().save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert (again.run_eagerly, again._fit_chooses_steps) == (False, True)


def test_every_batch_is_evaluated_and_predicted_whatever_fit_has_compiled():
    x = images(400)
    x = x[np.argsort(x.sum(axis=1))]  # so that some of the batches have another bound than all
    batches = tf.data.Dataset.from_tensor_slices(x).batch(10)

    def exact(rows):
        fresh = compiled()
        fresh.set_weights(model.get_weights())
        return pytest.approx(fresh.evaluate(rows, batch_size=10, verbose=0, return_dict=True)["bound"], abs=2e-3)

    def check():
        for several in (x, batches):
            assert model.evaluate(several, batch_size=10, verbose=0, return_dict=True)["bound"] == exact(x)
            assert model.predict(several, batch_size=10, verbose=0).shape == x.shape
        assert model.predict(batches.repeat(), steps=3, verbose=0).shape == (30, SMALL_DIM)
        assert model.evaluate(batches.repeat(), steps=3, verbose=0, return_dict=True)["bound"] == exact(x[:30])

    class Check(CALLBACKS.Callback):
        def on_epoch_end(self, epoch, logs=None):
            check()
            assert logs["val_bound"] == bound

    model = compiled(optimizer=keras.optimizers.SGD(0.0))  # so that the weights stay
    check()
    bound = exact(x)
    for rows in (x[:64], x, x[:30]):
        model.fit(rows, batch_size=10, validation_data=(x, None), callbacks=[Check()], verbose=0)
        check()
    found = model.fit(x, batch_size=10, validation_data=batches.repeat(), validation_steps=3, verbose=0).history
    assert found["val_bound"] == [exact(x[:30])]
    model.fit(batches.repeat(), steps_per_epoch=7, validation_data=(x, None), callbacks=[Check()], verbose=0)
    check()


def test_an_interrupted_fit_leaves_no_validation_data_behind():
    def interrupt(epoch, logs):
        raise KeyboardInterrupt

    model, x = compiled(optimizer=keras.optimizers.SGD(0.0)), images(64)
    stop = CALLBACKS.LambdaCallback(on_epoch_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, validation_data=(x[:8], None), callbacks=[stop], verbose=0)
    found = model.fit(x, validation_data=(x, None), verbose=0).history["val_bound"][0]
    assert found == pytest.approx(model.evaluate(x, verbose=0, return_dict=True)["bound"], abs=1e-4)


def test_a_compile_that_fails_changes_nothing():
    model, objective = compiled(steps_per_execution=1), IWAEBound(7)
    before = model.objective
    with pytest.raises(TypeError):
        model.compile(objective=objective, loss_scale=1)
    assert (model.objective, model._fit_chooses_steps) == (before, False)


def test_what_an_objective_has_learned_stays_with_its_model():
    objective = CIWAE(5, beta=0.5, learn_beta=True)
    model = compiled(objective)
    compiled(objective, model=model)
    with pytest.raises(InputError, match="ciwae has learned with another model: give each model an objective of its"):
        compiled(objective)
    compiled(CIWAE.from_config(objective.get_config()))
    plain = IWAEBound(5)
    pickle.dumps(compiled(plain).objective)
    assert compiled(plain).objective is compiled(plain).objective


def test_the_weight_of_the_divergence_ends_with_the_fit():
    model = compiled(ELBO(2))
    model.fit(images(16), batch_size=8, callbacks=[KLAnnealing(10)], verbose=0)
    assert float(model.objective.kl_weight) == 1.0


@pytest.mark.parametrize("labels", [["a", "b"] * 32, [None, "b"] * 32])
def test_labels_of_any_type_are_ignored(shared, labels):
    x, labels = images(64), np.array(labels)
    shared.fit(x, labels, validation_data=(x, labels), verbose=0)
    assert np.isfinite(shared.evaluate(x, labels, verbose=0, return_dict=True)["bound"])


class Recorder(CALLBACKS.Callback):
    """Records the numbers of the batches, and the weight of the KL divergence at each."""

    def __init__(self):
        super().__init__()
        self.batches, self.weights = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)
        self.weights.append(round(float(self.model.objective.kl_weight), 6))


@pytest.mark.slow
def test_several_steps_in_a_call_are_the_steps_one_by_one_of_a_fit_whose_callback_counts_batches(capfd):
    recorder, results = Recorder(), []
    for arguments in ({"callbacks": [recorder]}, {}):
        model = compiled(ELBO(4, kl_annealing=2), keras.optimizers.SGD(0.05))
        history = model.fit(images(70), batch_size=8, epochs=2, shuffle=False, **arguments).history
        results.append((history["bound"], np.concatenate([np.ravel(weights) for weights in model.get_weights()])))
        assert (model._steps_per_call.of_fit, model.step) == (1 if arguments else 9, 18)
        assert "9/9" in capfd.readouterr().out  # Keras' bar counts the batches of an epoch
    assert recorder.batches == 2 * list(range(9))
    assert recorder.weights == [0.5] * 9 + [1.0] * 9
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)  # float32


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 20),
        ({"callbacks": [], "steps_per_epoch": 65}, 13),
        ({"steps_per_epoch": 60, "validation_steps": 8}, 4),
        ({"x": np.zeros([32 * 20, 4]), "validation_steps": 3}, 3),
        ({"callbacks": [CALLBACKS.EarlyStopping("bound")], "steps_per_epoch": 3000}, 20),
        ({"callbacks": CALLBACKS.EarlyStopping("bound"), "steps_per_epoch": 7}, 7),
        ({"callbacks": [CALLBACKS.ModelCheckpoint("a.keras")], "steps_per_epoch": 23}, 1),
        ({"callbacks": [CALLBACKS.ModelCheckpoint("a.keras")]}, 20),
        ({"callbacks": [CALLBACKS.ModelCheckpoint("a.keras", save_freq=10)]}, 1),
        ({"callbacks": [CALLBACKS.TerminateOnNaN()]}, 1),
        ({"callbacks": [CALLBACKS.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]}, 1),
        ({"callbacks": CALLBACKS.CallbackList([Recorder()])}, 1),
        ({"x": np.zeros([1, 4])}, 1),
        ({"x": np.zeros([32 * 20, 4])}, 20),
        ({"x": np.zeros([13 * 8, 4]), "batch_size": 8, "validation_split": 0.5}, 7),
        ({"x": np.zeros([65 * 8 - 3, 4]), "batch_size": 8}, 13),
        ({"x": np.zeros([67 * 8, 4]), "batch_size": 8}, 17),  # 68 steps, and the last finds no batch
        ({"x": np.zeros([0, 4])}, 20),
    ],
)
def test_steps_in_a_call_divide_the_epoch_and_are_one_where_batches_are_counted(arguments, expected):
    assert steps_per_call(arguments) == expected


CASES = [
    ("iwae", {}),
    ("dreg", {}),
    ("iwae", {"backward_samples": 2}),
    ("rws-sleep", {}),
    ("ciwae", {"learn_beta": True}),
]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_step_in_sub_batches_is_the_step_of_the_whole_batch(name, settings, monkeypatch):
    model, x, results = small_model(2, gain=1.0), tf.constant(binary_images(7)), []
    model.compile(objective=find("objective", name).load()(4, **settings))
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
    model, x, step = compiled(), binary_images(1), tf.constant(0, tf.int64)
    expected, _ = model._bound_and_gradients(tf.constant(x), step)
    monkeypatch.setattr(replicas, "num_sub_batches", lambda num_samples, batch_size: 2)
    function = model._forward_backward.get_concrete_function(tf.TensorSpec([None, SMALL_DIM]), step)
    bound, gradients = function(tf.constant(x), step)
    np.testing.assert_allclose(bound, expected, rtol=1e-5)  # float32
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "expected"),
    [(1, 20, 1), (5, 20, 1), (50, 20, 2), (50, 100, 10), (50, 30, 4), (500, 3, 3), (50, None, 2), (5, None, 1)],
)
def test_a_sub_batch_is_of_500_rows_and_every_core_has_as_many(monkeypatch, num_samples, batch_size, expected):
    threading = tf.config.threading
    monkeypatch.setattr(threading, "get_inter_op_parallelism_threads", lambda: 2)
    for threads, number in ((1, expected), (0, 1)):
        monkeypatch.setattr(threading, "get_intra_op_parallelism_threads", lambda threads=threads: threads)
        assert num_sub_batches(num_samples, batch_size) == number
    # As it is unless someone sets it: TensorFlow takes all cores.
    monkeypatch.setattr(threading, "get_inter_op_parallelism_threads", lambda: 0)
    monkeypatch.setattr(threading, "get_intra_op_parallelism_threads", lambda: 1)
    monkeypatch.setattr(replicas, "available_cores", lambda: 2)
    assert num_sub_batches(num_samples, batch_size) == expected


@pytest.mark.parametrize(
    ("cores", "threads", "gpu", "expected"),
    [(3, None, 0, [1, 3]), (1, None, 0, []), (5, None, 0, []), (3, None, 1, []), (3, "3", 0, [])],
)
def test_few_cores_give_an_operation_one_thread_each_unless_told_otherwise(monkeypatch, cores, threads, gpu, expected):
    calls = []
    for name in ("intra", "inter"):
        monkeypatch.setattr(tf.config.threading, f"set_{name}_op_parallelism_threads", calls.append)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU"] * gpu)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", threads)
    replicas.one_thread_per_operation()
    assert calls == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "mse"}, r"compile\(\) takes objective=, not \['loss'\]"),
        ({"metrics": ["accuracy"]}, r"compile\(\) takes objective=, not \['metrics'\]"),
        ({"objective": 50}, "objective must be an iwae_tf.objectives.Objective, got 50"),
        ({"jit_compile": "yes"}, "jit_compile must be True, False or 'auto', got 'yes'"),
    ],
)
def test_compile_refuses_what_it_does_not_do(arguments, message):
    with pytest.raises(InputError, match=message):
        small_model().compile(**arguments)


def test_compile_without_arguments_is_the_papers_optimizer_50_samples_and_no_xla_without_a_gpu():
    model = small_model()
    model.compile()
    assert (type(model.objective), model.objective.num_samples) == (IWAEBound, 50)
    assert type(model.optimizer) is Adam
    assert (float(model.optimizer.learning_rate), model.optimizer.epsilon) == (pytest.approx(1e-3), 1e-4)
    assert model.uses_xla == bool(tf.config.list_physical_devices("GPU"))


def test_another_array_does_not_compile_the_step_again(monkeypatch):
    model, traced = compiled(), []
    step = model.train_step
    monkeypatch.setattr(model, "train_step", lambda data: traced.append(tuple(data.shape)) or step(data))
    for rows in (80, 75, 83, 96, 77, 150):  # 10 to 19 batches
        model.fit(images(rows), batch_size=8, verbose=0)
    assert traced == [(8, SMALL_DIM), (None, SMALL_DIM)]  # of whole batches, and of any
