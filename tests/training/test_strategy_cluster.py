"""Strategies on clusters of processes. test_strategies has them in one process."""
import os
import re
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

from examples.cluster import tf_configs
from tests.launcher import ROOT

pytestmark = pytest.mark.slow


def train(folder, strategy, ps):
    """{task: (exit code, log)} of a chief and a worker, and parameter servers."""
    command = [
        sys.executable,
        "-m",
        "tests.training.strategy_task",
        str(folder),
        strategy,
    ]
    processes = {
        task: subprocess.Popen(
            command,
            cwd=str(ROOT),
            env={**os.environ, "TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        for task, config in tf_configs(1, ps).items()
        # TensorFlow has none under these strategies.
        if not task.startswith("evaluator")
    }
    try:
        return {
            task: (process.communicate(timeout=180)[1], process.returncode)
            for task, process in processes.items()
            if not task.startswith("ps")
        }
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_the_chief_of_a_parameter_server_strategy_alone_runs_trials(tmp_path):
    ended = train(tmp_path, "ParameterServerStrategy", ps=1)
    for task, (log, code) in ended.items():
        assert code == 0, log[-3000:]
        trials = re.findall(r"trial (\d)/3 before step", log)
        assert trials == (["1", "2", "3"] if task == "chief-0" else []), task
    reader = tf.train.load_checkpoint(str(tmp_path))
    assert reader.get_tensor("ec_estimator/sparsity/trial") == 3
    kernel = reader.get_tensor("conv2d_2/kernel")
    assert abs((kernel == 0).mean() - 0.6) < 1e-3
