"""Cases of `python -m benchmarks`: what each one times, and the floors that its times are divided by."""

import itertools
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import iwae_tf
from benchmarks import package, peers, processes
from benchmarks.timing import DIM, Ways, images, units
from iwae_tf.objectives import IWAEBound

MOST_ROWS = 60_000  # samples times images in a step: the logits of more fill several hundred MB
EVALUATED, SAMPLES = 20, 5000
STEPS_PER_EXECUTION = 20  # of `train.py`


class Case(NamedTuple):
    """A case; its members make functions to time, by name.

    Attributes:
        floors: the least work that the task needs, in several ways; the fastest counts.
        candidates: the package.
        peers: other frameworks, in processes of their own.
    """

    floors: Callable[[], Ways]
    candidates: Callable[[], Ways]
    peers: Callable[[], Ways] = dict


def network(layers: int, **kwargs) -> iwae_tf.IWAE:
    """Returns an untrained network of the paper's kind with this number of stochastic layers."""
    return iwae_tf.IWAE(DIM, *units(layers), **kwargs)


def step_of(model, x: tf.Tensor) -> Callable[[], float]:
    """Returns a function that takes one compiled training step on x and waits for it."""
    step = tf.function(model.train_step, autograph=False)
    return lambda: float(step(x)["bound"])


class Step:
    """A training step as a peer, with TensorFlow's own threads; arguments as of the other peers."""

    jit_compile = False

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        self.model = iwae_tf.IWAE(x.shape[1], latent_units, hidden_units)
        self.model.compile(objective=IWAEBound(k), jit_compile=self.jit_compile)
        self.step = step_of(self.model, tf.constant(x))

    def arrays(self) -> list[np.ndarray]:
        """Returns all trained weights."""
        return [variable.numpy() for variable in self.model.trainable_variables]

    def zero(self) -> None:
        """Sets all weights to 0."""
        self.model.set_weights([np.zeros_like(weights) for weights in self.model.get_weights()])


class CompiledStep(Step):
    """The same step compiled by XLA."""

    jit_compile = True


class Product(NamedTuple):
    """A dense layer, [rows, units_in] x [units_in, units_out].

    Attributes:
        rows: of the features.
        units_in: rows of the kernel.
        units_out: columns of the kernel.
        to_features: whether the backward pass needs the gradient by the features; x needs none.
    """

    rows: int
    units_in: int
    units_out: int
    to_features: bool

    @property
    def forward_flops(self) -> int:
        """Multiplications and additions of the forward pass."""
        return 2 * self.rows * self.units_in * self.units_out


def products(latent_units, hidden_units, batch_size: int, k: int, dim: int = DIM) -> list[Product]:
    """Returns all dense layers of a step: q(h[0] | x) on the images, all others on k samples of every image."""
    found, below, samples = [], dim, k * batch_size
    for level, (latent, hidden) in enumerate(zip(latent_units, hidden_units, strict=True)):
        rows = samples if level else batch_size
        widths = [below, *hidden]
        for number, pair in enumerate(itertools.pairwise(widths)):
            found.append(Product(rows, *pair, level > 0 or number > 0))
        found += 2 * [Product(rows, widths[-1], latent, True)]  # loc and scale
        widths = [latent, *reversed(hidden)]
        found += [Product(samples, *pair, True) for pair in itertools.pairwise(widths)]
        found += (2 if level else 1) * [Product(samples, widths[-1], below, True)]  # logits, or loc and scale
        below = latent
    return found


def floor(needed: list[Product], backward: bool, chunks: int = 1) -> Callable[[], np.ndarray]:
    """Returns a function that computes the products in one graph, with `backward` also those of the backward pass.

    No product waits for another, so that all threads are busy until the end. With one thread for an operation, `chunks`
    splits the rows of each product; the gradients by a kernel are added up.
    """
    data = [[_operands(p, rows, backward) for rows in even_split(p.rows, chunks)] for p in needed]

    @tf.function(autograph=False)
    def multiply(data):
        results = []
        for product, operands in zip(needed, data, strict=True):
            to_kernel = []
            for features, kernel, *upstream in operands:
                results.append(tf.matmul(features, kernel))
                if backward:
                    to_kernel.append(tf.matmul(features, upstream[0], transpose_a=True))
                    if product.to_features:
                        results.append(tf.matmul(upstream[0], kernel, transpose_b=True))
            results += [tf.add_n(to_kernel)] if to_kernel else []
        return results

    return lambda: multiply(data)[0].numpy()  # reading one result waits for the whole graph


def even_split(rows: int, chunks: int) -> list[int]:
    """Returns the sizes of at most `chunks` chunks of the rows."""
    ends = [rows * number // chunks for number in range(chunks + 1)]
    return [end - begin for begin, end in itertools.pairwise(ends) if end > begin]


def _operands(product: Product, rows: int, backward: bool) -> tuple[tf.Tensor, ...]:
    shapes = [(rows, product.units_in), (product.units_in, product.units_out), (rows, product.units_out)]
    return tuple(tf.random.normal(shape) for shape in shapes[: 3 if backward else 2])


class WholeProducts:
    """The products of a training step as a peer, where TensorFlow's own threads share each product."""

    def __init__(self, latent_units, hidden_units, x: np.ndarray, k: int):
        self.step = floor(products(latent_units, hidden_units, len(x), k, x.shape[1]), backward=True)


def train(layers: int, batch_size: int, k: int) -> Case:
    """A training step; floor: its matrix products, forward and backward, whole and in one chunk per thread.

    At B = 20, two chunks were faster with k = 50, whole products with k = 1; four and more never were.
    """

    def floors():
        needed = products(*units(layers), batch_size, k)
        chunks = tf.config.threading.get_inter_op_parallelism_threads() or 2
        return {"floor": floor(needed, True), f"floor, in {chunks} parts": floor(needed, True, chunks)}

    def candidates():
        ways, x = {}, tf.constant(images(batch_size))
        for name, m in {"iwae-tf": None, "iwae-tf, --backward-samples 5": 5}.items():
            if m is None or k > m:
                model = network(layers)
                model.compile(objective=IWAEBound(k, backward_samples=m), jit_compile=False)
                ways[name] = step_of(model, x)
        return ways

    return Case(floors, candidates, lambda: peers.ways(layers, batch_size, k))


def _forward_floor(layers: int) -> Ways:
    """1,000 rows at a time: no other size was faster."""
    needed = products(*units(layers), EVALUATED, SAMPLES)
    return {"floor": floor(needed, backward=False, chunks=EVALUATED * SAMPLES // 1000)}


def evaluate(layers: int) -> Case:
    """log p(x) of 20 images at 5,000 samples; floor: the products of the forward pass."""

    def candidates():
        ways, x = {}, images(EVALUATED)
        for precision in ("float32", "mixed_bfloat16"):
            model = network(layers, dtype=precision)
            ways[f"log_likelihood, {precision}"] = lambda model=model: model.log_likelihood(x, SAMPLES).numpy()
            ways[f"estimate_log_likelihood, {precision}"] = lambda model=model: (
                iwae_tf.evaluation.estimate_log_likelihood(model, x, SAMPLES, batch_size=EVALUATED)
            )
        return ways

    return Case(lambda: _forward_floor(layers), candidates)


def served(model, x: np.ndarray, num_samples: int) -> Ways:
    """Returns each signature of the exported model that scores x, [B, D], as a function that returns log p(x)."""
    with tempfile.TemporaryDirectory() as folder:
        path = iwae_tf.serving.export_saved_model(model, folder, num_samples=num_samples)
        loaded = tf.saved_model.load(str(path))
    counts, seeds = tf.fill([len(x)], num_samples), tf.zeros([len(x)], tf.int64)
    batch = {"x": tf.constant(x), "num_samples": counts, "seed": seeds}
    ways = {}
    for name, signature in loaded.signatures.items():
        _, inputs = signature.structured_input_signature
        if "log_prob" in signature.structured_outputs and inputs.keys() <= batch.keys():
            own = {key: batch[key] for key in inputs}
            # `loaded` is kept, since the signature reads its variables.
            ways[name] = lambda signature=signature, own=own, loaded=loaded: signature(**own)["log_prob"].numpy()
    return ways


def _bare_steps(k: int, count: int) -> Ways:
    model = network(1)
    model.compile(objective=IWAEBound(k))
    step = step_of(model, tf.constant(images(20)))
    return {"floor: bare steps": lambda: [step() for _ in range(count)]}


def fit(k: int, steps: int) -> Case:
    """One call of `fit` on 20 images, by its defaults and as `train.py` calls it; floor: the same steps in a loop."""

    def candidates():
        data = tf.data.Dataset.from_tensors(images(20)).repeat()
        folder = tempfile.TemporaryDirectory()
        plain, run = network(1), network(1)
        plain.compile(objective=IWAEBound(k))
        run.compile(objective=IWAEBound(k), steps_per_execution=STEPS_PER_EXECUTION)
        callbacks = package.run_callbacks(folder.name, steps)
        settings = {"steps_per_epoch": steps, "shuffle": False, "verbose": 0}
        return {
            "fit, defaults": lambda: plain.fit(data, **settings),
            "fit, as train.py": lambda folder=folder: run.fit(
                data, callbacks=callbacks, **settings
            ),  # keeps the folder
        }

    return Case(lambda: _bare_steps(k, steps), candidates)


def batches(number: int, count: int = 100) -> Case:
    """Training batches of 20 of this number of images; floor: the steps that they are for, k = 5."""

    def candidates():
        x = (255 * np.random.default_rng(0).random((number, DIM))).astype(np.uint8)
        dataset = iwae_tf.data.Dataset("random", x, x[:0], x[:0], 255.0, (28, 28), "random", "none")
        stream = iter(iwae_tf.data.training_batches(dataset, 20, 0))
        return {"batches": lambda: [next(stream) for _ in range(count)]}

    return Case(lambda: {"floor: the steps": _bare_steps(5, count)["floor: bare steps"]}, candidates)


STEP_SIZES = [(n, b, k) for n in (1, 2) for b in (20, 100, 500) for k in (1, 5, 50, 500) if b * k <= MOST_ROWS]
STEP_SIZES += [(n, 20, 50) for n in (3, 4)]
CASES = {
    **{f"train-l{layers}-b{b}-k{k}": train(layers, b, k) for layers, b, k in STEP_SIZES},
    "evaluate-l1": evaluate(1),
    "evaluate-l2": evaluate(2),
    "serve-l1": Case(lambda: _forward_floor(1), lambda: served(network(1), images(EVALUATED), SAMPLES)),
    "fit-k1": fit(1, 400),
    "fit-k50": fit(50, 60),
    **{f"batches-n{number}": batches(number) for number in (1000, 4000, 15_000, 60_000)},
    "start": Case(processes.imports_floor, processes.imports),
    "first-step": Case(processes.imports_floor, processes.first_step),
}
