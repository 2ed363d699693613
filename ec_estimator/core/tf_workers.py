"""The private names of TensorFlow by which the workers of a MultiWorkerMirroredStrategy
exchange tensors other than gradients."""
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import collective_ops

# What collective ops take, and what others are sent as.
_SENT = {tf.float16, tf.float32, tf.float64, tf.int32, tf.int64}


class Workers:
    """The workers of a strategy, each with the same graph.

    Ops find their counterparts by the order in which they are made, which has to be the
    same everywhere.

    Args:
      strategy: MultiWorkerMirroredStrategy with several workers.
    """

    def __init__(self, strategy):
        self._extended = strategy.extended
        # Of few bytes, or seldom: not worth a copy on each device.
        worker = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0])
        self._device = worker.replace(device_type="CPU", device_index=0).to_string()

    def broadcast(self, tensor):
        """The first worker's value of a tensor of static shape, on all of them."""
        with tf.device(self._device):
            sent = _as_sent(tensor)
            if self._extended.should_checkpoint:
                arrived = collective_ops.broadcast_send(
                    sent, sent.shape, sent.dtype, *self._keys()
                )
            else:
                arrived = collective_ops.broadcast_recv(
                    sent.shape, sent.dtype, *self._keys()
                )
            return tf.cast(arrived, tensor.dtype.base_dtype)

    def total(self, tensor):
        """The sum of a float tensor over all workers."""
        return self._reduced(tensor, "Id")

    def mean(self, tensor):
        """The mean of a float tensor over all workers."""
        return self._reduced(tensor, "Div")

    def _reduced(self, tensor, final_op):
        with tf.device(self._device):
            sent = _reducible(tensor)
            return collective_ops.all_reduce(sent, *self._keys(), "Add", final_op)

    def _keys(self):
        """Group size, group key and key of the next op."""
        keys = self._extended._collective_keys
        return (
            _count(self._extended),
            keys.get_group_key([self._device]),
            keys.get_op_instance_key(),
        )


def exchanged(gradient):
    """A gradient that workers, if there are any, can exchange together with others."""
    return gradient if workers() is None else _reducible(gradient)


def workers():
    """Workers of the strategy in whose scope this is called; None if that has one
    alone, or others than the processes of a MultiWorkerMirroredStrategy."""
    strategy = tf.distribute.get_strategy()
    is_collective = hasattr(strategy.extended, "_collective_keys")
    return (
        Workers(strategy) if is_collective and _count(strategy.extended) > 1 else None
    )


def _count(extended):
    return extended._num_replicas_in_sync // len(extended.worker_devices)


def _reducible(tensor):
    """The same tensor, from an op with an attribute `T`.

    TensorFlow's scoped allocator, which has many tensors reduced as one, looks for it,
    and leaves the whole graph alone where an op has none, as FakeQuant's gradients.
    """
    # It passes its input on, and is not optimized away as an identity would be.
    return tf.raw_ops.Snapshot(input=tensor)


def _as_sent(tensor):
    dtype = tensor.dtype.base_dtype
    if dtype in _SENT:
        return tf.identity(tensor)
    return tf.cast(tensor, tf.float32 if dtype.is_floating else tf.int32)
