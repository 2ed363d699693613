"""What compressors decide about a model's layers, and how most of them do it."""
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from ec_estimator.core.replicas import variables_of
from ec_estimator.graph.coverage import COMPRESSED
from ec_estimator.graph.layers import Layer
from ec_estimator.graph.scopes import scope_reason
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


def refusals(graph, layers, outputs):
    """Why no compressor can take a layer, for each one; "" if one can.

    Args:
      graph: the tf.Graph the layers were found in.
      layers: [Layer] of that graph.
      outputs: tensors the model predicts; None if they are not known.
    """
    served = None
    if outputs is not None:
        served = {op.name for op in ancestors(outputs)}
    trainable = {v.op.name for v in variables_of(graph, "trainable_variables")}
    reasons = [_refusal(layer, served, trainable) for layer in layers]
    return _without_embeddings(graph, layers, reasons)


def _refusal(layer, served, trainable):
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
    return Decisions(decisions, tuple(dict.fromkeys(taken)))
