"""Replicas on two logical CPU devices: together they are one model on one device.

Logical devices have to be asked for before TensorFlow starts, so the models live in a process of their own.
"""

import multiprocessing

import numpy as np
import pytest
from small_models import SMALL_DIM, binary_images, small_model

import iwae_tf
from iwae_tf import InputError

pytestmark = pytest.mark.slow

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["iwae_tf.commands.main", "iwae_tf.training.run"])
# Batches of 17 leave 9 and 8 rows to the replicas, the last one of 1 row leaves one replica without any.
NUM_IMAGES, NUM_VALID, BATCH_SIZE, VALIDATION_BATCH_SIZE = 69, 33, 17, 8
CASES = {
    "iwae": ("iwae", {}),
    "dreg, backward samples": ("dreg", {"backward_samples": 2}),
    "sleep phase": ("rws-sleep", {}),
    "learned beta": ("ciwae", {"learn_beta": True}),
    "score function": ("vimco", {}),
}


def _fitted(name: str, **compile_arguments):
    import keras

    objective, parameters = CASES[name]
    model = small_model(2, gain=1.0)
    bound = iwae_tf.objectives.objective_class(objective)(4, **parameters)
    model.compile(keras.optimizers.SGD(0.05), bound, **compile_arguments)
    x, x_valid = binary_images(NUM_IMAGES), binary_images(NUM_VALID, seed=1)
    arguments = {"validation_batch_size": VALIDATION_BATCH_SIZE, "shuffle": False, "verbose": 0}
    history = model.fit(x, batch_size=BATCH_SIZE, epochs=2, validation_data=(x_valid, None), **arguments).history
    return {
        "weights": np.concatenate([np.ravel(weights) for weights in model.get_weights()]),
        "bound": history["bound"],
        "val_bound": history["val_bound"],
        "log_likelihood": model.log_likelihood(x_valid, 130).numpy(),
        "one_row": model.log_likelihood(x_valid[:1], 130).numpy(),
        "step": model.step,
        "distributed": np.array(model.distributed),
    }


def _two_devices():
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def _fit_all(path: str) -> None:
    strategy, results = _two_devices(), {}
    for name in CASES:
        with strategy.scope():
            results |= {f"{name}/{key}": values for key, values in _fitted(name).items()}
    np.savez(path, **results)


def _refuse(connection) -> None:
    """Sends the messages of what is refused, and whether a row without a bound left the weights alone."""
    messages = []
    with _two_devices().scope():
        try:
            small_model().compile(jit_compile=True)
        except InputError as error:
            messages.append(str(error))
        model = small_model(likelihood="gaussian")
        model.compile(objective=iwae_tf.objectives.IWAEBound(3))
    before = model.get_weights()
    x = np.zeros((8, SMALL_DIM), np.float32)
    x[-1] = 1e30  # its square is not a float32, so its log p(x | h) is -inf; it is on the second replica
    try:
        model.fit(x, batch_size=8, shuffle=False, verbose=0)
    except InputError as error:
        messages.append(str(error))
    same = all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    connection.send((messages, same))


def _run(target, argument) -> None:
    process = CONTEXT.Process(target=target, args=(argument,), daemon=True)
    process.start()
    process.join(300)
    assert process.exitcode == 0


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    path = tmp_path_factory.mktemp("mirrored") / "results.npz"
    _run(_fit_all, str(path))
    return np.load(path)


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_take_the_steps_of_one(mirrored, name):
    alone = _fitted(name)
    together = {key: mirrored[f"{name}/{key}"] for key in alone}
    assert together["distributed"]
    assert not alone["distributed"]
    assert together["step"] == alone["step"] == 10
    # The same sums in another order: rounding of float32, through ten steps of SGD, which unlike Adam hides no factor.
    # Half a batch weighed wrong, or other noise, would be off by 1e-3 and more.
    # The signals of a score function are differences of log-weights, many nats large, and so is what rounding does.
    rounding = 2e-5 if name == "score function" else 5e-6
    np.testing.assert_allclose(together["weights"], alone["weights"], atol=rounding)
    for key in ("bound", "val_bound", "log_likelihood", "one_row"):
        np.testing.assert_allclose(together[key], alone[key], rtol=2 * rounding, err_msg=key)


def test_xla_is_refused_and_a_bound_that_is_not_finite_on_one_replica_stops_all():
    here, there = CONTEXT.Pipe()
    _run(_refuse, there)
    (xla, bound), same = here.recv()
    assert "XLA does not compile a step of several replicas" in xla
    assert "not finite at step 0" in bound
    assert same
