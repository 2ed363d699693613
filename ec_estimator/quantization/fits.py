"""Fits: every step size is set to that of least squared error, at the trials."""
import dataclasses
from typing import Dict

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.compressor import Report
from ec_estimator.core.errors import CompressionError

# Steps that are tried: from the range down to a fraction of it, and then around the
# best of those.
_COARSE, _LEAST, _FINE = 24, 0.01, 16
_REFINEMENTS = 2
# Values that are fitted at once: a fit's temporaries are as large.
_AT_ONCE = 2**22


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
    widest = _widest_step(x, low, high)
    # In units of the widest step: squares of x itself could overflow or vanish.
    unit = tf.where(widest > 0, widest, tf.ones_like(widest))
    x = x / unit
    one = widest / unit
    search = _Search(x, low, high)
    factor = _LEAST ** (1.0 / (_COARSE - 1))
    worst = tf.fill(tf.shape(one), x.dtype.max)
    best, error = search.along(one, factor, _COARSE, one, worst)
    fine = factor ** (2.0 / (_FINE + 1))
    best, error = search.along(best / factor * fine, fine, _FINE, best, error)
    for _ in range(_REFINEMENTS):
        best, error = search.refine(best, error)
    return best * unit


def _widest_step(x, low, high):
    """The step at which nothing of a column is clipped; NaN where there is a NaN."""
    widest = tf.reduce_max(x, 0) / high
    if low < 0:
        widest = tf.maximum(widest, tf.reduce_min(x, 0) / low)
    # TensorFlow's maximum overlooks NaN.
    finite = tf.reduce_all(tf.is_finite(x), 0)
    return tf.where(finite, tf.maximum(widest, 0.0), widest * float("nan"))


class _Search:
    """The best step of each column so far, and its squared error, made better.

    Args:
      x: `[n, channels]`, float32.
      low, high: the smallest and the largest integer.
    """

    def __init__(self, x, low, high):
        self._x = x
        self._low, self._high = low, high

    def along(self, first, factor, count, best, error):
        """Tries first, first * factor, ... in a loop, one after the other."""
        *_, best, error = tf.while_loop(
            lambda index, *_: index < count,
            lambda index, step, best, error: (
                index + 1,
                step * factor,
                *self._better(step, best, error),
            ),
            (0, first, best, error),
            parallel_iterations=1,
            back_prop=False,
        )
        return best, error

    def refine(self, best, error):
        """Tries the step that is best for the integers that `best` rounds to."""
        with tf.control_dependencies([best]):
            q = self._integers(best)
            norm = tf.reduce_sum(tf.square(q), 0)
            step = tf.math.divide_no_nan(tf.reduce_sum(self._x * q, 0), norm)
            return self._better(tf.where(step > 0, step, best), best, error)

    def _better(self, step, best, error):
        rounded = step * self._integers(step)
        candidate = tf.reduce_sum(tf.squared_difference(self._x, rounded), 0)
        is_better = candidate < error
        return tf.where(is_better, step, best), tf.where(is_better, candidate, error)

    def _integers(self, step):
        # Where the step is 0, all of x is, or is clipped to, 0.
        safe = tf.where(step > 0, step, tf.ones_like(step))
        rounded = tf.floor(self._x / safe + 0.5)
        return tf.clip_by_value(rounded, self._low, self._high)


def fit_binary(x):
    """The step size of {-s, +s} with the least squared error: the mean of |x|.

    Args:
      x: `[n, channels]`, float32.

    Source: Rastegari et al. 2016, arXiv 1603.05279, equation 6.
    """
    return tf.reduce_mean(tf.abs(x), 0)


class Fits:
    """The ops that set step sizes to what fits current values best.

    Quantizers of the same integers and as many values a step are fitted together:
    hundreds of loops would take TensorFlow minutes to optimize.

    Args:
      ranges: ranges.TrainingRanges.
      values: {quantizer name: its values, `[n, steps or 1]`, n known}.
      companions: {variable name: what follows it, such as an optimizer's slots}, each
        with `reset(mask)`.
    """

    def __init__(self, ranges, values, companions):
        self._ranges = ranges
        self._companions = companions
        self._found, last = {}, []
        for names in self._groups(values):
            # One after the other, so that temporaries don't add up.
            with tf.control_dependencies(last):
                last = self._fit([(name, values[name]) for name in names])

    @property
    def found(self):
        """{quantizer name: step sizes}; fetching them sets them."""
        return self._found

    def _groups(self, values):
        """Lists of quantizer names that one fit serves."""
        open_groups = {}
        for name, x in values.items():
            quantizer = self._ranges.placement.quantizers[name]
            rows, columns = x.shape.as_list()
            key = (quantizer.low, quantizer.high, quantizer.is_binary, rows)
            names, size = open_groups.get(key, ([], 0))
            if names and size + rows * columns > _AT_ONCE:
                yield names
                names, size = [], 0
            open_groups[key] = (names + [name], size + rows * columns)
        for names, _ in open_groups.values():
            yield names

    def _fit(self, group):
        """Fits [(name, values)]; the ops after which all of it is done."""
        columns = [x.shape[1].value for _, x in group]
        x = tf.concat([x for _, x in group], 1)
        quantizer = self._ranges.placement.quantizers[group[0][0]]
        if quantizer.is_binary:
            fitted = fit_binary(x)
        else:
            fitted = fit_steps(x, quantizer.low, quantizer.high)
        done = []
        for (name, _), steps in zip(group, tf.split(fitted, columns)):
            self._found[name], finished = self._set(name, steps)
            done.append(finished)
        return done

    def _set(self, name, fitted):
        """(the step sizes that were found, op that has set them)."""
        state = self._ranges.steps[name]
        quantizer = self._ranges.placement.quantizers[name]
        fitted = tf.reshape(fitted, quantizer.shape)
        # Nothing but zeros says nothing: keep the step, or take a range of 1.
        default = tf.where(
            state.fitted > 0, state.fitted, tf.fill(quantizer.shape, 1 / quantizer.high)
        )
        new = tf.where(tf.equal(fitted, 0), default, fitted)
        mask = tf.zeros(quantizer.shape)
        resets = [
            follower.reset(mask)
            for follower in self._companions.get(state.log_ratio.op.name, [])
        ]
        with tf.control_dependencies([new]):
            resets += [state.fitted.assign(new), state.log_ratio.assign(mask)]
        with tf.control_dependencies(resets):
            return tf.identity(fitted), tf.no_op()


@dataclasses.dataclass(frozen=True)
class FitReport(Report):
    """What a trial did.

    steps: {quantizer: [smallest, largest] step size that was found}.
    """

    steps: Dict[str, list]
    notes: tuple = ()

    def headline(self, target):
        return f"{len(self.steps)} step sizes fitted"

    def record(self):
        return {"steps": self.steps}


def check_finite(found):
    """Raises a CompressionError for step sizes, {quantizer name: array}, of NaN."""
    for name, steps in found.items():
        if not np.all(np.isfinite(steps)):
            raise CompressionError(
                f"quantization: {name!r} holds NaN or infinity at a trial: training "
                "has diverged; lower the learning rate or start from an earlier "
                "checkpoint"
            )


def report(found, tensors):
    """FitReport of a trial.

    Args:
      found: {quantizer name: array of step sizes}.
      tensors: names of those that quantize activations.
    """
    return FitReport(
        {
            name: [float(np.min(steps)), float(np.max(steps))]
            for name, steps in sorted(found.items())
        },
        tuple(
            f"{name} saw only zeros (or, unsigned, nothing above) and keeps its range"
            for name in tensors
            if not np.any(found[name])
        ),
    )
