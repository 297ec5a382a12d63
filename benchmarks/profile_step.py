"""Where the time of a training step goes: `python benchmarks/profile_step.py [--batch-size 20] [--k 50] [--layers 1]`.

Traces steps with TensorFlow's profiler, one thread to an operation, and adds up the time of the kernels by what they
are for. A share is of the kernels' time on all threads together.
"""

import argparse
import collections
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tensorflow as tf

from benchmarks.sizes import images
from benchmarks.steps import network, step_of
from iwae_tf.objectives import IWAEBound
from iwae_tf.threads import one_thread_for_an_operation

STEPS = 40
# The first kind whose word is in a kernel's type ("MatMul:_MklMatMul" is of type _MklMatMul).
KINDS = {
    "matrix products": ("MatMul",),
    "random numbers": ("Stateless", "RandomGetKeyCounter", "Sin", "Cos", "Sqrt"),
    "tanh, of the hidden layers and of the logits": ("Tanh",),
    "log-likelihood: absolute value, product, positive part": ("Abs", "Prod", "Relu"),
    "Adam": ("Adam",),
    "bias and its gradient": ("BiasAdd",),
    "checks": ("L2Loss", "Assert", "IsFinite"),
}
OTHERS = "sums, differences, copies and others"


def kernels(step, folder: str) -> collections.Counter:
    """Picoseconds of the kernels of `STEPS` steps, by type."""
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
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if ":" in name and "::" not in name and not name.startswith(("EagerLocalExecute", "PjitFunction")):
                    found[name.rsplit(":", 1)[1]] += event.duration_ps
    return found


def kind_of(kernel: str) -> str:
    """What a kernel of this type is for."""
    return next((kind for kind, words in KINDS.items() if any(word in kernel for word in words)), OTHERS)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--layers", type=int, default=1)
    arguments = parser.parse_args()
    one_thread_for_an_operation()
    model = network(arguments.layers)
    model.compile(objective=IWAEBound(arguments.k))
    with tempfile.TemporaryDirectory() as folder:
        found = kernels(step_of(model, tf.constant(images(arguments.batch_size))), folder)
    shares = collections.Counter()
    for kernel, picoseconds in found.items():
        shares[kind_of(kernel)] += picoseconds
    total = sum(shares.values())
    sizes = f"B = {arguments.batch_size}, k = {arguments.k}, {arguments.layers} layers"
    print(f"{sizes}: {total / STEPS / 1e9:.2f} ms of kernels a step")
    for kind, picoseconds in shares.most_common():
        print(f"{picoseconds / total:6.1%}  {kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
