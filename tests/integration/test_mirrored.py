"""Replicas on two logical CPU devices: together they are one model on one device.

Logical devices have to be asked for before TensorFlow starts, so the models live in a process of their own.
"""

import json
import sys

import numpy as np
import pytest
from processes import CONTEXT, ended
from small_models import SMALL_DIM, binary_images, small_model

import iwae_tf
from iwae_tf import InputError
from iwae_tf.commands.main import main

pytestmark = pytest.mark.slow

# Batches of 5 leave 3 and 2 rows to the replicas, the last one of 1 row leaves one replica without any.
NUM_IMAGES, BATCH_SIZE = 11, 5
REFUSED = [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"clipvalue": 1.0}, {"use_ema": True}]
REFUSED.append({"gradient_accumulation_steps": 2})
CASES = {  # a bound with a variable of its own, and estimators with noise of their own
    "learned beta": ("ciwae", {"learn_beta": True}),
    "dreg, backward samples": ("dreg", {"backward_samples": 2}),
    "sleep phase": ("rws-sleep", {}),
    "score function": ("vimco", {}),
}


def _fitted(name: str) -> dict:
    import keras

    objective, parameters = CASES[name]
    model = small_model(2 if name == "learned beta" else 1, gain=1.0)  # a graph of two layers takes twice as long
    model.compile(keras.optimizers.SGD(0.02), iwae_tf.objectives.objective_class(objective)(4, **parameters))
    x, x_valid = binary_images(NUM_IMAGES), binary_images(BATCH_SIZE + 1, seed=1)
    arguments = {"batch_size": BATCH_SIZE, "epochs": 2, "shuffle": False, "verbose": 0}
    history = model.fit(x, validation_data=(x_valid, None), **arguments).history
    fitted = {
        "weights": np.concatenate([np.ravel(weights) for weights in model.get_weights()]),
        "bound": history["bound"],
        "val_bound": history["val_bound"],
        "step": model.step,
        "distributed": np.array(model.distributed),
    }
    if name == "learned beta":  # a score depends on the model alone
        fitted["log_likelihood"] = model.log_likelihood(x_valid, 130).numpy()
        fitted["one_row"] = model.log_likelihood(x_valid[:1], 130).numpy()
    return fitted


def _ask_for_two_devices() -> None:
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def _train_on_two_devices(folder: str) -> None:
    """Ends with the exit code of the command."""
    import tensorflow as tf

    _ask_for_two_devices()
    np.savez(f"{folder}/mine.npz", **{f"x_{split}": binary_images(40) for split in ("train", "valid", "test")})
    sizes = "--epochs 1 --k 2 --latent-units 2 --hidden-units 4 --eval-samples 20 --verbose 0 --strategy mirrored"
    code = main(["train", "--dataset", f"{folder}/mine.npz", "--output-dir", f"{folder}/run", *sizes.split()])
    sys.exit(code if len(tf.config.list_logical_devices("CPU")) == 2 else 3)


def _on_two_devices(path: str) -> None:
    """Saves the results of all cases, the messages of what is refused, and whether a refused step changed weights."""
    import keras
    import tensorflow as tf

    _ask_for_two_devices()
    results, messages, outside = {}, [], keras.optimizers.SGD(0.02)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        for name in CASES:
            results |= {f"{name}/{key}": values for key, values in _fitted(name).items()}
        refused = [{"jit_compile": True}, {"optimizer": outside}]
        refused += [{"optimizer": keras.optimizers.SGD(0.02, **settings)} for settings in REFUSED]
        for arguments in refused:
            try:
                small_model().compile(**arguments)
                messages.append("taken")
            except InputError as error:
                messages.append(str(error))
        uncompiled, model = small_model(), small_model(likelihood="gaussian")
        model.compile(objective=iwae_tf.objectives.IWAEBound(3))
    try:
        uncompiled.compile()
        messages.append("taken")
    except InputError as error:
        messages.append(str(error))
    before = model.get_weights()
    x = np.zeros((8, SMALL_DIM), np.float32)
    x[-1] = 1e30  # its square is not a float32, so its log p(x | h) is -inf; it is on the second replica
    try:
        model.fit(x, batch_size=8, shuffle=False, verbose=0)
    except InputError as error:
        messages.append(str(error))
    same = all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    np.savez(path, **results, messages=messages, same=same)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    path = tmp_path_factory.mktemp("mirrored") / "results.npz"
    process = CONTEXT.Process(target=_on_two_devices, args=(str(path),), daemon=True)
    process.start()
    ended(process, 0)
    return np.load(path)


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_take_the_steps_of_one(mirrored, name):
    alone = _fitted(name)
    together = {key: mirrored[f"{name}/{key}"] for key in alone}
    assert together.pop("distributed")
    assert not alone.pop("distributed")
    assert together["step"] == alone["step"] == 6
    # The same sums in another order: rounding of float32, through six steps of SGD, which unlike Adam hides no factor.
    # Half a batch weighed wrong, or other noise, would be off by 1e-3 and more.
    # The signals of a score function are differences of log-weights, many nats large, and so is what rounding does.
    rounding = 2e-5 if name == "score function" else 5e-6
    np.testing.assert_allclose(together.pop("weights"), alone.pop("weights"), atol=rounding)
    for key, expected in alone.items():
        np.testing.assert_allclose(together[key], expected, rtol=2 * rounding, err_msg=key)


def test_the_command_trains_and_scores_on_all_devices(tmp_path):
    process = CONTEXT.Process(target=_train_on_two_devices, args=(str(tmp_path),), daemon=True)
    process.start()
    ended(process, 0)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["num_test"] == 40


def test_what_differs_from_one_device_is_refused_and_a_bound_not_finite_on_one_replica_stops_all(mirrored):
    xla, outside, *settings, compiled_outside, bound = mirrored["messages"]
    assert "made outside the strategy's scope" in outside
    assert compiled_outside == outside
    for setting, message in zip(REFUSED, settings, strict=True):
        assert f"{next(iter(setting))} of the optimizer is not supported on several replicas" in message
    assert "XLA does not compile a step of several replicas" in xla
    assert "not finite at step 0" in bound
    assert mirrored["same"]
