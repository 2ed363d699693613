"""Gradients that several workers send before they are applied: SyncReplicasOptimizer.

    worker: gradient > AccumulatorApplyGradient (train_op)
    chief:  AccumulatorTakeGradient > ApplyAdam, the global step (a queue runner)

The two meet in an accumulator on the parameter server, so no edge of the graph leads
from a train_op to the update that it makes.
"""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.graph.op_types import SENDS_GRADIENTS, TAKES_GRADIENTS

# The input of an op that sends gradients which is sent, if it is dense.
GRADIENT_SENT = 2


def taken(graph):
    """The ops of a graph that take an accumulated gradient, in order of creation."""
    return [op for op in graph.get_operations() if op.type in TAKES_GRADIENTS]


def sent_to(take):
    """The ops that send gradients to the accumulator that `take` empties."""
    return [op for op in take.inputs[0].consumers() if op.type in SENDS_GRADIENTS]


def average(value, take, update):
    """Has each update of an accumulator's weights update something else as well.

    Args:
      value: float32 tensor that each worker sends.
      take: op that takes gradients; as many values as it takes are averaged.
      update: callable(average) -> ops, which run before `take` does. They are the
        chief's alone, and must not read what a training step computes.

    Returns:
      The op that sends a worker's value; to be run with every training step.
    """
    accumulator = tf.ConditionalAccumulator(
        value.dtype, value.shape, shared_name="ec_estimator/averaged"
    )
    # It counts steps of its own, from 0 wherever training starts, so it cannot tell
    # what is stale: it takes all, and is never the one that others wait for.
    send = accumulator.apply_grad(value, local_step=tf.int64.max)
    for op in update(accumulator.take_grad(take.inputs[1])):
        tf_private.wait_for(take, op)
    return send
