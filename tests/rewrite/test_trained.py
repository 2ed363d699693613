"""A kernel is trained if an update of the train_op reaches it."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.rewrite.updates import gate_updates
from ec_estimator.training.attachment import attach_to_finished_graph
from tests import models
from tests.training.runs import estimator, sparsifier
from tests.training.test_zoo import checkpoint

NAMES = ("first/kernel", "second/kernel")


def raw(x, name, trainable):
    shape = [x.shape[-1].value, 4]
    return tf.matmul(x, tf.get_variable(f"{name}/kernel", shape, trainable=trainable))


def layer(x, name, trainable):
    return tf.layers.dense(x, 4, use_bias=False, name=name, trainable=trainable)


def network(make, trainable=True, stops=False):
    h = make(tf.ones([2, 4]), "first", trainable)
    return make(tf.stop_gradient(h) if stops else h, "second", True)


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A checkpoint of the network."""
    with tf.Graph().as_default(), tf.Session() as session:
        network(raw)
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(
            session, str(tmp_path_factory.mktemp("dense") / "model")
        )


FROZEN = {
    "not trainable": ({"trainable": False}, None),
    "out of var_list": ({}, "second"),
    "behind a stop_gradient": ({"stops": True}, None),
}


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("make", [raw, layer])
@pytest.mark.parametrize("way", [*FROZEN, "trained"])
def test_what_replaces_an_initializer_trains_nothing(way, make, resource, dense):
    arguments, scope = FROZEN.get(way, ({}, None))
    with tf.Graph().as_default() as graph:
        with tf.variable_scope("", use_resource=resource):
            y = network(make, **arguments)
        tf.train.init_from_checkpoint(dense, {"/": "/"})
        tf.train.AdamOptimizer().minimize(
            tf.reduce_sum(y**2), var_list=tf.trainable_variables(scope)
        )
        plan = attach_to_finished_graph(graph, [sparsifier()]).plan
    expected = NAMES if way == "trained" else NAMES[1:]
    assert plan.targets["sparsity"] == expected
    if way != "trained":
        reason = plan.layers[0].decisions["sparsity"]
        assert reason.startswith("its kernel 'first/kernel' is not train")


def test_a_frozen_kernel_that_was_restored_stays_dense(dense, tmp_path):
    def frozen(x, training):
        y = network(raw, trainable=False) + tf.reduce_mean(x)
        tf.train.init_from_checkpoint(dense, {"first/": "first/"})
        return tf.layers.dense(y, models.CLASSES)[: models.BATCH]

    model_fn, input_fn = models.classifier(frozen, (4,))
    estimator(tmp_path, model_fn).train(input_fn, max_steps=7)
    after = checkpoint(str(tmp_path))
    before = tf.train.load_variable(dense, NAMES[0])
    np.testing.assert_array_equal(after[NAMES[0]], before)
    assert np.mean(after[NAMES[1]] == 0) >= 0.5


def two_optimizers(loss):
    """Train ops of the first layer and of the second."""
    return [
        tf.train.MomentumOptimizer(0.1, 0.9).minimize(
            loss, var_list=tf.trainable_variables(scope)
        )
        for scope in ("first", "second")
    ]


@pytest.mark.parametrize(
    "run,expected",
    [
        (lambda first, second: first, NAMES[:1]),
        (lambda first, second: tf.group(first, second), NAMES),
        (lambda first, second: None, NAMES),
        # As of a GAN whose hooks run both.
        (lambda first, second: tf.no_op(), NAMES),
        (lambda first, second: tf.cond(tf.constant(True), tf.no_op, tf.no_op), NAMES),
    ],
)
def test_only_what_the_train_op_runs_trains(run, expected):
    with tf.Graph().as_default() as graph:
        train_op = run(*two_optimizers(tf.reduce_sum(network(layer) ** 2)))
        found = gate_updates(graph, NAMES, lambda name, update: update, train_op)
    assert tuple(sorted(found)) == expected
    for name in found:
        (slot,) = found[name]
        assert slot.variable.op.name == f"{name}/Momentum"


def test_of_an_estimator_with_an_optimizer_that_nothing_runs(tmp_path):
    def model_fn(features, labels, mode):
        y = network(layer) + tf.reduce_mean(features["x"])
        loss = tf.reduce_sum(y**2)
        first, _ = two_optimizers(loss)
        step = tf.train.get_global_step()
        return tf.estimator.EstimatorSpec(
            mode,
            predictions={"y": y},
            loss=loss,
            train_op=tf.group(first, step.assign_add(1)),
        )

    estimator(tmp_path, model_fn).train(models.dataset((4,)), max_steps=7)
    after = checkpoint(str(tmp_path))
    assert np.mean(after[NAMES[0]] == 0) >= 0.5
    assert np.all(after[NAMES[1]] != 0)


def averages_of(way, w):
    """An op that averages a kernel."""
    if way == "exponential":
        return tf.train.ExponentialMovingAverage(0.5, name="mine").apply([w])
    average = tf.get_variable("elsewhere/mean", w.shape, trainable=False)
    count = tf.get_variable("count", [], trainable=False)
    if way == "mean":
        return average.assign((average * count + w) / (count + 1.0))
    return average.assign_sub((average - w) * 0.5)


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("way", ["exponential", "mean", "by hand"])
def test_averages_of_a_kernel_are_zero_where_it_is(way, resource):
    with tf.Graph().as_default() as graph, tf.variable_scope("", use_resource=resource):
        y = tf.matmul(tf.ones([2, 6]), tf.get_variable("w", [6, 5]))
        (w,) = tf.trainable_variables()
        # The user's own, whatever it is called.
        tf.get_variable("w/Adam", [6, 5], trainable=False).assign_add(tf.ones([6, 5]))
        with tf.control_dependencies(
            [tf.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(y**2))]
        ):
            train_op = averages_of(way, w)
        attachment = attach_to_finished_graph(
            graph, [ec.Sparsifier(ec.SparsifierConfig())]
        )
        (average,) = (
            v
            for v in tf.global_variables()
            if v.op.name in ("w/mine", "elsewhere/mean")
        )
        own = next(v for v in tf.global_variables() if v.op.name == "w/Adam")
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            session.run(train_op)
            before = session.run(own)
            attachment.attached[0].run_trial(session, 1, 0.5)
            session.run(train_op)
            weights, mean, after = session.run([w, average, own])
    assert np.sum(weights == 0) == 15
    np.testing.assert_array_equal(mean == 0, weights == 0)
    np.testing.assert_array_equal(after, before)
