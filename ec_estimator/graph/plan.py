"""The Plan: which kernels each compressor takes, and why not the others. Data only."""
import collections
import dataclasses
import difflib
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ec_estimator.core.errors import ConfigError, PlanError
from ec_estimator.core.state import is_state
from ec_estimator.graph.coverage import COMPRESSED, Coverage, coverage_of
from ec_estimator.graph.layers import Kernel, Layer
from ec_estimator.graph.walk import ancestors, is_looked_up

TRAINS_ONLY = "only trains: the predictions do not read it"


class Model(NamedTuple):
    """What compressors decide about.

    graph: the tf.Graph; layers: [Layer] found in it; outputs: the tensors it predicts,
    or None if they are not known; losses: tensors that a finished training graph's
    forward pass ends in; reasons: for each layer why no compressor can take it, "" if
    one can.
    """

    graph: Any
    layers: Sequence[Layer]
    outputs: Optional[Sequence[Any]]
    losses: Sequence[Any]
    reasons: Sequence[str]


class Decisions(NamedTuple):
    """A compressor's answer.

    layers: for each layer COMPRESSED or why not.
    kernels: names of the kernels whose values it changes.
    details: data of its own that it gets back when it is attached.
    notes: sentences for the coverage report.
    """

    layers: List[str]
    kernels: Tuple[str, ...]
    details: Any = None
    notes: Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """mode: the mode that was surveyed; kernels: by name, all that any compressor
    changes; targets: {compressor name: names of the kernels it changes}; details:
    {compressor name: data of its own}."""

    mode: str
    layers: Tuple[Coverage, ...]
    kernels: Dict[str, Kernel]
    targets: Dict[str, Tuple[str, ...]]
    details: Dict[str, Any]
    notes: Tuple[str, ...] = ()

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
        }

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
                _raise_nothing(name, [row.decisions[name] for row in rows])
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
    served = None
    if outputs is not None:
        served = {op.name for op in ancestors(outputs)}
    trainable = {v.op.name for v in graph.get_collection("trainable_variables")}
    reasons = [_model_reason(layer, served, trainable) for layer in layers]
    reasons = _without_embeddings(graph, layers, reasons)
    model = Model(graph, layers, outputs, losses, reasons)
    decisions = {}
    for compressor in compressors:
        _check_scopes(compressor.config, layers)
        decisions[compressor.name] = compressor.decide(model)
    rows = tuple(
        coverage_of(layer, {n: decided.layers[i] for n, decided in decisions.items()})
        for i, layer in enumerate(layers)
    )
    for name, decided in decisions.items():
        if not any(decision.startswith(COMPRESSED) for decision in decided.layers):
            _raise_nothing(name, decided.layers)
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
    return Plan(mode, rows, kernels, targets, details, notes)


def _unique(names):
    return tuple(collections.OrderedDict.fromkeys(names))


def _model_reason(layer, served, trainable):
    """Why no compressor can take the layer; "" if one can."""
    if not layer.kernel:
        return layer.reason
    if served is not None and layer.op not in served:
        return TRAINS_ONLY
    kernels_train = not trainable.isdisjoint(layer.kernel.parts)
    # `trainable=is_training` makes nothing trainable in the surveyed mode: then the
    # collection says nothing.
    if trainable and not kernels_train:
        return f"its kernel {layer.kernel.name!r} is not trainable"
    return ""


def _without_embeddings(graph, layers, reasons):
    """A table that is looked up stays dense, also where a layer multiplies with it."""

    tables = {
        part
        for part in {p for layer in layers if layer.kernel for p in layer.kernel.parts}
        if is_looked_up(graph.get_operation_by_name(part))
    }
    return [
        f"its kernel {layer.kernel.name!r} is an embedding table"
        if layer.kernel and not reason and not tables.isdisjoint(layer.kernel.parts)
        else reason
        for layer, reason in zip(layers, reasons)
    ]


def choose_layers(config, model, refusal):
    """Decides for each layer by itself.

    Args:
      config: has include_scopes and exclude_scopes.
      model: Model.
      refusal: callable(layer) -> why the compressor leaves such a layer alone, or "".

    Returns:
      For each layer COMPRESSED or why not.
    """
    decisions = []
    for layer, reason in zip(model.layers, model.reasons):
        reason = reason or scope_reason(config, layer) or refusal(layer)
        decisions.append(reason or COMPRESSED)
    return decisions


def take_kernels(layers, decisions):
    """Decisions for a compressor that changes the kernels of the layers it takes.

    The variable itself changes, so all layers that read it must agree.
    """
    spared = {
        layer.kernel.name: layer.op
        for layer, decision in zip(layers, decisions)
        if layer.kernel and decision not in (COMPRESSED, TRAINS_ONLY)
    }
    decisions = [
        f"shares its kernel with {spared[layer.kernel.name]!r}, which is left alone"
        if decision == COMPRESSED and layer.kernel.name in spared
        else decision
        for layer, decision in zip(layers, decisions)
    ]
    taken = (
        layer.kernel.name
        for layer, decision in zip(layers, decisions)
        if decision == COMPRESSED
    )
    return Decisions(decisions, _unique(taken))


def scope_reason(config, layer):
    """Why the config's scopes leave a layer out, or ""."""
    if config.include_scopes:
        if not any(_in_scope(layer, scope) for scope in config.include_scopes):
            return "is in none of include_scopes"
    for scope in config.exclude_scopes:
        if _in_scope(layer, scope):
            return f"is in exclude_scopes {scope!r}"
    return ""


def _in_scope(layer, scope):
    names = [layer.op] + ([layer.kernel.name] if layer.kernel else [])
    return any(name == scope or name.startswith(scope + "/") for name in names)


def _check_scopes(config, layers):
    for field in ("include_scopes", "exclude_scopes"):
        for scope in getattr(config, field):
            if not any(_in_scope(layer, scope) for layer in layers):
                known = _all_scopes(layers)
                nearest = difflib.get_close_matches(scope, known, 3, 0.3) or known[:3]
                raise ConfigError(
                    f"{type(config).__name__}.{field}: {scope!r} matches no layer; "
                    f"nearest: {', '.join(nearest)}"
                )


def _all_scopes(layers):
    scopes = []
    for layer in layers:
        for name in (layer.op, layer.kernel.name if layer.kernel else layer.op):
            pieces = name.split("/")
            scopes.extend("/".join(pieces[:n]) for n in range(1, len(pieces) + 1))
    return list(_unique(scopes))


def _raise_nothing(name, decisions):
    if not decisions:
        raise PlanError(
            f"{name}: nothing to compress: the model has no convolution or matrix "
            "product"
        )
    counts = collections.Counter(decisions)
    reasons = "; ".join(f"{count} x {why}" for why, count in counts.most_common(5))
    raise PlanError(
        f"{name}: nothing to compress in the model's {len(decisions)} layers: "
        f"{reasons}"
    )
