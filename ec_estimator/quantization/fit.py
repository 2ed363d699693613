"""Step sizes of least squared error, found in the graph."""
import tensorflow.compat.v1 as tf

# Steps that are tried: from the range down to a fraction of it, and then around the
# best of those.
_COARSE, _LEAST, _FINE = 24, 0.01, 16
_REFINEMENTS = 2


def fit_steps(x, low, high):
    """The step size of each column with the least squared rounding error.

    s = argmin sum (x - s * q)^2 with q = clip(round(x / s), low, high), halves rounded
    upwards: the best of 24 candidates, then of 16 around it, improved by alternating
    least squares, s = <x, q> / <q, q>. One pass over `x` a candidate, and temporaries
    of its size only.

    Args:
      x: `[n, channels]`, float32.
      low, high: the smallest and the largest integer, low <= 0 < high.

    Returns:
      `[channels]`; 0 where no value of a column can be told from 0 by any step; NaN
      where there is a NaN.
    """
    widest = tf.reduce_max(x, 0) / high
    if low < 0:
        widest = tf.maximum(widest, tf.reduce_min(x, 0) / low)
    # TensorFlow's maximum overlooks NaN.
    finite = tf.reduce_all(tf.is_finite(x), 0)
    widest = tf.where(finite, tf.maximum(widest, 0.0), widest * float("nan"))
    # In units of the widest step: squares of x itself could overflow or vanish.
    unit = tf.where(widest > 0, widest, tf.ones_like(widest))
    x = x / unit
    one = widest / unit

    def quantize(step):
        # Where the step is 0, all of x is, or is clipped to, 0.
        safe = tf.where(step > 0, step, tf.ones_like(step))
        return tf.clip_by_value(tf.floor(x / safe + 0.5), low, high)

    def better(step, best, error):
        candidate = tf.reduce_sum(tf.squared_difference(x, step * quantize(step)), 0)
        is_better = candidate < error
        return tf.where(is_better, step, best), tf.where(is_better, candidate, error)

    def search(first, factor, count, best, error):
        """Tries first, first * factor, ... in a loop, one after the other."""
        *_, best, error = tf.while_loop(
            lambda index, *_: index < count,
            lambda index, step, best, error: (
                index + 1,
                step * factor,
                *better(step, best, error),
            ),
            (0, first, best, error),
            parallel_iterations=1,
            back_prop=False,
        )
        return best, error

    factor = _LEAST ** (1.0 / (_COARSE - 1))
    worst = tf.fill(tf.shape(one), x.dtype.max)
    best, error = search(one, factor, _COARSE, one, worst)
    fine = factor ** (2.0 / (_FINE + 1))
    best, error = search(best / factor * fine, fine, _FINE, best, error)
    for _ in range(_REFINEMENTS):
        with tf.control_dependencies([best]):
            q = quantize(best)
            norm = tf.reduce_sum(tf.square(q), 0)
            step = tf.math.divide_no_nan(tf.reduce_sum(x * q, 0), norm)
            best, error = better(tf.where(step > 0, step, best), best, error)
    return best * unit


def fit_binary(x):
    """The step size of {-s, +s} with the least squared error: the mean of |x|.

    Args:
      x: `[n, channels]`, float32.

    Source: Rastegari et al. 2016, arXiv 1603.05279, equation 6.
    """
    return tf.reduce_mean(tf.abs(x), 0)
