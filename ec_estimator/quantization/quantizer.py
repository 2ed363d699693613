"""Quantization-aware training: learned step sizes, re-fitted now and then."""
import dataclasses

import tensorflow.compat.v1 as tf

from ec_estimator.config import QuantizerConfig
from ec_estimator.core.compressor import Attached, Compressor, EveryStep, Settled
from ec_estimator.core.errors import ConfigError, PlanError
from ec_estimator.core.memory import recall, remember
from ec_estimator.core.replicas import as_made, variables_of
from ec_estimator.graph.decisions import Decisions
from ec_estimator.quantization.adam import StepAdam
from ec_estimator.quantization.placement import read_placement
from ec_estimator.quantization.placing import coverage, place
from ec_estimator.quantization.pretrained import start_from
from ec_estimator.quantization.ranges import ServingRanges, TrainingRanges
from ec_estimator.quantization.rewire import Rewired
from ec_estimator.quantization.signs import is_never_negative
from ec_estimator.quantization.trials import Trials

# Why a product of the graph that predicts stays in float32 everywhere.
_OTHERWISE = (
    "is computed otherwise in training, from other layers or in another loop, so it is "
    "left alone in every mode"
)
# What a graph that quantize_graph has quantized for training remembers.
_TRAINED = "trained"


class LSQQuantizer(Compressor):
    """Trains with fake-quantized weights and activations, and their step sizes too.

    Args:
      config: a QuantizerConfig.
      model_dir: in Session mode the folder for what the run leaves, if the hook has no
        save_dir.

    Source: Esser et al. 2020, arXiv 1902.08153.
    """

    name = "quantization"
    flag = "quantizer"
    config_type = QuantizerConfig
    trials_to_serve = 1

    def __init__(self, config, model_dir=None):
        super().__init__(config)
        self.model_dir = model_dir

    def decide(self, model):
        trained = recall(model.graph, _TRAINED)
        if trained is None:
            return place(self.config, model)
        trained.check(self.config)
        placement = trained.placement
        taken = coverage(placement)
        return Decisions(
            [
                taken.get(layer.op) or reason or trained.reason(layer.op)
                for layer, reason in zip(model.layers, model.reasons)
            ],
            tuple(placement.kernels),
            placement,
        )

    def conflict(self, others):
        if self.config.wbits == 1 and others:
            return (
                "QuantizerConfig.wbits: weights at 1 bit are +s or -s and have no "
                "zero, so they can't be sparse, and what is removed would come back; "
                f"use 2 bits or more with a {type(others[0]).__name__}"
            )
        return ""

    def inject(self, graph, kernels, details):
        trained = recall(graph, _TRAINED)
        if trained is not None:
            return trained
        built = {v.op.name for v in variables_of(graph)}
        if not built.isdisjoint(part for kernel in kernels for part in kernel.parts):
            raise PlanError(
                "quantization: this graph is not quantized, and its gradients exist "
                "already; call quantize_graph(mode='train', ...) before the optimizer "
                "is built"
            )
        return _Trained(self.config, graph, details, self.config.pretrained_model)

    def quantize_forward(self, graph, placement):
        """Quantizes a forward pass that is complete, before its optimizer is built.

        Raises:
          PlanError: a planned layer is missing.
        """
        trained = _Trained(self.config, graph, placement)
        remember(graph, _TRAINED, trained)
        trained.rewire()
        trained.check_complete()

    def serve(self, graph, details, stored):
        return serve(graph, details() if stored is None else read_placement(stored))


def serve(graph, placement):
    """Quantizes a graph that evaluates or predicts.

    Returns:
      ranges.ServingRanges.

    Raises:
      PlanError: a planned layer is missing, or one is there that cannot be told from
        others.
    """
    with graph.as_default():
        ranges = ServingRanges(graph, placement)
        rewired = Rewired(graph, placement, ranges.quantize, ranges.layers.update)
        rewired.rewire()
    binding = rewired.binding
    # A PREDICT graph may have no layers: it looks up what others have computed.
    if binding.has_layers:
        check_found(binding, binding.missing(), "in this graph")
    return ranges


class _Trained(Attached):
    """The quantizers of a graph that trains.

    Args:
      pretrained: checkpoint that the model starts from when it is complete, or None.
    """

    def __init__(self, config, graph, placement, pretrained=None):
        super().__init__(LSQQuantizer.name)
        self._config = config
        self._graph = graph
        self.placement = placement
        self._pretrained = pretrained
        # Made when the model is built: before, they would shift the user's seeds.
        self._ranges, self._rewired = None, None
        self._left_alone = {}

    def check(self, config):
        """The hook's config must be that of quantize_graph."""
        for field in dataclasses.fields(config):
            mine, given = (getattr(c, field.name) for c in (self._config, config))
            if mine != given:
                raise ConfigError(
                    f"QuantizerConfig.{field.name}: LSQQuantizer has {given!r}, "
                    f"quantize_graph was given {mine!r}; give both the same config"
                )

    @property
    def gradients(self):
        """{quantizer name: [gradient of its step sizes]}; see ranges.TrainingRanges."""
        return self._ranges.gradients

    def reason(self, op):
        return "was left alone by quantize_graph"

    def rewire(self):
        with self._graph.as_default():
            if self._rewired is None:
                ranges = TrainingRanges(self._graph, self.placement)
                self._ranges = ranges
                self._rewired = Rewired(
                    self._graph, self.placement, ranges.quantize, self._find
                )
            self._rewired.rewire()

    def _find(self, layers):
        self._ranges.anchors.find(layers)
        if self._config.signed == "auto":
            for op, layer in layers.items():
                for operand in layer.activations:
                    tensor = op.inputs[operand.index]
                    _check_sign(tensor, self.placement.quantizers[operand.quantizer])

    def look(self, forward):
        if forward.call:
            self.rewire()

    def check_complete(self):
        """Leaves products alone that this graph does not have.

        Raises:
          PlanError: another planned layer, or an output, was not found.
        """
        if self._rewired is None:
            raise PlanError(
                "quantization: no gradient of a trainable variable was taken in the "
                "training graph; take gradients with tf.gradients or tf.train.Optimizer"
            )
        binding = self._rewired.binding
        missing = binding.missing()
        kinds = {layer.address.near for layer in binding.bound.values()}
        # Of several alike it is not known which one is missing.
        alone = [
            layer
            for layer in missing
            if not layer.kernel and layer.address.near not in kinds
        ]
        check_found(
            binding,
            [layer for layer in missing if layer not in alone],
            "when gradients were taken in the training graph",
        )
        self._left_alone = {layer.op: _OTHERWISE for layer in alone}
        self.placement = self._ranges.placement = self.placement.without(alone)
        self._rewired.follow(self.placement)
        unmade = sorted(set(self.placement.quantizers) - set(self._ranges.steps))
        if unmade:
            raise PlanError(
                f"quantization: {unmade[0]!r} quantizes a tensor of its own in the "
                "graph that predicts, and in training another layer reads that, too; "
                "build the same in every mode, or use exclude_scopes or fp32_layers"
            )

    def settle(self):
        self.check_complete()
        unplanned = self._rewired.binding.unplanned()
        return Settled(self.placement, self._left_alone, unplanned)

    def finish(self, trained):
        if self._pretrained is not None:
            start_from(self._pretrained, as_made(trained.variables, self._graph))
        variables = {v.op.name: v for v in variables_of(self._graph)}
        with tf.name_scope("ec_estimator/quantization/adam_ops/"):
            ranges = self._ranges
            adam = StepAdam(
                {name: ranges.steps[name].step for name in self.placement.quantizers}
            )
            update = adam.update(ranges.reads, ranges.gradients)
        self._trial_runs = Trials(ranges, variables, adam.start, self.trial_counter)
        return EveryStep(train_op=update)

    @property
    def served_variables(self):
        return [state.step for state in self._ranges.steps.values()]

    @property
    def started(self):
        # Made for those who wait for it alone.
        return self._ranges.kernels_are_fitted()

    def start(self, session):
        # Activations take their first steps from the first batch, in the graph.
        self._trial_runs.fit_kernels(session)

    def run_trial(self, session, trial, ratio):
        return self._trial_runs.run(session, trial)


def check_found(binding, missing, where):
    """Raises a PlanError if planned layers or outputs were not found."""
    for layer in missing:
        why = binding.why_missing(layer)
        what = f"of kernel {layer.kernel!r}" if layer.kernel else "of two activations"
        raise PlanError(
            f"quantization: layer {layer.op!r} ({layer.op_type} {what}) of the graph "
            f"that predicts was not found {where}{why and ': ' + why}; build the same "
            "layers in every mode, take gradients with tf.gradients or "
            "tf.train.Optimizer, or leave it out with exclude_scopes or fp32_layers"
        )
    for output in binding.missing_outputs():
        raise PlanError(
            f"quantization: tensor {output!r} of the graph that predicts, which "
            f"post_quant quantizes, was not found {where}; build it in every mode, or "
            "set post_quant=False"
        )


def _check_sign(tensor, quantizer):
    if quantizer.low == 0 and not is_never_negative(tensor):
        raise PlanError(
            f"quantization: {tensor.name!r} can be negative in training, and not in "
            "the graph that predicts, so that signed='auto' would clip it; set "
            "signed=True"
        )
