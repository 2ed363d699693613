"""Trials: values come to the host, are fitted there, and step sizes are set to that."""
import numpy as np

from ec_estimator.core.errors import CompressionError
from ec_estimator.graph.views import follow
from ec_estimator.quantization import winograd
from ec_estimator.quantization.fit_report import FitReport
from ec_estimator.quantization.fits import fit_binary, fit_steps, rounded
from ec_estimator.quantization.lsq import SMALLEST_STEP

# Bytes that are fetched at once; a kernel that is larger is fetched alone.
_FETCHED = 2**26


class Trials:
    """Fits the step sizes of a training graph's quantizers.

    What is fetched and what is written are few sets that stay the same: for a new one
    TensorFlow prunes and optimizes the whole graph. A variable is written by its
    initializer, with the value fed, so that a trial needs no ops of its own.

    Args:
      ranges: ranges.TrainingRanges.
      variables: {name: variable} with all that kernels are stored in.
      start: {variable: its value} of what trains step sizes, where training begins.
      counter: variable, the number of trials that were done.
    """

    def __init__(self, ranges, variables, start, counter):
        self._placement = ranges.placement
        self._steps = ranges.steps
        self._start = start
        self._counter = counter
        parts = {
            name: [variables[part] for part in kernel.parts]
            for name, kernel in self._placement.kernels.items()
        }
        self._kernels = list(_groups(parts))
        self._tensors = list(
            _groups({n: s.recent for n, s in self._steps.items() if s.recent})
        )

    def fit_kernels(self, session):
        """Fits kernels, whose values are at hand before anything was trained.

        Raises:
          CompressionError: one of them holds NaN or infinity.
        """
        found = self._fitted_kernels(session)
        self._write(session, self._defined(session, found), {})

    def run(self, session, trial):
        """Fits everything, and counts the trial.

        Returns:
          FitReport.

        Raises:
          CompressionError: a kernel or a tensor holds NaN or infinity; nothing was set.
        """
        found, clipped = self._fitted_kernels(session), {}
        for group in self._tensors:
            for name, copies in session.run(group).items():
                recent = np.concatenate(copies)
                quantizer = self._placement.quantizers[name]
                found[name] = _fit(name, recent, quantizer)
                clipped[name] = _clipped(recent, found[name], quantizer)
        steps = self._defined(session, found)
        self._write(session, steps, {self._counter: trial})
        return FitReport(
            self._placement,
            found,
            steps,
            clipped,
            tuple(
                f"{name} saw only zeros (or, unsigned, nothing above) and keeps its "
                "range"
                for name in clipped
                if not np.any(found[name])
            ),
        )

    def _fitted_kernels(self, session):
        """{quantizer name: steps} of kernels and of their Winograd forms."""
        found = {}
        for group in self._kernels:
            for name, parts in session.run(group).items():
                kernel = self._placement.kernels[name]
                quantizer = self._placement.quantizers[name]
                matrix = follow(kernel.view, np.concatenate(parts, kernel.axis))
                found[name] = _fit(name, matrix, quantizer)
                transformed = f"{name}/winograd_kernel"
                if transformed in self._steps:
                    # It is made of the kernel as it is quantized.
                    taps = self._taps(name, rounded(matrix, found[name], quantizer))
                    found[transformed] = _fit(
                        transformed,
                        winograd.transform_array(taps),
                        self._placement.quantizers[transformed],
                    )
        return found

    def _taps(self, name, matrix):
        """A kernel's matrix as the 3x3 convolution reads it, [3, 3, in, out]."""
        first = next(layer for layer in self._placement.layers if layer.kernel == name)
        if first.op_type in _TRANSPOSED:
            rows, columns = matrix.shape
            return matrix.reshape(3, 3, rows // 9, columns).transpose(0, 1, 3, 2)
        outputs = self._placement.quantizers[f"{name}/winograd_kernel"].steps
        return matrix.reshape(3, 3, -1, outputs // winograd.POSITIONS)

    def _defined(self, session, found):
        """Steps without zeros. Nothing but zeros says nothing: the step is kept, or a
        range of 1 taken."""
        if all(np.all(steps) for steps in found.values()):
            return found
        before = session.run({name: state.step for name, state in self._steps.items()})
        defined = {}
        for name, steps in found.items():
            one = np.float32(1 / self._placement.quantizers[name].high)
            default = np.where(before[name] > 0, before[name], one)
            defined[name] = np.where(steps == 0, default, steps)
        return defined

    def _write(self, session, steps, others):
        """Sets step sizes, has training begin anew from there, and sets others."""
        values = {**self._start, **others}
        for name, value in steps.items():
            values[self._steps[name].step] = np.maximum(value, SMALLEST_STEP)
        feeds = {v.initializer.inputs[1]: value for v, value in values.items()}
        session.run([v.initializer for v in values], feeds)


# A transposed convolution's kernel is [height, width, out, in].
_TRANSPOSED = ("Conv2DBackpropInput",)


def _groups(variables):
    """Divides {name: [variable]} into groups of _FETCHED bytes at most."""
    group, size = {}, 0
    for name, parts in variables.items():
        added = sum(v.shape.num_elements() * v.dtype.size for v in parts)
        if group and size + added > _FETCHED:
            yield group
            group, size = {}, 0
        group[name] = parts
        size += added
    if group:
        yield group


def _fit(name, matrix, quantizer):
    """The steps of `[n, steps or 1]`, of quantizer.shape."""
    if quantizer.is_binary:
        steps = fit_binary(matrix)
    else:
        steps = fit_steps(matrix, quantizer.low, quantizer.high)
    if not np.all(np.isfinite(steps)):
        raise CompressionError(
            f"quantization: {name!r} holds NaN or infinity at a trial: training has "
            "diverged; lower the learning rate or start from an earlier checkpoint"
        )
    return steps.reshape(quantizer.shape)


def _clipped(recent, steps, quantizer):
    """The share of a tensor's recent values that is outside of its range."""
    above = recent > steps * (quantizer.high + 0.5)
    below = recent < steps * (quantizer.low - 0.5)
    return float(np.mean(above | below))
