"""Which mode the serving graph is built in, and what is said if one fails."""
import re

import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import PlanError
from tests.graph.surveyed import (
    EVAL,
    PREDICT,
    Spec,
    features_and_labels,
    raises_in_predict,
    surveyed,
)


def predict_and_evaluate(features, labels, mode):
    y = tf.layers.dense(features["x"], 1, name="dense")
    if mode == PREDICT:
        return Spec(mode, predictions={"y": y})
    return Spec(mode, loss=tf.losses.mean_squared_error(labels, y))


def none_in_predict(features, labels, mode):
    if mode == EVAL:
        return raises_in_predict(features, labels, mode)


def uses_labels_first(use):
    """A model_fn that uses its labels before it looks at the mode."""

    def model_fn(features, labels, mode):
        use(labels)
        return predict_and_evaluate(features, labels, mode)

    return model_fn


def asserts_labels(labels):
    assert labels is not None, "labels are needed"


def without_predictions(features, labels, mode):
    y = tf.layers.dense(features["x"], 1)
    return Spec(mode, loss=tf.reduce_mean(y))


def refuses_predict(error):
    def model_fn(features, labels, mode):
        if mode == PREDICT:
            raise error
        return predict_and_evaluate(features, labels, mode)

    return model_fn


def modes_in_a_table(features, labels, mode):
    return {EVAL: raises_in_predict}[mode](features, labels, mode)


def no_branch_for_predict(features, labels, mode):
    if mode == EVAL:
        spec = raises_in_predict(features, labels, mode)
    return spec


def test_predict_is_preferred():
    modes = []

    def model_fn(features, labels, mode):
        modes.append((mode, labels))
        return predict_and_evaluate(features, labels, mode)

    found = surveyed(model_fn)
    assert found.mode == PREDICT
    assert modes == [(PREDICT, None)]
    assert {output.op.name for output in found.outputs} == {"dense/BiasAdd"}


@pytest.mark.parametrize(
    "model_fn,reason",
    [
        (raises_in_predict, "None values not supported"),
        (none_in_predict, "it returned None"),
        (without_predictions, "ValueError: Missing predictions."),
        (
            uses_labels_first(lambda labels: labels[:, 0]),
            "TypeError: 'NoneType' object is not subscriptable",
        ),
        (
            uses_labels_first(lambda labels: labels.shape),
            "AttributeError: 'NoneType' object has no attribute 'shape'",
        ),
        (
            uses_labels_first(lambda y: tf.losses.mean_squared_error(y, [[1.0]])),
            "ValueError: labels must not be None",
        ),
        (
            uses_labels_first(lambda labels: tf.cast(labels, tf.float32)),
            "ValueError: None values not supported",
        ),
        (uses_labels_first(asserts_labels), "AssertionError: labels are needed"),
        (refuses_predict(NotImplementedError()), "NotImplementedError: "),
        (refuses_predict(ValueError("Unknown mode: infer")), "Unknown mode: infer"),
        (refuses_predict(RuntimeError("no PREDICT")), "RuntimeError: no PREDICT"),
        (modes_in_a_table, "KeyError: 'infer'"),
        (no_branch_for_predict, "local variable 'spec' referenced before assignment"),
    ],
)
def test_a_model_fn_without_predict_is_surveyed_in_eval_and_told_so(
    model_fn, reason, monkeypatch
):
    warnings = []
    monkeypatch.setattr(
        tf.logging, "warning", lambda text, *args: warnings.append(text % args)
    )
    found = surveyed(model_fn)
    assert found.mode == EVAL
    (warning,) = warnings
    assert "has no infer mode" in warning
    assert reason in warning


def in_predict(build):
    """A model_fn whose PREDICT mode alone calls build(features)."""

    def model_fn(features, labels, mode):
        if mode == PREDICT:
            build(features)
        return predict_and_evaluate(features, labels, mode)

    return model_fn


def misspelled(features):
    return featurs["x"]  # noqa: F821


def not_installed(features):
    import no_such_module  # noqa: F401


def wrong_shape(features):
    with tf.name_scope("infer"):
        return tf.matmul(features["x"], tf.zeros([5, 1]))


def fails_in_tensorflow(features):
    raise tf.errors.NotFoundError(None, None, "vocabulary.txt: no such mode or file")


def without_labels_alone(features, labels, mode):
    if labels is None:
        import no_such_module  # noqa: F401
    return predict_and_evaluate(features, labels, mode)


@pytest.mark.parametrize(
    "model_fn,reason,cause",
    [
        (in_predict(misspelled), "name 'featurs' is not defined", NameError),
        (in_predict(not_installed), "No module named 'no_such_module'", ImportError),
        (without_labels_alone, "No module named 'no_such_module'", ImportError),
        (in_predict(wrong_shape), "Dimensions must be equal", ValueError),
        (in_predict(lambda features: features["z"]), "KeyError: 'z'", KeyError),
        (in_predict(lambda features: features.x), "no attribute 'x'", AttributeError),
        (
            in_predict(fails_in_tensorflow),
            "NotFoundError: vocabulary.txt",
            tf.errors.NotFoundError,
        ),
    ],
)
def test_any_other_failure_of_predict_is_an_error(model_fn, reason, cause):
    with pytest.raises(
        PlanError,
        match=f"(?s)^the model_fn fails in mode 'infer' \\(.*{reason}.*\\), and not "
        "for want of labels; correct it, or raise NotImplementedError if it has no ",
    ) as caught:
        surveyed(model_fn)
    assert isinstance(caught.value.__cause__, cause)


def test_a_failure_of_predict_without_labels_to_give_is_an_error():
    model_fn = uses_labels_first(lambda labels: labels.shape)
    with pytest.raises(PlanError, match="has no attribute 'shape'"):
        surveyed(model_fn, lambda: (features_and_labels()[0], None))


def test_eval_gets_labels_of_the_structure_and_type_given():
    seen = []

    def model_fn(features, labels, mode):
        if mode == EVAL:
            seen.append((labels.dtype, labels.shape.as_list(), labels.op.type))
            return raises_in_predict(features, labels, mode)

    surveyed(model_fn)
    assert seen == [(tf.int64, [None, 1], "Placeholder")]


def test_a_failed_predict_graph_leaves_nothing_in_the_eval_graph():
    found = surveyed(raises_in_predict)
    with found.graph.as_default():
        names = [v.op.name for v in tf.global_variables()]
    assert names == ["global_step", "dense/kernel", "dense/bias"]


@pytest.mark.parametrize(
    "in_predict,in_eval,described",
    [
        (
            KeyError(PREDICT),
            ValueError("no such mode"),
            "mode 'infer': KeyError: 'infer'; mode 'eval': ValueError: no such mode",
        ),
        (
            None,
            RuntimeError("bad"),
            "mode 'infer': it returned None; mode 'eval': RuntimeError: bad",
        ),
        (
            NotImplementedError("bad"),
            None,
            "mode 'infer': NotImplementedError: bad; mode 'eval': it returned None",
        ),
        (None, None, "mode 'infer': it returned None; mode 'eval': it returned None"),
    ],
)
def test_neither_mode_is_an_error_with_both_reasons(in_predict, in_eval, described):
    def model_fn(features, labels, mode):
        error = in_predict if mode == PREDICT else in_eval
        if error:
            raise error

    message = (
        "the model_fn builds neither a PREDICT nor an EVAL graph to plan from "
        f"({described}); give it one of the two modes"
    )
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$") as caught:
        surveyed(model_fn)
    assert caught.value.__cause__ is in_predict


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_a_signal_is_not_taken_for_a_missing_mode(signal):
    def model_fn(features, labels, mode):
        raise signal

    with pytest.raises(signal):
        surveyed(model_fn)
