"""The digits, pruned and quantized, on several ranks of Horovod; see docs/cluster.md.

    horovodrun -np 2 python -m examples.horovod_digits --model_dir=digits
"""
import horovod.tensorflow as hvd
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from examples import digits_model

FLAGS = flags.FLAGS
flags.DEFINE_string("model_dir", None, "folder of rank 0", required=True)
flags.DEFINE_integer("steps", 400, "training steps", lower_bound=100)


def model_fn(features, labels, mode):
    """The digits model with an optimizer that averages gradients over all ranks."""
    if mode != tf.estimator.ModeKeys.TRAIN:
        return digits_model.model_fn(features, labels, mode)
    logits = digits_model.network(features["image"], training=True)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tf.train.AdamOptimizer(digits_model.LEARNING_RATE * hvd.size())
    optimizer = hvd.DistributedOptimizer(optimizer)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def main(_):
    hvd.init()
    trials = {"step_interval": FLAGS.steps // 10, "num_trials": 5}
    compressors = [
        ec.Pruner(ec.PrunerConfig(compression_ratio=0.5, **trials)),
        ec.LSQQuantizer(ec.QuantizerConfig(**trials)),
    ]
    # The other ranks' are temporary folders that Estimator makes.
    model_dir = FLAGS.model_dir if hvd.rank() == 0 else None
    estimator = tf.estimator.Estimator(ec.compress(model_fn, compressors), model_dir)
    hooks = [hvd.BroadcastGlobalVariablesHook(0)]
    train_spec = tf.estimator.TrainSpec(
        digits_model.train_input_fn, FLAGS.steps, hooks=hooks
    )
    if hvd.rank() > 0:
        estimator.train(train_spec.input_fn, hooks, max_steps=FLAGS.steps)
        return
    eval_spec = tf.estimator.EvalSpec(digits_model.eval_input_fn, steps=None)
    metrics, _ = ec.train_and_evaluate(estimator, train_spec, eval_spec)
    print(f"accuracy {metrics['accuracy']:.3f}")


if __name__ == "__main__":
    app.run(main)
