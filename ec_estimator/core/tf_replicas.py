"""The private names of TensorFlow by which we get past a distribution strategy."""
import contextlib

import tensorflow.compat.v1 as tf
from tensorflow.python.distribute import values


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


class ContainerOfOne(values.AggregatingVariable):
    """A variable as a strategy's container of variables shows it to user code, in a
    graph that no other replica builds in: it is assigned to at once.

    TensorFlow reads a container in other places than a variable: tf.cast of a variable
    of that type already reads nothing.

    Args:
      variable: a resource variable.
    """

    def __init__(self, variable):
        strategy = tf.distribute.get_strategy()
        super().__init__(strategy, variable, variable.aggregation)

    def _assign_func(self, *args, **kwargs):
        return kwargs.pop("f")(self.get(), *args, **kwargs)

    def _set_save_slice_info(self, save_slice_info):
        self.get()._set_save_slice_info(save_slice_info)


@contextlib.contextmanager
def intercept_merges(call):
    """While open, each merge_call of the replica that runs in this thread is `call`'s.

    Args:
      call: callable(merge, merge_fn, args, kwargs) -> what merge_call returns; `merge`,
        a callable(merge_fn, args, kwargs), waits for the other replicas and has the
        first one's merge_fn run.
    """
    # The context of all that is under no strategy is one for the whole process.
    if not tf.distribute.has_strategy():
        yield
        return
    replica = tf.distribute.get_replica_context()
    merge = replica._merge_call

    def merge_call(merge_fn, args, kwargs):
        return call(merge, merge_fn, args, kwargs)

    replica._merge_call = merge_call
    try:
        yield
    finally:
        del replica._merge_call


def starts_from_checkpoint(merge_fn):
    """Whether this is what tf.train.init_from_checkpoint has replicas run together."""
    module = getattr(merge_fn, "__module__", None)
    return module == tf.train.init_from_checkpoint.__module__
