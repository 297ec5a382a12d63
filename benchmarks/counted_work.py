"""What can be counted of a training step and of a score without a clock, in their traced graphs.

Three counts: floating point operations in matrix products, rows that are multiplied by the first kernel of q(h[0] | x),
and bytes of all tensors that operations write. Counted is what the outputs need and nothing else, as TensorFlow
computes it, a batch in one part, a loop as often as it goes round.
"""

import math
from typing import NamedTuple
from unittest import mock

import tensorflow as tf

from benchmarks.sizes import DIM, images
from benchmarks.steps import network
from iwae_tf import threads
from iwae_tf.models.evaluation_noise import SAMPLES_PER_BLOCK
from iwae_tf.objectives import DReG, IWAEBound

PRODUCTS = ("MatMul", "BatchMatMulV2")
# What writes nothing: another shape of the same numbers, or a name for them.
NOTHING_WRITTEN = {
    "Const", "EnsureShape", "ExpandDims", "Identity", "IdentityN", "NoOp", "Placeholder", "PreventGradient",
    "ReadVariableOp", "Reshape", "Shape", "Squeeze", "StopGradient",
}  # fmt: skip


class Work(NamedTuple):
    """Counts of a graph.

    Attributes:
        product_flops: multiplications and additions in matrix products.
        encoded_rows: rows of D numbers that are multiplied by a kernel.
        bytes_written: of tensors whose shape is known, all but a few numbers.
    """

    product_flops: int = 0
    encoded_rows: int = 0
    bytes_written: int = 0

    def plus(self, other: "Work", times: int = 1) -> "Work":
        """The sum of this and so many of the other."""
        return Work(*(mine + times * its for mine, its in zip(self, other, strict=True)))


def work_of(graph) -> Work:
    """The counts of a function's graph and of all that it calls."""
    work = Work()
    for op in _needed(graph):
        if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
            work = work.plus(work_of(_called(graph, op.get_attr("f").name)))
        elif op.type in ("While", "StatelessWhile"):
            times = tf.get_static_value(op.inputs[1])  # the second of a loop's variables is how often it may go round
            work = work.plus(work_of(_called(graph, op.get_attr("body").name)), int(times))
        else:
            work = work.plus(_of_operation(op))
    return work


def _needed(graph) -> list[tf.Operation]:
    """The operations that the outputs and the effects of a graph wait for."""
    found, waiting = {}, [output.op for output in graph.outputs] + list(graph.control_outputs)
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return list(found.values())


def _called(graph, name: str):
    while graph is not None:
        if name in graph._functions:  # no public way leads from a call to the graph that it calls
            return graph._functions[name].graph
        graph = getattr(graph, "outer_graph", None)
    raise KeyError(name)


def _of_operation(op) -> Work:
    if op.type in PRODUCTS:
        (*_, rows, columns), inner = op.outputs[0].shape, _inner(op)
        flops = 2 * op.outputs[0].shape.num_elements() * inner
        kernel_as_it_is = not op.get_attr("transpose_b" if op.type == "MatMul" else "adj_y")
        encodes = inner == DIM and kernel_as_it_is and columns > 1  # of one column is b . x, which is no layer
        return Work(flops, rows if encodes else 0, _written(op))
    return Work(bytes_written=_written(op))


def _inner(op) -> int:
    transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
    return op.inputs[0].shape[-2 if transposed else -1]


def _written(op) -> int:
    if op.type in NOTHING_WRITTEN:
        return 0
    shaped = [tensor for tensor in op.outputs if tensor.shape.is_fully_defined() and tensor.dtype.size > 0]
    return sum(math.prod(tensor.shape) * tensor.dtype.size for tensor in shaped)


def training_step(layers: int, objective, batch_size: int = 20) -> Work:
    """Of a step of `compile(objective=objective)`; in one part, however many cores this machine has."""
    model = network(layers)
    model.compile(objective=objective, jit_compile=False)
    step = tf.function(model.train_step, autograph=False)
    with mock.patch.object(threads, "parts_of_step", return_value=1):
        return work_of(step.get_concrete_function(tf.constant(images(batch_size))).graph)


def evaluation(layers: int, num_samples: int = 500, batch_size: int = 20) -> Work:
    """Of the log-weights of a chunk of samples."""
    model = network(layers)
    blocks = tf.range(num_samples // SAMPLES_PER_BLOCK)
    arguments = tf.constant(images(batch_size)), tf.range(batch_size), blocks, tf.constant(0)
    return work_of(model._log_weights_of_blocks.get_concrete_function(*arguments).graph)


CASES = {
    "iwae, k = 50": lambda: training_step(1, IWAEBound(50)),
    "dreg, k = 50": lambda: training_step(1, DReG(50)),
    "iwae, k = 50, 5 of them backward": lambda: training_step(1, IWAEBound(50, backward_samples=5)),
    "iwae, k = 50, two layers": lambda: training_step(2, IWAEBound(50)),
    "evaluation, 500 samples": lambda: evaluation(1),
}
