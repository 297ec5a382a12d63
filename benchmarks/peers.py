"""The same model and step in other ways, each computed in a process of its own with that framework's own threads."""

import argparse
import atexit
import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import Seconds, repeats_of, turn

ROOT = Path(__file__).resolve().parents[1]
# name in the table -> package, module, class
PEERS = {
    "TFP, x tiled k times": ("tensorflow", "benchmarks.peer_tfp", "TiledTFP"),
    "PyTorch, x tiled k times": ("torch", "benchmarks.peer_torch", "TiledTorch"),
    "PyTorch, torch.compile": ("torch", "benchmarks.peer_torch_compiled", "CompiledTorch"),
    "JAX, jax.jit": ("jax", "benchmarks.peer_jax", "CompiledJax"),
    "iwae-tf, TensorFlow's threads": ("tensorflow", "benchmarks.steps", "Step"),
    "iwae-tf, XLA": ("tensorflow", "benchmarks.steps", "CompiledStep"),
    "floor, TensorFlow's threads": ("tensorflow", "benchmarks.floors", "WholeProducts"),
}
# Threads of OpenMP, which PyTorch has, keep a core busy while they wait for work, and who is next would suffer from it.
# They are told to sleep. With others on the same cores that also serves PyTorch best, by a factor of nine; the variable
# set to "active", and `--alone`, show what it is where nobody else is.
THREADS_SLEEP = {"OMP_WAIT_POLICY": "passive"}


def missing() -> list[str]:
    """Packages that peers need and that are not installed."""
    packages = dict.fromkeys(package for package, *_ in PEERS.values())
    return [package for package in packages if importlib.util.find_spec(package) is None]


def peer_class(name: str) -> type:
    """The class of a peer: made with (latent_units, hidden_units, x [B, D], k), it has `step`, `arrays`, `zero`."""
    _, module, attribute = PEERS[name]
    return getattr(importlib.import_module(module), attribute)


@functools.cache
def _process(name: str) -> subprocess.Popen:
    """The process of a peer, for as long as this one lives."""
    words = [sys.executable, "-m", "benchmarks.peers", name]
    environment = {**THREADS_SLEEP, **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen(words, cwd=ROOT, env=environment, **pipes)
    atexit.register(process.communicate)  # it ends with its input
    return process


def _ask(name: str, *size: int) -> float:
    process = _process(name)
    process.stdin.write(json.dumps(size) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"{name} has ended; to see why: python -m benchmarks.peers '{name}' --alone {size}")
    return float(answer)


def ways(layers: int, batch_size: int, k: int) -> dict[str, Callable[[], Seconds]]:
    """The steps of all peers that can be computed here, by name."""
    absent = missing()
    names = [name for name, (package, *_) in PEERS.items() if package not in absent]
    return {name: lambda name=name: Seconds(_ask(name, layers, batch_size, k)) for name in names}


@functools.lru_cache(maxsize=1)
def _step_and_repeats(name: str, layers: int, batch_size: int, k: int) -> tuple[Callable[[], object], int]:
    from benchmarks.sizes import images, units

    step = peer_class(name)(*units(layers), images(batch_size), k).step
    return step, repeats_of(step)


def main() -> None:
    """Answers every size that comes on stdin, [layers, B, k], with the seconds of a step."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--alone", nargs=3, type=int, metavar=("LAYERS", "B", "K"), help="the median of 60 turns")
    arguments = parser.parse_args()
    if arguments.alone:
        times = sorted(turn(*_step_and_repeats(arguments.name, *arguments.alone)) for _ in range(60))
        print(f"{arguments.name}: {1e3 * times[30]:.2f} ms, the fastest {1e3 * times[0]:.2f}")
        return
    for line in sys.stdin:
        print(turn(*_step_and_repeats(arguments.name, *json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
