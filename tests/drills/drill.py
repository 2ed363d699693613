"""Runs a drill: a cluster, a fault, a restart, and what has to be true at the end."""
import contextlib
import os
import time

from examples.cluster import tf_configs
from tests.drills.checks import check
from tests.drills.faults import (
    full_disk,
    full_disk_after,
    kill_at,
    own_disk,
    read_only,
    skew_clock,
)
from tests.drills.processes import Processes
from tests.drills.task import train

# Seconds that a cluster may take to its end.
_PATIENCE = 120


def run(drill, folder):
    """Raises what went wrong, if anything did.

    Args:
      drill: scenario.Drill.
      folder: new; gets the model_dir `run` and the tasks' `logs`.
    """
    configs = _tf_configs(drill)
    skews = {drill.skewed: drill.skew}
    with contextlib.ExitStack() as stack:
        if drill.fault == "full":
            stack.enter_context(own_disk(os.path.join(folder, "run")))
        processes = stack.enter_context(Processes(os.path.join(folder, "logs")))

        def start(task, fault=_none):
            # Of the first that is started; the next has another host.
            skew = skews.pop(task, 0)

            def work():
                skew_clock(skew)
                fault()
                train(drill, folder)

            processes.start(task, work, {"TF_CONFIG": configs[task]})

        _FAULTS[drill.fault](drill, folder, processes, start, list(configs))
        finish(processes, start, _PATIENCE)
        processes.start("checks", lambda: check(drill, folder), {"TF_CONFIG": "{}"})
        processes.wait(lambda: "checks" in processes.codes, _PATIENCE)
        if processes.codes["checks"]:
            with open(processes.log("checks")) as log:
                raise AssertionError(log.read()[-3000:])


def _tf_configs(drill):
    if drill.strategy:
        return {"chief-0": "{}"}
    return tf_configs(drill.workers, drill.ps)


def finish(processes, start, patience):
    """Waits until all but the parameter servers have ended well. What failed is started
    again, as a cluster's scheduler does."""
    deadline = time.monotonic() + patience
    restarts = 3
    while True:
        processes.wait(
            lambda: any(processes.codes.values()) or not _waits_for(processes),
            deadline - time.monotonic(),
        )
        failed = [task for task, code in processes.codes.items() if code]
        if not failed:
            return
        for task in failed:
            restarts -= 1
            if restarts < 0:
                raise AssertionError(f"{task} ended with {processes.codes[task]}")
            start(task)


def _waits_for(processes):
    return [task for task in processes.running if not task.startswith("ps")]


def _kill(drill, folder, processes, start, tasks):
    for task in tasks:
        exact = task == drill.victim and drill.moment
        start(task, (lambda: kill_at(drill.moment, drill.count)) if exact else _none)
    if drill.moment:
        processes.wait(lambda: drill.victim not in processes.running, _PATIENCE)
    else:
        _wait_for_steps(drill, folder, processes)
        processes.kill(drill.victim)
    time.sleep(drill.away)
    start(drill.victim)


def _late(drill, folder, processes, start, tasks):
    for task in tasks:
        if task != drill.victim:
            start(task)
    _wait_for_steps(drill, folder, processes)
    start(drill.victim)


def _full(drill, folder, processes, start, tasks):
    run, started = (os.path.join(folder, name) for name in ("run", "started"))
    is_own = os.path.ismount(run)
    for task in tasks:
        # Parameter servers write the parts of a checkpoint.
        start(
            task,
            _none
            if is_own
            else lambda: full_disk_after(started, drill.after, drill.away),
        )
    if is_own:
        _wait_for_steps(drill, folder, processes)
        with full_disk(run):
            time.sleep(drill.away)


def _read_only(drill, folder, processes, start, tasks):
    for task in tasks:
        start(task)
    _wait_for_steps(drill, folder, processes)
    with read_only(os.path.join(folder, "run")):
        time.sleep(drill.away)


def _none():
    """No fault."""


def _wait_for_steps(drill, folder, processes):
    started = os.path.join(folder, "started")
    processes.wait(lambda: os.path.exists(started), _PATIENCE)
    time.sleep(drill.after)


_FAULTS = {"kill": _kill, "late": _late, "full": _full, "read-only": _read_only}
