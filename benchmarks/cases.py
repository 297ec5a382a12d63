"""What is timed: each case makes the ways to do one thing, the first of which is its floor."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import iwae_tf
from benchmarks.floors import floor, products
from benchmarks.peers import TiledTFP
from iwae_tf.config import PAPER_NETWORKS
from iwae_tf.objectives import IWAEBound

DIM = 784
MOST_ROWS = 60_000  # samples times images in a step; more do not fit into the memory of small machines
EVALUATED, SAMPLES = 20, 5000


class Case(NamedTuple):
    """A thing to time.

    Attributes:
        about: what the floor and the candidates do, in a line.
        make: () -> the ways by name; the first is the floor that the others are divided by.
    """

    about: str
    make: Callable[[], dict[str, Callable[[], object]]]


def images(n: int) -> np.ndarray:
    """Random pixels, as many of them on as in MNIST: float32 [n, 784]."""
    return (np.random.default_rng(0).random((n, DIM)) < 0.13).astype(np.float32)


def network(layers: int, **kwargs) -> iwae_tf.IWAE:
    """The paper's network."""
    return iwae_tf.IWAE(DIM, *PAPER_NETWORKS[layers], **kwargs)


def step_of(model, x: tf.Tensor) -> Callable[[], float]:
    """A compiled training step of a compiled model on x."""
    step = tf.function(model.train_step, autograph=False)
    return lambda: float(step(x)["bound"])  # reading the number waits for it


def train(layers: int, batch_size: int, k: int) -> Case:
    """A training step against its matrix products."""

    def make():
        x, model, compiled, short = tf.constant(images(batch_size)), *(network(layers) for _ in range(3))
        ways = {"floor": floor(products(model, batch_size, k), backward=True)}
        model.compile(objective=IWAEBound(k), jit_compile=False)
        compiled.compile(objective=IWAEBound(k), jit_compile=True)
        ways |= {"iwae-tf": step_of(model, x), "iwae-tf, XLA": step_of(compiled, x)}
        if k > 5:
            short.compile(objective=IWAEBound(k, backward_samples=5), jit_compile=False)
            ways["iwae-tf, --backward-samples 5"] = step_of(short, x)
        return ways | {"TFP, x tiled k times": step_of(TiledTFP(*PAPER_NETWORKS[layers], DIM, k), x)}

    return Case(f"a training step of {batch_size} images; floor: its matrix products, forward and backward", make)


def evaluate(layers: int) -> Case:
    """log p(x) at 5000 samples against the matrix products of the forward pass."""

    def make():
        x, per_chunk = images(EVALUATED), 500
        chunk = floor(products(network(layers), EVALUATED, per_chunk), backward=False)
        ways = {"floor": lambda: [chunk() for _ in range(SAMPLES // per_chunk)]}
        for precision in ("float32", "mixed_bfloat16"):
            model = network(layers, dtype=precision)
            ways[f"log_likelihood, {precision}"] = lambda model=model: model.log_likelihood(x, SAMPLES).numpy()
            ways[f"estimate_log_likelihood, {precision}"] = lambda model=model: (
                iwae_tf.evaluation.estimate_log_likelihood(model, x, SAMPLES, batch_size=EVALUATED)
            )
        return ways

    return Case(f"log p(x) of {EVALUATED} images at {SAMPLES} samples; floor: the products of the forward pass", make)


def fit(k: int, steps: int) -> Case:
    """Steps of `fit` against as many bare steps."""

    def make():
        data = tf.data.Dataset.from_tensors(images(20)).repeat()
        bare, fitted = network(1), network(1)
        bare.compile(objective=IWAEBound(k))
        fitted.compile(objective=IWAEBound(k), steps_per_execution=20)
        step = step_of(bare, tf.constant(images(20)))
        fit = {"steps_per_epoch": steps, "verbose": 0}
        return {"bare steps": lambda: [step() for _ in range(steps)], "fit": lambda: fitted.fit(data, **fit)}

    return Case(f"{steps} steps of 20 images in one call of fit; floor: the same steps in a loop", make)


def batches(steps: int) -> Case:
    """The training batches of MNIST's size against the steps that they are for."""

    def make():
        x = (255 * np.random.default_rng(0).random((60_000, DIM))).astype(np.uint8)
        dataset = iwae_tf.data.Dataset("random", x, x[:0], x[:0], 255.0, (28, 28), "random", "none")
        stream = iter(iwae_tf.data.training_batches(dataset, 20, 0))
        model = network(1)
        model.compile(objective=IWAEBound(5))
        step = step_of(model, tf.constant(images(20)))
        return {
            "steps": lambda: [step() for _ in range(steps)],
            "batches": lambda: [next(stream) for _ in range(steps)],
        }

    return Case(f"{steps} batches of 20 of 60,000 images, k = 5; floor: the steps that they are for", make)


def _seconds_to_import(code: str) -> Callable[[], None]:
    def run():
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, stderr=subprocess.DEVNULL)

    return run


def start() -> Case:
    """A process that imports the package against one that imports what it stands on."""

    def make():
        stack = "import tensorflow, keras"
        return {"TensorFlow and Keras": _seconds_to_import(stack), "iwae_tf": _seconds_to_import("import iwae_tf")}

    return Case("a Python process that imports; floor: TensorFlow and Keras alone", make)


def _train_cases() -> dict[str, Case]:
    sizes = [(n, b, k) for n in (1, 2) for b in (20, 100, 500) for k in (1, 5, 50, 500) if b * k <= MOST_ROWS]
    return {f"train-l{layers}-b{b}-k{k}": train(layers, b, k) for layers, b, k in sizes}


CASES = {
    **_train_cases(),
    "evaluate-l1": evaluate(1),
    "evaluate-l2": evaluate(2),
    "fit-k1": fit(1, 400),
    "fit-k50": fit(50, 60),
    "batches": batches(100),
    "start": start(),
}
SECONDS_PER_CASE = 20.0


def rounds_for(ways: dict[str, Callable[[], object]], most: int) -> int:
    """As many rounds as take about `SECONDS_PER_CASE`, from 5 to `most`."""
    begin = time.perf_counter()
    for way in ways.values():
        way()
    return int(min(most, max(5, SECONDS_PER_CASE / (time.perf_counter() - begin))))
