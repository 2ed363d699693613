"""Structured pruning: the channels that matter least stop being read."""
import dataclasses

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.channels.cost import has_unknown_positions, layer_use
from ec_estimator.channels.groups import find_channels
from ec_estimator.config import PrunerConfig
from ec_estimator.core.compressor import Compressor
from ec_estimator.graph.coverage import COMPRESSED
from ec_estimator.graph.decisions import TRAINS_ONLY, Decisions
from ec_estimator.graph.op_types import LAYER_OPS
from ec_estimator.graph.scopes import scope_reason
from ec_estimator.graph.walk import ancestors
from ec_estimator.pruning.candidates import make_groups
from ec_estimator.pruning.gates import Gates


class Pruner(Compressor):
    """Removes whole channels while training, the least important ones first.

    A channel is removed by zeroing what every kernel that reads it multiplies it with;
    that alone makes the network equal to one without the channel, whatever batch norm
    or activation lies between.

    Importance of a group of channels is the squared derivative of the loss with
    respect to a gate on it, (sum over all readers of sum W * dL/dW)^2, averaged over
    the steps with `ema_alpha`.

    Args:
      config: a PrunerConfig.

    Source: Molchanov et al. 2019, arXiv 1906.10771, equation 8.
    """

    name = "pruning"
    flag = "pruner"
    config_type = PrunerConfig

    def decide(self, model):
        channels = find_channels(model.graph, model.outputs or (), model.losses)
        kinds = {}
        for layer, reason in zip(model.layers, model.reasons):
            # Keras builds a model twice, and only one copy is served.
            if layer.kernel and reason != TRAINS_ONLY:
                why = reason or self._refusal(layer)
                for part in layer.kernel.parts:
                    kinds[part] = kinds.get(part) or why
        groups = make_groups(channels, lambda name: kinds.get(name) == "")
        ends = _ends(model)
        decisions = [
            reason or self._refusal(layer) or self._layer(layer, groups, ends)
            for layer, reason in zip(model.layers, model.reasons)
        ]
        readers = {
            layer.kernel.name
            for layer in model.layers
            if layer.kernel and _reads_any(layer.kernel, groups)
        }
        layers = tuple(
            layer_use(model.graph, layer, channels, decision)
            for layer, decision in zip(model.layers, decisions)
            if layer.kernel and decision != TRAINS_ONLY
        )
        if self.config.ratio_metric == "macs":
            _warn_of_unknown_sizes(model)
        groups = dataclasses.replace(groups, layers=layers)
        return Decisions(decisions, tuple(sorted(readers)), groups)

    def _refusal(self, layer):
        reason = scope_reason(self.config, layer)
        if reason or layer.op_type in self.config.prunable_op_types:
            return reason
        if layer.op_type == "DepthwiseConv2dNative":
            return "its channels are those of its input, and go with them"
        return f"{layer.op_type} is not in prunable_op_types"

    def _layer(self, layer, groups, ends):
        """COMPRESSED if output channels of the layer may go, or why none may."""
        channels = groups.channels
        made = [
            channels.axes[part][axis]
            for part in layer.kernel.parts
            for axis in channels.producers.get(part, ())
        ]
        if not made:
            return "its output channels were not found"
        made = np.unique(np.concatenate(made))
        if groups.selectable[made].any():
            return COMPRESSED
        frozen = [channels.frozen[g] for g in made if g in channels.frozen]
        if frozen and layer.op in ends:
            return "its output channels are the model's output"
        if frozen:
            return f"its output channels are frozen: {frozen[0]}"
        if not np.isin(made, channels.prunable()).any():
            return "nothing that could stop reads its output channels"
        return "its output channels are tied to those of a layer that is left alone"

    def inject(self, graph, kernels, details):
        return Gates(self.config, kernels, details)


def _ends(model):
    """Names of the layers whose output no other layer reads on its way out."""
    forward = ancestors(model.outputs or model.losses)
    feeding = ancestors(
        tensor for op in forward if op.type in LAYER_OPS for tensor in op.inputs
    )
    return {op.name for op in forward - feeding}


def _warn_of_unknown_sizes(model):
    unknown = [
        layer.op
        for layer in model.layers
        if layer.kernel
        and has_unknown_positions(
            model.graph.get_operation_by_name(layer.op), layer.kernel
        )
    ]
    if unknown:
        tf.logging.warning(
            "pruning: the spatial sizes of %s%s are not known before training, so "
            "ratio_metric='macs' counts these layers as if they had a single pixel; "
            "give the features static shapes, or use ratio_metric='params'",
            ", ".join(unknown[:5]),
            f" and {len(unknown) - 5} more layers" if len(unknown) > 5 else "",
        )


def _reads_any(kernel, groups):
    channels = groups.channels
    return any(
        groups.selectable[channels.axes[part][axis]].any()
        for part in kernel.parts
        for axis in channels.readers.get(part, ())
    )
