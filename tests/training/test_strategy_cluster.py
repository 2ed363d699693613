"""Strategies on clusters of processes. test_strategies has them in one process."""
import json
import os
import re
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

from examples.cluster import free_ports, tf_configs
from tests.launcher import ROOT

pytestmark = pytest.mark.slow


def tf_configs_with_evaluator():
    """{task: TF_CONFIG} of a cluster as TensorFlow wants it under a strategy: with the
    evaluator among its jobs."""
    [port] = free_ports(1)
    configs = {task: json.loads(text) for task, text in tf_configs(1, 1).items()}
    for config in configs.values():
        config["cluster"]["evaluator"] = [f"localhost:{port}"]
    return {task: json.dumps(config) for task, config in configs.items()}


def train(folder, strategy):
    """{task: (log, exit code)} of a chief, a worker and an evaluator."""
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
        for task, config in tf_configs_with_evaluator().items()
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
    ended = train(tmp_path, "ParameterServerStrategy")
    for task, (log, code) in ended.items():
        assert code == 0, log[-3000:]
        trials = re.findall(r"trial (\d)/3 before step", log)
        assert trials == (["1", "2", "3"] if task == "chief-0" else []), task
    assert "Saving dict for global step 100" in ended["evaluator-0"][0]
    reader = tf.train.load_checkpoint(str(tmp_path))
    assert reader.get_tensor("ec_estimator/sparsity/trial") == 3
    kernel = reader.get_tensor("conv2d_2/kernel")
    assert abs((kernel == 0).mean() - 0.6) < 1e-3
