"""Layers that MNN has no integers for, with the values that they were trained with.

They compute in float with what rounding leaves of their operands: the maximum, the
minimum, the multiplications and the floor that stand for it have no integers in MNN.
"""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.graph.layers import output_axes
from ec_estimator.graph.op_types import ENTERS, SWITCHES
from ec_estimator.graph.walk import ancestors


class Rounder:
    """Puts rounding into a graph, once for a tensor and its scale.

    Args:
      session: tf.Session; its graph is changed.
      scales: {quantizer name: frozen_model.Scale}.
    """

    def __init__(self, session, scales):
        self._session, self._scales = session, scales
        # {(tensor, quantizer name): what it is rounded to}, and the ops that read it.
        self._made, self._clips = {}, set()

    def operands(self, layers, rounded_kernel):
        """Rounds what layers read, but in loops and branches.

        Args:
          layers: {op: quantization.placement.QuantizedLayer}.
          rounded_kernel: callable(kernel, axes of output channels, Scale) -> kernel.
        """
        layers = {op: la for op, la in layers.items() if not _is_in_a_loop(op)}
        weighted = {op: la.weights for op, la in layers.items() if la.weights}
        # Before the graph is changed.
        kernels = self._session.run([op.inputs[w.index] for op, w in weighted.items()])
        for (op, weights), kernel in zip(weighted.items(), kernels):
            axes = output_axes(op, weights.index)
            kernel = rounded_kernel(kernel, axes, self._scales[weights.quantizer])
            with op.graph.as_default(), _scope(op):
                tf_private.replace_input(op, weights.index, tf.constant(kernel))
        for op, layer in layers.items():
            for operand in layer.activations:
                rounded = self._rounded(op.inputs[operand.index], operand.quantizer)
                tf_private.replace_input(op, operand.index, rounded)

    def outputs(self, outputs, layers):
        """Has all but some layers read tensors rounded.

        Args:
          outputs: {tensor: quantizer name}.
          layers: ops that round what they read themselves.
        """
        for tensor, quantizer in outputs.items():
            # Rounding that is there already reads the tensor as it is.
            readers = [
                op for op in tensor.consumers() if op not in layers | self._clips
            ]
            if not readers or _is_in_a_loop(tensor.op):
                continue
            rounded = self._rounded(tensor, quantizer)
            for reader in readers:
                for index, read in enumerate(reader.inputs):
                    if read is tensor:
                        tf_private.replace_input(reader, index, rounded)

    def _rounded(self, tensor, quantizer):
        key = tensor, quantizer
        if key not in self._made:
            with tensor.graph.as_default(), _scope(tensor.op):
                clip, self._made[key] = _rounded(tensor, self._scales[quantizer])
            self._clips.add(clip.op)
        return self._made[key]


def _is_in_a_loop(op):
    sources = ancestors(list(op.inputs))
    return any(source.type in (*ENTERS, *SWITCHES) for source in sources)


def _scope(op):
    return tf.name_scope(f"{op.name}/rounded/")


def _rounded(tensor, scale):
    """(the op that reads it first, as a tensor, the result)."""
    step = np.float32(scale.steps)
    # The maximum comes first: MNN hands integers on to no maximum.
    clip = tf.maximum(tensor, step * scale.low)
    clipped = tf.minimum(clip, step * scale.high)
    rounded = tf.floor(clipped * (1 / step) + np.float32(0.5)) * step
    rounded.set_shape(tensor.shape)
    return clip, rounded
