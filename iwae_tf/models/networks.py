"""The two networks: q(h | x) and p(x, h), chains of conditional distributions."""

import math
import re
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from iwae_tf import seeds
from iwae_tf.declarations import find
from iwae_tf.distributions.columns import ColumnFeatures
from iwae_tf.distributions.head import DistributionHead, build_likelihood
from iwae_tf.errors import InputError
from iwae_tf.models.mixed_precision import tanh_layers


class InferenceNetwork(keras.layers.Layer):
    """q(h | x) = q(h[0] | x) q(h[1] | h[0]) ...; x is encoded once, whatever the number of samples.

    Args:
        data_dim: D.
        latent_units: H_l of each stochastic layer, nearest x first.
        hidden_units: widths of the tanh layers below each stochastic layer.
        latent: declared name of the distribution of the units.
        initializer_seeds: iterator of initialiser seeds.
        encoder: layer from x to the features below q(h[0] | x), in place of the tanh layers; or None.
        column_features: what the network sees of x, or None for x itself.
    """

    def __init__(
        self,
        data_dim,
        latent_units,
        hidden_units,
        latent,
        initializer_seeds,
        encoder=None,
        column_features: ColumnFeatures | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.latent_units = tuple(latent_units)
        self.stages = []
        condition_dim = column_features.width if column_features else data_dim
        for number, (units, hidden) in enumerate(zip(latent_units, hidden_units, strict=True), start=1):
            if number == 1 and encoder is not None:
                below = FlattenBatch(encoder, "encoder", flatten=True)
            else:
                below = MLP(hidden, initializer_seeds, dtype=self.dtype_policy)
            head = find("latent", latent).load()(units, initializer_seeds)
            stage = Conditional(below, head, column_features if number == 1 else None, name=f"q_h{number}")
            stage.build((None, condition_dim))
            self.stages.append(stage)
            condition_dim = units
        self.output_shape = (None, sum(latent_units))  # of all layers together, for `summary`
        self.build((None, data_dim))

    def build(self, input_shape):
        self.built = True

    def transform(self, x: tf.Tensor, noise: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """Returns samples made from noise, and their density. Gradients pass through Gaussian samples only.

        Args:
            x: [B, D].
            noise: standard normal [k, B, sum of H_l].

        Returns:
            h, a tuple of [k, B, H_l], and log q(h | x), [k, B], in nats.
        """
        h, log_q, condition = [], 0.0, x
        for stage, layer_noise in zip(self.stages, tf.split(noise, self.latent_units, axis=-1), strict=True):
            parameters = stage(condition)  # [B, H_0] for the first layer, then [k, B, H_l]
            condition, layer_log_q = stage.head.sample_and_log_prob(parameters, layer_noise)
            log_q = log_q + layer_log_q  # [k, B]
            h.append(condition)
        return tuple(h), log_q

    def log_prob(self, x: tf.Tensor, h: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """Returns log q(h | x) at given h: x [B, D], h a tuple of [k, B, H_l] -> [k, B]."""
        conditions = (x, *h[:-1])
        return tf.add_n([s.head.log_prob(s(c), value) for s, c, value in zip(self.stages, conditions, h, strict=True)])

    def distribution(self, x: tf.Tensor):
        """Returns q(h | x) as a TFP joint distribution: x [B, D]; samples are tuples of [k, B, H_l]."""
        from tensorflow_probability import distributions as tfd  # takes 1 to 2 s; training does not need it

        first, *others = self.stages
        root = first.head.distribution(first(x))

        def chain():
            condition = yield tfd.JointDistributionCoroutine.Root(root)
            for stage in others:
                condition = yield stage.head.distribution(stage(condition))

        return tfd.JointDistributionCoroutine(chain)

    def parameters_along_mean(self, x: tf.Tensor) -> tuple:
        """Returns the parameters of each layer given the mean of the layer below: x [B, D] -> tuples of [B, H_l]."""
        displayed, condition = [], x
        for stage in self.stages:
            parameters = stage(condition)
            displayed.append(stage.head.display_parameters(parameters))
            condition = stage.head.mean(parameters)
        return tuple(displayed)


class GenerativeNetwork(keras.layers.Layer):
    """p(x, h) = p(h[L-1]) ... p(h[0] | h[1]) p(x | h[0]), the mirror image of the inference network.

    Arguments are those of `InferenceNetwork`, whose `hidden_units` are used in reverse, and

    Args:
        likelihood: declared or registered name of the distribution of x.
        data_mean: mean of the training images [D] for the output bias, or None.
        levels: number of values that an observation can have, for likelihoods over levels; else None.
        decoder: layer from h[0] to the features below p(x | h[0]), in place of the tanh layers; or None.
        prior: of the top layer, or None for the default of `latent`.
        columns: of a likelihood of columns, or None.
        missing: whether values of x may be missing.
    """

    def __init__(
        self,
        data_dim,
        latent_units,
        hidden_units,
        latent,
        likelihood,
        data_mean,
        levels,
        initializer_seeds,
        decoder=None,
        prior=None,
        columns=None,
        missing=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        latent_head = find("latent", latent).load()
        self.latent_units = tuple(latent_units)
        self.stages = []  # stages[l] is p(h[l-1] | h[l]); stages[0] is the likelihood
        for number, units in enumerate(latent_units):
            if number == 0 and decoder is not None:
                shape = getattr(decoder, "image_shape", (data_dim,))
                if math.prod(shape) != data_dim:
                    raise InputError(f"the decoder is for images of {shape}, {math.prod(shape)} values, not {data_dim}")
                below = FlattenBatch(decoder, "decoder")
            else:
                below = MLP(tuple(reversed(hidden_units[number])), initializer_seeds, dtype=self.dtype_policy)
            if number == 0:
                head = build_likelihood(likelihood, data_dim, initializer_seeds, data_mean, levels, columns, missing)
            else:
                head = latent_head(latent_units[number - 1], initializer_seeds)
            stage = Conditional(below, head, name=f"p_h{number}" if number else "p_x")
            stage.build((None, units))
            self.stages.append(stage)
        top = self.latent_units[-1]
        self.prior = latent_head.default_prior(top) if prior is None else checked_prior(prior, top)
        self.output_shape = (None, data_dim)  # for `summary`
        self.build((None, sum(latent_units)))

    def build(self, input_shape):
        self.built = True

    @property
    def likelihood_stage(self) -> "Conditional":
        """p(x | h[0])."""
        return self.stages[0]

    def log_prior(self, h: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """Returns log p(h), all layers: tuple of [..., H_l] -> [...]."""
        log_p = self.prior.log_prob(h[-1])
        for stage, value, condition in zip(self.stages[1:], h[:-1], h[1:], strict=True):
            log_p = log_p + stage.head.log_prob(stage(condition), value)
        return log_p

    def log_likelihood(self, x: tf.Tensor, h: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """Returns log p(x | h): x [B, D], h a tuple of [k, B, H_l] -> [k, B]."""
        log_p = self.likelihood_stage.log_prob(h[0], x)
        rank = tf.TensorShape(h[0].shape).rank
        if rank is not None and log_p.shape.rank not in (None, rank - 1):
            raise InputError(
                f"log_prob of the likelihood {type(self.likelihood_stage.head).__name__} must be [k, B], a sum over "
                f"the values of x, got {log_p.shape}: its distribution must be a tfd.Independent(..., 1)"
            )
        return log_p

    def log_prob(self, x: tf.Tensor, h: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """Returns log p(x, h): x [B, D], h a tuple of [k, B, H_l] -> [k, B]."""
        return self.log_likelihood(x, h) + self.log_prior(h)

    def sample_latents(self, n: int, key_of: Callable[[int], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """Returns n draws of p(h), a tuple of [n, H_l].

        Args:
            n: number of draws.
            key_of: number of a layer, l + 1 for h[l], to the key of its random numbers.
        """
        h = [self.prior.sample(n, key_of(len(self.stages)))]
        for number in range(len(self.stages) - 1, 0, -1):
            stage = self.stages[number]
            h.insert(0, stage.head.sample(stage(h[0]), key_of(number)))
        return tuple(h)

    def sample(self, n: int, key_of: Callable[[int], tf.Tensor]) -> tuple:
        """Returns n draws of p(x, h): x [n, D], the parameters of p(x | h) that it is drawn from, and h, [n, H_l] each.

        Args:
            n: number of draws.
            key_of: number of a layer, 0 for x and l + 1 for h[l], to the key of its random numbers.
        """
        h = self.sample_latents(n, key_of)
        head, parameters = self.likelihood_stage.head, self.likelihood_stage(h[0])
        x = tf.cast(head.sample(parameters, key_of(0)), tf.float32)  # a user's distribution may give integers
        return x, parameters, h


class Conditional(keras.layers.Layer):
    """p(value | condition): hidden layers, then a head that makes the parameters.

    Args:
        hidden: the deterministic layers.
        head: of latent units or of observations; its methods read the parameters.
        column_features: what the hidden layers see of the condition, or None for itself.
    """

    def __init__(self, hidden: keras.layers.Layer, head: DistributionHead, column_features=None, **kwargs):
        super().__init__(dtype="float32", **kwargs)  # the hidden layers may have another dtype
        self.hidden = hidden
        self.head = head
        self.column_features = column_features

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build(self.hidden.compute_output_shape(input_shape))
        self.built = True

    def log_prob(self, condition, value):
        """Returns log p(value | condition), [...], in nats: condition [..., C], value [..., D]."""
        return self.head.log_prob_of_features(self.hidden(condition), value)

    def call(self, condition):
        """[..., C] -> parameters of the distribution, with the same leading axes."""
        if self.column_features:
            condition = self.column_features(condition)
        return self.head(self.hidden(condition))


class MLP(keras.layers.Layer):
    """Dense tanh layers, Glorot uniform, as in the paper (section 5).

    Args:
        units: width of each layer, e.g. (200, 200).
        initializer_seeds: source of the seeds of the initialisers.
    """

    def __init__(self, units: tuple[int, ...], initializer_seeds: Iterator[int], **kwargs):
        super().__init__(autocast=False, **kwargs)  # each dense layer casts its own input
        self.dense = [
            keras.layers.Dense(
                n,
                kernel_initializer=keras.initializers.GlorotUniform(next(initializer_seeds)),
                dtype=self.dtype_policy,
            )
            for n in units
        ]

    def build(self, input_shape):
        for dense in self.dense:
            dense.build(input_shape)
            input_shape = dense.compute_output_shape(input_shape)
        self.built = True

    def call(self, inputs):
        """[..., D] -> [..., units[-1]]."""
        if self.dense and self.compute_dtype == "float16":  # bfloat16 has the range that gradients need
            kernels, biases = ([tf.convert_to_tensor(getattr(d, w)) for d in self.dense] for w in ("kernel", "bias"))
            return tanh_layers(tf.cast(inputs, tf.float32), kernels, biases)
        for dense in self.dense:
            # On 2-D inputs TensorFlow fuses MatMul and BiasAdd. The tanh stays outside, where it is vectorised, and in
            # float32, which has vector instructions everywhere.
            before_tanh = on_rows(dense, inputs, (dense.units,))
            inputs = tf.cast(tf.tanh(tf.cast(before_tanh, tf.float32)), self.compute_dtype)
        return inputs

    def compute_output_shape(self, input_shape):
        for dense in self.dense:
            input_shape = dense.compute_output_shape(input_shape)
        return input_shape


class FlattenBatch(keras.layers.Layer):
    """Applies a user's layer, which knows one batch axis, to inputs with any leading axes.

        [..., C] -> [N, C] -> layer -> [N, *S] -> [..., *S], or [..., prod S] with `flatten`

    Args:
        layer: any Keras layer or model from [N, C] to [N, *S], without state: see `check_stateless`.
        role: "encoder" or "decoder", for messages.
        flatten: joins the axes of the features.
    """

    def __init__(self, layer: keras.layers.Layer, role: str, flatten: bool = False, **kwargs):
        super().__init__(dtype="float32", autocast=False, **kwargs)  # the layer has a policy of its own
        if not isinstance(layer, keras.layers.Layer):
            raise InputError(f"the {role} must be a Keras layer, got {layer!r}")
        self.layer, self.role, self.flatten = layer, role, flatten

    def build(self, input_shape):
        try:
            features = self.layer(tf.zeros([2, input_shape[-1]]))
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:  # raised by the layer's own shapes
            # Keras names the layer in the first line, and the reason below it.
            plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()
            lines = [line.strip() for line in plain if line.strip()] or [type(error).__name__]
            reason = " ".join(lines[:2]) if lines[0].startswith("Exception encountered") else lines[0]
            raise InputError(f"the {self.role} must take rows [N, {input_shape[-1]}]: {reason}") from error
        if not tf.is_tensor(features) or features.shape.rank < 2 or features.shape[0] != 2:
            found = features.shape if tf.is_tensor(features) else type(features).__name__
            raise InputError(f"the {self.role} must give features [N, ...] for rows [N, ...], got {found} for 2 rows")
        check_stateless(self.layer, self.role)
        shape = features.shape[1:]
        self.feature_shape = (shape.num_elements(),) if self.flatten else tuple(shape)
        self.built = True

    def call(self, inputs):
        """[..., C] -> float32 features [..., *S]."""
        return on_rows(lambda rows: tf.cast(self.layer(rows), tf.float32), inputs, self.feature_shape)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], *self.feature_shape)


def on_rows(function: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor, feature_shape: tuple[int, ...]) -> tf.Tensor:
    """Applies a function of rows, [N, C] -> [N, ...], to any leading axes: [..., C] -> [..., *feature_shape]."""
    features = function(tf.reshape(inputs, [-1, inputs.shape[-1]]))
    shaped = tf.reshape(features, tf.concat([tf.shape(inputs)[:-1], feature_shape], axis=0))
    return tf.ensure_shape(shaped, [*inputs.shape[:-1], *feature_shape])


def check_stateless(layer: keras.layers.Layer, role: str) -> None:
    """Raises `InputError` for a layer with weights that are not trained by gradient, or with random numbers.

    All samples of an image are weighed under one q(h | x), and a row's score must not depend on its batch or on how
    often it is computed: batch statistics and dropout would break both. Frozen layers (`trainable = False`) have no
    such state.
    """
    for sublayer in layer._flatten_layers():
        # Recurrent cells have a generator for their dropout even without any.
        dropouts = [getattr(sublayer, name, None) for name in ("dropout", "recurrent_dropout")]
        states = {
            "weights that no gradient trains": sublayer._non_trainable_variables,
            "random numbers of its own": sublayer._seed_generators and dropouts != [0, 0],
            "a state that it keeps between calls": getattr(sublayer, "stateful", False),
        }
        state = next((words for words, found in states.items() if found), None)
        if state:
            raise InputError(
                f"the {role} has the layer {sublayer.name!r} ({type(sublayer).__name__}) with {state}: a score must "
                "not depend on its batch or on chance. Leave out dropout; replace batch by layer normalisation"
            )


def checked_prior(prior: keras.layers.Layer, units: int) -> keras.layers.Layer:
    """Returns a user's prior of the top layer; raises `InputError` unless its methods give the shapes of a prior."""
    if not isinstance(prior, keras.layers.Layer) or not (hasattr(prior, "log_prob") and hasattr(prior, "sample")):
        raise InputError(f"prior must be a Keras layer with log_prob(h) and sample(n, key), got {prior!r}")
    if not prior.built:
        prior.build((None, units))
    drawn = tuple(prior.sample(3, seeds.key(0, seeds.Purpose.SAMPLE)).shape)
    if drawn != (3, units):
        raise InputError(f"prior must give sample(3, key) of shape {(3, units)}, got {drawn}")
    log_p = tuple(prior.log_prob(tf.zeros([2, 3, units])).shape)
    if log_p != (2, 3):
        raise InputError(f"prior must give log_prob of h of shape {(2, 3, units)} as (2, 3), got {log_p}")
    check_stateless(prior, "prior")
    return prior


def weights_read_once(model) -> keras.StatelessScope:
    """Returns a context in which every layer of the two networks finds its weights as tensors already.

    TensorFlow keeps reads of a variable in order, so that a loop whose body reads one waits at the end of every
    iteration, and layers that compute the same from the same weights do it twice. With the weights read first, on two
    CPU cores, 20 rows by a SavedModel take 0.55 of the time and a training step with 5 backward samples 0.95.

    Args:
        model: has `inference_network` and `generative_network`.
    """
    variables = [*model.inference_network.variables, *model.generative_network.variables]
    return keras.StatelessScope([(variable, tf.convert_to_tensor(variable)) for variable in variables])
