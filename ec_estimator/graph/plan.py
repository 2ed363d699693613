"""The Plan: which kernels each compressor takes, and why not the others. Data only."""
import collections
import dataclasses
from typing import Any, Dict, Tuple

from ec_estimator.core.errors import PlanError
from ec_estimator.core.state import is_state
from ec_estimator.graph.coverage import (
    COMPRESSED,
    Coverage,
    Others,
    coverage_of,
    other_variables,
)
from ec_estimator.graph.decisions import TRAINS_ONLY, Model, refusals
from ec_estimator.graph.layers import Kernel
from ec_estimator.graph.scopes import check_scopes


@dataclasses.dataclass(frozen=True)
class Plan:
    """mode: the mode that was surveyed; kernels: by name, all that any compressor
    changes; targets: {compressor name: names of the kernels it changes}; details:
    {compressor name: data of its own}; others: variables that are no layer's;
    restored: as graph.survey.Survey has it."""

    mode: str
    layers: Tuple[Coverage, ...]
    kernels: Dict[str, Kernel]
    targets: Dict[str, Tuple[str, ...]]
    details: Dict[str, Any]
    notes: Tuple[str, ...] = ()
    others: Others = Others({}, 0)
    restored: Dict[str, Tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def to_dict(self):
        """JSON-ready; what a run folder is checked against."""
        return {
            "mode": self.mode,
            "details": {
                name: details.digest()
                for name, details in self.details.items()
                if details is not None
            },
            "kernels": {
                name: {
                    "shape": list(kernel.shape),
                    "parts": list(kernel.parts),
                    "matrix_shape": list(kernel.matrix_shape),
                    "compressors": [c for c, t in self.targets.items() if name in t],
                }
                for name, kernel in self.kernels.items()
            },
        }

    def coverage_dict(self):
        return {
            "mode": self.mode,
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "others": dataclasses.asdict(self.others),
        }

    def compressed(self):
        """Names of the kernels of the layers that a compressor takes; those that are
        not in `kernels` it leaves as they are, such as a layer whose outputs go."""
        return {
            row.kernel
            for row in self.layers
            if row.kernel
            and any(why.startswith(COMPRESSED) for why in row.decisions.values())
        }

    def settled(self, name, details, left_alone, only_trained):
        """The plan with what a compressor made of it.

        Args:
          name: of the compressor; others: as core.compressor.Settled has them.
        """
        rows = tuple(
            dataclasses.replace(
                row, decisions={**row.decisions, name: left_alone[row.op]}
            )
            if row.op in left_alone
            else row
            for row in self.layers
        )
        rows += tuple(self._row_of_training(name, layer) for layer in only_trained)
        return dataclasses.replace(
            self, layers=rows, details={**self.details, name: details}
        )

    def _row_of_training(self, name, layer):
        """The row of a layer that a compressor leaves alone because it only trains;
        others may change its kernel for other layers' sake."""
        decisions = {compressor: TRAINS_ONLY for compressor in self.targets}
        for row in self.layers:
            if layer.kernel and row.kernel == layer.kernel.name:
                decisions = {**row.decisions, name: TRAINS_ONLY}
        if any(row.op == layer.op for row in self.layers):
            # The names of the two graphs are not the same layers'.
            layer = dataclasses.replace(layer, op=f"{layer.op} (training)")
        return coverage_of(layer, decisions)

    def bound(self, layers, untrained):
        """The plan as a training graph carries it out.

        Args:
          layers: [Layer] of the training graph; those that only it has are added to
            the coverage.
          untrained: {compressor name: names of variables that it would change, and
            that no op updates, such as those that an optimizer's var_list leaves out}.

        Raises:
          PlanError: that leaves a compressor nothing.
        """
        rows = tuple(self._without_untrained(row, untrained) for row in self.layers)
        targets = {
            name: tuple(
                kernel
                for kernel in kernels
                if untrained[name].isdisjoint(self.kernels[kernel].parts)
            )
            for name, kernels in self.targets.items()
        }
        for name, kernels in targets.items():
            if self.targets[name] and not kernels:
                _raise_nothing(name, self.mode, [row.decisions[name] for row in rows])
        return dataclasses.replace(
            self, layers=rows + self._only_trained(layers), targets=targets
        )

    def _without_untrained(self, row, untrained):
        """A row of the coverage, with what no op updates left alone."""
        parts = self.kernels[row.kernel].parts if row.kernel in self.kernels else ()
        return dataclasses.replace(
            row,
            decisions={
                name: f"its kernel {row.kernel!r} is not trained: no op updates it"
                if decision == COMPRESSED and not untrained[name].isdisjoint(parts)
                else decision
                for name, decision in row.decisions.items()
            },
        )

    def _only_trained(self, layers):
        """Rows of the layers that only the training graph has."""
        known = {row.op for row in self.layers} | {row.kernel for row in self.layers}
        return tuple(
            coverage_of(layer, {name: TRAINS_ONLY for name in self.targets})
            for layer in layers
            if layer.op not in known
            and f"{layer.op} (training)" not in known
            and not is_state(layer.op)
            and not (layer.kernel and layer.kernel.name in known)
        )


def make_plan(mode, graph, layers, outputs, compressors, losses=()):
    """Decides for every layer and compressor.

    Args:
      mode: name of the surveyed mode.
      graph: the tf.Graph the layers were found in.
      layers: [Layer] of that graph.
      outputs: tensors the model predicts; None if they are not known (a finished
        training graph), then every layer counts as served.
      compressors: [Compressor].
      losses: where the forward pass of a finished training graph ends.

    Raises:
      ConfigError: a scope that matches no layer.
      PlanError: a compressor finds nothing to compress.
    """
    reasons = refusals(graph, layers, outputs)
    model = Model(graph, layers, outputs, losses, reasons)
    decisions = {}
    for compressor in compressors:
        check_scopes(compressor.config, layers)
        decisions[compressor.name] = compressor.decide(model)
    rows = tuple(
        coverage_of(layer, {n: decided.layers[i] for n, decided in decisions.items()})
        for i, layer in enumerate(layers)
    )
    for name, decided in decisions.items():
        if not any(decision.startswith(COMPRESSED) for decision in decided.layers):
            _raise_nothing(name, mode, decided.layers)
    targets = {name: decided.kernels for name, decided in decisions.items()}
    taken = {kernel for kernels in targets.values() for kernel in kernels}
    kernels = {}
    for layer in layers:
        # A kernel that several layers read is viewed as the first one views it.
        if layer.kernel and layer.kernel.name in taken:
            kernels.setdefault(layer.kernel.name, layer.kernel)
    details = {name: decided.details for name, decided in decisions.items()}
    notes = tuple(
        f"{name}: {note}"
        for name, decided in decisions.items()
        for note in decided.notes
    )
    others = other_variables(graph, layers)
    return Plan(mode, rows, kernels, targets, details, notes, others)


def _raise_nothing(name, mode, decisions):
    if not decisions:
        raise PlanError(
            f"{name}: nothing to compress: the model's {mode!r} graph has no "
            "convolution or matrix product"
        )
    counts = collections.Counter(decisions)
    reasons = "; ".join(f"{count} x {why}" for why, count in counts.most_common(5))
    raise PlanError(
        f"{name}: nothing to compress in the {len(decisions)} layers of the model's "
        f"{mode!r} graph: {reasons}"
    )
