"""Has the layers of a graph read quantized tensors: surgery, the same for every mode
and both ways in."""
import contextlib

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import PlanError
from ec_estimator.core.state import SCOPE, is_state
from ec_estimator.graph.layers import matrix_view, output_axes
from ec_estimator.graph.op_types import ENTERS, SHAPE_OPS, VARIABLE_OPS
from ec_estimator.graph.stand_ins import stand_in
from ec_estimator.graph.walk import descendants
from ec_estimator.quantization import winograd
from ec_estimator.quantization.match import Binding
from ec_estimator.quantization.operands import source_of
from ec_estimator.quantization.ranges import scope_of
from ec_estimator.rewrite.kernels import follow, go_back


class Rewired:
    """A graph whose planned layers, as far as it is built, read quantized tensors.

    Args:
      graph: tf.Graph; its variables may exist already or not yet.
      placement: placement.Placement.
      quantize: callable(tensors, quantizer name, an op that reads them) -> quantized
        tensors; several tensors have a step each. See ranges.Ranges.
      find: callable({op: placement.QuantizedLayer}), called with layers that were
        found, before they are rewired.
    """

    def __init__(self, graph, placement, quantize, find=lambda layers: None):
        self._graph = graph
        self._placement = placement
        self._quantize = quantize
        self._find = find
        self.binding = Binding(graph, placement)
        # {(float tensor, quantizer name): quantized tensor}, and, of activations and
        # kernels alike, the first of a float tensor and the way back.
        self._done, self._first, self._originals = {}, {}, {}
        self._computed = frozenset()
        # {kernel's name: how its first reader views it}.
        self._views = {}

    def follow(self, placement):
        """What is built from here on is rewired as another placement says, which leaves
        some layers in float."""
        self._placement = placement
        self.binding.follow(placement)

    def rewire(self):
        """Rewires every planned layer of the graph that is there. May be called again
        when more has been built.

        Raises:
          PlanError: see match.Binding.
        """
        # What a variable of the user's has a part in, before quantizers are there.
        self._computed = descendants(
            op
            for op in self._graph.get_operations()
            if op.type in VARIABLE_OPS and not is_state(op.name)
        )
        new = self.binding.find()
        self._find(new)
        for op, layer in self.binding.bound.items():
            for operand in layer.activations:
                self._quantize_activation(op, operand.index, operand.quantizer)
            if op not in new:
                continue
            if layer.weights is not None:
                self._quantize_kernel(op, layer)
            if layer.winograd:
                self._to_winograd(op, layer)
        for output in self._placement.outputs:
            for op in self.binding.outputs[output.tensor]:
                self._quantize_tensor(op.outputs[0], output.quantizer, None)

    def _quantize_activation(self, op, index, name):
        tensor, reader = source_of(op.inputs[index])
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
        readers = [only] if only else _readers(tensor)
        if quantized is None:
            reader = readers[0][0] if readers else tensor.op
            with _between(tensor.op, reader):
                with tf.name_scope(scope_of(name)):
                    [quantized] = self._quantize([tensor], name, reader)
                    quantized.set_shape(tensor.shape)
            self._remember(tensor, name, quantized)
        for op, index in readers:
            tf_private.replace_input(op, index, quantized)

    def _remember(self, tensor, name, quantized):
        self._done[(tensor, name)] = quantized
        self._first.setdefault(tensor, quantized)
        self._originals.setdefault(quantized, tensor)
        stand_in(quantized, tensor)

    def _quantize_kernel(self, op, layer):
        index = layer.weights.index
        reader = (op, index)
        tensor = op.inputs[index]
        # Once, not in every turn of a loop.
        while tensor.op.type in ENTERS:
            reader, tensor = (tensor.op, 0), tensor.op.inputs[0]
        key = (tensor, layer.kernel)
        if key not in self._done:
            with _between(tensor.op, op):
                with tf.name_scope(scope_of(layer.kernel)):
                    quantized = self._kernel(tensor, op, index, layer.kernel)
            self._remember(tensor, layer.kernel, quantized)
        tf_private.replace_input(*reader, self._done[key])

    def _kernel(self, tensor, op, index, name):
        """Quantizes a kernel that comes in at an op's input; its channels may be on any
        axes."""
        view = matrix_view(op, index)
        if self._views.setdefault(name, view) != view:
            # A reference variable's readers share what the first one reads.
            raise PlanError(
                f"quantization: {op.name!r} reads kernel {name!r} the other way round "
                "than a layer before it, and each step size is of one channel; add one "
                "of the two to fp32_layers"
            )
        if output_axes(op, index) == (tensor.shape.rank - 1,):
            return self._quantize([tensor], name, op)[0]
        [matrix] = self._quantize([follow(view, tensor)], name, op)
        return go_back(view, matrix, tensor.shape.as_list())

    def _to_winograd(self, op, layer):
        """Has a convolution's readers read its Winograd form."""
        output = op.outputs[0]
        readers = _readers(output)
        name = layer.kernel
        with _between(op, op):
            with tf.name_scope(scope_of(f"{name}/winograd")):
                result = winograd.convolve(
                    op.inputs[0],
                    op.inputs[1],
                    op.get_attr("padding").decode(),
                    lambda tiles: self._quantize(tiles, f"{name}/winograd_input", op),
                    lambda matrix: self._quantize(
                        [matrix], f"{name}/winograd_kernel", op
                    )[0],
                )
        stand_in(result, output)
        for reader, index in readers:
            tf_private.replace_input(reader, index, result)


@contextlib.contextmanager
def _between(op, reader):
    """Ops made inside run in the loop or conditional that `op` gives its outputs to, on
    the device of a reader of them: that of a replica or a worker, where a kernel is on
    a parameter server."""
    with tf_private.context_of_outputs(op), tf.name_scope(None):
        with tf.device(reader.device):
            yield


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
