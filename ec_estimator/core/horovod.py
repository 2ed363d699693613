"""Horovod: several processes, its ranks, with a whole model each.

A training graph shows by Horovod's ops that it has ranks. Whoever put them there has
imported Horovod, so this package needs no setting for it and does not depend on it.
"""
import importlib


def horovod_of(graph):
    """The module horovod.tensorflow if a graph has ops of it, else None."""
    if any(op.type.startswith("Horovod") for op in graph.get_operations()):
        return importlib.import_module("horovod.tensorflow")
    return None


def rank_average(tensor):
    """The mean of a tensor over all ranks; where there are none, the tensor itself."""
    horovod = horovod_of(tensor.graph)
    return tensor if horovod is None else horovod.allreduce(tensor)
