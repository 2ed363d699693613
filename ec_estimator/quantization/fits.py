"""Fits: the step sizes of least squared error, found on the host."""
import numpy as np

# Steps that are tried: from the range down to a fraction of it, and then around the
# best of those.
_COARSE, _LEAST, _FINE = 24, 0.01, 16
_REFINEMENTS = 2
# Values that are fitted at once, in whole columns: with its temporaries a block stays
# in a core's cache.
_AT_ONCE = 2**16


def fit_steps(x, low, high):
    """The step size of each column with the least squared rounding error.

    s = argmin sum (x - s * q)^2 with q = clip(round(x / s), low, high): the best of 24
    candidates, then of 16 around it, improved by alternating least squares,
    s = <x, q> / <q, q>. One pass over `x` a candidate; temporaries of a few columns'
    size.

    Args:
      x: `[n, channels]`, float32.
      low, high: the smallest and the largest integer, low <= 0 < high.

    Returns:
      `[channels]`, float32; 0 where no value of a column can be told from 0 by any
      step; NaN where there is NaN or infinity.
    """
    columns = np.asarray(x, np.float32).T
    found = np.zeros(len(columns), np.float32)
    if not columns.size:
        return found
    width = max(1, _AT_ONCE // columns.shape[1])
    # Of a column that is not finite nothing but its NaN is kept.
    with np.errstate(all="ignore"):
        for first in range(0, len(columns), width):
            part = slice(first, first + width)
            found[part] = _fit(np.array(columns[part], order="C"), low, high)
    return found


def _fit(x, low, high):
    """The same for `[channels, n]`, which it overwrites."""
    widest = _widest_step(x, low, high)
    # In units of the widest step: squares of x itself could overflow or vanish.
    x /= np.where(widest > 0, widest, 1)[:, None]
    if low == 0:
        # Any step rounds them to 0.
        np.maximum(x, 0, out=x)
    search = _Search(x, low, high)
    factor = _LEAST ** (1.0 / (_COARSE - 1))
    search.along(np.ones_like(widest), factor, _COARSE)
    fine = factor ** (2.0 / (_FINE + 1))
    search.along(search.best / factor * fine, fine, _FINE)
    for _ in range(_REFINEMENTS):
        search.refine()
    return np.where(widest > 0, search.best * widest, widest)


def _widest_step(x, low, high):
    """The step at which nothing of a row is clipped; NaN where it is not finite."""
    largest, least = x.max(1), x.min(1)
    widest = np.maximum(largest / np.float32(high), 0)
    if low < 0:
        widest = np.maximum(widest, least / np.float32(low))
    return np.where(np.isfinite(largest) & np.isfinite(least), widest, np.nan)


class _Search:
    """The best step of each row so far, and its squared error, made better.

    Args:
      x: `[channels, n]`, float32.
      low, high: the smallest and the largest integer.
    """

    def __init__(self, x, low, high):
        self._x = x
        self._low, self._high = np.float32(low), np.float32(high)
        self._ratio, self._q, self._above = (np.empty_like(x) for _ in range(3))
        self.best = np.ones(len(x), np.float32)
        self._error = np.full(len(x), np.inf, np.float32)

    def along(self, step, factor, count):
        """Tries step, step * factor, ..., one after the other."""
        for _ in range(count):
            self._try(step)
            step = step * np.float32(factor)

    def refine(self):
        """Tries the step that is best for the integers that the best one rounds to."""
        self._round(self.best)
        norm = _dots(self._q, self._q)
        step = _dots(self._x, self._q) / np.where(norm > 0, norm, 1)
        self._try(np.where(step > 0, step, self.best))

    def _try(self, step):
        self._round(step)
        rest = np.subtract(self._ratio, self._q, out=self._ratio)
        error = np.square(step) * _dots(rest, rest)
        is_better = error < self._error
        self.best = np.where(is_better, step, self.best)
        self._error = np.where(is_better, error, self._error)

    def _round(self, step):
        np.multiply(self._x, 1 / step[:, None], out=self._ratio)
        # Halves go to even numbers and not upwards: the error is the same.
        q, above = np.rint(self._ratio, out=self._q), self._above
        # clip(q) = (|q - low| - |q - high| + low + high) / 2, exact for integers. Of
        # NumPy's own functions, which branch, this takes a third of the time.
        np.abs(np.subtract(q, self._high, out=above), out=above)
        np.abs(np.subtract(q, self._low, out=q), out=q)
        q -= above
        q += self._low + self._high
        q *= np.float32(0.5)


def _dots(a, b):
    """The scalar products of two arrays' rows."""
    return np.einsum("ij,ij->i", a, b)


def rounded(x, steps, quantizer):
    """Columns as a quantizer with these steps has them, halves rounded upwards.

    Args:
      x: `[n, channels]`, float32.
      steps: `[channels]`, >= 0; where it is 0 so is the result.
      quantizer: lsq.Quantizer.
    """
    if quantizer.is_binary:
        return np.where(x >= 0, steps, -steps)
    q = np.floor(x / np.where(steps > 0, steps, 1) + np.float32(0.5))
    return np.clip(q, quantizer.low, quantizer.high) * steps


def fit_binary(x):
    """The step size of {-s, +s} with the least squared error: the mean of |x|.

    Args:
      x: `[n, channels]`, float32.

    Returns:
      `[channels]`, float32; NaN where there is NaN or infinity.

    Source: Rastegari et al. 2016, arXiv 1603.05279, equation 6.
    """
    x = np.asarray(x, np.float32)
    rows = max(1, _AT_ONCE // max(1, x.shape[1]))
    sums = np.zeros(x.shape[1], np.float64)
    for first in range(0, len(x), rows):
        sums += np.abs(x[first : first + rows]).sum(0, dtype=np.float64)
    means = (sums / max(1, len(x))).astype(np.float32)
    return np.where(np.isfinite(means), means, np.float32(np.nan))
