"""The importance weighted autoencoder as a Keras model: the algorithm on one page.

A training step reads from top to bottom: `train_step` -> `_bound_and_gradients` (noise) -> `bound_and_gradients`
(log-weights by `log_weights_from_noise`, bound, gradient) -> optimiser. The networks are in `networks.py`, the gradient
routine in `gradients.py`, the stream of samples that evaluation reads in `streaming.py`, checks in `checks.py`.
"""

import functools
import importlib
import weakref
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from iwae_tf import layers, replicas, seeds
from iwae_tf.adam import Adam
from iwae_tf.config import PAPER_NETWORKS
from iwae_tf.distributions.bernoulli import BernoulliParameters
from iwae_tf.distributions.columns import ColumnFeatures, ColumnModel, checked_columns
from iwae_tf.distributions.gaussian import GaussianParameters
from iwae_tf.distributions.head import Likelihood, likelihood_name
from iwae_tf.errors import InputError, check_seed, checked_samples, integer_from, positive_integer
from iwae_tf.memory import check_fits, count_weights
from iwae_tf.models import checks, streaming
from iwae_tf.models.gradients import bound_and_gradients
from iwae_tf.models.mixed_precision import checked_policy
from iwae_tf.models.networks import GenerativeNetwork, InferenceNetwork, weights_read_once
from iwae_tf.objectives import bounds, build_objective, estimators, score_function

REGISTERED = (layers, bounds, estimators, score_function)  # `keras.saving.load_model` must know their classes

ROWS_PER_CALL = 200  # rows that `log_likelihood` scores in one call of the compiled stream, which no Ctrl-C stops
CHUNK_SIZE = 1000  # samples of every row that `log_weight_chunks` yields by default


@keras.saving.register_keras_serializable("iwae_tf")
class IWAE(keras.Model):
    """Importance weighted autoencoder.

    q(h | x) = q(h[0] | x) q(h[1] | h[0]) ... and p(x, h) = p(h[L-1]) ... p(h[0] | h[1]) p(x | h[0]); each conditional
    is a tanh network, or a user's, that ends in independent units, and p(x | h[0]) is the likelihood.

    A step has no state but the weights, the optimiser and the number of batches seen, a weight of the model: noise is
    drawn from the key (seed, batches seen), so a resumed run is the same run. Built and compiled in the scope of a
    `tf.distribute` strategy, the model takes the step of the whole batch, whose rows the replicas share.

    `log_likelihood`, `log_weights`, `posterior`, `encode`, `reconstruct` and `likelihood` also work inside
    `tf.function`, `tf.data.Dataset.map` and exported endpoints, for any number of rows.

    Args:
        data_dim: D, the number of pixels.
        latent_units: H_l of each stochastic layer, nearest x first.
        hidden_units: widths of the tanh layers below each stochastic layer; the generative network mirrors them.
        likelihood: of x given h[0], a declared name (`iwae_tf.declarations.declared("likelihood")`), or a class derived
            from `iwae_tf.layers.Likelihood` and declared or registered with Keras.
        data_mean: mean of the training data, [D], for the initial bias of the output; None starts at 0.
        seed: seed of the initial weights and of all noise in training, an integer in [0, 2**31 - 1].
        latent: units of every stochastic layer, "gaussian" with a standard normal prior, or "bernoulli" (0 or 1) with a
            prior of learned logits: a sigmoid belief network.
        levels: L, the number of values i / (L - 1) that a pixel can have, for the likelihoods over levels; else None.
        encoder: Keras layer from x [N, D] to features below q(h[0] | x), in place of hidden_units[0]; e.g.
            `iwae_tf.layers.ConvEncoder`. Features with more than one axis are flattened.
        decoder: Keras layer from h[0], [N, H], to features below p(x | h[0]): [N, F] for each row, or for each pixel,
            [N, height, width, F] of `iwae_tf.layers.ConvDecoder`. Both keep their own initialisers and dtypes. They
            must have no state: dropout and batch normalisation are refused. Their losses are not added.
        columns: for rows of different kinds, with likelihood "columns": a `ColumnModel` for each of the D values, by
            which x stays in its own units; see `iwae_tf.layers.ColumnModel`.
        missing: whether values may be missing, with `columns`: NaN is then no error, and log p(x) is that of the
            observed values.
        scale: what the integers of the data were divided by, S (255 for 8-bit grey values). An exported model takes
            these integers, 0 to S, and divides them itself; methods in Python take x as divided. 1 for data that are
            not divided.
        prior: of the top layer, a Keras layer with `log_prob(h)`, [..., H] -> [...], and `sample(n, key)`, [n, H]; None
            for the default of `latent`.
        **kwargs: `name`, and `dtype`, "float32", "mixed_bfloat16" or "mixed_float16" (products of 16 bits); Keras'
            global policy if not given.

    Raises:
        InputError: (a `ValueError`) for any of these out of range.

    Reference: Burda, Grosse, Salakhutdinov (2016), sections 3 and 5; Neal (1992), Connectionist learning of belief
    networks, for binary units.
    """

    def __init__(
        self,
        data_dim: int,
        latent_units: Sequence[int] = PAPER_NETWORKS[1].latent_units,
        hidden_units: Sequence[Sequence[int]] = PAPER_NETWORKS[1].hidden_units,
        likelihood: str | type[Likelihood] = "bernoulli",
        data_mean: Sequence[float] | None = None,
        seed: int = 0,
        latent: str = "gaussian",
        levels: int | None = None,
        encoder: keras.layers.Layer | None = None,
        decoder: keras.layers.Layer | None = None,
        prior: keras.layers.Layer | None = None,
        columns: Sequence[ColumnModel] | None = None,
        missing: bool = False,
        scale: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.data_dim = positive_integer("data_dim", data_dim)
        # One stochastic layer may be given without its outer brackets.
        if not isinstance(latent_units, Sequence):
            latent_units = (latent_units,)
        if not isinstance(hidden_units, Sequence):
            hidden_units = (hidden_units,)
        if len(latent_units) == 1 and (not hidden_units or not isinstance(hidden_units[0], Sequence)):
            hidden_units = (hidden_units,)
        if not all(isinstance(layer, Sequence) for layer in hidden_units):
            raise InputError(f"hidden_units needs a tuple of widths for each stochastic layer, got {hidden_units}")
        self.latent_units = tuple(positive_integer("latent_units", units) for units in latent_units)
        self.hidden_units = tuple(tuple(positive_integer("hidden_units", n) for n in layer) for layer in hidden_units)
        if len(self.latent_units) != len(self.hidden_units) or not self.latent_units:
            raise InputError(
                "latent_units and hidden_units need one entry for each stochastic layer, got "
                f"{len(self.latent_units)} and {len(self.hidden_units)}"
            )
        sizes = self.data_dim, self.latent_units, self.hidden_units
        check_fits({"weights": count_weights(*sizes)}, "lower the units")
        self.likelihood_name, self.latent, self.levels = likelihood_name(likelihood), latent, levels
        self.data_mean = None if data_mean is None else checks.checked_mean(data_mean, self.data_dim)
        self.columns = None if columns is None else checked_columns(columns, self.data_dim)
        self.missing = bool(missing)
        self.scale = checks.checked_scale(scale, self.columns)
        self.seed = check_seed(seed)
        self._has_user_prior = prior is not None
        initializer_seeds, policy = seeds.initializer_seeds(self.seed), checked_policy(self.dtype_policy)
        column_features = ColumnFeatures(self.columns, self.missing) if self.columns else None
        self.inference_network = InferenceNetwork(
            *sizes, latent, initializer_seeds, encoder, column_features, name="inference_network", dtype=policy
        )
        self.generative_network = GenerativeNetwork(
            *sizes,
            latent,
            self.likelihood_name,
            self.data_mean,
            levels,
            initializer_seeds,
            decoder,
            prior,
            self.columns,
            self.missing,
            name="generative_network",
            dtype=policy,
        )
        checks.check_disjoint(self.inference_network, self.generative_network)
        # Not the optimiser's step count, which stands still while gradients accumulate and starts anew in `compile`.
        self.batches_seen = keras.Variable(
            0, dtype="int64", trainable=False, aggregation="only_first_replica", name="batches_seen"
        )
        self.bound_tracker = replicas.BoundTracker()
        self._steps_per_call = checks.StepsPerCall(1)
        self._estimate_rows = replicas.split_rows(
            self.distribute_strategy, functools.partial(streaming.estimate_rows, self)
        )
        self._log_likelihood_rows = replicas.split_rows(
            self.distribute_strategy, functools.partial(streaming.rows_log_likelihood, self)
        )
        self._chunk_log_weights = replicas.split_rows(
            self.distribute_strategy, functools.partial(streaming.chunk_log_weights, self)
        )
        self.built = True

    @classmethod
    def one_layer(cls, data_dim: int, **kwargs) -> "IWAE":
        """Builds the paper's network with one stochastic layer: D-200-200-50 and mirrored."""
        return cls(data_dim, *PAPER_NETWORKS[1], **kwargs)

    @classmethod
    def two_layer(cls, data_dim: int, **kwargs) -> "IWAE":
        """Builds the paper's network with two stochastic layers: D-200-200-100-100-100-50 and mirrored."""
        return cls(data_dim, *PAPER_NETWORKS[2], **kwargs)

    def build(self, input_shape=None):
        """Does nothing: the constructor makes all weights, so that an untrained model can be saved."""

    # Training

    def compile(self, optimizer=None, objective=None, jit_compile="auto", steps_per_execution=None, **kwargs):
        """Configures training.

        Args:
            optimizer: a Keras optimizer or its name; None is the paper's `Adam(1e-3, epsilon=1e-4)`.
            objective: an `iwae_tf.objectives.Objective`; None is `IWAEBound(num_samples=50)`, and the name of a
                declared objective is that with 50 samples.
            jit_compile: True compiles the forward and backward pass with XLA, False does not, "auto" compiles on a
                GPU. With several replicas it is False.
            steps_per_execution: as in Keras; None lets `fit` choose: up to 20, and 1 where a callback counts batches.
            **kwargs: `run_eagerly` as in Keras; XLA then compiles nothing.

        Raises:
            InputError: (a `ValueError`) for `loss` or `metrics`, for something that is no objective, for an objective
                that does not exist for this model, for an optimizer that scales the loss, and for XLA with several
                replicas.
        """
        objective = bounds.IWAEBound(num_samples=50) if objective is None else objective
        if isinstance(objective, str):
            objective = build_objective(objective, 50, {})
        optimizer = Adam(1e-3, epsilon=1e-4) if optimizer is None else keras.optimizers.get(optimizer)
        checks.check_compile(self, optimizer, objective, jit_compile, kwargs)
        kwargs |= {"steps_per_execution": steps_per_execution or 1, "auto_scale_loss": False}
        # XLA drops assertions, so it compiles the pass through the networks alone, not the checks around it.
        super().compile(optimizer=optimizer, jit_compile=False, **kwargs)
        self.objective = objective
        if objective.state is not None:
            checks.LEARNED_WITH[objective] = weakref.ref(self)
        self._fit_chooses_steps = steps_per_execution is None
        self._steps_per_call = checks.StepsPerCall(steps_per_execution or 1)
        self.optimizer.build(self.trainable_variables)
        self._compiled_for = tuple(map(id, self.trainable_variables))
        self._jit_argument = jit_compile
        on_gpu = bool(tf.config.list_physical_devices("GPU")) and not self.distributed
        self.uses_xla = (on_gpu if jit_compile == "auto" else jit_compile) and not self.run_eagerly
        self._forward_backward = self._bound_and_gradients
        if not self.run_eagerly:
            self._forward_backward = tf.function(
                self._bound_and_gradients, jit_compile=self.uses_xla, reduce_retracing=True, autograph=False
            )

    def fit(self, *args, **kwargs):
        """Trains as `keras.Model.fit` does: x in arrays, tf.data, generators; labels are ignored.

        Raises:
            InputError: (a `ValueError`) if x has the wrong size or values that the likelihood cannot observe.
            InputError: if the bound or its gradient stops being finite; that step is not taken.
        """
        given = checks.checked_fit(self, checks.checked_arguments(self, super().fit, args, kwargs))
        if self.compiled:
            self.objective.reset()
            if own := self.objective.callbacks():
                users = given.get("callbacks") or []
                given["callbacks"] = [*(users if isinstance(users, (list, tuple)) else [users]), *own]
        with checks.readable_errors(self), self.steps_in_a_call(self._steps_of_fit(given)):
            try:
                return super().fit(**given)
            finally:  # after an error Keras would keep it for the validation data of the next call
                vars(self).pop("_eval_epoch_iterator", None)
                if self.compiled:
                    self.objective.reset()

    def train_step(self, data):
        """Takes one gradient step on the bound, averaged over the batch; Keras' optimizers sum over the replicas."""
        x = checks.checked_batch(self, data)  # [B, D]
        share = [replicas.share_of_batch(x)] if self.distributed else []  # XLA needs constants on a single replica
        bound, gradients = self._forward_backward(x, tf.convert_to_tensor(self.batches_seen), *share)
        finite = tf.math.is_finite(tf.reduce_sum(bound) + tf.linalg.global_norm(gradients))
        bound_sum, num_examples, num_bad = self._sums(bound, finite)
        with checks.asserted(tf.equal(num_bad, 0.0), [checks.BAD_BOUND]):  # before any weight or count changes
            self.optimizer.apply([tf.identity(gradient) for gradient in gradients], self.trainable_variables)
            self.batches_seen.assign_add(1)
        return self._logs(bound_sum, num_examples)

    def _bound_and_gradients(self, x, batch, *share):
        """Returns the bound, [B], and the gradients of `trainable_variables`, with noise from the key (seed, batch)."""
        share = share[0] if share else replicas.whole(x)
        num_samples, units = self.objective.num_samples, sum(self.latent_units)

        def key_of(purpose, counter=0):
            return seeds.key(self.seed, purpose, batch, counter)

        def noise(share):
            rows = seeds.row_normals(share.first, share.here, num_samples * units, key_of(seeds.Purpose.TRAIN_NOISE))
            return tf.transpose(tf.reshape(rows, [share.here, num_samples, units]), [1, 0, 2])  # [k, B, H]

        number = 1 if self.uses_xla or self.distributed else replicas.num_sub_batches(num_samples, x.shape[0])
        with weights_read_once(self):
            results = [
                bound_and_gradients(self, self.objective, rows, noise(sub_batch), key_of, sub_batch)
                for rows, sub_batch in share.split(x, number)
            ]
        if number == 1:
            return results[0]
        bounds, gradients = zip(*results, strict=True)
        return tf.concat(bounds, axis=0), [tf.add_n(of_variable) for of_variable in zip(*gradients, strict=True)]

    def log_weights_from_noise(self, x, noise):
        """Returns log w = log p(x, h) - log q(h | x) at h made from noise: x [B, D], noise [k, B, H] -> [k, B]."""
        h, log_q = self.inference_network.transform(x, noise)
        return self.generative_network.log_prob(x, h) - log_q

    def log_weight_terms(self, x, noise):
        """Returns log p(x | h) and log p(h) - log q(h | x), whose sum are the log-weights: both [k, B]."""
        h, log_q = self.inference_network.transform(x, noise)
        return self.generative_network.log_likelihood(x, h), self.generative_network.log_prior(h) - log_q

    def log_weight_terms_with_analytic_kl(self, x, noise):
        """Returns log p(x | h) [k, B] and -KL(q(h | x) || p(h)) [B], for one Gaussian stochastic layer."""
        checks.check_standard_prior(self)
        (stage,) = self.inference_network.stages
        parameters = stage(x)
        h = (stage.head.transform(parameters, noise),)
        return self.generative_network.log_likelihood(x, h), -stage.head.kl_to_standard_normal(parameters)

    def evaluate(self, *args, **kwargs):
        """Computes the mean of the objective's bound over the data as `keras.Model.evaluate` does, one draw each.

        Returns:
            The loss, which is minus the bound, and the bound; by name with `return_dict=True`.
        """
        in_fit = kwargs.get("_use_cached_eval_dataset")  # whose batches come as those of training do
        steps = self.steps_per_execution if in_fit else self._steps_per_call.usual
        with self.steps_in_a_call(steps):
            return self._checked_call(super().evaluate, args, kwargs)

    def test_step(self, data):
        """Computes the bound on a batch, from the first k samples of every row's stream (`streaming.py`)."""
        x = checks.checked_batch(self, data)
        noise = streaming.batch_noise(x, self.seed, 0, self.objective.num_samples, sum(self.latent_units))
        log_w = self.objective.log_weights(self, x, noise)  # [k, B]
        bound_sum, num_examples, _ = self._sums(self.objective.bound(log_w), finite=True)
        return self._logs(bound_sum, num_examples)

    @staticmethod
    def _sums(bound, finite):
        """Returns sums over all replicas: bound, number of examples, replicas where something is not finite."""
        bad = tf.cast(tf.logical_not(finite), tf.float32)
        return tf.unstack(
            replicas.sum_over_replicas(tf.stack([tf.reduce_sum(bound), tf.cast(tf.size(bound), tf.float32), bad]))
        )

    def _logs(self, bound_sum, num_examples):
        self.bound_tracker.update_state(bound_sum, num_examples)
        mean = self.bound_tracker.result()
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            mean = mean[None]  # Keras averages over workers along the first axis
        return {"bound": mean, "loss": -mean}

    def steps_in_a_call(self, number: int):
        """Returns a context in which Keras takes this many steps in a call."""
        return self._steps_per_call(self, number)

    def _steps_of_fit(self, given: dict) -> int:
        if not self.compiled or not self._fit_chooses_steps:
            return self.steps_per_execution
        if self.distributed or self.run_eagerly:  # Keras takes one step at a time over replicas
            return 1
        self._steps_per_call.of_fit = checks.steps_per_call(given, self._steps_per_call.of_fit)
        return self._steps_per_call.of_fit

    # Likelihood

    def log_likelihood(self, x, num_samples: int, seed: int = 0) -> tf.Tensor:
        """Estimates log p(x) of every row, in nats: log of the mean of `num_samples` importance weights.

        Memory does not grow with `num_samples`. The expectation is L_k, a lower bound on log p(x).

        Args:
            x: [B, D].
            num_samples: k, >= 1; the paper reports k = 5000.
            seed: seed of the noise, which also depends on the content of the row: identical rows have equal estimates.

        Returns:
            float64 [B].

        Raises:
            InputError: (a `ValueError`) for x of the wrong size or with values that the likelihood cannot observe.

        Reference: Burda, Grosse, Salakhutdinov (2016), equation 8.
        """
        x, k = self.checked(x), tf.constant(checked_samples(num_samples))
        seed = tf.constant(check_seed(seed), tf.int64)
        if not tf.executing_eagerly():
            return self._log_likelihood_rows(x, seed, k)
        batches = (x[first : first + ROWS_PER_CALL] for first in range(0, x.shape[0], ROWS_PER_CALL))
        return tf.concat([self._log_likelihood_rows(rows, seed, k) for rows in batches], axis=0)

    def log_weights(self, x, num_samples: int, seed: int = 0) -> tf.Tensor:
        """Returns log w = log p(x, h_i) - log q(h_i | x), float32 [k, B]: x [B, D], k = `num_samples`."""
        x = self.checked(x)
        check_fits({"log-weights": (x.shape[0] or 1) * checked_samples(num_samples)}, "take log_weight_chunks")
        return tf.concat(list(self.log_weight_chunks(x, num_samples, seed)), axis=0)

    def log_weight_chunks(
        self, x, num_samples: int, seed: int = 0, chunk_size: int | None = None, first_sample: int = 0
    ) -> Iterator[tf.Tensor]:
        """Streams log importance weights for evaluation, in memory that does not grow with `num_samples`.

        Sample i of a row is a function of (seed, content of the row, i) alone: other rows, the chunk size and
        `num_samples` do not change it.

        Args:
            x: [B, D].
            num_samples: samples in all.
            seed: seed of the noise.
            chunk_size: samples in a chunk, a multiple of 50; None for 1000.
            first_sample: number of the first sample, to continue where an earlier call ended.

        Yields:
            float32 [c, B]; c is the chunk size, less at the ends.
        """
        x, seed = self.checked(x), tf.constant(check_seed(seed), tf.int64)
        last = integer_from(0, "first_sample", first_sample) + checked_samples(num_samples)
        chunk_size = CHUNK_SIZE if chunk_size is None else positive_integer("chunk_size", chunk_size)
        if chunk_size % streaming.BLOCK:
            raise InputError(f"chunk_size must be a multiple of {streaming.BLOCK}, got {chunk_size}")

        def chunks():
            for begin in range(first_sample - first_sample % streaming.BLOCK, last, chunk_size):
                size = min(chunk_size, -(-(last - begin) // streaming.BLOCK) * streaming.BLOCK)
                log_w = tf.transpose(self._chunk_log_weights(x, seed, tf.constant(begin), size))  # [size, B]
                yield log_w[max(first_sample - begin, 0) : last - begin]

        return chunks()

    # Distributions

    @property
    def likelihood_head(self) -> Likelihood:
        """The layer that makes the parameters of p(x | h[0]), with its facts: support, levels, `binarised`."""
        return self.generative_network.likelihood_stage.head

    @property
    def gaussian_latents(self) -> bool:
        """True if the latent units are Gaussian."""
        return self.inference_network.stages[0].head.gaussian

    def posterior(self, x):
        """Returns q(h | x) as a TFP joint distribution over h: x [B, D]; samples are tuples of [k, B, H_l]."""
        return self.inference_network.distribution(self.checked(x))

    def likelihood(self, h):
        """Returns p(x | h) as a TFP distribution over x: h a tuple of [..., H_l], whose h[0] is read."""
        checks.check_latents(self, h)
        stage = self.generative_network.likelihood_stage
        return stage.head.distribution(stage(h[0]))

    def encode(self, x) -> tuple[GaussianParameters | BernoulliParameters, ...]:
        """Returns the parameters of q for each stochastic layer, given the mean of the layer below.

        Args:
            x: [B, D].

        Returns:
            For each layer `loc`, `log_scale` and `scale`; of binary units `logits` and `probability`: [B, H_l].
        """
        return self.inference_network.parameters_along_mean(self.checked(x))

    def reconstruct(self, x) -> tf.Tensor:
        """Returns the mean of p(x | h) at the mean of q(h[0] | x): [B, D] -> [B, D]."""
        return self(self.checked(x))

    def predict(self, *args, **kwargs):
        """Returns `reconstruct` of the data, as `keras.Model.predict` does."""
        with self.steps_in_a_call(self._steps_per_call.usual):
            return self._checked_call(super().predict, args, kwargs)

    def train_on_batch(self, *args, **kwargs):
        """Takes one step as `keras.Model.train_on_batch` does."""
        return self._checked_call(super().train_on_batch, args, kwargs)

    def test_on_batch(self, *args, **kwargs):
        """Computes the bound on one batch as `keras.Model.test_on_batch` does."""
        return self._checked_call(super().test_on_batch, args, kwargs)

    def predict_on_batch(self, *args, **kwargs):
        """Returns `reconstruct` of one batch."""
        return self._checked_call(super().predict_on_batch, args, kwargs)

    def _checked_call(self, method, args, kwargs):
        given = checks.checked_arguments(self, method, args, kwargs)
        with checks.readable_errors(self):
            return method(**given)

    def predict_step(self, data):
        """Returns `reconstruct` of a batch."""
        return self(checks.checked_batch(self, data))

    def call(self, inputs):
        """Returns `reconstruct` without its checks: float32 [B, D] -> [B, D]."""
        first, last = self.inference_network.stages[0], self.generative_network.likelihood_stage
        return last.head.mean(last(first.head.mean(first(inputs))))

    def sample(self, n: int, seed: int = 0, mean: bool = False) -> tf.Tensor:
        """Returns n draws from p(x), [n, D]; with `mean=True` the means of p(x | h) at n draws of h."""
        n, seed = positive_integer("n", n), check_seed(seed)
        check_fits({"draws": n * (self.data_dim + sum(self.latent_units))}, "lower n")
        x, parameters, _ = self.generative_network.sample(n, lambda layer: seeds.key(seed, seeds.Purpose.SAMPLE, layer))
        return self.likelihood_head.mean(parameters) if mean else x

    def checked(self, x) -> tf.Tensor:
        """Returns x as float32 [B, D]; raises `InputError` if it is anything else or empty.

        In a graph the values are an assertion, which fails as `tf.errors.InvalidArgumentError`.
        """
        return checks.checked_rows(self, x)

    # Keras

    def export(self, filepath, format="tf_saved_model", **settings):
        """Writes the next version of a SavedModel that scores log p(x): `iwae_tf.serving.export_saved_model`.

        Args:
            filepath: the model's folder; the version becomes FILEPATH/1, 2, ...
            format: "tf_saved_model".
            **settings: of `export_saved_model`.

        Returns:
            The version's folder.
        """
        if format != "tf_saved_model":
            raise InputError(f"export writes a SavedModel, format='tf_saved_model', got {format!r}")
        # With `from_pretrained` the only door from a model to rooms above it, so that it is where users look for it.
        return importlib.import_module("iwae_tf.serving").export_saved_model(self, filepath, **settings)

    @classmethod
    def from_pretrained(cls, name: str) -> "IWAE":
        """Returns a trained model, not compiled.

        Args:
            name: of a model in the repository's folder `pretrained/`, e.g. "mnist-l1-k50", or the folder of any
                finished run.

        Raises:
            InputError: there is no such model, or it cannot be read.
        """
        runs = importlib.import_module("iwae_tf.training.run_folder")
        return runs.read_trained(runs.pretrained(name)).model

    def save(self, filepath, *args, **kwargs):
        """Saves the model as a `.keras` file, which `keras.saving.load_model` reads."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise InputError(f"{filepath}: a model is saved as a .keras file; HDF5 is for weights, save_weights")
        super().save(filepath, *args, **kwargs)

    def add_loss(self, loss):
        """Refuses: `fit` maximises the bound alone."""
        raise InputError("add_loss is not supported, the bound would not hold; derive an iwae_tf.objectives.Objective")

    def quantize(self, *args, **kwargs):
        """Refuses: log p(x) under weights of 8 bits is another number."""
        raise InputError("quantize is not supported; for products of 16 bits give dtype='mixed_bfloat16'")

    @property
    def distributed(self) -> bool:
        """True with more than one replica."""
        return self.distribute_strategy.num_replicas_in_sync > 1

    @property
    def step(self) -> int:
        """Steps that the optimiser has taken."""
        return int(tf.convert_to_tensor(self.optimizer.iterations))

    @property
    def metrics(self):
        return [self.bound_tracker]

    @property
    def metrics_names(self):
        """The order of the numbers of `evaluate`, as in Keras the loss first."""
        return ["loss", "bound"]

    def _flatten_metrics_in_order(self, logs):
        return [logs[name] for name in self.metrics_names]

    @property
    def objective_state(self):
        """The Keras layer with the compiled objective's own weights, or None; an attribute so that Keras saves it."""
        return self.objective.state if self.compiled else None

    @property
    def variables(self):
        """Those of the networks, and of the compiled objective's state."""
        return [*super().variables, *(self.objective_state.variables if self.objective_state else [])]

    @property
    def weights(self):
        """`variables`: there are no seed generators."""
        return self.variables

    def load_weights(self, filepath, *args, **kwargs):
        """Loads weights as Keras does; raises `InputError` if the file lacks what the compiled objective learns."""
        checks.check_objective_state(self, filepath)
        super().load_weights(filepath, *args, **kwargs)

    def make_train_function(self, force=False):
        checks.check_trainable(self, self._compiled_for)
        return super().make_train_function(force)

    def get_config(self):
        user_layers = {
            "encoder": getattr(self.inference_network.stages[0].hidden, "layer", None),
            "decoder": getattr(self.generative_network.likelihood_stage.hidden, "layer", None),
            "prior": self.generative_network.prior if self._has_user_prior else None,
        }
        return {
            **super().get_config(),
            "data_dim": self.data_dim,
            "latent_units": self.latent_units,
            "hidden_units": self.hidden_units,
            "likelihood": self.likelihood_name,
            "data_mean": self.data_mean,
            "seed": self.seed,
            "latent": self.latent,
            "levels": self.levels,
            "columns": None if self.columns is None else [list(column) for column in self.columns],
            "missing": self.missing,
            "scale": self.scale,
            "frozen": [i for i, layer in enumerate(self._flatten_layers()) if not layer.trainable],
            **{name: keras.saving.serialize_keras_object(layer) for name, layer in user_layers.items()},
        }

    @classmethod
    def from_config(cls, config):
        given = {name: config[name] for name in ("encoder", "decoder", "prior") if config.get(name) is not None}
        user_layers = {name: keras.saving.deserialize_keras_object(layer) for name, layer in given.items()}
        frozen = config.get("frozen", ())
        model = cls(**{name: value for name, value in config.items() if name != "frozen"} | user_layers)
        for i, layer in enumerate(model._flatten_layers() if frozen else ()):  # an outer layer sets inner ones
            layer.trainable = i not in frozen
        return model

    def get_compile_config(self):
        if not self.compiled:
            return {}
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "objective": keras.saving.serialize_keras_object(self.objective),
            "jit_compile": self._jit_argument,
            "steps_per_execution": None if self._fit_chooses_steps else self._steps_per_call.usual,
            "run_eagerly": self.run_eagerly,
        }

    def compile_from_config(self, config):
        self.compile(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Does nothing: Keras' version adds up a batch over replicas, which must then be of equal size."""
