"""Which kernels the step sizes are trained together with."""
import collections

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.replicas import replica_of


class Anchors:
    """For each quantizer the kernels of the layers that read what it quantizes.

    What takes gradients of one of them trains the step size, too; see
    rewrite.edges.observe_with.
    """

    def __init__(self):
        # {layer's op: its kernel}.
        self._kernels = {}
        # {(quantizer name, scope of a replica): {tensor name: tensor}}.
        self._found = collections.defaultdict(dict)

    def find(self, ops):
        """Takes in layers that do not read quantized tensors yet.

        Args:
          ops: {op: placement.QuantizedLayer}.
        """
        for op, layer in ops.items():
            if not layer.kernel:
                continue
            kernel = self._kernels[op] = _outside(op.inputs[layer.weights.index])
            for name in layer.quantizers:
                self._found[name, replica_of(op)][kernel.name] = kernel

    def of(self, name, tensor, replica):
        """Those of a quantizer: tensors outside of loops and branches. Of one that no
        layer with a kernel reads, the nearest kernel that its tensor is computed with.

        Args:
          tensor: that it quantizes.
          replica: scope of the one that computes the tensor.
        """
        return list(self._found[name, replica].values()) or self._nearest(tensor)

    def _nearest(self, tensor):
        stack, seen = collections.deque([tensor.op]), set()
        while stack:
            op = stack.popleft()
            if op in self._kernels:
                return [self._kernels[op]]
            if op not in seen:
                seen.add(op)
                stack.extend(t.op for t in op.inputs)
        return []


def _outside(tensor):
    """What a tensor is made of outside of loops and branches: a kernel comes into them
    by moves alone."""
    while not tf_private.is_outside(tensor.op):
        tensor = tensor.op.inputs[0]
    if tensor.dtype != tf.resource:
        return tensor
    with tf.control_dependencies(None), tf.name_scope(None):
        return tf.raw_ops.ReadVariableOp(
            resource=tensor,
            dtype=tensor.op.get_attr("dtype"),
            name="ec_estimator/quantization/kernel",
        )
