"""Counts of networks that were really pruned."""
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.report.data import Change, pruning_report
from tests import models
from tests.shrink import networks
from tests.shrink.test_networks import prune

PREDICT = tf.estimator.ModeKeys.PREDICT
LAYERS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")


def profile(model_fn, shape):
    """(parameters, multiply-accumulates of layers) as TensorFlow counts them."""
    with tf.Graph().as_default() as graph:
        tf.train.get_or_create_global_step()
        features = {"x": tf.placeholder(tf.float32, (1, *shape))}
        model_fn(features=features, labels=None, mode=PREDICT, config=None)
        variables = [v for v in tf.global_variables() if v.dtype.is_floating]
        params = sum(v.shape.num_elements() for v in variables)
        options = tf.profiler.ProfileOptionBuilder(
            tf.profiler.ProfileOptionBuilder.float_operation()
        )
        # By type of op: a chain, each with its own operations.
        node = tf.profiler.profile(
            graph, cmd="op", options=options.with_empty_output().build()
        )
        operations = 0
        while node.children:
            (node,) = node.children
            operations += node.float_ops if node.name in LAYERS else 0
    return params, operations / 2


@pytest.mark.parametrize(
    "name",
    [
        "mobile_net",
        "shared",
        "u_net",
        pytest.param("transformer", marks=pytest.mark.slow),
    ],
)
def test_the_totals_are_those_of_tensorflows_profiler(name, tmp_path):
    network, shape = networks.SMALL[name]
    _, model_fn, _ = prune(str(tmp_path), network, shape, 0.5)

    def whole(features, labels, mode, config):
        return model_fn(features, labels, mode)

    total = pruning_report(str(tmp_path)).total
    before = profile(whole, shape)
    after = profile(ec.finetune(model_fn, str(tmp_path)), shape)
    assert (total.params.before, total.macs.before) == before
    assert (total.params.after, total.macs.after) == after
    assert after < before


def mlp(x, training):
    """Kernels of 6 x 8 and 8 x 5, each in two parts, and two biases."""
    with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
        return tf.layers.dense(tf.layers.dense(x, 8, tf.nn.relu), models.CLASSES)


def check_mlp(folder):
    report = pruning_report(folder)
    assert [layer.kernel for layer in report.layers] == [
        "dense/kernel",
        "dense_1/kernel",
    ]
    assert report.layers[0].channels == Change(8, 4)
    assert report.total.params == Change(48 + 8 + 40 + 5, 24 + 4 + 20 + 5)
    assert report.total.macs == Change(48 + 40, 24 + 20)


def test_partitioned_variables_are_counted_as_one(tmp_path):
    prune(str(tmp_path), mlp, (6,), 0.5)
    check_mlp(str(tmp_path))


def test_a_run_in_a_session_is_counted_alike(tmp_path):
    config = ec.PrunerConfig(compression_ratio=0.5, step_interval=2)
    with tf.Graph().as_default():
        data = tf.data.make_one_shot_iterator(models.dataset((6,))()).get_next()
        loss = tf.losses.sparse_softmax_cross_entropy(data[1], mlp(data[0]["x"], True))
        train_op = tf.train.AdamOptimizer().minimize(loss)
        hook = ec.CompressionHook(ec.Pruner(config), save_dir=str(tmp_path))
        with tf.train.MonitoredSession(hooks=[hook]) as session:
            for _ in range(4):
                session.run(train_op)
    check_mlp(str(tmp_path))
