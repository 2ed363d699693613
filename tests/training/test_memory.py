"""A graph that was compressed is gone when nobody holds it."""
import gc
import weakref

import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

COMPRESSORS = {
    "pruner": lambda: ec.Pruner(ec.PrunerConfig(compression_ratio=0.5)),
    "sparsifier": lambda: ec.Sparsifier(ec.SparsifierConfig()),
    "quantizer": lambda: ec.LSQQuantizer(ec.QuantizerConfig()),
}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_training_graph_goes_with_its_last_reference(name, tmp_path):
    def model_fn(features, labels, mode):
        h = tf.layers.dense(features, 8, tf.nn.relu)
        logits = tf.layers.dense(h, 3)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=logits)
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.train.get_or_create_global_step()
        train_op = tf.train.AdamOptimizer().minimize(loss, step)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    compressed = ec.compress(model_fn, COMPRESSORS[name]())
    graph = tf.Graph()
    with graph.as_default():
        compressed(
            tf.zeros([2, 4]),
            tf.zeros([2], tf.int32),
            tf.estimator.ModeKeys.TRAIN,
            config=models.run_config(str(tmp_path)),
        )
    reference = weakref.ref(graph)
    del graph
    gc.collect()
    assert reference() is None
