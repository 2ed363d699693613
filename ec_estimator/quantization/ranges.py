"""What a quantizer's range is: while the model trains, and where it is served."""
import abc
import dataclasses
import re
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.devices import beside
from ec_estimator.core.replicas import replica_of
from ec_estimator.core.roles import runs_trials
from ec_estimator.core.state import SCOPE, create_variable
from ec_estimator.quantization.anchors import Anchors
from ec_estimator.quantization.constants import constant, shared, vector
from ec_estimator.quantization.lsq import (
    fake_quantize,
    fake_quantize_each,
    frozen_fake_quantize,
    frozen_step,
    range_of,
    trained_step,
)
from ec_estimator.quantization.scales import scales
from ec_estimator.rewrite.edges import observe_with

# Of each tensor's values, the last so many that were looked at are remembered, and so
# many are looked at in each step.
REMEMBERED, LOOKED_AT = 8192, 2048
# Neighbouring samples are so far apart; a prime, so that all channels get their share.
_STRIDE = 104729


class Step(NamedTuple):
    """A quantizer's variables.

    step: its step sizes, 0 before they are fitted; recent: of each copy of a tensor
    [REMEMBERED, steps or 1] of its values, [] for a kernel.
    """

    step: Any
    recent: Any


class Ranges(abc.ABC):
    """The quantizers of one graph: their variables, and what they have quantized.

    steps: {quantizer name: Step} of those that are in use.
    quantized: {quantizer name: the float tensors that are quantized with it}.

    Args:
      graph: the tf.Graph, which is the default; the model may be built already or not
        yet.
      placement: placement.Placement.
    """

    def __init__(self, graph, placement):
        self.graph = graph
        self.placement = placement
        self.quantized = {}
        self.steps = {}

    def _note(self, tensors, name):
        """Takes in what is quantized with a quantizer.

        Returns:
          Its Step.
        """
        self.quantized.setdefault(name, []).extend(tensors)
        if name not in self.steps:
            shape = self.placement.quantizers[name].shape
            step = create_variable(
                f"quantization/{name}/step", shape, tf.float32, 0, use_resource=True
            )
            self.steps[name] = Step(step, [])
        return self.steps[name]

    @abc.abstractmethod
    def quantize(self, tensors, name, reader):
        """Quantizes tensors.

        Args:
          tensors: list of float32 tensors; several have a step each.
          name: of their quantizer.
          reader: an op that will read what comes out.

        Returns:
          List of as many tensors of the same shapes.
        """


class TrainingRanges(Ranges):
    """With step sizes that are trained, and the memory of recent values at work.

    anchors: anchors.Anchors; has to know a layer before its tensors are quantized.
    reads: {quantizer name: its step sizes, read once for the whole graph}.
    gradients: {quantizer name: [gradient of that]}, one for each call of tf.gradients.
    """

    def __init__(self, graph, placement):
        super().__init__(graph, placement)
        self.anchors = Anchors()
        self.reads, self.gradients = {}, {}
        self._observed = {}

    def _create_recent(self, name, quantizer):
        """The memory of one more copy of a tensor."""
        copies = self.steps[name].recent
        suffix = f"_{len(copies)}" if copies else ""
        shape = [REMEMBERED // (quantizer.steps or 1), quantizer.steps or 1]
        recent = create_variable(
            f"quantization/{name}/recent{suffix}", shape, tf.float32, 0
        )
        copies.append(recent)
        return recent

    def quantize(self, tensors, name, reader):
        self._note(tensors, name)
        quantizer = self.placement.quantizers[name]
        replica = replica_of(reader)
        step = self._observed_step(name, tensors[0], replica)
        # A kernel's values are at hand whenever they are fitted.
        if not self._is_of_kernel(name):
            sample = _sample(tensors, REMEMBERED // (quantizer.steps or 1))
            # What the first replica sees of the data is as good as what others do.
            remember = [] if replica else self._remember(sample, name, quantizer)
            # Until a fit is made: the start that LSQ takes from the batch.
            axes = vector(0) if quantizer.steps else vector(0, 1)
            magnitude = tf.reduce_mean(tf.abs(sample), axes)
            fallback = magnitude * constant(float(2 / np.sqrt(quantizer.high)))
            with tf.control_dependencies(remember):
                fallback = tf.identity(fallback)
            step = trained_step(step, fallback)
        if len(tensors) == 1:
            return [fake_quantize(tensors[0], step, quantizer)]
        return fake_quantize_each(tensors, step, quantizer)

    def _remember(self, sample, name, quantizer):
        """Ops that add to a copy's memory; copies are not always computed in the same
        run."""
        recent = self._create_recent(name, quantizer)
        if not runs_trials(self.graph):
            return []
        begin = vector(sample.shape[0].value, 0)
        with beside(recent):
            kept = tf.slice(recent, begin, vector(-1, -1))
            joined = tf.concat([kept, sample], constant(0, tf.int32))
        return [recent.assign(joined)]

    def kernels_are_fitted(self):
        """bool tensor: whether the steps of all kernels are fitted."""
        fitted = [
            tf.reduce_all(self.steps[name].step > 0)
            for name in self.placement.quantizers
            if self._is_of_kernel(name)
        ]
        return tf.reduce_all(tf.convert_to_tensor(fitted, tf.bool))

    def _is_of_kernel(self, name):
        return name in self.placement.kernels or name.endswith("/winograd_kernel")

    def _observed_step(self, name, tensor, replica):
        """A quantizer's step sizes, outside of loops and branches, with their gradients
        observed.

        Args:
          tensor: the first that is quantized.
          replica: scope of the one that reads them. Each takes gradients of its own.
        """
        if (name, replica) not in self._observed:
            variable = self.steps[name].step
            # Without dependencies there is no loop nor branch either.
            with tf.control_dependencies(None), tf.name_scope(None):
                with tf.name_scope(scope_of(name)):
                    # The read that every variable comes with.
                    step = self.reads[name] = self.graph.as_graph_element(variable)
                    self._observed[name, replica] = observe_with(
                        self.anchors.of(name, tensor, replica),
                        # Kernels are fitted before a step is trained.
                        frozen_step(step) if self._is_of_kernel(name) else step,
                        self.gradients.setdefault(name, []).append,
                    )
        return self._observed[name, replica]


class ServingRanges(Ranges):
    """With the step sizes that training left; outside of loops, once a quantizer.

    What rewrite.serving asks for: `constants` and `describe`.

    layers: {op: placement.QuantizedLayer} of the graph; to be filled.
    """

    def __init__(self, graph, placement):
        super().__init__(graph, placement)
        self.layers = {}
        # {quantizer name: its Range}.
        self._frozen = {}

    def quantize(self, tensors, name, reader):
        state = self._note(tensors, name)
        quantizer = self.placement.quantizers[name]
        if name not in self._frozen:
            with tf.control_dependencies(None), tf.name_scope(None):
                with tf.name_scope(scope_of(name)):
                    with tf.control_dependencies([_check_fitted(name, state)]):
                        step = frozen_step(state.step)
                    step = tf.identity(step, "step_size")
                    self._frozen[name] = range_of(step, quantizer)
        limits = self._frozen[name]
        if len(tensors) == 1:
            return [frozen_fake_quantize(tensors[0], *limits, quantizer)]
        each = zip(*(tf.unstack(value, quantizer.steps) for value in limits))
        one = dataclasses.replace(quantizer, steps=0)
        return [frozen_fake_quantize(t, *v, one) for t, v in zip(tensors, each)]

    @property
    def constants(self):
        """The tensors that an export holds as constants."""
        return [tensor for limits in self._frozen.values() for tensor in limits]

    def describe(self, values):
        """Files that go beside an export.

        Args:
          values: {name of a tensor of `constants`: array}.
        """
        steps = {name: values[r.step.name] for name, r in self._frozen.items()}
        text = scales(self.layers, self.placement.quantizers, self.quantized, steps)
        return {"scales.json": text}


def _check_fitted(name, state):
    """Op that fails where a step size is 0, which no fit leaves: a checkpoint without
    step sizes, or from before the first fit, would be served with any range."""
    return tf.Assert(
        tf.reduce_all(state.step > 0),
        [
            f"quantization: the step size of {name!r} was never fitted; restore a "
            "checkpoint that a quantized run wrote after step 1, with all of "
            f"tf.global_variables() in the Saver ({state.step.op.name} is 0)"
        ],
    )


def scope_of(name):
    """The name scope of a quantizer's ops."""
    return f"{SCOPE}/quantization/{re.sub(r'[^A-Za-z0-9_./-]', '_', name)}/"


def _sample(tensors, rows):
    """Some values of each tensor, [so many, tensors], spread over it."""
    count = rows * LOOKED_AT // REMEMBERED
    columns = [_column(tensor, count) for tensor in tensors]
    return columns[0] if len(columns) == 1 else tf.concat(columns, 1)


def _column(tensor, count):
    flat = tf.reshape(tensor, vector(-1))
    size = tensor.shape.num_elements()
    where = shared(
        ("values looked at", size, count), lambda: tf.constant(_places(size, count))
    )
    if size is None:
        where = tf.floormod(where, tf.maximum(1, tf.size(flat)))
        # An empty tensor has no values to take.
        flat = _or_zero(flat)
    return tf.raw_ops.Gather(params=flat, indices=where)


def _places(size, count):
    """[count, 1], the places that are looked at of a tensor's values."""
    places = np.arange(count, dtype=np.int32)[:, None] * np.int32(_STRIDE)
    return places if size is None else places % max(1, size)


def _or_zero(flat):
    return tf.cond(tf.size(flat) > 0, lambda: flat, lambda: tf.zeros([1]))
