"""Every operation of a step, a score and a signature has a kernel for GPUs, which TensorFlow lists without one."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from small_models import SMALL_DIM, small_model
from tensorflow.python.framework import kernels

from iwae_tf.config import RunConfig, TrainingConfig
from iwae_tf.data import Column
from iwae_tf.models import streaming
from iwae_tf.serving.row import HeldOut, RowSettings
from iwae_tf.serving.signatures import signatures
from iwae_tf.training.building import build_optimizer

# The key of a row is the fingerprint of its pixels: a few bytes, computed on the host.
ON_THE_HOST = {"Fingerprint"}
# Categories of `score_columns` are compared with those of the model as text, which has kernels for the host alone.
ON_TEXT = {"Equal", "StridedSlice"}


@functools.cache
def on_gpu(operation: str) -> bool:
    """Whether an operation has a kernel for GPUs, or one for every device."""
    found = kernels.get_registered_kernels_for_op(operation).kernel
    return any(kernel.device_type in ("GPU", "DEFAULT") for kernel in found)


def operations(function) -> set[str]:
    """The operations of a concrete function and of all functions that it calls, but inputs and constants of text."""
    return {node.op for node in nodes(function) if node.attr["dtype"].type != tf.string.as_datatype_enum}


def nodes(function) -> list:
    graph = function.graph.as_graph_def()
    return [*graph.node, *(node for called in graph.library.function for node in called.node_def)]


def test_the_list_of_kernels_tells_gpus_from_cpus():
    assert on_gpu("MatMul")
    assert on_gpu("StatelessRandomUniformV2")
    assert not on_gpu("DecodeCSV")


@pytest.mark.parametrize(("objective", "optimizer"), [("iwae", "adam"), ("dreg", "muon"), ("elbo-kl", "adam")])
def test_a_training_step_runs_on_a_gpu(objective, optimizer):
    model = small_model(1)  # elbo-kl is for one layer
    config = RunConfig(training=TrainingConfig(optimizer=optimizer, schedule="cosine"))
    model.compile(build_optimizer(config, 100), objective, jit_compile=False)
    batch = tf.TensorSpec([None, SMALL_DIM], tf.float32)
    step = tf.function(lambda x: model.train_step((x,)), autograph=False).get_concrete_function(batch)
    assert {name for name in operations(step) if not on_gpu(name)} <= {"Assert"}


def test_scores_and_signatures_run_on_a_gpu():
    model = small_model(2)
    held_out = HeldOut(np.zeros(3, np.float32), np.zeros(SMALL_DIM, np.float32))
    columns = (Column("colour", "category", ("blue", "red")), *(Column(f"{i}", "binary") for i in range(1, SMALL_DIM)))
    settings = RowSettings(100, 100, "binary", refine=True, held_out=held_out, columns=columns)
    functions = {name: (given.function, given.inputs) for name, given in signatures(model, settings).items()}
    rows = tf.TensorSpec([None, SMALL_DIM], tf.float32)
    score = functools.partial(streaming.rows_log_likelihood, model, seed=0, num_samples=100)
    for function, inputs in [*functions.values(), (score, [rows])]:
        traced = tf.function(function, autograph=False).get_concrete_function(*inputs)
        assert {name for name in operations(traced) if not on_gpu(name)} <= ON_THE_HOST
        on_text = {node.op for node in nodes(traced) if node.attr["T"].type == tf.string.as_datatype_enum}
        assert on_text == (ON_TEXT if function is functions["score_columns"][0] else set())
