"""The private names of TensorFlow by which we get past a distribution strategy."""
import contextlib

import tensorflow.compat.v1 as tf


@contextlib.contextmanager
def no_creators(graph):
    """Context in which a variable of `graph` is just that: neither user code's variable
    creators nor a distribution strategy, which would make one on each replica's device
    and count the calls, get to see it."""
    stack = graph._variable_creator_stack
    graph._variable_creator_stack = []
    try:
        yield
    finally:
        graph._variable_creator_stack = stack


@contextlib.contextmanager
def around_merges(enter):
    """While open, the replica that runs in this thread is inside of `enter()` whenever
    it waits for the others: from its merge_call to when that returns.

    Args:
      enter: callable() -> context manager.
    """
    # The context of all that is under no strategy is one for the whole process.
    if not tf.distribute.has_strategy():
        yield
        return
    replica = tf.distribute.get_replica_context()
    merge = replica._merge_call

    def merge_call(*args):
        with enter():
            return merge(*args)

    replica._merge_call = merge_call
    try:
        yield
    finally:
        del replica._merge_call
