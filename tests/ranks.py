"""Ranks of tests: what each does, and what of it has to be the same on all."""
import os

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec

TRIALS = {"step_interval": 2, "num_trials": 3}
COMPRESSORS = {
    "sparsity": [ec.Sparsifier(ec.SparsifierConfig(0.6, **TRIALS))],
    "pruning": [ec.Pruner(ec.PrunerConfig(0.5, **TRIALS))],
    "quantization": [ec.LSQQuantizer(ec.QuantizerConfig(**TRIALS))],
    "both": [
        ec.Pruner(ec.PrunerConfig(0.5, **TRIALS)),
        ec.LSQQuantizer(ec.QuantizerConfig(**TRIALS)),
    ],
}
# A run is stopped between trials, and goes on from rank 0's checkpoint.
STOP, STEPS = 3, 8


class Record(tf.train.SessionRunHook):
    """Writes down {name: value} of what has to be the same on all ranks, before each
    step and at the end.

    Args:
      path_of: callable(how many are written) -> the file of the next one.
    """

    def __init__(self, path_of):
        self._path_of = path_of
        self._count = 0

    def begin(self):
        self._variables = {
            v.op.name: v for v in tf.global_variables() if _is_shared(v.op.name)
        }

    def before_run(self, run_context):
        self.end(run_context.session)

    def end(self, session):
        np.savez(self._path_of(self._count), **session.run(self._variables))
        self._count += 1


def _is_shared(name):
    """Between trials importance and recent values are each rank's own; the moving
    statistics of batch norms are always."""
    return not any(part in name for part in ("importance", "recent", "moving_"))


def path(folder, rank, name, index):
    """The file of what a rank has written down, the index-th of its kind."""
    return os.path.join(folder, f"{rank}-{name}-{index}.npz")
