"""Counts of a training step and of a score without a clock, and the time of a step by kernel.

    python -m benchmarks.work [--batch-size 20] [--k 50] [--layers 1]

Counts are of the traced graph: floating point operations in matrix products, rows multiplied by the first kernel of
q(h[0] | x), and bytes of all tensors that operations write. Operations that the outputs do not need are left out, and
a loop counts as often as it runs. `bounds.json` holds the most that each count may be. Kernel times are those of
TensorFlow's profiler, as shares of the time on all threads together.
"""

import argparse
import collections
import json
import math
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from benchmarks import package
from benchmarks.cases import network, step_of
from benchmarks.timing import DIM, images
from iwae_tf.objectives import DReG, IWAEBound

BOUNDS = Path(__file__).with_name("bounds.json")
BYTES_SLACK = 1.01  # another version of TensorFlow may write a little more; products and rows are exact
PRODUCTS = ("MatMul", "BatchMatMulV2")
NOTHING_WRITTEN = {  # another shape or name of the same numbers
    "Const", "EnsureShape", "ExpandDims", "Identity", "IdentityN", "NoOp", "Placeholder", "PreventGradient",
    "ReadVariableOp", "Reshape", "Shape", "Squeeze", "StopGradient",
}  # fmt: skip
STEPS = 40
# The first kind counts that has a word of a kernel's type; "MatMul:_MklMatMul" is of type _MklMatMul.
KINDS = {
    "matrix products": ("MatMul",),
    "random numbers": ("Stateless", "RandomGetKeyCounter", "Sin", "Cos"),
    "tanh, of the hidden layers and of the logits": ("Tanh",),
    "log-likelihood: absolute value, product, positive part": ("Abs", "Prod", "Relu"),
    "bias and its gradient": ("BiasAdd",),
    "checks": ("L2Loss", "Assert", "IsFinite"),
    "Adam": ("Adam", "Assign", "Sqrt"),
}
OTHERS = "sums, differences, copies and others"


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
        """Returns the sum of these counts and `times` the other's."""
        return Work(*(one + times * another for one, another in zip(self, other, strict=True)))


def work_of(graph) -> Work:
    """Returns the counts of a function's graph and of all graphs that it calls."""
    work = Work()
    for op in _needed(graph):
        if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
            work = work.plus(work_of(_called(graph, op.get_attr("f").name)))
        elif op.type in ("While", "StatelessWhile"):
            times = tf.get_static_value(op.inputs[1])  # the second variable of a loop is its most iterations
            work = work.plus(work_of(_called(graph, op.get_attr("body").name)), int(times))
        else:
            work = work.plus(_of_operation(op))
    return work


def _needed(graph) -> list[tf.Operation]:
    """Returns the operations on which outputs and side effects of a graph depend."""
    found, waiting = {}, [output.op for output in graph.outputs] + list(graph.control_outputs)
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return list(found.values())


def _called(graph, name: str):
    while graph is not None:
        if name in graph._functions:  # no public attribute leads from a call to its graph
            return graph._functions[name].graph
        graph = getattr(graph, "outer_graph", None)
    raise KeyError(name)


def _of_operation(op) -> Work:
    if op.type in NOTHING_WRITTEN:
        return Work()
    shaped = [tensor for tensor in op.outputs if tensor.shape.is_fully_defined() and tensor.dtype.size > 0]
    written = sum(math.prod(tensor.shape) * tensor.dtype.size for tensor in shaped)
    if op.type not in PRODUCTS:
        return Work(bytes_written=written)
    transpose_a, transpose_b = (
        op.get_attr(name) for name in (("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y"))
    )
    inner = op.inputs[0].shape[-2 if transpose_a else -1]
    *_, rows, columns = op.outputs[0].shape
    encodes = inner == DIM and not transpose_b and columns > 1  # one column is b . x, not a layer
    return Work(2 * op.outputs[0].shape.num_elements() * inner, rows if encodes else 0, written)


def training_step(layers: int, objective, batch_size: int = 20) -> Work:
    """Returns the counts of a training step."""
    model = network(layers)
    model.compile(objective=objective, jit_compile=False)
    return work_of(package.training_graph(model, tf.constant(images(batch_size))))


def evaluation(layers: int, num_samples: int = 500, batch_size: int = 20) -> Work:
    """Returns the counts of the log-weights of a chunk of samples."""
    return work_of(package.evaluation_graph(network(layers), tf.constant(images(batch_size)), num_samples))


CASES = {
    "iwae, k = 50": lambda: training_step(1, IWAEBound(50)),
    "dreg, k = 50": lambda: training_step(1, DReG(50)),
    "iwae, k = 50, 5 of them backward": lambda: training_step(1, IWAEBound(50, backward_samples=5)),
    "iwae, k = 50, two layers": lambda: training_step(2, IWAEBound(50)),
    "evaluation, 500 samples": lambda: evaluation(1),
}


def exceeded(counts: Work, bounds: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Returns count and bound of every count that exceeds its bound."""
    return {name: (count, bounds[name]) for name, count in counts._asdict().items() if count > bounds[name]}


def read_bounds() -> dict[str, dict]:
    """Returns `counts`, {case: {count: bound}}, and `ratios`, {case: ratio to the floor on a quiet machine}."""
    return json.loads(BOUNDS.read_text())


def record(ratios: dict[str, float]) -> None:
    """Writes bounds.json: the ratios of a short run, and the counts of this version."""
    counts = {name: work()._asdict() for name, work in CASES.items()}
    for bounds in counts.values():
        bounds["bytes_written"] = round(BYTES_SLACK * bounds["bytes_written"])
    BOUNDS.write_text(json.dumps({"counts": counts, "ratios": ratios}, indent=1) + "\n")


def kernel_times(step, folder: str) -> collections.Counter:
    """Returns picoseconds of the kernels of `STEPS` steps, by kind."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for _ in range(5):
        step()
    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2)
    with tf.profiler.experimental.Profile(folder, options=options):
        for _ in range(STEPS):
            step()
    (file,) = Path(folder).rglob("*.xplane.pb")
    found = collections.Counter()
    for plane in xplane_pb2.XSpace.FromString(file.read_bytes()).planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if ":" in name and "::" not in name and not name.startswith(("EagerLocalExecute", "PjitFunction")):
                kernel = name.rsplit(":", 1)[1]
                kind = next((kind for kind, words in KINDS.items() if any(word in kernel for word in words)), OTHERS)
                found[kind] += event.duration_ps
    return found


def main() -> None:
    """Prints the counts and the kernel times of a step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.work", description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=20, help="images of a step (default: 20)")
    parser.add_argument("--k", type=int, default=50, help="importance samples (default: 50)")
    parser.add_argument("--layers", type=int, default=1, help="stochastic layers (default: 1)")
    arguments = parser.parse_args()
    package.set_threads()
    model = network(arguments.layers)
    model.compile(objective=IWAEBound(arguments.k), jit_compile=False)
    with tempfile.TemporaryDirectory() as folder:
        times = kernel_times(step_of(model, tf.constant(images(arguments.batch_size))), folder)
    print(f"B = {arguments.batch_size}, k = {arguments.k}, {arguments.layers} layers:")
    for name, count in training_step(arguments.layers, IWAEBound(arguments.k), arguments.batch_size)._asdict().items():
        print(f"{count:14,}  {name}")
    print(f"{times.total() / STEPS / 1e9:14.2f}  ms of kernels")
    for kind, picoseconds in times.most_common():
        print(f"{picoseconds / times.total():14.1%}  {kind}")


if __name__ == "__main__":
    main()
