"""Builds the serving graph once, in a scratch graph, to see what it is made of."""
from typing import Any, NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import PlanError


class Survey(NamedTuple):
    """mode: the mode that was built; outputs: the tensors that the model predicts."""

    mode: str
    graph: tf.Graph
    outputs: Tuple[Any, ...]


def survey(model_fn, features, labels):
    """Calls model_fn in PREDICT mode, or in EVAL where it has no PREDICT.

    What is served is what should be compressed, so PREDICT comes first.

    Args:
      model_fn: callable(features, labels, mode) -> EstimatorSpec.
      features, labels: what an input_fn gives, in any graph; only their structure,
        types and static shapes are used.

    Raises:
      PlanError: the model_fn has neither mode.
    """
    failures = []
    for mode in (tf.estimator.ModeKeys.PREDICT, tf.estimator.ModeKeys.EVAL):
        graph = tf.Graph()
        with graph.as_default():
            tf.train.create_global_step(graph)
            served = mode == tf.estimator.ModeKeys.PREDICT
            try:
                spec = model_fn(
                    placeholders(features),
                    None if served else placeholders(labels),
                    mode,
                )
            # A model_fn without the mode fails in its own way, often by using the
            # labels that it does not get. What it raised is passed on below.
            except Exception as error:
                failures.append((mode, f"{type(error).__name__}: {error}", error))
                continue
        if spec is None:
            failures.append((mode, "it returned None", None))
            continue
        if failures:
            tf.logging.warning(
                "The model_fn has no %s mode (%s); planning from its %s mode.",
                failures[0][0],
                failures[0][1],
                mode,
            )
        return Survey(mode, graph, outputs_of(spec))
    described = "; ".join(f"mode {mode!r}: {what}" for mode, what, _ in failures)
    raise PlanError(
        "the model_fn builds neither a PREDICT nor an EVAL graph to plan from "
        f"({described}); give it one of the two modes"
    ) from failures[0][2]


def placeholders(structure):
    """Placeholders of the types and static shapes of the tensors in a structure."""

    def placeholder(value):
        if not tf.is_tensor(value):
            return value
        return tf.placeholder(value.dtype.base_dtype, value.shape)

    return tf.nest.map_structure(placeholder, structure, expand_composites=True)


def outputs_of(spec):
    """The tensors that predictions and export outputs, or else the loss, consist of."""
    found = [spec.predictions]
    for output in (spec.export_outputs or {}).values():
        found.append(list(vars(output).values()))
    tensors = [t for t in tf.nest.flatten(found, expand_composites=True) if _is_op(t)]
    return tuple(tensors) or (spec.loss,)


def _is_op(value):
    return isinstance(value, tf.Tensor)
