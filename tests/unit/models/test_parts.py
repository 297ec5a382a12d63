"""A step in parts of the batch is the step of the whole batch."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import binary_images, small_model

from iwae_tf.objectives import objective_class
from iwae_tf.replicas import Share, whole

CASES = {
    "iwae": ("iwae", {}),
    "dreg": ("dreg", {}),
    "backward samples": ("iwae", {"backward_samples": 2}),
    "sleep phase": ("rws-sleep", {}),
    "learned beta": ("ciwae", {"learn_beta": True}),
    "score function": ("vimco", {}),
}


def _after_two_steps(case: str, parts: int, monkeypatch):
    """The bound of each example in the first step, and the weights after two."""
    name, settings = CASES[case]
    model, x = small_model(2, gain=1.0), tf.constant(binary_images(7))
    model.compile(keras.optimizers.SGD(0.05), objective_class(name)(4, **settings))
    monkeypatch.setattr(model, "_num_parts", lambda batch_size: parts)
    bound, _ = model._forward_backward(x, tf.constant(0, tf.int64))
    for _ in range(2):
        model.train_step(x)
    return bound.numpy(), np.concatenate([np.ravel(weights) for weights in model.get_weights()])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parts", [3, 7])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(case, parts, monkeypatch):
    whole_bound, whole_weights = _after_two_steps(case, 1, monkeypatch)
    bound, weights = _after_two_steps(case, parts, monkeypatch)
    np.testing.assert_allclose(bound, whole_bound, rtol=1e-5)  # float32
    np.testing.assert_allclose(weights, whole_weights, rtol=1e-5, atol=1e-6)  # sums in another order


def test_parts_have_all_rows_in_their_order_and_know_their_place_in_the_batch():
    x = tf.range(10)[:, None]
    share = Share(size=30, here=10, first=5)
    parts = share.split(x, 4)
    np.testing.assert_array_equal(tf.concat([rows for rows, _ in parts], axis=0), x)
    assert [(part.first, part.here) for _, part in parts] == [(5, 2), (7, 3), (10, 2), (12, 3)]
    numbers = tf.range(30)[None]
    for rows, part in parts:
        np.testing.assert_array_equal(part.of(numbers)[0], rows[:, 0] + 5)


def test_the_whole_batch_keeps_its_numbers_as_they_are():
    numbers = tf.range(10)[None]
    assert whole(tf.zeros([10, 2])).of(numbers) is numbers


def test_a_batch_of_unknown_size_may_leave_a_part_without_rows(monkeypatch):
    model, x = small_model(gain=1.0), binary_images(9)
    model.compile(keras.optimizers.SGD(0.05), objective_class("iwae")(4))
    monkeypatch.setattr(model, "_num_parts", lambda batch_size: 2)
    history = model.fit(x, batch_size=8, epochs=1, shuffle=False, verbose=0).history  # the last batch has one row
    assert np.isfinite(history["bound"][0])
    assert model.step == 2


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "expected"),
    [(1, 20, 1), (5, 20, 1), (50, 20, 2), (50, 100, 10), (500, 3, 3), (50, None, 2), (5, None, 1)],
)
def test_parts_have_about_500_rows_and_keep_all_cores_at_work(num_samples, batch_size, expected, monkeypatch):
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 1)
    monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: 2)
    assert num_sub_batches(num_samples, batch_size) == expected


def test_with_more_threads_to_an_operation_there_are_no_parts(monkeypatch):
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 0)
    assert num_sub_batches(50, 100) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "expected"), [({}, {1}), ({"TF_NUM_INTRAOP_THREADS": "3"}, {0})])
def test_commands_give_an_operation_one_thread_on_few_cores_unless_told_otherwise(setting, expected):
    code = (
        "import os; os.sched_getaffinity = lambda pid: {0, 1, 2}\n"
        "from iwae_tf.commands.quiet import import_tensorflow; import_tensorflow()\n"
        "import tensorflow as tf; from iwae_tf.replicas import one_thread_per_operation\n"
        "threading = tf.config.threading\n"
        "print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())\n"
        "tf.zeros([1]); one_thread_per_operation()  # too late, and no error\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **setting}, capture_output=True, text=True, check=True
    )
    intra, inter = map(int, done.stdout.split())
    assert {intra} == expected
    assert inter == (3 if intra == 1 else 0)


@pytest.mark.slow
def test_a_step_that_xla_compiles_has_all_cores(tmp_path):
    code = (
        "import os; os.sched_getaffinity = lambda pid: {0, 1, 2}\n"
        "from iwae_tf.commands.quiet import import_tensorflow; import_tensorflow(xla=True)\n"
        "import tensorflow as tf; print(tf.config.threading.get_intra_op_parallelism_threads())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 0
