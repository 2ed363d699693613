"""What a trial of the quantizers found: for the log, the run's folder, TensorBoard."""
import dataclasses
from typing import Any, Dict

import numpy as np

from ec_estimator.core.report import Report
from ec_estimator.quantization.placement import Placement


@dataclasses.dataclass(frozen=True)
class FitReport(Report):
    """What a trial did.

    found: {quantizer: its fitted step sizes, 0 where there was nothing but zeros}.
    chosen: the same as they were set, > 0.
    clipped: {quantizer of a tensor: share of its recent values outside of the range}.
    """

    placement: Placement
    found: Dict[str, Any]
    chosen: Dict[str, Any]
    clipped: Dict[str, float]
    notes: tuple = ()

    @property
    def steps(self):
        """{quantizer: [smallest, largest] step size that was found}."""
        return {
            name: [float(np.min(steps)), float(np.max(steps))]
            for name, steps in sorted(self.found.items())
        }

    @property
    def ranges(self):
        """{quantizer: [lowest, highest] value it can put out}, over its channels."""
        return {name: self._range(name) for name in sorted(self.chosen)}

    def headline(self, target):
        return f"{len(self.found)} step sizes fitted"

    def record(self):
        return {"steps": self.steps, "ranges": self.ranges, "clipped": self.clipped}

    def units(self):
        return {
            "steps": "largest step size",
            "ranges": "upper end",
            "clipped": "fraction of values",
        }

    def scalars(self):
        """Of each quantizer the mean step size and the range (its largest value), and
        of tensors how much of them is clipped."""
        curves = {}
        for name, steps in sorted(self.chosen.items()):
            step = float(np.mean(steps))
            curves[f"{name}/step_size"] = step
            curves[f"{name}/range"] = step * self.placement.quantizers[name].high
        for name, share in sorted(self.clipped.items()):
            curves[f"{name}/clipping_rate"] = share
        return curves

    def layers(self):
        """Of a product of two activations the larger number of bits, range and share; a
        kernel that layers share is held by the first of them."""
        rows, held = [], set()
        for layer in self.placement.layers:
            names = [operand.quantizer for operand in layer.activations]
            quantizers = [self.placement.quantizers[name] for name in names]
            row = {
                "layer": layer.op,
                "kernel": layer.kernel or None,
                "weight_bits": None,
                "activation_bits": max(q.bits for q in quantizers),
                "weight_range": None,
                "activation_range": _hull(self._range(name) for name in names),
                "clipped": max(self.clipped[name] for name in names),
                "bytes": None,
            }
            if layer.kernel:
                row["weight_bits"] = self.placement.quantizers[layer.kernel].bits
                row["weight_range"] = self._range(layer.kernel)
            if layer.kernel and layer.kernel not in held:
                row["bytes"] = self._bytes([layer.kernel])
                held.add(layer.kernel)
            rows.append(row)
        return rows

    def totals(self):
        return {
            "bytes": self._bytes(self.placement.kernels),
            "clipped": float(np.mean(list(self.clipped.values()))),
        }

    def _range(self, name):
        quantizer = self.placement.quantizers[name]
        step = float(np.max(self.chosen[name]))
        return [quantizer.low * step, quantizer.high * step]

    def _bytes(self, kernels):
        return dict(zip(("before", "after"), self.placement.bytes_of(kernels)))


def _hull(ranges):
    """The range that holds all of several."""
    lows, highs = zip(*ranges)
    return [min(lows), max(highs)]
