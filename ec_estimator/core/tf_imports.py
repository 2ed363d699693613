"""The private names of TensorFlow that ops have to be told by which were imported.

tf.import_graph_def makes ops in C++: no getter, creator or `Graph.create_op` sees them.
"""
import contextlib

import tensorflow.compat.v1 as tf

# The function that goes through what import_graph_def has added to a graph, and the
# method that it asks for that.
_IMPORTS = "_ProcessNewOps"
_ADDS_IMPORTED = "_add_new_tf_operations"


def is_imported(op):
    """Whether tf.import_graph_def made an op, also for import_meta_graph and Hub's
    modules. What Python code makes for it, such as constants, is not."""
    return any(frame.name == _IMPORTS for frame in op._traceback)


@contextlib.contextmanager
def intercept_imports(graph, receive):
    """While open, receive(op) gets each op of `graph` that is imported."""
    outer, hidden = graph._add_new_tf_operations, vars(graph).get(_ADDS_IMPORTED)

    def add(*args, **kwargs):
        ops = outer(*args, **kwargs)
        for op in ops:
            receive(op)
        return ops

    # An attribute of the instance hides the class's method, for this graph alone.
    setattr(graph, _ADDS_IMPORTED, add)
    try:
        yield
    finally:
        if hidden:
            setattr(graph, _ADDS_IMPORTED, hidden)
        else:
            delattr(graph, _ADDS_IMPORTED)


def give_gradient(op, name):
    """Gives an op that exists a registered gradient, unless it has one of its own."""
    if "_gradient_op_type" not in op.node_def.attr:
        op._set_attr("_gradient_op_type", tf.AttrValue(s=name.encode()))
