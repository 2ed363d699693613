"""How planning and rewiring grow with a network: seconds for each thousand ops.

    python -m tests.benchmarks.plan_time

slim's ResNets and encoders of several depths. For each the graph that predicts is
built, planned for every compressor, and the training graph built through ec.compress,
gradients included. What is linear has the same figure in every row.
"""
import tempfile
import time

import tensorflow.compat.v1 as tf
from absl import app
from tensorflow.contrib import slim
from tensorflow.contrib.layers import layer_norm
from tensorflow.contrib.slim import nets

import ec_estimator as ec
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from tests.benchmarks import record

COMPRESSORS = {
    "sparsifier": lambda: ec.Sparsifier(ec.SparsifierConfig()),
    "pruner": lambda: ec.Pruner(ec.PrunerConfig(compression_ratio=0.5)),
    "quantizer": lambda: ec.LSQQuantizer(ec.QuantizerConfig()),
}


def resnet(depth):
    build = getattr(nets.resnet_v1, f"resnet_v1_{depth}")

    def network(x, training):
        with slim.arg_scope(nets.resnet_utils.resnet_arg_scope()):
            y, _ = build(x, 10, is_training=training)
        return tf.squeeze(y, [1, 2])

    return network, (2, 64, 64, 3)


def encoder(layers, width=64, heads=4):
    def split(x):
        x = tf.reshape(x, [-1, x.shape[1], heads, width // heads])
        return tf.transpose(x, [0, 2, 1, 3])

    def network(x, training):
        for _ in range(layers):
            q, k, v = (split(tf.layers.dense(x, width)) for _ in range(3))
            scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / heads)
            mixed = tf.transpose(tf.matmul(scores, v), [0, 2, 1, 3])
            mixed = tf.reshape(mixed, [-1, x.shape[1], width])
            x = layer_norm(x + tf.layers.dense(mixed, width), begin_norm_axis=-1)
            h = tf.layers.dense(tf.layers.dense(x, 4 * width, tf.nn.relu), width)
            x = layer_norm(x + h, begin_norm_axis=-1)
        return tf.layers.dense(x[:, 0], 10)

    return network, (2, 16, width)


NETWORKS = {
    **{f"resnet_v1_{depth}": resnet(depth) for depth in (50, 101, 152)},
    **{f"encoder_{layers}": encoder(layers) for layers in (6, 12, 24)},
}


def model_fn_of(network):
    def model_fn(features, labels, mode):
        logits = network(features["x"], mode == tf.estimator.ModeKeys.TRAIN)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"logits": logits})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.train.get_or_create_global_step()
        train_op = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, step)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def planned(network, shape, compressor):
    """(ops of the graph that predicts, seconds that a plan takes)."""
    with tf.Graph().as_default() as graph:
        logits = network(tf.placeholder(tf.float32, shape), False)
        started = time.perf_counter()
        make_plan("infer", graph, find_layers(graph), [logits], [compressor])
        return len(graph.get_operations()), time.perf_counter() - started


def trained(network, shape, compressor):
    """(ops of the training graph, seconds to build it); compressor: or None."""
    model_fn = model_fn_of(network)
    with tf.Graph().as_default() as graph, tempfile.TemporaryDirectory() as folder:
        features = {"x": tf.placeholder_with_default(tf.ones(shape), shape)}
        labels, mode = tf.zeros([shape[0]], tf.int32), tf.estimator.ModeKeys.TRAIN
        started = time.perf_counter()
        if compressor is None:
            model_fn(features, labels, mode)
        else:
            config = tf.estimator.RunConfig(folder)
            ec.compress(model_fn, compressor)(features, labels, mode, config)
        return len(graph.get_operations()), time.perf_counter() - started


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    figures, rows = {}, []
    for name, (network, shape) in NETWORKS.items():
        plain_ops, plain = trained(network, shape, None)
        figures[name] = {"plain": {"ops": plain_ops, "build_s": round(plain, 2)}}
        for kind, make in COMPRESSORS.items():
            ops, plan = planned(network, shape, make())
            train_ops, build = trained(network, shape, make())
            figures[name][kind] = {
                "plan_s": round(plan, 3),
                "plan_ms_per_1000_ops": round(plan / ops * 1e6, 2),
                "ops": train_ops,
                "ops_to_plain": round(train_ops / plain_ops, 2),
                "build_s": round(build, 2),
                "build_to_plain": round(build / plain, 2),
                "build_ms_per_1000_plain_ops": round(build / plain_ops * 1e6, 1),
            }
            rows.append((name, kind, *figures[name][kind].values()))
            record.save("plan_time", "tests.benchmarks.plan_time", figures)
    header = ("network", "compressor", *figures[name][kind])
    record.print_table(header, rows)


if __name__ == "__main__":
    app.run(main)
