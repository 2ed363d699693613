"""Surveys of small model_fns, for the tests of surveys."""
import tensorflow.compat.v1 as tf

from ec_estimator.graph.survey import survey

PREDICT, EVAL = tf.estimator.ModeKeys.PREDICT, tf.estimator.ModeKeys.EVAL
Spec = tf.estimator.EstimatorSpec


def features_and_labels():
    return (
        {"x": tf.placeholder(tf.float32, [None, 4])},
        tf.placeholder(tf.int64, [None, 1]),
    )


def surveyed(model_fn, make=features_and_labels):
    with tf.Graph().as_default() as graph:
        made = make()
        before = graph.version
        found = survey(model_fn, *made)
        assert graph.version == before, "the survey changed the caller's graph"
    assert found.graph is not graph
    return found


def raises_in_predict(features, labels, mode):
    # As many do: the labels are used before the mode is looked at.
    y = tf.layers.dense(features["x"], 1)
    return Spec(mode, loss=tf.reduce_mean(tf.cast(labels, tf.float32) - y))
