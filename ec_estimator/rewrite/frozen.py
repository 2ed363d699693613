"""Tensors of an exported graph as constants, and the variables behind them gone."""
import tensorflow.compat.v1 as tf
from tensorflow.core.framework import variable_pb2


def freeze(meta_graph, values, variables):
    """Changes a MetaGraphDef in place.

    Args:
      meta_graph: tf.MetaGraphDef.
      values: {name of a tensor, an op's only output: array} that become constants.
      variables: names of the variables that are taken out, with all that reads them:
        their initializers, and the ops of Savers that hold them.
    """
    graph = meta_graph.graph_def
    constants = {name.split(":")[0]: value for name, value in values.items()}
    kept, gone = [], set()
    for node in graph.node:
        if node.name in constants:
            kept.append(_constant(node.name, constants[node.name]))
        elif _belongs_to(node.name, variables):
            gone.add(node.name)
        else:
            kept.append(node)
    readers = {}
    for node in kept:
        for name in _data_inputs(node):
            readers.setdefault(name, []).append(node.name)
    stack = list(gone)
    while stack:
        for reader in readers.get(stack.pop(), []):
            if reader not in gone:
                gone.add(reader)
                stack.append(reader)
    kept = [_without_ties(node, gone) for node in kept if node.name not in gone]
    del graph.node[:]
    graph.node.extend(kept)
    for key in list(meta_graph.collection_def):
        _clean_collection(meta_graph.collection_def, key, variables, gone)


def _constant(name, value):
    node = tf.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return node


def _belongs_to(name, variables):
    """Whether a node is one of the variables, or named as its initializer is."""
    return name in variables or any(
        name[:end] in variables for end, letter in enumerate(name) if letter == "/"
    )


def _data_inputs(node):
    return [name.split(":")[0] for name in node.input if not name.startswith("^")]


def _without_ties(node, gone):
    """Without control inputs from, and colocation with, nodes that are gone."""
    inputs = [n for n in node.input if not (n[0] == "^" and n[1:] in gone)]
    del node.input[:]
    node.input.extend(inputs)
    if "_class" in node.attr:
        values = node.attr["_class"].list.s
        kept = [v for v in values if v.decode()[len("loc:@") :] not in gone]
        if not kept:
            del node.attr["_class"]
        elif len(kept) < len(values):
            del values[:]
            values.extend(kept)
    return node


def _clean_collection(collections, key, variables, gone):
    collection = collections[key]
    if collection.WhichOneof("kind") == "bytes_list":
        kept = []
        for value in collection.bytes_list.value:
            if "variables" in key:
                definition = variable_pb2.VariableDef.FromString(value)
                if definition.variable_name.split(":")[0] in variables:
                    continue
            kept.append(value)
        _replace(collection.bytes_list, kept)
    elif collection.WhichOneof("kind") == "node_list":
        kept = [n for n in collection.node_list.value if n.split(":")[0] not in gone]
        _replace(collection.node_list, kept)
    if not _length(collection):
        del collections[key]


def _replace(values, kept):
    del values.value[:]
    values.value.extend(kept)


def _length(collection):
    kind = collection.WhichOneof("kind")
    return len(getattr(collection, kind).value) if kind else 0
