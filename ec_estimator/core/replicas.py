"""The copies of a variable that a distribution strategy keeps, one a replica, are one.

tf.distribute.MirroredStrategy and its kin have a model_fn called once a replica, in one
graph. What user code makes there is a container of variables, one on each replica's
device: the first has the name, the others that name with `/replica_1` and so on. All of
them get the same updates. Here, and so in the whole package, a variable is the first of
them, and a layer of any replica reads that one.
"""
import re

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.memory import recall, remember

_COPIES = "copies"
_COLLECTIONS = (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.LOCAL_VARIABLES)


def variables_of(graph, collection=tf.GraphKeys.GLOBAL_VARIABLES):
    """The variables of a graph's collection, one of each, never a container."""
    return [first(variable) for variable in graph.get_collection(collection)]


def first(variable):
    """The variable itself, or the one that stands for a container's."""
    return members(variable)[0]


def as_made(variables, graph):
    """Variables as user code has them: where there are copies, the container, whose
    first value is that of all of them.

    Args:
      variables: as of `variables_of`.
    """
    found = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    made = {first(variable).op.name: variable for variable in found}
    return [made.get(variable.op.name, variable) for variable in variables]


def pass_starts_on(graph):
    """Has variables that several replicas share start from what they were told to.

    tf.train.init_from_checkpoint, and so a warm start, gives the initializer to the
    container, and TensorFlow runs that of the variable which a container of
    ParameterServerStrategy or CentralStorageStrategy holds: it would start at random.
    """
    for variable in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
        held = first(variable)
        # A container of copies runs its own.
        is_of_copies = isinstance(getattr(variable, "values", None), tuple)
        if held is not variable and not is_of_copies:
            # The container's own; what it has none of is that of the variable it holds.
            tf_private.set_initializer(held, tf_private.initializer_of(variable))


def others(variable, graph):
    """The copies of a variable that other replicas read; () without a strategy.

    Args:
      variable: as of `variables_of`.
    """
    return _copies(graph)[1].get(variable.op.name, ())


def variable_name(op):
    """The name of the variable that an op of VARIABLE_OPS is, or is a copy of."""
    return _copies(op.graph)[0].get(op.name, op.name)


def as_saved(variable, graph, values):
    """What a checkpoint holds of a variable whose copies differ, as the moving averages
    of batch normalization do: each replica has seen a part of the data.

    Args:
      variable: as of `variables_of`.
      values: arrays of the variable and of its `others`.
    """
    aggregation = _copies(graph)[2].get(variable.op.name)
    if aggregation == tf.VariableAggregation.MEAN:
        return np.mean(values, 0, dtype=np.float64).astype(values[0].dtype)
    if aggregation == tf.VariableAggregation.SUM:
        return np.sum(values, 0)
    return values[0]


def averaged(graph):
    """[copies] of each float variable that a strategy saves as the mean of its copies,
    which may be one: other processes have others then."""
    found = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    return [
        list(members(container))
        for container in found
        # Without a strategy nobody keeps to what a variable says of its copies.
        if hasattr(container, "distribute_strategy")
        and container.synchronization == tf.VariableSynchronization.ON_READ
        and container.aggregation == tf.VariableAggregation.MEAN
        and first(container).dtype.is_floating
    ]


def replica_of(op):
    """The name scope of the replica that computes an op, with its slash; "" for the
    first one and without a strategy."""
    found = tf.distribute.has_strategy() and re.match(r"replica_\d+/", op.name)
    return found.group() if found else ""


def replica_scope(graph):
    """The name scope that the replica building in this thread has for itself, with its
    slash; "" for the first one and without a strategy."""
    scope = tf.distribute.has_strategy() and graph.get_name_scope()
    return f"{scope}/" if scope else ""


def own_name(op, scope):
    """The name that an op would have in the first replica, a copy that of its variable.

    Args:
      scope: what `replica_scope` gave.
    """
    name = variable_name(op)
    return name[len(scope) :] if scope and name.startswith(scope) else name


def members(variable):
    """The variable itself, or all that a container holds, the first one first."""
    if not hasattr(variable, "distribute_strategy"):
        return (variable,)
    held = getattr(variable, "values", None)
    # Several replicas share one on a parameter server.
    return held if isinstance(held, tuple) else (variable.get(),)


def _copies(graph):
    """({name of a copy: name of its variable}, {name of a variable: its copies}, {name
    of a variable whose copies differ: tf.VariableAggregation})."""
    names = [name for name in _COLLECTIONS if name in graph.collections]
    # Asked for each op: a reference is no copy of the list.
    count = sum(len(graph.get_collection_ref(name)) for name in names)
    known, found = recall(graph, _COPIES, (None, None))
    if known != count:
        found = {}, {}, {}
        for container in (v for name in names for v in graph.get_collection(name)):
            one, *copies = members(container)
            if copies:
                found[0].update((copy.op.name, one.op.name) for copy in copies)
                found[1][one.op.name] = tuple(copies)
                if container.synchronization == tf.VariableSynchronization.ON_READ:
                    found[2][one.op.name] = container.aggregation
        remember(graph, _COPIES, (count, found))
    return found
