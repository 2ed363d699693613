"""Importance is that of the loss, whatever feeds the model and trains it."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from ec_estimator.training.attachment import attach_to_finished_graph
from tests import models
from tests.pruning.runs import pruner, run
from tests.shrink.networks import residual
from tests.training.test_zoo import checkpoint


@pytest.mark.parametrize("session_mode", [False, True])
def test_importance_is_the_squared_derivative_of_a_gate_without_regularizer(
    session_mode,
):
    random = np.random.RandomState(0)
    x = random.standard_normal((6, 5, 5, 2)).astype(np.float32)

    def network(gate=None):
        h = tf.layers.conv2d(tf.placeholder_with_default(x, x.shape), 4, 3, name="a")
        h = tf.nn.relu(h) if gate is None else tf.nn.relu(h) * gate
        return tf.layers.conv2d(h, 3, 3, name="b")

    def loss_of(y):
        return tf.reduce_sum(tf.sin(y))

    compressor = pruner(ema_alpha=0.75)
    with tf.Graph().as_default() as graph:
        loss = loss_of(network())
        # The kernel's own gradient is polluted, a gate's is not.
        loss += sum(tf.nn.l2_loss(v) for v in tf.trainable_variables())
        optimizer = tf.train.GradientDescentOptimizer(0.0)
        if session_mode:
            train_op = optimizer.minimize(loss)
            attachment = attach_to_finished_graph(graph, [compressor])
        else:
            from ec_estimator.graph.layers import find_layers
            from ec_estimator.graph.plan import make_plan
            from ec_estimator.training.attachment import Attachment

            layers = find_layers(graph)
            plan = make_plan("x", graph, layers, None, [compressor], [loss])
            attachment = Attachment(graph, plan, [compressor])
            with attachment.gradients(), attachment.variables():
                train_op = optimizer.minimize(loss)
            attachment.finish()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            weights = session.run({v.op.name: v for v in tf.trainable_variables()})
            session.run([train_op, attachment.chief_ops])
            importance = session.run(
                graph.get_tensor_by_name("ec_estimator/pruning/importance:0")
            )
        groups = attachment.plan.details["pruning"].channels.of("a/kernel", 3)
    with tf.Graph().as_default(), tf.Session() as session:
        gate = tf.ones([4])
        (derivative,) = tf.gradients(loss_of(network(gate)), [gate])
        session.run(tf.global_variables_initializer())
        for variable in tf.trainable_variables():
            variable.load(weights[variable.op.name], session)
        expected = 0.25 * session.run(derivative) ** 2
    np.testing.assert_allclose(
        importance[groups], expected, rtol=1e-5, atol=1e-5 * expected.max()
    )
    others = np.delete(importance, groups)
    np.testing.assert_array_equal(others, 0)


def queued(x, y):
    return tf.estimator.inputs.numpy_input_fn(
        {"x": x}, y, batch_size=2, num_epochs=None, shuffle=False
    )


def constant(x, y):
    return lambda: ({"x": tf.constant(x)}, tf.constant(y))


@pytest.mark.parametrize("source", [queued, constant])
def test_input_may_come_from_queues_and_constants(source, tmp_path):
    random = np.random.RandomState(0)
    x = random.standard_normal((4, 8, 8, 3)).astype(np.float32)
    model_fn, _ = models.classifier(residual, (8, 8, 3))
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, pruner()), config=models.run_config(str(tmp_path))
    )
    estimator.train(source(x, random.randint(0, models.CLASSES, 4)), max_steps=5)
    params = read_artifact(str(tmp_path)).manifest["params"]
    assert params[1] < params[0]
    importance = checkpoint(str(tmp_path))["ec_estimator/pruning/importance"]
    assert np.count_nonzero(importance) > 10


class HandWritten(tf.train.Optimizer):
    """Makes no Apply op: subtracts from the variables itself."""

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        ops = [v.assign_sub(0.01 * g) for g, v in grads_and_vars if g is not None]
        return tf.group(*ops, global_step.assign_add(1))


class Clipping(tf.train.GradientDescentOptimizer):
    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        gradients, variables = zip(*grads_and_vars)
        gradients, _ = tf.clip_by_global_norm(gradients, 1e-3)
        return super().apply_gradients(zip(gradients, variables), global_step, name)


class ScalingTheLoss(tf.train.GradientDescentOptimizer):
    """By a power of two, so that nothing is rounded otherwise."""

    def compute_gradients(self, loss, *args, **kwargs):
        pairs = super().compute_gradients(loss * 1024.0, *args, **kwargs)
        return [(g / 1024.0, v) for g, v in pairs if g is not None]


OPTIMIZERS = {
    "plain": (lambda: tf.train.GradientDescentOptimizer(0.01), 1),
    "momentum": (lambda: tf.train.MomentumOptimizer(0.01, 0.9), 1),
    "adam": (lambda: tf.train.AdamOptimizer(0.01), 1),
    "clipping": (lambda: Clipping(0.01), 1),
    "hand-written": (lambda: HandWritten(True, "hand"), 1),
    # Importance is in units of the scaled loss, squared, for all groups alike.
    "loss scaling": (lambda: ScalingTheLoss(0.01), 1024.0**2),
}


def first_importance(folder, optimizer):
    """After one step: what the optimizer makes of the gradients is not in it."""
    run(folder, residual, pruner(step_interval=5), 1, optimizer=optimizer)
    return checkpoint(str(folder))["ec_estimator/pruning/importance"]


@pytest.fixture(scope="module")
def plain_importance(tmp_path_factory):
    return first_importance(tmp_path_factory.mktemp("plain"), OPTIMIZERS["plain"][0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_importance_is_that_of_the_loss_whatever_the_optimizer_does(
    name, plain_importance, tmp_path
):
    optimizer, scale = OPTIMIZERS[name]
    expected = plain_importance
    actual = first_importance(tmp_path / "other", optimizer)
    assert np.count_nonzero(expected) > 10
    np.testing.assert_allclose(actual, scale * expected, rtol=1e-5)


# The twin of the slow ones is the same with Adam, and their importance above.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "adam"))
        for name in OPTIMIZERS
    ],
)
def test_pruning_ends_at_the_target_whatever_the_optimizer(name, tmp_path):
    run(tmp_path, residual, pruner(), optimizer=OPTIMIZERS[name][0])
    values = checkpoint(str(tmp_path))
    alive = values["ec_estimator/pruning/alive"]
    cut = read_artifact(str(tmp_path)).variables["conv2d_1/kernel"]
    assert len(cut.kept[2]) < cut.shape[2] and not alive.all()
    gone = np.delete(np.arange(cut.shape[2]), cut.kept[2])
    np.testing.assert_array_equal(values["conv2d_1/kernel"][:, :, gone], 0)


def test_gradients_that_are_only_looked_at_do_not_count(tmp_path):
    def model_fn_of(looks):
        def model_fn(features, labels, mode):
            h = tf.layers.dense(tf.layers.flatten(features["x"]), 12, tf.nn.relu)
            h = tf.layers.dense(h, 10, tf.nn.relu)
            logits = tf.layers.dense(h, models.CLASSES)
            if mode == tf.estimator.ModeKeys.PREDICT:
                return tf.estimator.EstimatorSpec(mode, {"logits": logits})
            loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
            kernels = tf.trainable_variables()[::2]
            if looks:
                (seen,) = tf.gradients(loss, kernels[-1:])
                tf.summary.scalar("norm", tf.norm(seen))
            loss += 1e-3 * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
            step = tf.train.get_global_step()
            train_op = tf.train.GradientDescentOptimizer(0.05).minimize(loss, step)
            return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

        return model_fn

    found = []
    for looks in (False, True):
        folder = str(tmp_path / str(looks))
        compressor = pruner(compression_ratio=0.3, step_interval=9)
        estimator = tf.estimator.Estimator(
            ec.compress(model_fn_of(looks), compressor),
            config=models.run_config(folder),
        )
        estimator.train(models.dataset((4, 4, 3)), max_steps=3)
        found.append(checkpoint(folder)["ec_estimator/pruning/importance"])
    assert np.count_nonzero(found[0]) > 10
    np.testing.assert_array_equal(*found)
