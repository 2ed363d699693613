"""Builds the serving graph once, in a scratch graph, to see what it is made of."""
import re
import traceback
from typing import Any, Dict, NamedTuple, Optional, Tuple

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import PlanError
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.savers import saved_variables, saver_of

# How code refuses an argument, None among them. Others, such as an ImportError or an
# OpError, say that something else is wrong.
_REFUSALS = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    AssertionError,
    RuntimeError,
)
# The mode's names, and what an EstimatorSpec without predictions says.
_NO_MODE = re.compile(r"\b([Mm]odes?|PREDICT|infer|Missing predictions)\b")


class Survey(NamedTuple):
    """mode: the mode that was built; outputs: the tensors that the model predicts;
    restored: {name in a checkpoint: names of the variables that are restored from it,
    parts of a partitioned one in their order}."""

    mode: str
    graph: tf.Graph
    outputs: Tuple[Any, ...]
    restored: Dict[str, Tuple[str, ...]]


class _Build(NamedTuple):
    """What came of one call of the model_fn: a spec, or None and perhaps an error."""

    graph: tf.Graph
    spec: Any
    error: Optional[Exception]

    @property
    def reason(self):
        if self.spec is not None:
            return "it has no convolution or matrix product"
        if self.error is None:
            return "it returned None"
        return f"{type(self.error).__name__}: {self.error}"


def survey(model_fn, features, labels):
    """Calls model_fn in PREDICT mode, or in EVAL where it has no PREDICT.

    What is served is what should be compressed, so PREDICT comes first. EVAL serves a
    model_fn that returns None for PREDICT, says that it has no such mode, has no layers
    there (it looks results up in a table), or fails because it gets no labels. Any
    other failure would be planned around in silence, and met again when the model is
    served: it is an error.

    Args:
      model_fn: callable(features, labels, mode) -> EstimatorSpec.
      features, labels: what an input_fn gives, in any graph; only their structure,
        types and static shapes are used.

    Raises:
      PlanError: the model_fn has neither mode, or fails to build its PREDICT graph.
    """
    modes = tf.estimator.ModeKeys
    served = _build(model_fn, features, None, modes.PREDICT)
    if served.spec is not None and find_layers(served.graph):
        return _survey(modes.PREDICT, served)
    if served.error is not None and not (
        _says_no_such_mode(served.error)
        or _fails_without_labels(served.error, model_fn, features, labels)
    ):
        raise PlanError(
            f"the model_fn fails in mode {modes.PREDICT!r} ({served.reason}), and not "
            "for want of labels; correct it, or raise NotImplementedError if it has no "
            "such mode"
        ) from served.error
    evaluated = _build(model_fn, features, labels, modes.EVAL)
    if evaluated.spec is None:
        raise PlanError(
            "the model_fn builds neither a PREDICT nor an EVAL graph to plan from "
            f"(mode {modes.PREDICT!r}: {served.reason}; mode {modes.EVAL!r}: "
            f"{evaluated.reason}); give it one of the two modes"
        ) from served.error
    tf.logging.warning(
        "The model_fn has no %s mode to plan from (%s); planning from its %s mode.",
        modes.PREDICT,
        served.reason,
        modes.EVAL,
    )
    return _survey(modes.EVAL, evaluated)


def _survey(mode, build):
    saver = saver_of(build.spec.scaffold, build.graph)
    restored = {
        entry: tuple(variable.op.name for variable in variables)
        for entry, variables in saved_variables(saver, build.graph).items()
    }
    return Survey(mode, build.graph, outputs_of(build.spec), restored)


def _build(model_fn, features, labels, mode):
    graph = tf.Graph()
    with graph.as_default():
        tf.train.create_global_step(graph)
        try:
            spec = model_fn(placeholders(features), placeholders(labels), mode)
        # A model_fn without the mode fails in its own way; `survey` tells which.
        except Exception as error:
            return _Build(graph, None, error)
    return _Build(graph, spec, None)


def _says_no_such_mode(error):
    """Whether an exception is how code says that it has no PREDICT mode."""
    # Unbound is what every branch for a mode would have set.
    if isinstance(error, (NotImplementedError, UnboundLocalError)):
        return True
    return (
        isinstance(error, _REFUSALS)
        and not _is_of_an_op(error)
        and _NO_MODE.search(str(error)) is not None
    )


def _fails_without_labels(error, model_fn, features, labels):
    """Whether the same call gets further if it is given labels."""
    if labels is None or not isinstance(error, _REFUSALS) or _is_of_an_op(error):
        return False
    given = _build(model_fn, features, labels, tf.estimator.ModeKeys.PREDICT).error
    return type(given) is not type(error) or _places(given) != _places(error)


def _is_of_an_op(error):
    """Whether TensorFlow found an op's inputs wrong, shapes for example."""
    return isinstance(error.__context__, tf.errors.OpError)


def _places(error):
    """Where an exception came from: (file, line) of each frame."""
    frames = traceback.extract_tb(error.__traceback__)
    return [(frame.filename, frame.lineno) for frame in frames]


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
