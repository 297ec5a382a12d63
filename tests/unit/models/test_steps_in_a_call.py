"""`fit` takes several steps in a call where nobody counts batches, and it is the same fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from iwae_tf.models.steps_in_a_call import largest_divisor, steps_in_a_call
from small_models import binary_images, small_model

from iwae_tf.objectives import IWAEBound


class BatchCounter(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)


def fitted(images=70, data=None, compiled=None, **arguments):
    model = small_model(gain=1.0)
    model.compile(keras.optimizers.SGD(0.05), IWAEBound(4), **(compiled or {}))
    x = binary_images(images)
    x = x if data is None else data(x)
    history = model.fit(x, batch_size=None if data else 8, shuffle=False, verbose=0, **arguments).history
    return model, history["bound"], np.concatenate([np.ravel(weights) for weights in model.get_weights()])


def endless(x):
    return tf.data.Dataset.from_tensor_slices(x).repeat().batch(8)


CASES = {
    "an array that does not come out even": {"epochs": 2},
    "more batches than steps in a call": {"images": 200},
    "data without end": {"data": endless, "steps_per_epoch": 7, "epochs": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_several_steps_in_a_call_are_the_steps_one_by_one(case):
    model, bound, weights = fitted(**CASES[case])
    assert model.steps_per_execution > 1
    single, single_bound, single_weights = fitted(**CASES[case], compiled={"steps_per_execution": 1})
    assert single.steps_per_execution == 1
    assert model.step == single.step
    np.testing.assert_allclose(bound, single_bound, rtol=1e-5)  # float32
    np.testing.assert_allclose(weights, single_weights, rtol=1e-4, atol=1e-6)


def test_a_callback_that_counts_batches_sees_each():
    counter = BatchCounter()
    model, *_ = fitted(callbacks=[counter])
    assert counter.batches == list(range(9))
    model.fit(binary_images(70), batch_size=8, verbose=0)  # and a fit without it is quick again
    assert model.steps_per_execution == 9


@pytest.mark.parametrize(
    ("callbacks", "steps_per_epoch", "expected"),
    [
        (None, None, 20),
        ([], 65, 13),
        ([keras.callbacks.EarlyStopping("bound")], 3000, 20),
        (keras.callbacks.EarlyStopping("bound"), 7, 7),
        ([keras.callbacks.ModelCheckpoint("a.keras")], None, 20),
        ([keras.callbacks.ModelCheckpoint("a.keras", save_freq=10)], None, 1),
        ([keras.callbacks.TerminateOnNaN()], None, 1),
        ([keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)], None, 1),
        (keras.callbacks.CallbackList([BatchCounter()]), None, 1),
    ],
)
def test_steps_in_a_call_divide_an_epoch_of_endless_data_and_spare_who_counts(callbacks, steps_per_epoch, expected):
    assert steps_in_a_call({"callbacks": callbacks, "steps_per_epoch": steps_per_epoch}) == expected


@pytest.mark.parametrize(
    ("images", "arguments", "expected"),
    [
        (1, {}, 1),
        (32 * 20, {}, 20),
        (13 * 8, {"batch_size": 8}, 13),
        (13 * 8, {"batch_size": 8, "validation_split": 0.5}, 7),
        (65 * 8 - 3, {"batch_size": 8}, 13),
        (67 * 8, {"batch_size": 8}, 17),  # 68 steps, and the last finds no batch
        (0, {}, 20),
    ],
)
def test_few_steps_of_the_calls_lie_beyond_the_last_batch_of_an_array(images, arguments, expected):
    assert steps_in_a_call({"x": np.zeros([images, 4]), **arguments}) == expected


def test_the_bar_of_keras_counts_the_batches_of_an_epoch(capfd):
    model = small_model(gain=1.0)
    model.compile(objective=IWAEBound(4))
    model.fit(binary_images(13 * 8), batch_size=8, verbose=1)
    assert "13/13" in capfd.readouterr().out


def test_the_largest_divisor():
    assert [largest_divisor(number, 20) for number in (1, 19, 23, 40, 65)] == [1, 19, 1, 20, 13]


def test_steps_that_are_asked_for_stay():
    assert fitted(compiled={"steps_per_execution": 3})[0].steps_per_execution == 3
    assert fitted(compiled={"run_eagerly": True}, images=8)[0].steps_per_execution == 1
