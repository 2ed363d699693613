"""What a trial did, for the log, the run's folder, TensorBoard and reports."""
import abc
import dataclasses
from typing import Dict, Tuple


class Report(abc.ABC):
    """What a trial did.

    notes: sentences the user should read (a kernel that kept its last block).
    """

    notes: Tuple[str, ...] = ()

    @abc.abstractmethod
    def headline(self, target):
        """What the trial led to, in a few words."""

    @abc.abstractmethod
    def record(self):
        """JSON-ready, for trials.jsonl; reports plot numbers, {name: number} and, of
        {name: [low, high]}, the higher ones."""

    def units(self):
        """{what: unit} of the numbers in `record`, for the axes of their plots."""
        return {}

    def warning(self, ratio):
        """What is wrong with a trial that was to reach `ratio`; "" if nothing is."""
        return ""

    def scalars(self):
        """{name: number} for TensorBoard."""
        return {}

    def layers(self):
        """[{column: value}]: what became of each layer, for summary.json and reports.

        Values are text, numbers, None, `[low, high]` or `{"before": number, "after":
        number}`; a column `kernel` names the layer's variable.
        """
        return []

    def totals(self):
        """{name: value}: the same of all layers together."""
        return {}

    def densities(self):
        """The fraction of each kernel that is left, for a histogram; or none."""
        return []


@dataclasses.dataclass(frozen=True)
class TrialReport(Report):
    """What a trial removed.

    ratio: the fraction of the planned weights that is gone now.
    per_kernel: the same for each kernel, by name.
    """

    ratio: float
    per_kernel: Dict[str, float]
    notes: Tuple[str, ...] = ()

    def headline(self, target):
        return f"ratio {self.ratio:.4f} (target {target:g})"

    def record(self):
        return {"ratio": self.ratio, "per_kernel": self.per_kernel}

    def units(self):
        return dict.fromkeys(("ratio", "per_kernel"), "fraction removed")

    def warning(self, ratio):
        if ratio > 0 and self.ratio == 0:
            return f"removed nothing; its ratio {ratio:.4f} is less than one block"
        return ""

    def scalars(self):
        kernels = {f"kernels/{name}": gone for name, gone in self.per_kernel.items()}
        return {"ratio": self.ratio, **kernels}

    def layers(self):
        return [
            {"kernel": name, "ratio": gone} for name, gone in self.per_kernel.items()
        ]

    def totals(self):
        return {"ratio": self.ratio}

    def densities(self):
        return [1.0 - gone for gone in self.per_kernel.values()]
