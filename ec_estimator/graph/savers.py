"""Which variables a Saver stores, and restores, under which names.

A model may be served from moving averages: a swapping Saver stores the average of `w`
as `w`, or the graph that predicts restores `w` from `w/ExponentialMovingAverage`. Then
what a session holds in `w` is not what the checkpoint serves.
"""
import collections

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_savers
from ec_estimator.core.errors import PlanError
from ec_estimator.core.replicas import variables_of
from ec_estimator.graph.variables import checkpoint_name, slice_info
from ec_estimator.graph.walk import origin


def saver_of(scaffold, graph):
    """The Saver of a Scaffold, if there is one and it has one, or the graph's; None:
    none. User code's before a session is made, the session's after that.

    Raises:
      PlanError: it saves objects.
    """
    savers = graph.get_collection(tf.GraphKeys.SAVERS)
    own = scaffold.saver if scaffold else None
    if isinstance(own, tf.train.Checkpoint):
        raise PlanError(
            "the Scaffold's saver is a tf.train.Checkpoint, which saves the values of "
            "its own objects alone and under their paths, so that the compression "
            "state is not saved, and kernels are not found by their names; give the "
            "Scaffold a tf.train.Saver or none (tf.keras.estimator.model_to_estimator: "
            "checkpoint_format='saver')"
        )
    return own or (savers[0] if savers else None)


def saved_variables(saver, graph):
    """What a Saver of a graph stores and restores.

    Args:
      saver: tf.train.Saver; None: all variables, each under its own name.

    Returns:
      {name in the checkpoint: [variable], parts of a partitioned one in their order}.
    """
    variables = {v.op.name: v for v in variables_of(graph)}
    given = None if saver is None else tf_savers.saver_variables(saver)
    if given is None:
        given = list(variables.values())
    if isinstance(given, dict):
        pairs = [(name, n) for name, value in given.items() for n in names_in(value)]
    else:
        pairs = [(None, name) for name in names_in(given)]
    found = collections.defaultdict(list)
    for entry, name in pairs:
        # Tables and the like are no variables.
        if name in variables:
            variable = variables[name]
            found[entry or checkpoint_name(variable)].append(variable)
    return {name: sorted(parts, key=_offset) for name, parts in found.items()}


def names_in(value):
    """Names of the variables in what a Saver was given: a variable, its reference or
    what reads it, or a list of these or of parts."""
    if isinstance(value, tf.Tensor):
        return [origin(value).name]
    if hasattr(value, "op"):
        return [value.op.name]
    return [name for part in value for name in names_in(part)]


def _offset(variable):
    info = slice_info(variable)
    return list(info.var_offset) if info else []


def served_from(restored, saved):
    """Which variable's value a checkpoint gives each variable of the serving graph.

    Args:
      restored: {name in the checkpoint: names of the variables that the serving graph
        restores from it, parts in their order}.
      saved: what `saved_variables` gave for the training graph.

    Returns:
      {name of a variable: variable of the training graph}.
    """
    return {
        name: source
        for entry, names in restored.items()
        for name, source in zip(names, saved.get(entry, ()))
    }
