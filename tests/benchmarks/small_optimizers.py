"""Optimizers of the small benchmarks, as users have them, and their learning rates."""
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf


class Optimizer(NamedTuple):
    """minimize: callable(loss, global_step, rate) -> train_op; rate: callable(peak,
    global_step, steps of the run) -> the learning rate."""

    minimize: Any
    rate: Any


def _clipped_momentum(loss, step, rate):
    optimizer = tf.train.MomentumOptimizer(rate, 0.9)
    gradients, variables = zip(*optimizer.compute_gradients(loss))
    gradients, _ = tf.clip_by_global_norm(gradients, 1.0)
    return optimizer.apply_gradients(zip(gradients, variables), step)


def _adam(loss, step, rate):
    return tf.train.AdamOptimizer(rate).minimize(loss, step)


def _bert(loss, step, rate):
    """Adam with decoupled weight decay and without bias correction, gradients clipped
    by their global norm.

    Source: Devlin et al. 2019, arXiv 1810.04805; its optimization.py.
    """
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 1.0)
    assigns = [step.assign_add(1)]
    for variable, gradient in zip(variables, gradients):
        gradient = tf.convert_to_tensor(gradient)
        m, v = (
            tf.get_variable(
                f"{variable.op.name}/{slot}",
                variable.shape,
                initializer=tf.zeros_initializer(),
                trainable=False,
            )
            for slot in ("adam_m", "adam_v")
        )
        next_m = 0.9 * m + 0.1 * gradient
        next_v = 0.999 * v + 0.001 * tf.square(gradient)
        change = next_m / (tf.sqrt(next_v) + 1e-6)
        if variable.op.name.endswith("kernel"):
            change += 0.01 * variable
        assigns.append(m.assign(next_m))
        assigns.append(v.assign(next_v))
        assigns.append(variable.assign_sub(rate * change))
    return tf.group(assigns)


def _constant(peak, step, steps):
    return peak


def _warmed_up(peak, step, steps):
    """Rises for a tenth of the steps, then falls to zero, both linearly."""
    part = tf.cast(step, tf.float32) / steps
    return peak * tf.minimum(part / 0.1, tf.maximum(1 - part, 0.0) / 0.9)


OPTIMIZERS = {
    "clipped_momentum": Optimizer(_clipped_momentum, _constant),
    "adam": Optimizer(_adam, _constant),
    "bert": Optimizer(_bert, _warmed_up),
}
