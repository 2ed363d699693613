"""A training process that kills itself at a given point. Run by test_kill.py.

arguments: model_dir, where to die ("" for nowhere), one of JOBS
"""
import os
import signal
import sys

import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.folder import RunFolder
from ec_estimator.pruning import gates
from ec_estimator.quantization import quantizer
from ec_estimator.shrink import artifact
from ec_estimator.sparsity import sparsifier
from tests import models

STEPS = 16


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class SignalAtStep(tf.train.SessionRunHook):
    """Sends the process a signal after a step: SIGKILL, or SIGSTOP to hang."""

    def __init__(self, step, number):
        self._step = step
        self._number = number

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(tf.train.get_global_step())

    def after_run(self, run_context, run_values):
        if run_context.session.run(tf.train.get_global_step()) == self._step:
            os.kill(os.getpid(), self._number)


class DieBeforeFeeding:
    """A session that is killed before it is fed: when a trial has chosen, but not done,
    what goes."""

    def __init__(self, session):
        self._session = session

    def run(self, fetches, feed_dict=None):
        if feed_dict:
            die()
        return self._session.run(fetches)


def die_in_trial(trial, moment):
    """Kills inside trial `trial`: around the two session runs, or after its record."""
    for attached in (sparsifier._Masks, gates.Gates, quantizer._Trained):
        attached.run_trial = dying_trial(attached.run_trial, trial, moment)
    record = RunFolder.record_trial

    def record_and_die(self, line):
        record(self, line)
        if line["trial"] == trial and moment == "recorded":
            die()

    RunFolder.record_trial = record_and_die


def dying_trial(run_trial, trial, moment):
    def run_and_die(self, session, number, ratio):
        if number == trial and moment == "before":
            die()
        if number == trial and moment == "selected":
            session = DieBeforeFeeding(session)
        report = run_trial(self, session, number, ratio)
        if number == trial and moment == "applied":
            die()
        return report

    return run_and_die


def die_in_artifact(step, moment):
    """Kills while the artifact of step `step` is written: when the checkpoint's data is
    there and its index is not, before the manifest is replaced, or after."""
    write_checkpoint, write_json = artifact.write_checkpoint, RunFolder.write_json

    def write_checkpoint_and_die(path, values):
        write_checkpoint(path, values)
        if f"ckpt-{step}" in path and moment == "data":
            os.remove(path + ".index")
            die()

    def write_json_and_die(self, name, content):
        is_mine = content.get("checkpoint") is not None and content["step"] == step
        if is_mine and moment == "checkpoint":
            die()
        write_json(self, name, content)
        if is_mine and moment == "manifest":
            die()

    artifact.write_checkpoint = write_checkpoint_and_die
    RunFolder.write_json = write_json_and_die


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


def sparsify(sort_range):
    return ec.Sparsifier(
        ec.SparsifierConfig(
            target_sparse_ratio=0.7,
            sparse_block_shape=(1, 4),
            step_interval=3,
            num_trials=4,
            sort_range=sort_range,
        )
    )


def prune():
    return ec.Pruner(
        ec.PrunerConfig(compression_ratio=0.7, step_interval=3, num_trials=4)
    )


def quantize():
    return ec.LSQQuantizer(
        ec.QuantizerConfig(bits=4, wbits=4, step_interval=3, num_trials=4)
    )


JOBS = {
    "sparsity": lambda: sparsify("local"),
    "global_sparsity": lambda: sparsify("global"),
    "pruning": prune,
    "quantization": quantize,
    "sparse_quantization": lambda: [sparsify("local"), quantize()],
}


def main(model_dir, kill, job):
    hooks = []
    kind, *where = kill.split(":")
    if kind == "step":
        hooks.append(SignalAtStep(int(where[0]), signal.SIGKILL))
    elif kind == "hang":
        hooks.append(SignalAtStep(int(where[0]), signal.SIGSTOP))
    elif kind == "trial":
        die_in_trial(int(where[0]), where[1])
    elif kind == "save":
        die_in_save(int(where[0]))
    elif kind == "artifact":
        die_in_artifact(int(where[0]), where[1])

    network = models._raw_network
    model_fn, input_fn = models.classifier(network, (8, 8, 3), tf.train.AdamOptimizer)
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, JOBS[job]()),
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
