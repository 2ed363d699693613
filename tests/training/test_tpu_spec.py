"""A model_fn that returns a TPUEstimatorSpec, as BERT's scripts do on any machine."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec

TRAIN, PREDICT = tf.estimator.ModeKeys.TRAIN, tf.estimator.ModeKeys.PREDICT


def model_fn(features, labels, mode, params):
    h = tf.layers.dense(features["x"], 16, tf.nn.relu, name="hidden")
    logits = tf.layers.dense(h, 4, name="out")
    if mode == PREDICT:
        return tf.estimator.tpu.TPUEstimatorSpec(mode, predictions={"logits": logits})
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    train_op = None
    if mode == TRAIN:
        optimizer = tf.train.AdamOptimizer(0.01)
        train_op = optimizer.minimize(loss, tf.train.get_global_step())

    def metrics(labels, logits):
        return {"accuracy": tf.metrics.accuracy(labels, tf.argmax(logits, 1))}

    return tf.estimator.tpu.TPUEstimatorSpec(
        mode, loss=loss, train_op=train_op, eval_metrics=(metrics, [labels, logits])
    )


def batches(params):
    random = np.random.RandomState(0)
    x = random.standard_normal((32, 6)).astype(np.float32)
    labels = random.randint(4, size=32).astype(np.int32)
    data = tf.data.Dataset.from_tensor_slices(({"x": x}, labels)).repeat()
    return data.batch(params["batch_size"], drop_remainder=True)


@pytest.mark.parametrize(
    "compressor",
    [
        ec.Sparsifier(ec.SparsifierConfig(step_interval=2, num_trials=2)),
        ec.Pruner(ec.PrunerConfig(compression_ratio=0.5, step_interval=2)),
        ec.LSQQuantizer(ec.QuantizerConfig(step_interval=2, num_trials=2)),
    ],
    ids=lambda compressor: compressor.name,
)
def test_it_trains_evaluates_and_predicts(compressor, tmp_path):
    estimator = tf.estimator.tpu.TPUEstimator(
        ec.compress(model_fn, compressor),
        str(tmp_path),
        tf.estimator.tpu.RunConfig(),
        use_tpu=False,
        train_batch_size=8,
        eval_batch_size=8,
        predict_batch_size=8,
    )
    estimator.train(batches, max_steps=6)
    results = estimator.evaluate(batches, steps=2)
    assert np.isfinite(results["loss"]) and 0 <= results["accuracy"] <= 1
    row = next(iter(estimator.predict(batches)))
    assert row["logits"].shape == (4,)
    state = [n for n in estimator.get_variable_names() if n.endswith("/trial")]
    assert estimator.get_variable_value(state[0]) == compressor.config.num_trials
