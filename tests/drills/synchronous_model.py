"""A user's code: the classifier on embeddings; its workers average their gradients."""
import tensorflow.compat.v1 as tf

from tests.drills.embeddings_model import (
    estimator_spec,
    eval_input_fn,
    serving_input_receiver_fn,
    train_input_fn,
)

__all__ = ["model_fn", "train_input_fn", "eval_input_fn", "serving_input_receiver_fn"]


def model_fn(features, labels, mode, config):
    optimizer = tf.train.AdamOptimizer(1e-2)
    if mode != tf.estimator.ModeKeys.TRAIN:
        return estimator_spec(features, labels, mode, optimizer)
    # Of all workers, the chief among them: none is spare.
    optimizer = tf.train.SyncReplicasOptimizer(optimizer, config.num_worker_replicas)
    spec = estimator_spec(features, labels, mode, optimizer)
    hook = optimizer.make_session_run_hook(config.is_chief)
    return spec._replace(training_hooks=[hook])
