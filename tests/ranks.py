"""Ranks of tests: what each does, and what of it has to be the same on all."""
import itertools
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
      files: iterator of the files to write.
    """

    def __init__(self, files):
        self._files = files

    def begin(self):
        self._variables = {
            v.op.name: v for v in tf.global_variables() if _is_shared(v.op.name)
        }

    def before_run(self, run_context):
        self.end(run_context.session)

    def end(self, session):
        np.savez(next(self._files), **session.run(self._variables))


def _is_shared(name):
    """Between trials importance and recent values are each rank's own; the moving
    statistics of batch norms are always."""
    return not any(part in name for part in ("importance", "recent", "moving_"))


def files(folder, rank, name):
    """Iterator of the files of what a rank writes down, and then reads."""
    for index in itertools.count():
        yield os.path.join(folder, f"{rank}-{name}-{index}.npz")


def records(folder, rank, name):
    """[{name: value}] of what a rank has written down."""
    found = itertools.takewhile(os.path.exists, files(folder, rank, name))
    return [dict(np.load(file)) for file in found]
