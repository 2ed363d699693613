"""A cluster on this machine: chief, workers, parameter servers, evaluator.

Each is a process of its own that runs `python -m ec_estimator train` with the flags
given here and its own TF_CONFIG, as on a cluster of machines; see docs/cluster.md.

    python -m examples.cluster --workers=2 --ps=2 --model=examples.digits_model \\
        --model_dir=digits --compressor=sparsifier --sparsifier_step_interval=50 \\
        --train_steps=1000 --export=saved_model
"""
import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

# Seconds that what is left is given when the chief has ended.
PATIENCE = 60


def tf_configs(workers, ps):
    """{task, such as "worker-0": content of its TF_CONFIG} of a cluster here.

    Args:
      workers: beside the chief.
      ps: parameter servers.
    """
    counts = {"chief": 1, "worker": workers, "ps": ps}
    ports = iter(free_ports(sum(counts.values())))
    cluster = {
        job: [f"localhost:{next(ports)}" for _ in range(count)]
        for job, count in counts.items()
        if count
    }
    tasks = [(job, n) for job, addresses in cluster.items() for n in range(counts[job])]
    return {
        f"{job}-{number}": json.dumps(
            {"cluster": cluster, "task": {"type": job, "index": number}}
        )
        # The evaluator is no part of the cluster.
        for job, number in [*tasks, ("evaluator", 0)]
    }


def free_ports(count):
    """Ports of this machine that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def run(configs, flags, log_dir):
    """Starts the processes, and waits for the chief. SIGINT and SIGTERM end them all.

    Args:
      configs: as of `tf_configs`.
      flags: of `python -m ec_estimator train`.
      log_dir: folder for `<task>.log` of each task.

    Returns:
      The chief's exit code, or 128 and the number of the signal.
    """
    os.makedirs(log_dir, exist_ok=True)
    signals = []
    for number in (signal.SIGINT, signal.SIGTERM):
        # Noted, not raised: that might lose sight of a process that is being started.
        signal.signal(number, lambda number, _: signals.append(number))
    with contextlib.ExitStack() as stack:
        processes = {}
        for task, config in configs.items():
            log = stack.enter_context(open(os.path.join(log_dir, f"{task}.log"), "w"))
            processes[task] = subprocess.Popen(
                [sys.executable, "-m", "ec_estimator", "train", *flags],
                env={**os.environ, "TF_CONFIG": config},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(end, processes[task])
        code = watch(processes, signals)
    return code


def watch(processes, signals):
    """Waits until the chief has ended, and then for a while until the workers and the
    evaluator have. Parameter servers never end.

    Args:
      processes: {task: subprocess.Popen}.
      signals: numbers of the signals that came; one that comes ends the waiting.

    Returns:
      The chief's exit code, or 128 and the number of the signal.
    """
    reported, deadline = set(), None
    while not signals:
        for task, process in processes.items():
            if process.poll() is not None and task not in reported:
                reported.add(task)
                print(f"{task} ended with {process.returncode}", file=sys.stderr)
        code = processes["chief-0"].returncode
        if code is not None:
            deadline = deadline or time.monotonic() + PATIENCE
            left = {task for task in processes if not task.startswith("ps")} - reported
            if code or not left or time.monotonic() > deadline:
                return code
        time.sleep(0.1)
    return 128 + signals[0]


def end(process):
    """Kills a process that has not ended."""
    if process.poll() is None:
        process.kill()
    process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="beside the chief")
    parser.add_argument("--ps", type=int, default=2, help="parameter servers")
    parser.add_argument("--log_dir", default="cluster_logs", help="a log of each task")
    own, flags = parser.parse_known_args()
    sys.exit(run(tf_configs(own.workers, own.ps), flags, own.log_dir))


if __name__ == "__main__":
    main()
