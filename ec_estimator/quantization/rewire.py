"""Puts quantizers into a graph: one implementation for every mode and both ways in."""
import dataclasses
import re
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import PlanError
from ec_estimator.core.state import SCOPE, create_variable, is_state
from ec_estimator.graph.layers import (
    find_layers,
    kernel_index,
    matrix_view,
    output_axes,
)
from ec_estimator.graph.op_types import ENTERS, SHAPE_OPS, VARIABLE_OPS
from ec_estimator.graph.walk import descendants
from ec_estimator.quantization import winograd
from ec_estimator.quantization.lsq import (
    Range,
    fake_quantize,
    frozen_fake_quantize,
    frozen_step,
    range_of,
    trained_step,
)
from ec_estimator.quantization.placement import (
    data_index,
    source_of,
)
from ec_estimator.quantization.scales import scales
from ec_estimator.rewrite.kernels import follow, go_back

# Of each tensor's values, the last so many that were looked at are remembered, and so
# many are looked at in each step.
REMEMBERED, LOOKED_AT = 8192, 2048
# Neighbouring samples are so far apart; a prime, so that all channels get their share.
_STRIDE = 104729


class Step(NamedTuple):
    """A quantizer's variables.

    fitted: what the last fit found; log_ratio: how far training has moved it;
    recent: [REMEMBERED, steps or 1] values of a tensor, None for a kernel.
    """

    fitted: Any
    log_ratio: Any
    recent: Any


class Rewired:
    """The quantizers of one graph.

    Args:
      graph: tf.Graph; its variables may exist already or not yet.
      placement: placement.Placement.
    """

    def __init__(self, graph, placement):
        self.graph = graph
        self.placement = placement
        self.steps = {}
        # {quantizer name: the float tensors that are quantized with it}.
        self.quantized = {}
        # {quantizer name: its Range}, where it is frozen.
        self.frozen = {}
        # {(float tensor, quantizer name): quantized tensor}, and, of activations and
        # kernels alike, the first of a float tensor and the way back.
        self._done, self._first, self._originals = {}, {}, {}
        # {op name in the plan: its op in this graph, which reads quantized tensors}.
        self._rewired = {}
        self._computed = frozenset()

    def create_variables(self, training):
        """Makes the state. While training before the model is built, so that the step
        sizes are among the variables that an optimizer finds.

        Args:
          training: whether recent values are remembered.
        """
        for name, quantizer in self.placement.quantizers.items():
            prefix = f"quantization/{name}"
            recent = None
            if training and self._is_sampled(name):
                shape = [REMEMBERED, quantizer.steps or 1]
                if quantizer.steps:
                    shape[0] //= quantizer.steps
                recent = create_variable(f"{prefix}/recent", shape, tf.float32, 0)
            self.steps[name] = Step(
                create_variable(f"{prefix}/step", quantizer.shape, tf.float32, 0),
                create_variable(
                    f"{prefix}/log_ratio",
                    quantizer.shape,
                    tf.float32,
                    0,
                    trainable=True,
                ),
                recent,
            )
        return self

    def _is_sampled(self, name):
        return name not in self.placement.kernels and not name.endswith(
            "/winograd_kernel"
        )

    def rewire(self, quantize):
        """Has every planned layer of the graph, as far as it is built, read quantized
        tensors. May be called again when more has been built.

        Args:
          quantize: callable(Rewired, quantizer name, tensors) -> quantized tensors;
            several tensors have a step each.

        Raises:
          PlanError: a planned tensor is not in the graph.
        """
        self._quantize = quantize
        # What a variable of the user's has a part in, before quantizers are there.
        self._computed = descendants(
            op
            for op in self.graph.get_operations()
            if op.type in VARIABLE_OPS and not is_state(op.name)
        )
        ops = self._match()
        for layer in self.placement.layers:
            op = ops.get(layer.op)
            if op is None:
                continue
            for operand in self._operands(op, layer):
                self._quantize_activation(op, *operand)
            if layer.op in self._rewired:
                continue
            if layer.weights is not None:
                self._quantize_kernel(op, layer)
            if layer.winograd:
                self._to_winograd(op, layer)
            self._rewired[layer.op] = op
        for name, quantizer in self.placement.outputs.items():
            self._quantize_tensor(self._tensor(name), quantizer, None)

    def missing(self):
        """Names of planned layers that were not found so far."""
        return [
            layer.op for layer in self.placement.layers if layer.op not in self._rewired
        ]

    def _match(self):
        """{op name in the plan: op of this graph}.

        The same name, or else the same kernel at the same turn: dropout or summaries
        may have moved the numbers in names. A layer that is rewired is not looked for
        again: a quantizer is before its kernel.
        """
        if not self.missing():
            return dict(self._rewired)
        by_name = {op.name: op for op in self.graph.get_operations()}
        backward = {op for op in by_name.values() if tf_private.forward_op(op)}
        found, taken = dict(self._rewired), set(self._rewired.values())
        readers = {}
        for layer in self.placement.layers:
            if layer.op in found:
                readers.setdefault(layer.kernel, []).append(found[layer.op])
        for layer in find_layers(self.graph, backward):
            op = by_name.get(layer.op)
            if layer.kernel and op and op not in taken:
                readers.setdefault(layer.kernel.name, []).append(op)
        for layer in self.placement.layers:
            if layer.op in found:
                continue
            mine = readers.get(layer.kernel, [])
            op = by_name.get(layer.op)
            if op in taken or (layer.kernel and op not in mine):
                op = mine[layer.position] if layer.position < len(mine) else None
            if op and op not in taken and op.type == layer.op_type:
                found[layer.op] = op
                taken.add(op)
        return found

    def _operands(self, op, layer):
        for operand in layer.activations:
            index = operand.index
            if layer.op not in self._rewired and layer.kernel:
                kernel = self.placement.kernels[layer.kernel]
                index = data_index(op, kernel_index(op, kernel))
            yield index, operand.quantizer

    def _tensor(self, name):
        try:
            return self.graph.get_tensor_by_name(name)
        except KeyError:
            raise PlanError(
                f"tensor {name!r} of the graph that predicts, whose values are "
                "quantized by post_quant, is not in this graph; build it under the "
                "same name in every mode, or set post_quant=False"
            ) from None

    def _quantize_activation(self, op, index, name):
        tensor, reader = source_of(op.inputs[index])
        if _is_ours(tensor.op):
            tensor = self._originals.get(tensor, tensor)
        only = None
        # What of ours stands for no other tensor is a Winograd convolution's.
        if tensor.op not in self._computed and not _is_ours(tensor.op):
            # A model's input may be read by what is no part of the network, such as
            # the loss of an autoencoder.
            only = reader or (op, index)
        self._quantize_tensor(tensor, name, only)

    def _quantize_tensor(self, tensor, name, only):
        """Quantizes a tensor once, and has its readers, or one of them, read that."""
        quantized = self._first.get(tensor)
        if quantized is None:
            with tf_private.context_of_outputs(tensor.op), tf.name_scope(None):
                with tf.name_scope(_scope(name)):
                    [quantized] = self.fake_quantize([tensor], name)
                    quantized.set_shape(tensor.shape)
            self._remember(tensor, name, quantized)
        readers = [only] if only else _readers(tensor)
        for op, index in readers:
            tf_private.replace_input(op, index, quantized)

    def _remember(self, tensor, name, quantized):
        self._done[(tensor, name)] = quantized
        self._first.setdefault(tensor, quantized)
        self._originals.setdefault(quantized, tensor)

    def fake_quantize(self, tensors, name):
        """Quantizes tensors; several have a step each."""
        self.quantized.setdefault(name, []).extend(tensors)
        return self._quantize(self, name, tensors)

    @property
    def constants(self):
        """The tensors that an export holds as constants."""
        return [tensor for limits in self.frozen.values() for tensor in limits]

    def describe(self, values):
        """Files that go beside an export.

        Args:
          values: {name of a tensor of `constants`: array}.
        """
        steps = {name: values[r.step.name] for name, r in self.frozen.items()}
        return {"scales.json": scales(self, steps)}

    def _quantize_kernel(self, op, layer):
        kernel = self.placement.kernels[layer.kernel]
        index = kernel_index(op, kernel)
        reader = (op, index)
        tensor = op.inputs[index]
        # Once, not in every turn of a loop.
        while tensor.op.type in ENTERS:
            reader, tensor = (tensor.op, 0), tensor.op.inputs[0]
        key = (tensor, layer.kernel)
        if key not in self._done:
            with tf_private.context_of_outputs(tensor.op), tf.name_scope(None):
                with tf.name_scope(_scope(layer.kernel)):
                    quantized = self._kernel(tensor, op, index, layer.kernel)
            self._remember(tensor, layer.kernel, quantized)
        tf_private.replace_input(*reader, self._done[key])

    def _kernel(self, tensor, op, index, name):
        """Quantizes a kernel that comes in at an op's input; its channels may be on any
        axes."""
        if output_axes(op, index) == (tensor.shape.rank - 1,):
            return self.fake_quantize([tensor], name)[0]
        view = matrix_view(op, index)
        [matrix] = self.fake_quantize([follow(view, tensor)], name)
        return go_back(view, matrix, tensor.shape.as_list())

    def _to_winograd(self, op, layer):
        """Has a convolution's readers read its Winograd form."""
        output = op.outputs[0]
        readers = _readers(output)
        name = layer.kernel
        with tf_private.context_of_outputs(op), tf.name_scope(None):
            with tf.name_scope(_scope(f"{name}/winograd")):
                result = winograd.convolve(
                    op.inputs[0],
                    op.inputs[1],
                    op.get_attr("padding").decode(),
                    lambda tiles: self.fake_quantize(tiles, f"{name}/winograd_input"),
                    lambda matrix: self.fake_quantize(
                        [matrix], f"{name}/winograd_kernel"
                    )[0],
                )
        for reader, index in readers:
            tf_private.replace_input(reader, index, result)


def _scope(name):
    return f"{SCOPE}/quantization/{re.sub(r'[^A-Za-z0-9_./-]', '_', name)}/"


def _is_ours(op):
    return op.name.startswith(f"{SCOPE}/quantization/")


def _readers(tensor):
    """(op, index) of the forward pass that reads a tensor's values."""
    return [
        (op, index)
        for op in dict.fromkeys(tensor.consumers())
        if not _is_ours(op)
        and tf_private.forward_op(op) is None
        and op.type not in SHAPE_OPS
        for index, read in enumerate(op.inputs)
        if read is tensor
    ]


def quantize_training(rewired, name, tensors):
    """With a step size that is trained, and the memory of recent values at work."""
    state = rewired.steps[name]
    quantizer = rewired.placement.quantizers[name]
    elements = tf.cast(tf.size(tensors[0]), tf.float32)
    if state.recent is None:
        fallback = tf.constant(0.0)
    else:
        sample = _sample(tensors, state.recent.shape[0].value)
        remember = state.recent.assign(
            tf.concat([state.recent[tf.shape(sample)[0] :], sample], 0)
        )
        if not quantizer.steps:
            batch = tf.maximum(1, tf.shape(tensors[0])[0])
            elements /= tf.cast(batch, tf.float32)
        # Until a fit is made: the start that LSQ takes from the batch.
        fallback = 2 * tf.reduce_mean(tf.abs(sample), 0) / np.sqrt(quantizer.high)
        fallback = tf.reshape(fallback, quantizer.shape)
        with tf.control_dependencies([remember]):
            fallback = tf.identity(fallback)
    step = trained_step(state.fitted, state.log_ratio, fallback, elements, quantizer)
    return _quantize(fake_quantize, tensors, range_of(step, quantizer), quantizer)


def _quantize(op, tensors, limits, quantizer):
    if len(tensors) == 1:
        return [op(tensors[0], limits, quantizer)]
    one = dataclasses.replace(quantizer, steps=0)
    each = zip(*(tf.unstack(value, quantizer.steps) for value in limits))
    return [op(t, Range(*values), one) for t, values in zip(tensors, each)]


def _sample(tensors, rows):
    """Some values of each tensor, [so many, tensors], spread over it."""
    count = rows * LOOKED_AT // REMEMBERED
    columns = []
    for tensor in tensors:
        flat = tf.reshape(tf.stop_gradient(tensor), [-1])
        size = tf.maximum(1, tf.size(flat))
        # An empty tensor has no values to take.
        if tensor.shape.num_elements() is None:
            flat = _or_zero(flat)
        where = tf.floormod(tf.range(count) * _STRIDE, size)
        columns.append(tf.gather(flat, where))
    return tf.stack(columns, 1)


def _or_zero(flat):
    return tf.cond(tf.size(flat) > 0, lambda: flat, lambda: tf.zeros([1]))


def quantize_serving(rewired, name, tensors):
    """With the step size that training left; outside of loops, once a quantizer."""
    quantizer = rewired.placement.quantizers[name]
    if name not in rewired.frozen:
        state = rewired.steps[name]
        with tf.control_dependencies(None), tf.name_scope(None):
            with tf.name_scope(_scope(name)):
                step = frozen_step(state.fitted, state.log_ratio)
                step = tf.identity(step, "step_size")
                rewired.frozen[name] = range_of(step, quantizer)
    return _quantize(frozen_fake_quantize, tensors, rewired.frozen[name], quantizer)
