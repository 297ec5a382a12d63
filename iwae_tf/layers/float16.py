"""Tanh layers in float16 whose gradients neither vanish nor overflow."""

import tensorflow as tf

# A row of a gradient ends at most here before it is multiplied. float16 ends at 65,504: what is left is for the sum
# over the units of a layer. Below, 2^-14 is the smallest number with all its digits.
LARGEST_ROW = 2.0**8


def tanh_layers(inputs: tf.Tensor, kernels: list[tf.Tensor], biases: list[tf.Tensor]) -> tf.Tensor:
    """Dense tanh layers with products and activations in float16, and their gradient with scaled products.

        a[0] = x,  a[l] = tanh(a[l-1] W[l] + b[l])                             float16
        d[l] = (d loss / d a[l]) (1 - a[l]^2)                                  float32
        s[l] = 2^8 / (max(1, max |a[l-1]|) sum_rows max_units |d[l]|)          float32
        d loss / d W[l]   = (a[l-1]^T (s[l] d[l])) / s[l]                      product in float16, quotient in float32
        d loss / d b[l]   = sum_rows d[l]                                      float32
        d loss / d a[l-1] = ((s[l] d[l]) W[l]^T) / s[l]                        product in float16, quotient in float32

    The gradient of a sample has the size of its weight over the batch size, of which float16 would lose the small ones.
    A scale of the whole loss has to be found by overflow; here it follows from the gradient, at every layer: no entry
    of a^T (s d) exceeds max |a| sum_rows |s d| <= 2^8, and none of (s d) W^T exceeds 2^8 times the sum of |W| over the
    units. No scale has to be kept, and no step is lost. Sums over rows are float32, as float16 sums stop growing.

    Args:
        inputs: x, float32 [..., D].
        kernels: W of each layer, float32.
        biases: b of each layer, float32.

    Returns:
        The last a, [..., units], its float16 values in float32, so that the gradient comes in float32.

    Reference: Micikevicius et al. (2018), Mixed precision training, section 3.2, for the scale of the loss.
    """
    rows = tf.reshape(inputs, [-1, inputs.shape[-1]])  # [N, D]
    outputs = _tanh_layers(rows, *kernels, *biases)
    return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:-1], [kernels[-1].shape[-1]]], axis=0))


@tf.custom_gradient
def _tanh_layers(inputs, *weights):
    """[N, D] -> [N, units]; the weights are all kernels, then all biases."""
    kernels, biases = ([_half(w) for w in part] for part in _halves(weights))
    values = [_half(inputs)]
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
    """What the gradient [N, units] before a tanh is multiplied by, for its products with a [N, units below]; scalar."""
    total = tf.reduce_sum(tf.reduce_max(tf.abs(gradient), axis=-1))
    largest = tf.maximum(1.0, _single(tf.reduce_max(tf.abs(below))))
    return LARGEST_ROW / (largest * tf.maximum(total, 1e-30))  # a gradient of zeros stays one


def _halves(weights):
    return weights[: len(weights) // 2], weights[len(weights) // 2 :]


def _half(value):
    return tf.cast(value, tf.float16)


def _single(value):
    return tf.cast(value, tf.float32)
