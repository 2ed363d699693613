"""Faults inside a task: what the task does at a moment of its work."""
import contextlib
import functools
import os
import resource
import signal
import subprocess
import threading
import time

import tensorflow.compat.v1 as tf

from ec_estimator.core.folder import RunFolder
from ec_estimator.export.exporters import SavedModelExporter
from ec_estimator.pruning import gates
from ec_estimator.quantization import quantizer
from ec_estimator.shrink import artifact
from ec_estimator.sparsity import sparsifier

# Bytes.
_DISK = 32 << 20
# Less than a checkpoint, more than a log.
_FULL = 40000


def kill_at(moment, count):
    """Has this process killed the `count`th time it gets to a moment of its work."""
    _MOMENTS[moment](_countdown(count))


def _countdown(count):
    left = [count]

    def arrive():
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    return arrive


def _at_trial(arrive):
    """Before anything of a trial is done."""
    for attached in (sparsifier._Masks, gates.Gates, quantizer._Trained):
        _before(attached, "run_trial", lambda *args: arrive())


def _in_trial(arrive):
    """When a trial has begun to change the variables, or is done and not recorded."""
    _before(RunFolder, "record_trial", lambda *args: arrive())
    for attached in (sparsifier._Masks, gates.Gates):
        _before(attached, "sweep", lambda *args: arrive())


def _at_checkpoint(arrive):
    _before(tf.train.Saver, "save", lambda *args: arrive())


def _in_checkpoint(arrive):
    """When a checkpoint's files are there and the state that names it is old."""
    from tensorflow.python.training import checkpoint_management

    _before(
        checkpoint_management,
        "update_checkpoint_state_internal",
        lambda *args: arrive(),
    )


def _in_artifact(arrive):
    """When the artifact's checkpoint has data and no index."""
    write = artifact.write_checkpoint

    def write_and_arrive(path, values):
        write(path, values)
        os.rename(path + ".index", path + ".index.away")
        arrive()
        os.rename(path + ".index.away", path + ".index")

    artifact.write_checkpoint = write_and_arrive


def _at_manifest(arrive):
    """When the artifact's checkpoint is there and the manifest is the old one."""

    def look(folder, name, content):
        if "checkpoint" in content:
            arrive()

    _before(RunFolder, "write_json", look)


def _exported(arrive):
    """When the evaluator has exported a model, and old exports are to go."""
    _before(SavedModelExporter, "_delete_old", lambda *args: arrive())


_MOMENTS = {
    "trial": _at_trial,
    "between": _in_trial,
    "checkpoint": _at_checkpoint,
    "index": _in_checkpoint,
    "artifact": _in_artifact,
    "manifest": _at_manifest,
    "export": _exported,
}


def _before(owner, name, call):
    """Has a function called before another."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def both(*args, **kwargs):
        call(*args)
        return function(*args, **kwargs)

    setattr(owner, name, both)


def skew_clock(seconds):
    """Has this process's clock be that far ahead, as Python reads it."""
    right = time.time
    time.time = lambda: right() + seconds


@contextlib.contextmanager
def read_only(folder):
    """Nothing can be made, renamed or removed in a folder and the run's below it."""
    folders = [folder, os.path.join(folder, "compression")]
    # Permissions do not stop root.
    commands = (
        [["chattr", "+i"], ["chattr", "-i"]]
        if os.geteuid() == 0
        else [["chmod", "a-w"], ["chmod", "u+w"]]
    )
    try:
        subprocess.run([*commands[0], *folders], check=True)
        yield
    finally:
        subprocess.run([*commands[1], *folders], check=True)


@contextlib.contextmanager
def own_disk(folder):
    """Makes a folder, on a small disk of its own where this process may mount one."""
    os.makedirs(folder)
    # Some of the system's calls have no name in Python.
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", folder]
    is_mounted = subprocess.run(mount, stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield
    finally:
        if is_mounted:
            subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def full_disk(folder):
    """Nothing more can be written to the disk that a folder is on."""
    ballast = os.path.join(folder, "ballast")
    with open(ballast, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
    try:
        yield
    finally:
        os.remove(ballast)


def full_disk_after(started, seconds, away):
    """As if this process's disk were full for a while: files end at _FULL bytes.

    Args:
      started: a file that is there when training goes on.
      seconds: from then on until the disk is full.
      away: seconds until there is room again.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        while not os.path.exists(started):
            time.sleep(0.02)
        time.sleep(seconds)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_FULL, hard))
        time.sleep(away)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    threading.Thread(target=fill, daemon=True).start()
