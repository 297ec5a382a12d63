"""Products of 16 bits: the allowed dtype policies, and float16 layers that scale their own gradients."""

import tensorflow as tf

from iwae_tf.errors import InputError

# Keras' policy for each `precision` of `iwae_tf.config.ModelConfig`.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def checked_policy(policy):
    """Returns a dtype policy under which scores and gradients can be trusted, or raises.

    Under a mixed policy the hidden tanh layers compute in 16 bits, and under bfloat16 also the product that makes
    Bernoulli logits in a log-likelihood (`iwae_tf.distributions.bernoulli`). Weights, the layers that make `loc` and
    the log scale, densities and log-weights stay in float32. A model is saved with its policy, so that its scores do
    not depend on who loads it.

    bfloat16 has the range of float32 and 8 bits. float16 has 11 bits and little range, so its gradients are scaled in
    each layer (`tanh_layers`).

    Args:
        policy: a `keras.DTypePolicy`.

    Raises:
        InputError: (a `ValueError`) for any other. Weights of 16 bits lose small steps; noise and densities are
            float32, so that float64 would promise digits that are not there.
    """
    if policy.name not in POLICIES.values():
        *others, last = POLICIES.values()
        raise InputError(
            f"the dtype policy must be {', '.join(others)} or {last}, got {policy.name!r}: pass dtype='float32' to the "
            "model, or call keras.config.set_dtype_policy('float32') before building it"
        )
    return policy


# Largest entry of a scaled gradient before a product. float16 ends at 65,504, and the sum over the units of a layer
# needs the headroom; 2^-14 is the smallest number with all its digits.
LARGEST_ROW = 2.0**8


def tanh_layers(inputs: tf.Tensor, kernels: list[tf.Tensor], biases: list[tf.Tensor]) -> tf.Tensor:
    """Computes dense tanh layers in float16, with a gradient whose products are scaled.

        a[0] = x,  a[l] = tanh(a[l-1] W[l] + b[l])                             float16
        d[l] = (d loss / d a[l]) (1 - a[l]^2)                                  float32
        s[l] = 2^8 / (max(1, max |a[l-1]|) sum_rows max_units |d[l]|)          float32
        d loss / d W[l]   = (a[l-1]^T (s[l] d[l])) / s[l]                      product in float16, quotient in float32
        d loss / d b[l]   = sum_rows d[l]                                      float32
        d loss / d a[l-1] = ((s[l] d[l]) W[l]^T) / s[l]                        product in float16, quotient in float32

    The gradient of a sample is proportional to its weight over the batch size, and float16 would lose the small ones.
    Loss scaling finds one scale for the whole loss by overflow; here every layer's scale follows from its gradient: no
    entry of a^T (s d) exceeds max |a| sum_rows |s d| <= 2^8, and none of (s d) W^T exceeds 2^8 times the sum of |W|
    over the units. No scale is stored and no step is lost. Sums over rows are float32, since float16 sums stop growing.

    Args:
        inputs: x, float32 [..., D].
        kernels: W of each layer, float32.
        biases: b of each layer, float32.

    Returns:
        The last a, [..., units], cast to float32, so that the incoming gradient is float32.

    Reference: Micikevicius et al. (2018), Mixed precision training, section 3.2, for the scale of the loss.
    """
    rows = tf.reshape(inputs, [-1, inputs.shape[-1]])  # [N, D]
    outputs = _tanh_layers(rows, *kernels, *biases)
    return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:-1], [kernels[-1].shape[-1]]], axis=0))


@tf.custom_gradient
def _tanh_layers(inputs, *weights):
    """[N, D] -> [N, units]; the weights are all kernels, then all biases."""
    half_weights, number = [_half(weight) for weight in weights], len(weights) // 2
    kernels, biases = half_weights[:number], half_weights[number:]
    values = [_half(tf.clip_by_value(inputs, -tf.float16.max, tf.float16.max))]  # infinities could give NaN
    for kernel, bias in zip(kernels, biases, strict=True):
        values.append(tf.tanh(tf.matmul(values[-1], kernel) + bias))

    def gradient(upstream):
        kernel_gradients, bias_gradients = [], []
        for value, below, kernel in zip(values[:0:-1], values[-2::-1], kernels[::-1], strict=True):
            before_tanh = upstream * (1.0 - tf.square(_single(value)))  # [N, units]
            scale = _scale(before_tanh, below)
            scaled = _half(scale * before_tanh)
            kernel_gradients.insert(0, _single(tf.matmul(below, scaled, transpose_a=True)) / scale)
            bias_gradients.insert(0, tf.reduce_sum(before_tanh, axis=0))
            upstream = _single(tf.matmul(scaled, kernel, transpose_b=True)) / scale  # [N, units below]
        return upstream, *kernel_gradients, *bias_gradients

    return _single(values[-1]), gradient


def _scale(gradient, below):
    """Returns the scale of the gradient [N, units] before a tanh in its products with a [N, units below]; scalar."""
    total = tf.reduce_sum(tf.reduce_max(tf.abs(gradient), axis=-1))
    largest = tf.maximum(1.0, _single(tf.reduce_max(tf.abs(below))))
    return LARGEST_ROW / (largest * tf.maximum(total, 1e-30))  # a zero gradient stays zero


def _half(value):
    return tf.cast(value, tf.float16)


def _single(value):
    return tf.cast(value, tf.float32)
