"""What is timed: each case makes the ways to do one thing; ways whose names begin with "floor" are its floors."""

import time
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

import iwae_tf
from benchmarks import peers
from benchmarks.floors import floor, products, step_floors
from benchmarks.runs import batches, first_step, fit, start
from benchmarks.served import served
from benchmarks.sizes import images
from benchmarks.steps import network, step_of
from iwae_tf.objectives import IWAEBound

MOST_ROWS = 60_000  # samples times images in a step; more do not fit into the memory of small machines
EVALUATED, SAMPLES = 20, 5000
SECONDS_PER_CASE = 20.0


class Case(NamedTuple):
    """A thing to time.

    Attributes:
        about: what the floor and the candidates do, in a line.
        make: () -> the ways by name.
    """

    about: str
    make: Callable[[], dict[str, Callable[[], object]]]


def train(layers: int, batch_size: int, k: int) -> Case:
    """A training step against its matrix products."""

    def make():
        x, model, short = tf.constant(images(batch_size)), network(layers), network(layers)
        ways = step_floors(products(model, batch_size, k))
        model.compile(objective=IWAEBound(k), jit_compile=False)
        ways["iwae-tf"] = step_of(model, x)
        if k > 5:
            short.compile(objective=IWAEBound(k, backward_samples=5), jit_compile=False)
            ways["iwae-tf, --backward-samples 5"] = step_of(short, x)
        return ways | peers.ways(layers, batch_size, k)

    return Case(f"a training step of {batch_size} images; floor: its matrix products, forward and backward", make)


def _forward_floor(layers: int) -> dict[str, Callable[[], object]]:
    """In one call, a thousand rows at a time: steady, and no slower than other numbers of rows or calls."""
    needed = products(network(layers), EVALUATED, SAMPLES)
    return {"floor": floor(needed, backward=False, parts=EVALUATED * SAMPLES // 1000)}


def evaluate(layers: int) -> Case:
    """log p(x) at 5000 samples against the matrix products of the forward pass."""

    def make():
        x, ways = images(EVALUATED), _forward_floor(layers)
        for precision in ("float32", "mixed_bfloat16"):
            model = network(layers, dtype=precision)
            ways[f"log_likelihood, {precision}"] = lambda model=model: model.log_likelihood(x, SAMPLES).numpy()
            ways[f"estimate_log_likelihood, {precision}"] = lambda model=model: (
                iwae_tf.evaluation.estimate_log_likelihood(model, x, SAMPLES, batch_size=EVALUATED)
            )
        return ways

    return Case(f"log p(x) of {EVALUATED} images at {SAMPLES} samples; floor: the products of the forward pass", make)


def serve(layers: int) -> Case:
    """The same scores by an exported model."""
    about = f"log p(x) of {EVALUATED} images at {SAMPLES} samples, by a SavedModel; floor: as in evaluate"
    return Case(about, lambda: _forward_floor(layers) | served(network(layers), images(EVALUATED), SAMPLES))


def _train_cases() -> dict[str, Case]:
    sizes = [(n, b, k) for n in (1, 2) for b in (20, 100, 500) for k in (1, 5, 50, 500) if b * k <= MOST_ROWS]
    sizes += [(n, 20, 50) for n in (3, 4)]
    return {f"train-l{layers}-b{b}-k{k}": train(layers, b, k) for layers, b, k in sizes}


CASES = {
    **_train_cases(),
    "evaluate-l1": evaluate(1),
    "evaluate-l2": evaluate(2),
    "serve-l1": serve(1),
    "fit-k1": Case("400 steps of 20 images in one call of fit; floor: the same steps in a loop", lambda: fit(1, 400)),
    "fit-k50": Case("60 steps of 20 images in one call of fit; floor: the same steps in a loop", lambda: fit(50, 60)),
    **{
        f"batches-n{n}": Case(
            f"100 batches of 20 of {n} images; floor: the steps they are for, k = 5", lambda n=n: batches(n)
        )
        for n in (1000, 4000, 15_000, 60_000)
    },
    "start": Case("a Python process that imports; floor: TensorFlow and Keras alone", start),
    "first-step": Case(
        "train.py on digits until its bar shows a step; floor: importing TensorFlow and Keras", first_step
    ),
}


def rounds_for(ways: dict[str, Callable[[], object]], most: int) -> int:
    """As many rounds as take about `SECONDS_PER_CASE`, from 5 to `most`; all ways have been called before."""
    begin = time.perf_counter()
    for way in ways.values():
        way()
    return int(min(most, max(5, SECONDS_PER_CASE / (time.perf_counter() - begin))))
