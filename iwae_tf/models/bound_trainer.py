"""Training by `fit`: a Keras model whose train step climbs a bound on log p(x)."""

import inspect

import keras
import tensorflow as tf

from iwae_tf import replicas, seeds, threads
from iwae_tf.adam import Adam
from iwae_tf.errors import InputError
from iwae_tf.models.bound_tracker import BoundTracker
from iwae_tf.models.step_errors import BAD_BOUND, BAD_INPUT, asserted, plain_errors
from iwae_tf.models.steps_in_a_call import steps_in_a_call
from iwae_tf.models.weights import weights_read_once
from iwae_tf.objectives.gradients import bound_and_gradients
from iwae_tf.objectives.iwae import IWAEBound
from iwae_tf.objectives.objective import Objective


class BoundTrainer(keras.Model):
    """`compile`, `fit` and `evaluate` for a model with `log_weights_from_noise` and the two networks.

    The step knows no state but the weights, the optimiser's step count and `seed`: noise is drawn from the key
    (seed, step), so a run that stopped and went on from its weights is the same run. Made and compiled in the scope of
    a `tf.distribute` strategy, it takes the step of the whole batch, whose rows the replicas share.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.bound_tracker = BoundTracker()

    def compile(self, optimizer=None, objective=None, jit_compile="auto", steps_per_execution=None, **kwargs):
        """Sets what `fit` does.

        Args:
            optimizer: a Keras optimizer or its name; None is the paper's `Adam(1e-3, epsilon=1e-4)`.
            objective: an `iwae_tf.objectives.Objective`; None is `IWAEBound(num_samples=50)`.
            jit_compile: True compiles the forward and backward pass with XLA, False does not, "auto" compiles where
                a GPU is there. With several replicas it is False.
            steps_per_execution: as in Keras; None lets `fit` choose: up to 20, and 1 where a callback counts batches.
            **kwargs: `run_eagerly` as in Keras.

        Raises:
            InputError: (a `ValueError`) for `loss` or `metrics`, for something that is no objective, for an objective
                that does not exist for this model, for an optimizer that scales the loss, and for XLA with several
                replicas.
        """
        unused = {"loss", "loss_weights", "metrics", "weighted_metrics"} & kwargs.keys()
        if unused:
            raise InputError(f"compile() takes objective=, not {sorted(unused)}: the bound is loss and metric")
        objective = IWAEBound(num_samples=50) if objective is None else objective
        if not isinstance(objective, Objective):
            raise InputError(f"objective must be an iwae_tf.objectives.Objective, got {objective!r}")
        objective.check_model(self.latent_units, self.latent)
        if jit_compile not in (True, False, "auto"):
            raise InputError(f"jit_compile must be True, False or 'auto', got {jit_compile!r}")
        if jit_compile is True and self.distributed:
            raise InputError("XLA compiles no step of several replicas: leave jit_compile (--jit) at 'auto' or off")
        if optimizer is None:
            optimizer = Adam(1e-3, epsilon=1e-4)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or getattr(optimizer, "loss_scale_factor", None):
            raise InputError(
                "the optimizer expects the gradient of a scaled loss, and float16 layers need none here: give it "
                "without the scale"
            )
        # Only the pass through the networks is compiled by XLA: what surrounds it reports errors, which XLA drops.
        self.objective = objective
        self._fit_chooses_steps = steps_per_execution is None
        kwargs |= {"steps_per_execution": steps_per_execution or 1, "auto_scale_loss": False}
        super().compile(optimizer=optimizer, jit_compile=False, **kwargs)
        self.optimizer.build(self.trainable_variables)
        self._jit_argument = jit_compile
        on_gpu = bool(tf.config.list_physical_devices("GPU")) and not self.distributed
        self.uses_xla = on_gpu if jit_compile == "auto" else jit_compile
        self._forward_backward = tf.function(
            self._bound_and_gradients, jit_compile=self.uses_xla, reduce_retracing=True, autograph=False
        )

    def get_compile_config(self):
        if not self.compiled:
            return {}
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "objective": keras.saving.serialize_keras_object(self.objective),
            "jit_compile": self._jit_argument,
        }

    def compile_from_config(self, config):
        self.compile(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})

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
    def objective_state(self):
        """What the compiled objective learns, a Keras layer, or None; an attribute so that Keras saves it."""
        return self.objective.state if self.compiled else None

    @property
    def trainable_variables(self):
        """Those of the inference network, of the generative network, and of the compiled objective's state."""
        state = self.objective_state
        return [*super().trainable_variables, *(state.trainable_variables if state else [])]

    def fit(self, *args, **kwargs):
        """`keras.Model.fit`: x in arrays, tf.data, generators; labels are ignored.

        Raises:
            InputError: (a `ValueError`) if x has the wrong size or values that the likelihood cannot observe.
            InputError: if the bound or its gradient stops being finite; that step is not taken.
        """
        if self.compiled:
            self.objective.begin_fit()
            if self._fit_chooses_steps:
                self._choose_steps(*args, **kwargs)
        with plain_errors(self):
            return super().fit(*args, **_without_weights(kwargs))

    def _choose_steps(self, *args, **kwargs) -> None:
        """Sets the steps that one call of the compiled step takes in a `fit` with these arguments."""
        given = inspect.signature(super().fit).bind_partial(*args, **kwargs).arguments
        one_by_one = self.distributed or self.run_eagerly  # Keras takes one step at a time over replicas
        steps = 1 if one_by_one else steps_in_a_call(given)
        if steps != self.steps_per_execution:
            self.steps_per_execution = steps
            self.make_train_function(force=True)

    def evaluate(self, *args, **kwargs):
        """`keras.Model.evaluate`: the mean of the compiled objective's bound over the data, one draw of noise each."""
        with plain_errors(self):
            return super().evaluate(*args, **_without_weights(kwargs))

    def train_step(self, data):
        """One gradient step on the bound, averaged over the batch; Keras' optimizers sum over the replicas."""
        x = self._observations(data)
        share = [replicas.share_of_batch(x)] if self.distributed else []  # of one, XLA has to see constants
        bound, gradients = self._forward_backward(x, tf.convert_to_tensor(self.optimizer.iterations), *share)
        finite = tf.math.is_finite(tf.reduce_sum(bound) + tf.linalg.global_norm(gradients))
        bound_sum, num_examples, num_bad = self._sums(bound, finite)
        with asserted(tf.equal(num_bad, 0.0), [BAD_BOUND]):  # before any weight or the step count is changed
            self.optimizer.apply([tf.identity(gradient) for gradient in gradients], self.trainable_variables)
        return self._logs(bound_sum, num_examples)

    def test_step(self, data):
        """The bound on a batch; the number of examples seen so far in this pass keys the noise."""
        x = self._observations(data)
        share = replicas.share_of_batch(x)
        seen = tf.cast(self.bound_tracker.count, tf.int64)
        key = seeds.key(self.seed, seeds.Purpose.VALIDATION_NOISE, seen)
        log_w = self.objective.log_weights(self, x, self._noise(share, key))
        bound_sum, num_examples, _ = self._sums(self.objective.bound(log_w), finite=True)
        return self._logs(bound_sum, num_examples)

    def _bound_and_gradients(self, x, step, *share):
        share = share[0] if share else replicas.whole(x)

        def key_of(purpose, counter=0):
            return seeds.key(self.seed, purpose, step, counter)

        key = key_of(seeds.Purpose.TRAIN_NOISE)
        with weights_read_once(self):
            parts = [
                bound_and_gradients(self, self.objective, part, self._noise(part_share, key), key_of, part_share)
                for part, part_share in share.split(x, self._num_parts(x.shape[0]))
            ]
        if len(parts) == 1:
            return parts[0]
        bounds, gradients = zip(*parts, strict=True)
        return tf.concat(bounds, axis=0), [tf.add_n(of_variable) for of_variable in zip(*gradients, strict=True)]

    def _num_parts(self, batch_size: int | None) -> int:
        """In how many parts a step goes through the networks."""
        if self.uses_xla or self.distributed:
            return 1
        return threads.parts_of_step(self.objective.num_samples, batch_size)

    def _noise(self, share, key):
        num_samples, units = self.objective.num_samples, sum(self.latent_units)
        rows = seeds.row_normals(share.first, share.here, num_samples * units, key)
        return tf.transpose(tf.reshape(rows, [share.here, num_samples, units]), [1, 0, 2])  # [k, B, H]

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing to do, all is built; Keras' own adds up a batch over replicas, which must then have as many rows."""

    @staticmethod
    def _sums(bound, finite):
        """Over all replicas: of the bound, of the examples, and of the replicas where something is not finite."""
        bad = tf.cast(tf.logical_not(finite), tf.float32)
        return tf.unstack(
            replicas.sum_over_replicas(tf.stack([tf.reduce_sum(bound), tf.cast(tf.size(bound), tf.float32), bad]))
        )

    def _logs(self, bound_sum, num_examples):
        self.bound_tracker.update_state(bound_sum, num_examples)
        mean = self.bound_tracker.result()
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            mean = mean[None]  # Keras takes the mean over workers along the first axis
        return {"bound": mean, "loss": -mean}

    def _observations(self, data):
        """x of a batch as float32 [B, D], checked: the door through which all training data comes."""
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        _without_weights({"sample_weight": sample_weight})
        x = tf.cast(x, tf.float32)
        self._check_size(x)
        with asserted(tf.equal(tf.shape(x)[-1], self.data_dim), [BAD_INPUT, "shape", tf.shape(x)]):
            x = tf.reshape(x, [-1, self.data_dim])  # generators may not tell the shape before
        valid = self.generative_network.likelihood_stage.head.in_support(x)
        with asserted(valid, [BAD_INPUT, "values from, to", tf.reduce_min(x), tf.reduce_max(x)]):
            return tf.identity(x)


def _without_weights(arguments: dict) -> dict:
    """The arguments; raises `InputError` for weights of examples, which Keras would drop in silence."""
    given = [name for name in ("sample_weight", "class_weight") if arguments.get(name) is not None]
    if given:
        raise InputError(f"{given[0]} is not supported: every example counts the same")
    return arguments
