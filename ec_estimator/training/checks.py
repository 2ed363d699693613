"""What is known to be wrong, or of no use, before a graph trains."""
import collections.abc

import tensorflow.compat.v1 as tf

from ec_estimator.core.compressor import Attached, Compressor
from ec_estimator.core.errors import CompressionError, PlanError
from ec_estimator.core.replicas import variables_of
from ec_estimator.core.state import made_here
from ec_estimator.graph.backward_pass import backward_ops
from ec_estimator.graph.layers import COMPUTED, find_layers
from ec_estimator.graph.variables import checkpoint_name
from ec_estimator.rewrite.updates import updated


def as_compressors(compressors):
    """A compressor or a list of them as a tuple.

    Raises:
      CompressionError: something else, none, or two of a kind.
      PlanError: compressors that cannot work together.
    """
    is_list = isinstance(compressors, collections.abc.Iterable)
    compressors = tuple(compressors if is_list else [compressors])
    for compressor in compressors:
        if not isinstance(compressor, Compressor):
            raise CompressionError(
                f"{compressor!r} is not a compressor; pass for example "
                "Sparsifier(SparsifierConfig())"
            )
    names = [compressor.name for compressor in compressors]
    if not names or len(set(names)) < len(names):
        raise CompressionError(
            f"compressors {names}: give at least one, and each kind once"
        )
    for compressor in compressors:
        why = compressor.conflict([c for c in compressors if c is not compressor])
        if why:
            raise PlanError(why)
    return compressors


def warn_of_zero_targets(compressors):
    """Says which compressors would train to the end and change nothing."""
    for compressor in compressors:
        if not compressor.schedule.target:
            config = compressor.config
            tf.logging.warning(
                "%s: %s.%s is 0, so training removes nothing; set it to the ratio that "
                "should go, for example 0.5",
                compressor.name,
                type(config).__name__,
                config.target_field,
            )


def warn_of_lost_results(attached):
    """Says what a session without a save_dir would not leave.

    Args:
      attached: [Attached] of the session.
    """
    writers = [a.name for a in attached if type(a).save is not Attached.save]
    if writers:
        tf.logging.warning(
            "CompressionHook: without save_dir what %s makes of the model is lost when "
            "training ends; pass save_dir=FOLDER",
            " and ".join(writers),
        )


def check_complete(graph, plan, planned):
    """Are all planned kernels in the training graph?

    Args:
      planned: names of the variables that hold them.

    Raises:
      PlanError: one is missing.
    """
    variables = variables_of(graph)
    there = {v.op.name for v in variables} | {checkpoint_name(v) for v in variables}
    missing = sorted((planned | plan.compressed()) - there)
    if missing:
        raise PlanError(
            f"kernel {missing[0]!r} of the {plan.mode} graph is not in the "
            f"training graph{_whereabouts(graph, plan, missing[0])}"
        )


def _whereabouts(graph, plan, kernel):
    """What the training graph has instead of a kernel, and what can be done."""
    rows = [row for row in plan.layers if row.kernel == kernel]
    types = {row.op_type for row in rows}
    found = [
        layer
        for layer in find_layers(graph)
        if layer.op_type in types and layer.reason.startswith(COMPUTED)
    ]
    if not found:
        return "; its name must be the same in both modes"
    names = {row.op for row in rows}
    layer = next((layer for layer in found if layer.op in names), found[0])
    return (
        f", where {layer.reason} in {layer.op!r}; let every mode take it from the "
        "same variable, or leave the layer out with exclude_scopes"
    )


def check_not_imported(graph, state):
    known = made_here(graph)
    for variable in state:
        name = variable.op.name
        if name not in known:
            raise PlanError(
                f"this graph was imported from a compressed run: it has {name!r}, but "
                "what belongs to it is not known; rebuild the model in Python, its "
                "checkpoints can be restored then"
            )


def check_trains(graph, names):
    """Trials in a graph that trains nothing would compress what nobody goes on with.

    Gradients without an update may be all that a graph is for: who takes them updates.
    """
    if names and not backward_ops(graph) and not updated(graph, names):
        raise PlanError(
            f"nothing in the training graph updates {min(names)!r} or another variable "
            "to be compressed; build the optimizer, with its train_op, first"
        )


def warn_of_reader(name, reader):
    tf.logging.warning(
        "No gradient of kernel %s was found at %s, which reads it. Its zeros are kept, "
        "but a clipping by norm counts the gradients of removed weights; take all "
        "gradients in one call of tf.gradients or tf.train.Optimizer.",
        name,
        reader,
    )


def warn_of_no_checkpoints(config):
    """A warning, if TensorFlow is not going to write any.

    Its MonitoredTrainingSession under a strategy saves checkpoints of workers only
    where it saves summaries, too.

    Args:
      config: tf.estimator.RunConfig of a run under a strategy, or of Horovod's.
    """
    saves = config.save_checkpoints_steps or config.save_checkpoints_secs
    if config.train_distribute and saves and not config.save_summary_steps:
        tf.logging.warning(
            "TensorFlow writes no checkpoints under %s where RunConfig's "
            "save_summary_steps is not set; set it to keep what is trained.",
            type(config.train_distribute).__name__,
        )
