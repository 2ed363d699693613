"""Clusters of tests: a task's Estimator, and servers that are all in this process."""
import contextlib
import json
import os
from unittest import mock

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.graph.walk import run_with
from examples.cluster import free_ports
from tests import models

ADDRESSES = {"chief": 1, "worker": 1, "ps": 2}


def cluster(**counts):
    """{job: [address]} of ports that are free."""
    ports = iter(free_ports(sum(counts.values())))
    return {
        job: [f"localhost:{next(ports)}" for _ in range(n)] for job, n in counts.items()
    }


@contextlib.contextmanager
def task(addresses, job):
    """While open, this process is a task of a cluster."""
    content = {"cluster": addresses, "task": {"type": job, "index": 0}}
    with mock.patch.dict(os.environ, TF_CONFIG=json.dumps(content)):
        yield


class _Built(Exception):
    """Ends a training when its graph is complete."""


class _Stop(tf.train.SessionRunHook):
    def begin(self):
        raise _Built


def build(job, model_fn, input_fn, compressor, model_dir):
    """Builds the training graph of one task of a cluster.

    Returns:
      (graph, train_op).
    """
    wrapped, built = ec.compress(model_fn, compressor) if compressor else model_fn, []

    def noted(features, labels, mode, config):
        more = {"config": config} if compressor else {}
        spec = wrapped(features, labels, mode, **more)
        built.append((spec.train_op.graph, spec.train_op))
        return spec

    with task(cluster(**ADDRESSES), job):
        estimator = tf.estimator.Estimator(noted, config=models.run_config(model_dir))
    try:
        estimator.train(input_fn, [_Stop()], steps=1)
    except _Built:
        return built[0]


def pulled(train_op):
    """{name of a tensor: bytes} of what a step gets from parameter servers."""
    found = {}
    for op in run_with([train_op]):
        for tensor in op.inputs:
            if "job:ps" in tensor.op.device and "job:ps" not in op.device:
                size = np.prod([d or 1 for d in tensor.shape.as_list()])
                found[tensor.name] = size * tensor.dtype.size
    return found
