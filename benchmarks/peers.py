"""The same model and step in other ways, each in a process of its own with its framework's own threads."""

import argparse
import functools
import importlib
import importlib.util
import statistics
from collections.abc import Callable

from benchmarks.timing import Seconds, Ways, Worker, answer_requests, images, repeats_of, turn, units

# name in the table -> package, module, class
PEERS = {
    "TFP, x tiled k times": ("tensorflow", "benchmarks.peer_tfp", "TiledTFP"),
    "PyTorch, x tiled k times": ("torch", "benchmarks.peer_torch", "TiledTorch"),
    "PyTorch, torch.compile": ("torch", "benchmarks.peer_torch", "CompiledTorch"),
    "JAX, jax.jit": ("jax", "benchmarks.peer_jax", "CompiledJax"),
    "iwae-tf, TensorFlow's threads": ("tensorflow", "benchmarks.cases", "Step"),
    "iwae-tf, XLA": ("tensorflow", "benchmarks.cases", "CompiledStep"),
    "floor, TensorFlow's threads": ("tensorflow", "benchmarks.cases", "WholeProducts"),
}


def missing() -> list[str]:
    """Returns the packages that peers need and that are not installed."""
    packages = dict.fromkeys(package for package, *_ in PEERS.values())
    return [package for package in packages if importlib.util.find_spec(package) is None]


def peer_class(name: str) -> type:
    """Returns the class of a peer: arguments latent_units, hidden_units, x [B, D], k; `step`, `arrays`, `zero`."""
    _, module, attribute = PEERS[name]
    return getattr(importlib.import_module(module), attribute)


def ways(layers: int, batch_size: int, k: int) -> Ways:
    """Returns the steps of all peers whose framework is installed."""
    absent = missing()
    names = [name for name, (package, *_) in PEERS.items() if package not in absent]
    return {name: lambda name=name: Seconds(_worker(name).ask([layers, batch_size, k])) for name in names}


@functools.cache
def _worker(name: str) -> Worker:
    return Worker("benchmarks.peers", name)


@functools.lru_cache(maxsize=1)
def _step_and_repeats(name: str, layers: int, batch_size: int, k: int) -> tuple[Callable[[], object], int]:
    step = peer_class(name)(*units(layers), images(batch_size), k).step
    return step, repeats_of(step)


def main() -> None:
    """Answers each [layers, B, k] of stdin with the seconds of a step."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--alone", nargs=3, type=int, metavar=("LAYERS", "B", "K"), help="print the median of 60 turns")
    arguments = parser.parse_args()
    if not arguments.alone:
        answer_requests(lambda size: turn(*_step_and_repeats(arguments.name, *size)))
        return
    times = [turn(*_step_and_repeats(arguments.name, *arguments.alone)) for _ in range(60)]
    print(f"{arguments.name}: {1e3 * statistics.median(times):.2f} ms, the fastest {1e3 * min(times):.2f}")


if __name__ == "__main__":
    main()
