"""A small model that movement pruning trains, for the tests of that example."""
import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from examples.movement_pruning import MovementConfig, MovementPruner
from tests import models

# Other tests of this process have the package's own compressors alone.
del ec.flags.COMPRESSORS["movement"]

RATE = 0.05
X = np.linspace(-1, 2, 24, dtype=np.float32).reshape(4, 6) ** 3
Y = np.linspace(1, -1, 12, dtype=np.float32).reshape(4, 3)


def pruner(**kwargs):
    return MovementPruner(
        MovementConfig(**{"target": 0.6, "step_interval": 2, "num_trials": 3, **kwargs})
    )


def descent():
    return tf.train.GradientDescentOptimizer(RATE)


def adam():
    return tf.train.AdamOptimizer(0.01)


def momentum():
    return tf.train.MomentumOptimizer(0.01, 0.9)


def two_layers(x):
    return tf.layers.dense(tf.layers.dense(x, 5, tf.nn.tanh, name="a"), 3, name="b")


def recurrent(x):
    x = tf.stack([x, x**2, x[:, ::-1]], axis=1)
    lstm = tf.keras.layers.LSTM(4, implementation=2, name="lstm")
    return tf.layers.dense(lstm(x), 3, name="b")


def clipped(optimizer, loss):
    gradients, variables = zip(*optimizer.compute_gradients(loss))
    gradients, _ = tf.clip_by_global_norm(gradients, 1e-3)
    return optimizer.apply_gradients(
        zip(gradients, variables), tf.train.get_global_step()
    )


def minimized(optimizer, loss):
    return optimizer.minimize(loss, tf.train.get_global_step())


def estimator(folder, compressors, network=two_layers, make=descent, train=minimized):
    def model_fn(features, labels, mode):
        logits = network(features["x"])
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions={"logits": logits})
        loss = tf.reduce_mean((logits - labels) ** 2)
        train_op = train(make(), loss) if mode == tf.estimator.ModeKeys.TRAIN else None
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return tf.estimator.Estimator(
        ec.compress(model_fn, compressors) if compressors else model_fn,
        config=models.run_config(str(folder)),
    )


def same_batch():
    return tf.data.Dataset.from_tensors(({"x": X}, Y)).repeat()


def values(folder):
    reader = tf.train.load_checkpoint(str(folder))
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def initial_values(folder, network=two_layers):
    """A checkpoint's values before the first step, made by a step of rate 0."""
    still = estimator(
        folder, pruner(), network, lambda: tf.train.GradientDescentOptimizer(0.0)
    )
    return values_after(still, 1)


def values_after(trained, steps):
    trained.train(same_batch, max_steps=steps)
    return values(trained.model_dir)
