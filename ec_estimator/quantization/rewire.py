"""Has the layers of a graph read quantized tensors: surgery, the same for every mode
and both ways in."""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import PlanError
from ec_estimator.core.state import SCOPE, is_state
from ec_estimator.graph.layers import kernel_index, matrix_view, output_axes
from ec_estimator.graph.op_types import ENTERS, SHAPE_OPS, VARIABLE_OPS
from ec_estimator.graph.stand_ins import stand_in
from ec_estimator.graph.walk import descendants
from ec_estimator.quantization import winograd
from ec_estimator.quantization.match import match
from ec_estimator.quantization.operands import data_index, source_of
from ec_estimator.quantization.ranges import scope_of
from ec_estimator.rewrite.kernels import follow, go_back


class Rewired:
    """A graph whose planned layers, as far as it is built, read quantized tensors.

    Args:
      graph: tf.Graph; its variables may exist already or not yet.
      placement: placement.Placement.
      quantize: callable(tensors, quantizer name) -> quantized tensors; several tensors
        have a step each. See ranges.Ranges.
      find: callable({op name in the plan: op of the graph}), called with layers that
        were found, before they are rewired.
    """

    def __init__(self, graph, placement, quantize, find=lambda ops: None):
        self._graph = graph
        self._placement = placement
        self._quantize = quantize
        self._find = find
        # {(float tensor, quantizer name): quantized tensor}, and, of activations and
        # kernels alike, the first of a float tensor and the way back.
        self._done, self._first, self._originals = {}, {}, {}
        # {op name in the plan: its op in this graph, which reads quantized tensors}.
        self._rewired = {}
        self._computed = frozenset()

    def rewire(self):
        """Rewires every planned layer of the graph that is there. May be called again
        when more has been built.

        Raises:
          PlanError: a planned tensor is not in the graph.
        """
        # What a variable of the user's has a part in, before quantizers are there.
        self._computed = descendants(
            op
            for op in self._graph.get_operations()
            if op.type in VARIABLE_OPS and not is_state(op.name)
        )
        ops = match(self._graph, self._placement.layers, self._rewired)
        self._find({name: op for name, op in ops.items() if name not in self._rewired})
        for layer in self._placement.layers:
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
        for name, quantizer in self._placement.outputs.items():
            self._quantize_tensor(self._tensor(name), quantizer, None)

    def missing(self):
        """Names of planned layers that were not found so far."""
        return [
            layer.op
            for layer in self._placement.layers
            if layer.op not in self._rewired
        ]

    def _operands(self, op, layer):
        for operand in layer.activations:
            index = operand.index
            if layer.op not in self._rewired and layer.kernel:
                kernel = self._placement.kernels[layer.kernel]
                index = data_index(op, kernel_index(op, kernel))
            yield index, operand.quantizer

    def _tensor(self, name):
        try:
            return self._graph.get_tensor_by_name(name)
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
                with tf.name_scope(scope_of(name)):
                    [quantized] = self._quantize([tensor], name)
                    quantized.set_shape(tensor.shape)
            self._remember(tensor, name, quantized)
        readers = [only] if only else _readers(tensor)
        for op, index in readers:
            tf_private.replace_input(op, index, quantized)

    def _remember(self, tensor, name, quantized):
        self._done[(tensor, name)] = quantized
        self._first.setdefault(tensor, quantized)
        self._originals.setdefault(quantized, tensor)

    def _quantize_kernel(self, op, layer):
        kernel = self._placement.kernels[layer.kernel]
        index = kernel_index(op, kernel)
        reader = (op, index)
        tensor = op.inputs[index]
        # Once, not in every turn of a loop.
        while tensor.op.type in ENTERS:
            reader, tensor = (tensor.op, 0), tensor.op.inputs[0]
        key = (tensor, layer.kernel)
        if key not in self._done:
            with tf_private.context_of_outputs(tensor.op), tf.name_scope(None):
                with tf.name_scope(scope_of(layer.kernel)):
                    quantized = self._kernel(tensor, op, index, layer.kernel)
            self._remember(tensor, layer.kernel, quantized)
            stand_in(quantized, tensor)
        tf_private.replace_input(*reader, self._done[key])

    def _kernel(self, tensor, op, index, name):
        """Quantizes a kernel that comes in at an op's input; its channels may be on any
        axes."""
        if output_axes(op, index) == (tensor.shape.rank - 1,):
            return self._quantize([tensor], name)[0]
        view = matrix_view(op, index)
        [matrix] = self._quantize([follow(view, tensor)], name)
        return go_back(view, matrix, tensor.shape.as_list())

    def _to_winograd(self, op, layer):
        """Has a convolution's readers read its Winograd form."""
        output = op.outputs[0]
        readers = _readers(output)
        name = layer.kernel
        with tf_private.context_of_outputs(op), tf.name_scope(None):
            with tf.name_scope(scope_of(f"{name}/winograd")):
                result = winograd.convolve(
                    op.inputs[0],
                    op.inputs[1],
                    op.get_attr("padding").decode(),
                    lambda tiles: self._quantize(tiles, f"{name}/winograd_input"),
                    lambda matrix: self._quantize([matrix], f"{name}/winograd_kernel")[
                        0
                    ],
                )
        for reader, index in readers:
            tf_private.replace_input(reader, index, result)


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
