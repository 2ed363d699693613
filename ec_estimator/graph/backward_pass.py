"""Which ops of a graph compute gradients, and of what."""
import collections
import re

from ec_estimator.core import tf_private

# After import_meta_graph only the name tells: gradients/<forward op>_grad/...
_BY_NAME = re.compile(r"(?:^|/)gradients[^/]*/(.+)_grad/")


class BackwardPass(dict):
    """{name of a forward op: [ops of its backward pass]}, in order of creation.

    ops: all of them.
    """

    def __init__(self, index):
        super().__init__(index)
        self.ops = frozenset(op for ops in index.values() for op in ops)


def backward_ops(graph):
    """The BackwardPass of a graph; it is empty if no gradients were taken."""
    index = collections.defaultdict(list)
    for op in graph.get_operations():
        forward = tf_private.forward_op(op)
        if forward is not None:
            index[forward.name].append(op)
        else:
            match = _BY_NAME.search(op.name)
            if match:
                index[match.group(1)].append(op)
    return BackwardPass(index)


def forward_ends(graph, backward):
    """The tensors that the forward pass ends in: losses, mostly."""
    forward = [graph.get_operation_by_name(name) for name in backward]
    return [
        op.outputs[0]
        for op in forward
        if op.outputs
        and not any(c.name in backward for o in op.outputs for c in o.consumers())
    ]
