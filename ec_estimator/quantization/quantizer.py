"""Quantization-aware training: learned step sizes, re-fitted now and then."""
import dataclasses

import tensorflow.compat.v1 as tf

from ec_estimator.config import QuantizerConfig
from ec_estimator.core.compressor import Attached, Compressor
from ec_estimator.core.errors import ConfigError, PlanError
from ec_estimator.core.memory import recall, remember
from ec_estimator.graph.coverage import COMPRESSED
from ec_estimator.graph.decisions import Decisions
from ec_estimator.quantization.fits import Fits, check_finite, report
from ec_estimator.quantization.lsq import frozen_step
from ec_estimator.quantization.placement import place
from ec_estimator.quantization.pretrained import start_from
from ec_estimator.quantization.ranges import ServingRanges, TrainingRanges
from ec_estimator.quantization.rewire import Rewired
from ec_estimator.rewrite.kernels import to_matrix

# Relative change of a step size in a training step, where no optimizer of the user's
# trains it: Adam's own default.
RATE = 1e-3

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

    def __init__(self, config, model_dir=None):
        super().__init__(config)
        self.model_dir = model_dir

    def decide(self, model):
        trained = recall(model.graph, _TRAINED)
        if trained is None:
            return place(self.config, model)
        trained.check(self.config)
        placement = trained.placement
        taken = {layer.op for layer in placement.layers}
        return Decisions(
            [
                COMPRESSED if layer.op in taken else reason or trained.reason(layer.op)
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
        built = {v.op.name for v in graph.get_collection("variables")}
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

    def serve(self, graph, details):
        placement = details()
        with graph.as_default():
            ranges = ServingRanges(graph, placement)
            Rewired(graph, placement, ranges.quantize).rewire()
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
        self._gradients = {}
        with graph.as_default():
            self._ranges = TrainingRanges(graph, placement)
        self._rewired = Rewired(graph, placement, self._ranges.quantize)

    def check(self, config):
        """The hook's config must be that of quantize_graph."""
        for field in dataclasses.fields(config):
            mine, given = (getattr(c, field.name) for c in (self._config, config))
            if mine != given:
                raise ConfigError(
                    f"QuantizerConfig.{field.name}: LSQQuantizer has {given!r}, "
                    f"quantize_graph was given {mine!r}; give both the same config"
                )

    def reason(self, op):
        return "was left alone by quantize_graph"

    @property
    def gated(self):
        # Not to change their updates, but to learn who follows them.
        return frozenset(
            state.log_ratio.op.name for state in self._ranges.steps.values()
        )

    def rewire(self):
        with self._graph.as_default():
            self._rewired.rewire()

    def look(self, forward):
        if not forward.call:
            return
        self.rewire()
        # For an optimizer that trains other variables only, such as those of a scope.
        for state in self._ranges.steps.values():
            found = self._gradients.setdefault(state.log_ratio.op.name, [])
            forward.want(state.log_ratio, found.append)

    def _train_rest(self, names):
        """(ops that train the step sizes that no optimizer of the user's trains, names
        of those that nothing trains)."""
        pairs = [
            (tf.add_n(self._gradients[state.log_ratio.op.name]), state.log_ratio)
            for state in self._ranges.steps.values()
            if state.log_ratio.op.name in names
            and self._gradients.get(state.log_ratio.op.name)
        ]
        steps = []
        if pairs:
            with tf.name_scope("ec_estimator/quantization/optimizer/"):
                steps = [tf.train.AdamOptimizer(RATE).apply_gradients(pairs)]
        return steps, names - {variable.op.name for _, variable in pairs}

    def check_complete(self):
        """Raises a PlanError if a planned layer was not found."""
        missing = self._rewired.missing()
        if missing:
            raise PlanError(
                f"quantization: layer {missing[0]!r} of the graph that predicts was "
                "not found in the training graph when gradients were taken; build it "
                "under the same name, and take gradients with tf.gradients or "
                "tf.train.Optimizer"
            )

    def finish(self, trained):
        companions = trained.companions
        self.check_complete()
        if self._pretrained is not None:
            start_from(self._pretrained, trained.variables)
        every_step, untrained = self._train_rest(self.gated - set(companions))
        if untrained:
            tf.logging.warning(
                "quantization: no optimizer trains %d of %d step sizes (%s, ...): they "
                "are only fitted, at the trials; leave var_list away, or add what "
                "tf.trainable_variables('ec_estimator') returns.",
                len(untrained),
                len(self.gated),
                min(untrained),
            )
        self._summarize()
        with tf.name_scope("ec_estimator/quantization/trial_ops/"):
            self._new_trials = tf.placeholder(tf.int64, [])
            steps = self._ranges.steps
            variables = {v.op.name: v for v in self._graph.get_collection("variables")}
            kernels = {
                name: self._kernel_matrix(name, variables)
                for name in steps
                if steps[name].recent is None
            }
            tensors = {
                name: step.recent + 0
                for name, step in steps.items()
                if step.recent is not None
            }
            self._kernel_fits = Fits(self._ranges, kernels, companions).found
            self._tensor_fits = Fits(self._ranges, tensors, companions).found
            self._count = self.trial_counter.assign(self._new_trials)
        return every_step

    def _kernel_matrix(self, name, variables):
        """A kernel as [taps, channels], from its variables; or, for a Winograd
        convolution, what its transformed kernel is."""
        if name not in self.placement.kernels:
            return self._ranges.quantized[name][0]
        kernel = self.placement.kernels[name]
        parts = [variables[part] for part in kernel.parts]
        return to_matrix(kernel, parts if len(parts) > 1 else [parts[0] + 0])

    def _summarize(self):
        """TensorBoard: step size, range, and how much of a tensor is clipped."""
        with tf.name_scope(None), tf.name_scope("ec_estimator/quantization/summaries/"):
            for name, state in self._ranges.steps.items():
                quantizer = self.placement.quantizers[name]
                steps = frozen_step(state.fitted, state.log_ratio)
                step = tf.reduce_mean(steps)
                tag = f"compression/quantization/{name}"
                tf.summary.scalar(f"{tag}/step_size", step, family=None)
                tf.summary.scalar(f"{tag}/range", step * quantizer.high)
                if state.recent is not None:
                    clipped = tf.logical_or(
                        state.recent > steps * (quantizer.high + 0.5),
                        state.recent < steps * (quantizer.low - 0.5),
                    )
                    rate = tf.reduce_mean(tf.cast(clipped, tf.float32))
                    tf.summary.scalar(f"{tag}/clipping_rate", rate)

    def start(self, session):
        # Activations take their first steps from the first batch, in the graph.
        check_finite(session.run(self._kernel_fits))

    def run_trial(self, session, trial, ratio):
        # One run: TensorFlow prunes and optimizes the graph anew for another.
        found, _ = session.run(
            [{**self._kernel_fits, **self._tensor_fits}, self._count],
            {self._new_trials: trial},
        )
        check_finite(found)
        return report(found, list(self._tensor_fits))
