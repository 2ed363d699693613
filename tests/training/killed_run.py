"""A training process that kills itself at a given point. Run by test_kill.py.

arguments: model_dir, where to die ("" for nowhere), sort_range
"""
import os
import signal
import sys

import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.folder import RunFolder
from ec_estimator.sparsity import sparsifier
from tests import models

STEPS = 16


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class DieAtStep(tf.train.SessionRunHook):
    def __init__(self, step):
        self._step = step

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(tf.train.get_global_step())

    def after_run(self, run_context, run_values):
        if run_context.session.run(tf.train.get_global_step()) == self._step:
            die()


def die_in_trial(trial, moment):
    """Kills inside trial `trial`: around the two session runs, or after its record."""
    masks = sparsifier._Masks
    run_trial, compete, record = (
        masks.run_trial,
        masks._compete,
        RunFolder.record_trial,
    )

    def run_and_die(self, session, number, ratio):
        if number == trial and moment == "before":
            die()
        report = run_trial(self, session, number, ratio)
        if number == trial and moment == "applied":
            die()
        return report

    def compete_and_die(self, contest, grids, ratio):
        yield from compete(self, contest, grids, ratio)
        if moment == "selected" and self._config.schedule.ratio(trial) == ratio:
            die()

    def record_and_die(self, line):
        record(self, line)
        if line["trial"] == trial and moment == "recorded":
            die()

    masks.run_trial = run_and_die
    masks._compete = compete_and_die
    RunFolder.record_trial = record_and_die


def die_in_save(step):
    """Kills when the data of a checkpoint is written and its index is not."""
    save = tf.train.Saver.save

    def save_and_die(self, sess, save_path, global_step=None, **kwargs):
        if global_step == step:
            save(self, sess, save_path, global_step, **kwargs)
            os.remove(f"{save_path}-{step}.index")
            state = os.path.join(os.path.dirname(save_path), "checkpoint")
            with open(state) as file:
                text = file.read()
            with open(state, "w") as file:
                file.write(text.replace(f"model.ckpt-{step}", f"model.ckpt-{step - 2}"))
            die()
        return save(self, sess, save_path, global_step, **kwargs)

    tf.train.Saver.save = save_and_die


def main(model_dir, kill, sort_range):
    hooks = []
    kind, *where = kill.split(":")
    if kind == "step":
        hooks.append(DieAtStep(int(where[0])))
    elif kind == "trial":
        die_in_trial(int(where[0]), where[1])
    elif kind == "save":
        die_in_save(int(where[0]))

    network = models._raw_network
    model_fn, input_fn = models.classifier(network, (8, 8, 3), tf.train.AdamOptimizer)
    config = ec.SparsifierConfig(
        target_sparse_ratio=0.7,
        sparse_block_shape=(1, 4),
        step_interval=3,
        num_trials=4,
        sort_range=sort_range,
    )
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, ec.Sparsifier(config)),
        config=models.run_config(
            model_dir, save_checkpoints_steps=2, keep_checkpoint_max=20
        ),
    )

    def from_where_it_was():
        """The input goes on where the checkpoint is: deterministic over a restart."""
        path = tf.train.latest_checkpoint(model_dir)
        done = int(path.rsplit("-", 1)[1]) if path else 0
        return input_fn().skip(done)

    estimator.train(from_where_it_was, hooks, max_steps=STEPS)


if __name__ == "__main__":
    main(*sys.argv[1:])
