"""What keeps Horovod's ranks alike.

Each rank runs the trials itself, on its own copy of the model. They come out the same
if what they read is the same: weights are, when Horovod averages all gradients; of our
state each rank's importance and recent values come from its own batches, so rank 0's
are taken. Step sizes get averaged gradients (quantization.adam).
"""
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import CompressionError
from ec_estimator.core.horovod import horovod_of
from ec_estimator.core.memory import recall, remember
from ec_estimator.core.replicas import variables_of

_RANKS = "ranks"


class Ranks:
    """Shares rank 0's state, and finds what differs. Does nothing in a graph that has
    no ops of Horovod.

    All ranks have to call the same methods in the same order.

    Args:
      attachment: training.attachment.Attachment, finished.
    """

    def __init__(self, attachment):
        self._names = []
        graph = attachment.graph
        horovod = horovod_of(graph)
        if horovod is None:
            return
        state = attachment.state
        weights = [v for v in variables_of(graph) if v.op.name in attachment.names]
        step = tf.train.get_global_step(graph)
        with graph.as_default(), tf.name_scope("ec_estimator/ranks/"):
            counted = state if step is None else [*state, step]
            self._share = horovod.broadcast_variables(counted, 0)
            different = [
                tf.reduce_any(tf.not_equal(v, horovod.broadcast(v, 0)))
                for v in [*weights, *state]
            ]
            # Averaged, so that all ranks stop; one that waits for others that have
            # stopped would not say why.
            self._different = horovod.allreduce(tf.cast(different, tf.float32))
        self._names = [v.op.name for v in [*weights, *state]]

    def share(self, session):
        """Gives every rank the state and the global step of rank 0."""
        if self._names:
            session.run(self._share)

    def check(self, session, when):
        """Are the compressed weights and our state the same on all ranks?

        Args:
          when: what is about to be or was done, for the error.

        Raises:
          CompressionError: on every rank; one of them is not.
        """
        if not self._names:
            return
        different = session.run(self._different)
        names = [name for name, share in zip(self._names, different) if share]
        if names:
            raise CompressionError(
                f"{when}: {names[0]!r} is not the same on all Horovod ranks "
                f"({len(names)} of {len(self._names)} variables differ); give every "
                "rank hvd.BroadcastGlobalVariablesHook(0) as a hook, and take all "
                "gradients with hvd.DistributedOptimizer"
            )


def ranks_of(attachment):
    """The Ranks of a training graph, made once: sessions after the first find the
    graph finalized."""
    graph = attachment.graph
    if recall(graph, _RANKS) is None:
        remember(graph, _RANKS, Ranks(attachment))
    return recall(graph, _RANKS)
