"""What only the training graph has: heads, moving statistics, averages of weights."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from tests import models
from tests.pruning.runs import pruner
from tests.training.test_zoo import checkpoint


def run(folder, network, optimizer=tf.train.AdamOptimizer, shape=(8, 8, 3), steps=5):
    """Trains with a Pruner; the loss is all that the network added to the losses."""

    def model_fn(features, labels, mode):
        training = mode == tf.estimator.ModeKeys.TRAIN
        logits = network(features["x"], training)
        if not training:
            return tf.estimator.EstimatorSpec(mode, predictions={"logits": logits})
        tf.losses.sparse_softmax_cross_entropy(labels, logits)
        loss = tf.losses.get_total_loss()
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train_op = optimizer(0.01).minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    tf.estimator.Estimator(
        ec.compress(model_fn, pruner()), config=models.run_config(str(folder))
    ).train(models.dataset(shape), max_steps=steps)
    return model_fn, models.dataset(shape)


def momentum(rate):
    return tf.train.MomentumOptimizer(rate, 0.9)


def trunk(x, training):
    h = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu, name="a")
    g = tf.layers.conv2d(h, 6, 3, activation=tf.nn.relu, name="b")
    return h, tf.layers.dense(tf.reduce_mean(g, [1, 2]), models.CLASSES, name="out")


def with_head(x, training):
    h, logits = trunk(x, training)
    if training:
        y = tf.layers.conv2d(h, 7, 3, use_bias=False, name="aux/conv")
        y = tf.layers.batch_normalization(y, training=True, name="aux/own")
        z = tf.layers.batch_normalization(h, training=True, name="aux/trunks")
        z = tf.layers.separable_conv2d(z, 7, 3, name="aux/separable")
        y = tf.reduce_mean(tf.nn.relu(y) + z, [1, 2])
        tf.losses.add_loss(tf.reduce_mean(tf.layers.dense(y, 3, name="aux/out") ** 2))
        # Nobody can cut through this; the trunk is cut all the same.
        tf.losses.add_loss(tf.reduce_mean(tf.nn.softmax(h)))
    return logits


def gone(folder, name="a/kernel"):
    """The output channels of a kernel that the artifact lacks."""
    cut = read_artifact(folder).variables[name]
    return sorted(set(range(cut.shape[-1])) - set(cut.kept[-1]))


def small_shapes(folder):
    variables = read_artifact(folder).variables
    return {name: cut.small_shape for name, cut in variables.items()}


@pytest.mark.parametrize(
    "optimizer,slots",
    [(momentum, ["Momentum"]), (tf.train.AdamOptimizer, ["Adam", "Adam_1"])],
)
def test_a_head_stops_reading_what_is_gone_and_keeps_what_it_makes(
    optimizer, slots, tmp_path
):
    folder = str(tmp_path)
    run(folder, with_head, optimizer)
    removed, shapes = gone(folder), small_shapes(folder)
    left = 8 - len(removed)
    assert 0 < left < 8
    values = checkpoint(folder)
    for name in ("aux/conv/kernel", "aux/separable/pointwise_kernel"):
        slices = np.moveaxis(values[name], 2, 0)
        assert not slices[removed].any()
        assert all(each.any() for each in np.delete(slices, removed, 0))
        for slot in slots:
            assert values[f"{name}/{slot}"].any()
            assert not values[f"{name}/{slot}"][:, :, removed].any()
    assert shapes["aux/conv/kernel"] == (3, 3, left, 7)
    assert shapes["aux/separable/depthwise_kernel"] == (3, 3, left, 1)
    assert shapes["aux/separable/pointwise_kernel"] == (1, 1, left, 7)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        assert shapes[f"aux/trunks/{name}"] == (left,)
        assert shapes[f"aux/own/{name}"] == (7,)
    assert shapes["aux/out/kernel"] == (7, 3)


def test_the_small_network_trains_with_its_head(tmp_path):
    def network(x, training):
        h, logits = trunk(x, training)
        if training:
            y = tf.layers.conv2d(h, 7, 3, name="aux/conv")
            y = tf.layers.batch_normalization(y, training=True, name="aux/own")
            tf.losses.add_loss(tf.reduce_mean(y**2))
        return logits

    model_fn, input_fn = run(tmp_path / "whole", network)
    small = tf.estimator.Estimator(
        ec.finetune(model_fn, str(tmp_path / "whole")),
        config=models.run_config(str(tmp_path / "small")),
    )
    small.train(input_fn, max_steps=2)
    left = 8 - len(gone(str(tmp_path / "whole")))
    assert checkpoint(str(tmp_path / "small"))["aux/conv/kernel"].shape[2] == left


def test_a_heads_gradient_is_gated_before_anybody_sees_it():
    """A clipping by norm must not count the weights that are gone."""
    from ec_estimator.graph.layers import find_layers
    from ec_estimator.graph.plan import make_plan
    from ec_estimator.training.attachment import Attachment

    compressor = pruner()
    x = np.random.RandomState(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        _, logits = trunk(tf.placeholder(tf.float32, x.shape), False)
        plan = make_plan("predict", graph, find_layers(graph), [logits], [compressor])
    with tf.Graph().as_default() as graph, tf.Session() as session:
        attachment = Attachment(graph, plan, [compressor])
        assert "aux/conv/kernel" not in attachment.names
        with attachment.gradients(), attachment.variables():
            logits = with_head(tf.placeholder_with_default(x, x.shape), True)
            loss = tf.add_n(tf.losses.get_losses()) + tf.reduce_sum(logits)
            optimizer = tf.train.GradientDescentOptimizer(0.1)
            pairs = optimizer.compute_gradients(loss)
        gradients = {v.op.name: g for g, v in pairs if g is not None}
        optimizer.apply_gradients(pairs)
        attachment.finish()
        assert {"aux/conv/kernel", "aux/separable/pointwise_kernel"} <= attachment.names
        # These have no channels of the trunk in an axis that they sum over.
        assert attachment.names.isdisjoint({"aux/out/kernel", "aux/conv/bias"})
        session.run(tf.global_variables_initializer())
        alive = graph.get_tensor_by_name("ec_estimator/pruning/alive:0")
        groups = plan.details["pruning"].channels.of("a/kernel", 3)
        values = np.ones(alive.shape.as_list(), np.float32)
        values[groups[[1, 6]]] = 0
        found = session.run(gradients, {alive: values})
    zero = (found["aux/conv/kernel"] == 0).all(axis=(0, 1, 3))
    assert zero.tolist() == [False, True, False, False, False, False, True, False]


def test_an_optimizer_of_the_heads_own_leaves_its_zeros(tmp_path):
    def model_fn(features, labels, mode):
        h, logits = trunk(features["x"], True)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=logits)
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        aux = tf.reduce_mean(tf.layers.conv2d(h, 7, 3, name="aux/conv") ** 2)
        head = tf.trainable_variables("aux")
        body = [v for v in tf.trainable_variables() if v not in head]
        # The head first: nothing planned is in its list of variables.
        train_head = tf.train.AdamOptimizer(0.1).minimize(aux, var_list=head)
        with tf.control_dependencies([train_head]):
            train_op = tf.train.AdamOptimizer(0.01).minimize(
                loss, tf.train.get_global_step(), body
            )
        return tf.estimator.EstimatorSpec(mode, loss=loss + aux, train_op=train_op)

    folder = str(tmp_path)
    tf.estimator.Estimator(
        ec.compress(model_fn, pruner()), config=models.run_config(folder)
    ).train(models.dataset((8, 8, 3)), max_steps=5)
    removed = gone(folder)
    kernel = checkpoint(folder)["aux/conv/kernel"]
    assert removed and not kernel[:, :, removed].any()
    assert small_shapes(folder)["aux/conv/kernel"] == (3, 3, 8 - len(removed), 7)


def test_kernels_that_are_computed_stop_reading_what_is_gone(tmp_path):
    """No layer names `v`, the channels do."""

    def network(x, training):
        h = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu, name="a")
        v = tf.get_variable("v", [1, 1, 8, 6])
        scale = tf.get_variable("scale", [6], initializer=tf.ones_initializer())
        h = tf.nn.relu(tf.nn.conv2d(h, v * scale, 1, "SAME"))
        return tf.layers.dense(tf.reduce_mean(h, [1, 2]), models.CLASSES)

    folder = str(tmp_path)
    run(folder, network)
    removed = gone(folder)
    assert 0 < len(removed) < 8
    assert not checkpoint(folder)["v"][:, :, removed].any()


def test_averages_of_weights_are_cut_like_the_weights(tmp_path):
    def model_fn(features, labels, mode):
        _, logits = trunk(features["x"], True)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=logits)
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.train.get_global_step()
        train_op = tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss, step)
        with tf.control_dependencies([train_op]):
            average = tf.train.ExponentialMovingAverage(0.5)
            train_op = average.apply(tf.trainable_variables())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    folder = str(tmp_path)
    tf.estimator.Estimator(
        ec.compress(model_fn, pruner()), config=models.run_config(folder)
    ).train(models.dataset((8, 8, 3)), max_steps=5)
    shapes = small_shapes(folder)
    left = 8 - len(gone(folder))
    assert 0 < left < 8
    for name in ("a/kernel", "a/bias", "b/kernel", "b/bias", "out/kernel"):
        assert shapes[f"{name}/ExponentialMovingAverage"] == shapes[name]
    assert shapes["b/kernel"][2] == left


@pytest.mark.parametrize("fused", [True, False])
def test_moving_statistics_of_a_session_are_cut(fused, tmp_path):
    folder = str(tmp_path)
    with tf.Graph().as_default():
        x, y = tf.data.make_one_shot_iterator(models.dataset((8, 8, 3))()).get_next()
        h = tf.layers.conv2d(x["x"], 8, 3, use_bias=False, name="a")
        h = tf.layers.batch_normalization(h, training=True, fused=fused, name="bn")
        logits = tf.layers.dense(tf.reduce_mean(tf.nn.relu(h), [1, 2]), models.CLASSES)
        loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train_op = tf.train.AdamOptimizer(0.01).minimize(loss)
        hook = ec.CompressionHook(pruner(), folder)
        with tf.train.MonitoredSession(hooks=[hook]) as session:
            for _ in range(5):
                session.run(train_op)
    left = 8 - len(gone(folder))
    assert 0 < left < 8
    shapes = small_shapes(folder)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        assert shapes[f"bn/{name}"] == (left,)


def test_a_table_that_only_trains_gets_its_sparse_gradients(tmp_path):
    """As with sampled softmax: a mask would make them dense."""

    def network(x, training):
        h, logits = trunk(x, training)
        if training:
            table = tf.get_variable("table", [9, 8])
            rows = tf.gather(table, [1, 3])
            scores = tf.matmul(tf.reduce_mean(h, [1, 2]), rows, transpose_b=True)
            tf.losses.add_loss(tf.reduce_mean(scores**2))
        return logits

    run(tmp_path, network)
    left = 8 - len(gone(str(tmp_path)))
    assert small_shapes(str(tmp_path))["table"] == (9, left)


# Its smaller twins are the heads of `with_head`.
@pytest.mark.slow
def test_inception_v3s_auxiliary_head_goes_with_its_trunk(tmp_path):
    folder = str(tmp_path)
    run(folder, models._inception_network, shape=(107, 107, 3), steps=3)
    artifact = read_artifact(folder)
    scope = "InceptionV3/AuxLogits/"
    shapes = {
        name[len(scope) :]: cut.small_shape
        for name, cut in artifact.variables.items()
        if name.startswith(scope)
    }
    # It reads what the first layers of the next block read.
    cut = artifact.variables[scope + "Conv2d_1b_1x1/weights"]
    twin = artifact.variables["InceptionV3/Mixed_7a/Branch_0/Conv2d_0a_1x1/weights"]
    assert cut.shape == (1, 1, 768, 128)
    assert cut.kept[2] == twin.kept[2] and len(cut.kept[2]) < 768
    assert shapes["Conv2d_1b_1x1/weights"] == (1, 1, len(cut.kept[2]), 128)
    assert shapes["Conv2d_1b_1x1/BatchNorm/moving_mean"] == (128,)
    assert shapes["Conv2d_2b_1x1/weights"] == (1, 1, 768, models.CLASSES)
    removed = sorted(set(range(768)) - set(cut.kept[2]))
    kernel = checkpoint(folder)[scope + "Conv2d_1b_1x1/weights"]
    assert not kernel[:, :, removed].any()


@pytest.mark.parametrize("use_resource", [False, True])
def test_a_step_that_does_not_take_the_branch_of_a_layer_is_a_step(
    use_resource, tmp_path
):
    def network(x, training):
        h = tf.layers.dense(tf.layers.flatten(x), 8, tf.nn.relu, name="a")
        w = tf.get_variable("w", [8, 8], use_resource=use_resource)
        step = tf.train.get_or_create_global_step()
        taken = tf.equal(step % 2, 0) if training else tf.constant(True)
        h = tf.cond(taken, lambda: tf.nn.relu(tf.matmul(h, w)), lambda: 1.0 * h)
        return tf.layers.dense(h, models.CLASSES, name="out")

    run(tmp_path, network)
    values = checkpoint(str(tmp_path))
    assert values["global_step"] == 5
    assert np.any(values["ec_estimator/pruning/importance"] > 0)
