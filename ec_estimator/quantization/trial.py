"""A trial: every step size is set to that of least squared error."""
import dataclasses
from typing import Dict

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.compressor import Report
from ec_estimator.core.errors import CompressionError
from ec_estimator.quantization.fit import fit_binary, fit_steps

# Values that are fitted at once: a fit's temporaries are as large.
_AT_ONCE = 2**22


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


class Fits:
    """The ops that set step sizes to what fits current values best.

    Quantizers of the same integers and as many values a step are fitted together:
    hundreds of loops would take TensorFlow minutes to optimize.

    Args:
      rewired: rewire.Rewired whose variables exist.
      values: {quantizer name: its values, `[n, steps or 1]`, n known}.
      companions: {variable name: what follows it, such as an optimizer's slots}, each
        with `reset(mask)`.
    """

    def __init__(self, rewired, values, companions):
        self._rewired = rewired
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
            quantizer = self._rewired.placement.quantizers[name]
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
        quantizer = self._rewired.placement.quantizers[group[0][0]]
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
        state = self._rewired.steps[name]
        quantizer = self._rewired.placement.quantizers[name]
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
