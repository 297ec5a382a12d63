"""The cheap backward pass of the paper: k samples forward, m of them, drawn by their weights, backward."""

import tensorflow as tf

from iwae_tf.objectives.objective import GradientWeights


def draw_backward_samples(weights: GradientWeights, uniforms: tf.Tensor) -> tuple[tf.Tensor, GradientWeights]:
    """Draws m of the k samples of every example, with rows that keep the mean of every weighted sum over the samples.

    Sample i is drawn with the probability r_i, the mean over the rows in use of |row_i| / sum_j |row_j|, and has
    row_i / (m r_i) as its new weight, so that the mean of sum over the drawn is the sum over all. For `iwae` r is the
    normalised weights and every new weight is 1/m, as in the paper. No new weight exceeds the number of rows times
    its row's sum over m. The m draws are stratified: draw j takes its uniform number from [j/m, (j+1)/m).

    Args:
        weights: rows of [k, B].
        uniforms: independent uniform numbers in [0, 1), [m, B].

    Returns:
        Indices of the samples drawn, int32 [m, B], and their rows, [m, B]; no `path_factor` where there was none.

    Reference: Burda, Grosse, Salakhutdinov (2016), section 3, for one sample drawn by the normalised weights.
    """
    num_drawn = uniforms.shape[0]
    rows = [row for row in weights[:3] if row is not None]
    shares = [tf.math.divide_no_nan(tf.abs(row), tf.reduce_sum(tf.abs(row), axis=0)) for row in rows]
    probabilities = tf.add_n(shares) / len(rows)  # [k, B]
    cumulative = tf.cumsum(probabilities, axis=0)
    strata = tf.range(num_drawn, dtype=uniforms.dtype)[:, None]
    points = (strata + uniforms) / num_drawn * cumulative[-1]  # [m, B]
    passed = tf.reduce_sum(tf.cast(cumulative[None] <= points[:, None], tf.int32), axis=1)  # [m, B]
    # A uniform number near 1 may be rounded up to the end of its stratum: never beyond the last sample to be drawn.
    drawn = tf.minimum(passed, tf.reduce_sum(tf.cast(cumulative < cumulative[-1], tf.int32), axis=0))
    expected_draws = num_drawn * gather_samples(probabilities, drawn)

    def reweighted(row):
        return None if row is None else tf.math.divide_no_nan(gather_samples(row, drawn), expected_draws)

    factor = None if weights.path_factor is None else gather_samples(weights.path_factor, drawn)
    return drawn, GradientWeights(*map(reweighted, weights[:3]), path_factor=factor)


def gather_samples(values: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Entries of values [k, B, ...] at samples drawn for every example, int [m, B] -> [m, B, ...]."""
    columns = tf.broadcast_to(tf.range(tf.shape(drawn)[1])[None], tf.shape(drawn))
    return tf.gather_nd(values, tf.stack([drawn, columns], axis=-1))
