"""The layers of a placement, found in a graph other than the one it was made from."""
from ec_estimator.core import tf_private
from ec_estimator.graph.layers import find_layers


def match(graph, layers, known):
    """Finds planned layers.

    The same name, or else the same kernel at the same turn: dropout or summaries may
    have moved the numbers in names.

    Args:
      graph: tf.Graph.
      layers: [placement.QuantizedLayer].
      known: {op name in the plan: op of this graph} of layers that were found before
        and are not looked for again: a quantizer is before their kernels.

    Returns:
      The same of those and all that are found now.
    """
    if all(layer.op in known for layer in layers):
        return dict(known)
    by_name = {op.name: op for op in graph.get_operations()}
    backward = {op for op in by_name.values() if tf_private.forward_op(op)}
    found, taken = dict(known), set(known.values())
    readers = {}
    for layer in layers:
        if layer.op in found:
            readers.setdefault(layer.kernel, []).append(found[layer.op])
    for layer in find_layers(graph, backward):
        op = by_name.get(layer.op)
        if layer.kernel and op and op not in taken:
            readers.setdefault(layer.kernel.name, []).append(op)
    for layer in layers:
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
