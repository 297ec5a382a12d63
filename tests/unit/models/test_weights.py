"""Weights that are read once."""

import numpy as np
import pytest
import tensorflow as tf
from iwae_tf.models.weights import weights_read_once
from small_models import binary_images, small_model

from iwae_tf.objectives import IWAEBound
from iwae_tf.serving.row import RowSettings
from iwae_tf.serving.signatures import signatures


def _operations(graph) -> list[tf.Operation]:
    """Of a graph and of all the functions that it calls."""
    operations = list(graph.get_operations())
    for function in graph._functions.values():
        operations += _operations(function.graph)
    return operations


def test_layers_find_what_was_read_and_after_it_their_variables_again():
    model, x = small_model(2), binary_images(3)
    noise = tf.random.stateless_normal([4, 3, sum(model.latent_units)], seed=[0, 0])
    before = model.log_weights_from_noise(x, noise)
    context = weights_read_once(model)
    for variable in model.trainable_variables:
        variable.assign(1.5 * variable)
    with context:
        np.testing.assert_array_equal(model.log_weights_from_noise(x, noise), before)
    assert (np.abs(model.log_weights_from_noise(x, noise) - before) > 1e-3).all()


@pytest.mark.parametrize("objective", [IWAEBound(4), IWAEBound(4, backward_samples=2)])
def test_a_training_step_reads_each_weight_once(objective):
    model = small_model(2)
    model.compile(objective=objective)
    graph = model._forward_backward.get_concrete_function(tf.constant(binary_images(3)), tf.constant(0, tf.int64)).graph
    reads = [op for op in _operations(graph) if op.type == "ReadVariableOp"]
    assert len(reads) == len(model.trainable_variables)


@pytest.mark.parametrize("name", ["serving_default", "log_prob_k", "encode", "reconstruct", "sample"])
def test_the_rows_of_a_request_wait_for_no_variable(name):
    """A loop with an effect in its body, such as reading a variable, takes its turns one after the other."""
    model = small_model(2)
    signature = signatures(model, RowSettings(100, 100, "binary"))[name]
    function = tf.function(signature.function, input_signature=signature.inputs, autograph=False)
    types = [op.type for op in _operations(function.get_concrete_function().graph)]
    assert "StatelessWhile" in types
    assert "While" not in types


def test_the_tiles_of_a_score_wait_for_no_variable():
    model = small_model(2)
    arguments = tf.constant(binary_images(3)), tf.range(3), tf.range(2), tf.constant(0)
    types = [op.type for op in _operations(model._log_weights_of_blocks.get_concrete_function(*arguments).graph)]
    assert "StatelessWhile" in types
    assert "While" not in types
