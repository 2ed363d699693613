"""A variable and its copies are one."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import replicas
from ec_estimator.core.state import create_variable
from tests.replicas import REPLICAS, mirrored


def made():
    """(containers of w and of a moving mean, a plain variable of ours)."""
    with mirrored().scope():
        w = tf.get_variable("w", [2])
        mean = tf.get_variable(
            "mean",
            [2],
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
        )
        ours = create_variable("mask", [2], tf.float32, 1, beside=replicas.first(w))
    return w, mean, ours


def test_copies_have_the_name_of_the_first():
    with tf.Graph().as_default() as graph:
        w, mean, ours = made()
        names = [v.op.name for v in replicas.variables_of(graph)]
        assert names == ["w", "mean", "ec_estimator/mask"]
        for container, name in ((w, "w"), (mean, "mean")):
            first, *others = replicas.members(container)
            assert len(others) == REPLICAS - 1
            assert list(replicas.others(first, graph)) == others
            for variable in (first, *others):
                assert replicas.variable_name(variable.op) == name
        assert replicas.members(ours) == (ours,)
        assert replicas.others(ours, graph) == ()


def test_without_a_strategy_there_are_no_copies():
    with tf.Graph().as_default() as graph:
        w = tf.get_variable("replica_1/w/replica_1", [2])
        assert replicas.others(w, graph) == ()
        assert replicas.variable_name(w.op) == "replica_1/w/replica_1"
        assert replicas.replica_of(w.op) == ""
        assert replicas.replica_scope(graph) == ""


def test_what_a_checkpoint_holds_of_copies_that_differ_is_their_mean():
    values = [np.array([1, 2], np.float32), np.array([3, 6], np.float32)]
    with tf.Graph().as_default() as graph:
        w, mean, _ = map(replicas.first, made())
        np.testing.assert_array_equal(replicas.as_saved(mean, graph, values), [2, 4])
        np.testing.assert_array_equal(replicas.as_saved(w, graph, values), [1, 2])


def test_moving_averages_are_averaged_under_a_strategy_alone():
    with tf.Graph().as_default() as graph:
        # They say what is to be done with copies here, too.
        tf.layers.batch_normalization(tf.zeros([2, 3]))
        assert replicas.averaged(graph) == []
        with mirrored().scope():
            tf.layers.batch_normalization(tf.zeros([2, 3]))
        assert [len(copies) for copies in replicas.averaged(graph)] == [REPLICAS] * 2


def test_a_graph_that_grows_is_looked_at_anew():
    with tf.Graph().as_default() as graph, mirrored().scope():
        assert replicas.variables_of(graph) == []
        w = tf.get_variable("w", [2])
        assert replicas.variable_name(w.values[1].op) == "w"
