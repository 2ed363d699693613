"""Other update rules for step sizes, in the place of the package's, to compare with.

Each has adam.StepAdam's interface. Those that move a step size by a multiple of its
gradient get the gradient that LSQ scales; their rate is the user's.
"""
import contextlib
import functools
from unittest import mock

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.state import create_variable
from ec_estimator.quantization import lsq, quantizer, ranges

MOMENTUM = 0.9


class Fixed:
    """Step sizes stay as the trials fit them."""

    def __init__(self, steps):
        pass

    start = {}

    def update(self, reads, gradients):
        return []


class Sgd:
    """LSQ's own: v = 0.9 * v + dL/ds, s -= rate * v, and s stays above 0.

    One that is not fitted yet, which is 0, stays. A training step whose gradients are
    not finite changes nothing.

    Args:
      steps: {quantizer name: variable of its step sizes}.
      rate: callable() -> the learning rate, in the default graph.

    Source: Esser et al. 2020, arXiv 1902.08153, section 2.
    """

    def __init__(self, steps, rate):
        self._steps = steps
        self._rate = rate
        self._velocities = _slots(steps, "velocity")

    @property
    def start(self):
        """{variable: its value} where training begins, or begins anew."""
        return _zeros(self._velocities)

    def update(self, reads, gradients):
        """Ops that take a training step; the arguments are StepAdam.update's."""
        sums = {name: tf.add_n(found) for name, found in gradients.items() if found}
        if not sums:
            return []
        sizes = [tf.reduce_sum(tf.abs(gradient)) for gradient in sums.values()]
        is_good = tf.math.is_finite(tf.add_n(sizes))
        rate, ops = self._rate(), []
        for name, gradient in sums.items():
            step, velocity = reads[name], self._velocities[name]
            before = velocity.read_value()
            after = MOMENTUM * before + self._slope(step, gradient)
            after = tf.where(is_good, after, before)
            moved = tf.where(is_good, -rate * after, tf.zeros_like(after))
            change, others = self._change(name, step, moved)
            ops.extend(others)
            ops.append(velocity.assign(after, read_value=False))
            ops.append(self._steps[name].assign_add(change, read_value=False))
        return ops

    def _slope(self, step, gradient):
        """The gradient of what is moved."""
        return gradient

    def _change(self, name, step, moved):
        """What is added to the step sizes, and the ops that note it."""
        least = tf.minimum(step, lsq.SMALLEST_STEP)
        return tf.maximum(step + moved, least) - step, []


class LogSgd(Sgd):
    """The same for log s, which moves by about what LSQ's own moves s by, relatively:

        v = 0.9 * v + s * dL/ds / max(s^2, mean of s^2),  log s -= rate * v

    with the mean over the channels: a channel of weights next to nothing moves with
    them, and not away at once.
    """

    def _slope(self, step, gradient):
        square = tf.square(step)
        square = tf.maximum(square, tf.reduce_mean(square))
        return tf.math.divide_no_nan(step * gradient, square)

    def _change(self, name, step, moved):
        return step * tf.math.expm1(moved), []


class Bounded(LogSgd):
    """The same for r, with s = fitted * exp(tanh r): within a factor of e of its fit.

    A trial sets s to what it has fitted, and r to 0.
    """

    def __init__(self, steps, rate):
        super().__init__(steps, rate)
        self._ratios = _slots(steps, "log_ratio")

    @property
    def start(self):
        return {**super().start, **_zeros(self._ratios)}

    def _change(self, name, step, moved):
        ratio = self._ratios[name].read_value()
        before = tf.tanh(ratio)
        moved *= 1 - tf.square(before)
        after = tf.tanh(ratio + moved)
        ops = [self._ratios[name].assign_add(moved, read_value=False)]
        return step * tf.math.expm1(after - before), ops


def _slots(steps, slot):
    """A variable of zeros for each quantizer's step sizes."""
    return {
        name: create_variable(
            f"quantization/rule/{name}/{slot}",
            step.shape.as_list(),
            tf.float32,
            0,
            use_resource=True,
        )
        for name, step in steps.items()
    }


def _zeros(slots):
    return {v: np.zeros(v.shape.as_list(), np.float32) for v in slots.values()}


_OF_SGD = {"lsq": Sgd, "log_sgd": LogSgd, "bounded": Bounded}
# The package's own first.
RULES = ("log_adam", "fixed", *_OF_SGD)


@contextlib.contextmanager
def trained_by(rule, rate, batch):
    """While it is entered, training graphs move their step sizes by a rule.

    Args:
      rule: one of RULES.
      rate: callable() -> the user's learning rate, in the default graph.
      batch: examples in a training step.
    """
    with contextlib.ExitStack() as stack:
        if rule == "fixed":
            stack.enter_context(mock.patch.object(quantizer, "StepAdam", Fixed))
        elif rule in _OF_SGD:
            made = functools.partial(_OF_SGD[rule], rate=rate)
            scaled = functools.partial(_scaled, batch=batch)
            stack.enter_context(mock.patch.object(quantizer, "StepAdam", made))
            stack.enter_context(mock.patch.object(ranges, "fake_quantize", scaled))
        elif rule != "log_adam":
            raise ValueError(f"rule {rule!r} is none of {', '.join(RULES)}")
        yield


def _scaled(x, step, quantizer, batch):
    """lsq.fake_quantize with LSQ's gradient scale, 1 / sqrt(N * high): N is how many
    values one step quantizes, of activations those of one example."""
    count = tf.cast(tf.size(x), tf.float32) / (quantizer.steps or batch)
    scale = tf.math.rsqrt(tf.maximum(count, 1.0) * quantizer.high)
    scaled = step * scale
    scaled += tf.stop_gradient(step - scaled)
    return lsq.fake_quantize(x, scaled, quantizer)
