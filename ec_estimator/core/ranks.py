"""Ranks: processes with a whole model each, that average gradients.

They are Horovod's, or the workers of tf.distribute's MultiWorkerMirroredStrategy. Each
rank has the same graph, and all of them run the same ops of this module in the same
order.
"""
import importlib
from typing import Any, Callable, NamedTuple

from ec_estimator.core import tf_workers


class Ranks(NamedTuple):
    """kind: what they are called; advice: what makes them alike; broadcast: rank 0's
    value of a tensor; mean: the mean of a tensor over all ranks; gradient: of each
    rank's, what the model's gradients are reduced to."""

    kind: str
    advice: str
    broadcast: Callable[[Any], Any]
    mean: Callable[[Any], Any]
    gradient: Callable[[Any], Any]


def ranks_in(graph):
    """The Ranks that a training graph is one of, or None.

    Horovod's are known by its ops: whoever put them there has imported Horovod, so this
    package needs no setting for it and does not depend on it. Workers are known by the
    strategy that the graph is built under.
    """
    if any(op.type.startswith("Horovod") for op in graph.get_operations()):
        horovod = importlib.import_module("horovod.tensorflow")
        return Ranks(
            "Horovod ranks",
            "give every rank hvd.BroadcastGlobalVariablesHook(0) as a hook, and take "
            "all gradients with hvd.DistributedOptimizer",
            lambda tensor: horovod.broadcast(tensor, 0),
            horovod.allreduce,
            horovod.allreduce,
        )
    workers = tf_workers.workers()
    if workers is None:
        return None
    return Ranks(
        "workers of the strategy",
        "they have restored different checkpoints, or started from weights of their "
        "own: see that all have the same model_dir, and start them again",
        workers.broadcast,
        workers.mean,
        # A worker's loss is a share of all replicas' together.
        workers.total,
    )


def gradient_of_ranks(gradient):
    """What ranks take for a gradient that each has; where there are none, itself."""
    ranks = ranks_in(gradient.graph)
    return gradient if ranks is None else ranks.gradient(gradient)
