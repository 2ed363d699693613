"""Clusters whose workers' gradients are averaged: tf.train.SyncReplicasOptimizer."""
import functools
import threading
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.state import is_state
from ec_estimator.graph.variables import optimizer_variables
from ec_estimator.rewrite.updates import gate_updates
from ec_estimator.training.attachment import attach_to_finished_graph
from tests import models
from tests.training import clusters
from tests.training.runs import raw_model, sparsifier
from tests.training.test_cluster import ALL, pruner, quantizer
from tests.training.test_zoo import checkpoint

STEPS = 8
THREADS = tf.ConfigProto(intra_op_parallelism_threads=2, inter_op_parallelism_threads=6)


def synchronous():
    """(model_fn, input_fn) whose workers are two, and average their gradients."""

    def model_fn(features, labels, mode, config=None):
        optimizers = []

        def optimizer():
            optimizers.append(
                tf.train.SyncReplicasOptimizer(tf.train.AdamOptimizer(0.01), 2, 2)
            )
            return optimizers[0]

        inner, _ = models.classifier(models._raw_network, (8, 8, 3), optimizer)
        spec = inner(features, labels, mode)
        hooks = [
            o.make_session_run_hook(config is None or config.is_chief)
            for o in optimizers
        ]
        return spec._replace(training_hooks=hooks)

    return model_fn, raw_model()[1]


class _Ready(tf.train.SessionRunHook):
    """Of the chief: no step before the worker's session is there."""

    def __init__(self, chief, worker):
        self._chief, self._worker = chief, worker

    def before_run(self, run_context):
        self._chief.set()
        assert self._worker.wait(60)


class _Wait(tf.train.SessionRunHook):
    """Of the worker: it looks for the chief's variables when they are there, since it
    would look again after 30 seconds only."""

    def __init__(self, chief, worker):
        self._chief, self._worker = chief, worker

    def begin(self):
        assert self._chief.wait(60)

    def after_create_session(self, session, coord):
        self._worker.set()


@pytest.fixture(autouse=True)
def short_wait():
    """TensorFlow's chief waits at its end for its queue runner, and that for gradients
    that no one sends any more; it gives up after two minutes."""
    join = functools.partialmethod(_join, tf.train.Coordinator.join)
    with mock.patch.object(tf.train.Coordinator, "join", join):
        yield


def _join(coord, join, threads=None, **kwargs):
    join(coord, threads, stop_grace_period_secs=0.1, ignore_live_threads=True)


def train(model_dir, model_fn, input_fn, compressor, steps=STEPS):
    """Trains with a chief and a worker, threads of this process.

    Returns:
      {name: array} of the last checkpoint.
    """
    addresses = clusters.cluster(chief=1, worker=1, ps=1)
    servers = [tf.train.Server(addresses, job, 0, config=THREADS) for job in addresses]
    events = threading.Event(), threading.Event()
    hooks = {"chief": _Ready(*events), "worker": _Wait(*events)}
    trained = {}

    def run(job):
        wrapped = ec.compress(model_fn, compressor)
        estimator = tf.estimator.Estimator(wrapped, config=configs[job])
        estimator.train(input_fn, [hooks[job]], max_steps=steps)
        trained[job] = True

    configs = {}
    for job in hooks:
        with clusters.task(addresses, job):
            configs[job] = tf.estimator.RunConfig(
                str(model_dir), save_checkpoints_steps=4
            )
    worker = threading.Thread(target=run, args=["worker"])
    worker.start()
    run("chief")
    worker.join(60)
    assert trained == {"chief": True, "worker": True}
    del servers
    return checkpoint(str(model_dir))


@pytest.mark.parametrize("compressor", ALL)
def test_trials_and_updates_are_exact(compressor, tmp_path):
    values = train(tmp_path, *synchronous(), compressor())
    (name,) = {n.split("/")[1] for n in values if is_state(n)}
    assert values[f"ec_estimator/{name}/trial"] == 3
    assert values["global_step"] >= STEPS
    if name == "sparsity":
        for kernel in ("w1", "w2", "w3"):
            gone = values[f"ec_estimator/sparsity/{kernel}/mask"] == 0
            assert 0.5 < np.mean(gone) <= 0.6
            assert values[kernel][~gone].all()
            for entry in (kernel, f"{kernel}/Adam", f"{kernel}/Adam_1"):
                assert not values[entry][gone].any(), entry


@pytest.mark.parametrize("compressor", [sparsifier, quantizer])
def test_a_worker_pulls_no_mask(compressor, tmp_path):
    def pulled(compressor):
        _, train_op = clusters.build("worker", *synchronous(), compressor, tmp_path)
        return clusters.pulled(train_op.op)

    plain, compressed = pulled(None), pulled(compressor())
    more = sum(compressed.values()) - sum(plain.values())
    # Step sizes: three of activations, and one a channel of the kernels.
    assert more == (0 if compressor is sparsifier else 4 * (3 + 8 + 20 + 5))
    assert not any("mask" in name or "/adam/" in name for name in compressed)


class TestGradientsThatWaitInAnAccumulator:
    """Both workers have sent theirs; then the chief's queue runner applies them."""

    def build(self, compressor, network=models._raw_network):
        tf.set_random_seed(1)
        x, y = tf.data.make_one_shot_iterator(models.dataset((8, 8, 3))()).get_next()
        loss = tf.losses.sparse_softmax_cross_entropy(y, network(x["x"], True))
        if isinstance(compressor, ec.LSQQuantizer):
            ec.quantize_graph("train", None, config=compressor.config)
        optimizer = tf.train.SyncReplicasOptimizer(tf.train.AdamOptimizer(0.1), 2, 2)
        send = optimizer.minimize(loss, tf.train.get_or_create_global_step())
        (apply,) = optimizer.get_chief_queue_runner().enqueue_ops
        tokens = optimizer.get_init_tokens_op()
        attachment = attach_to_finished_graph(tf.get_default_graph(), [compressor])
        return (
            [send, attachment.train_ops],
            apply,
            [tokens, optimizer.chief_init_op],
            (attachment),
        )

    @pytest.mark.parametrize("compressor", [sparsifier, pruner])
    def test_bring_nothing_back_after_a_trial(self, compressor):
        with tf.Graph().as_default(), tf.Session() as session:
            send, apply, starts, attachment = self.build(compressor())
            session.run(tf.global_variables_initializer())
            session.run(starts)
            for _ in range(2):
                session.run(send)
            attachment.attached[0].run_trial(session, 1, 0.5)
            kernels = {
                v.op.name: v
                for v in tf.global_variables()
                if v.op.name.startswith(tuple(attachment.names))
            }
            before = session.run(kernels)
            session.run(apply)
            after = session.run(kernels)
        for name, value in after.items():
            gone = before[name.split("/Adam")[0]] == 0
            assert gone.any()
            assert not value[gone].any(), name
            assert (value != before[name]).any(), name

    def test_move_step_sizes_once_by_their_mean(self):
        with tf.Graph().as_default() as graph, tf.Session() as session:
            send, apply, starts, attachment = self.build(quantizer())
            session.run(tf.global_variables_initializer())
            session.run(starts)
            attachment.attached[0].start(session)
            adam = "ec_estimator/quantization/adam"
            steps = {v.op.name: v for v in attachment.attached[0].served_variables}
            count, m = (
                next(v for v in tf.global_variables() if v.op.name == f"{adam}/{name}")
                for name in ("count", "m")
            )
            slopes = graph.get_operation_by_name(f"{adam}_ops/mul").outputs[0]
            sent = [session.run([slopes, send])[0] for _ in range(2)]
            before = session.run(steps)
            assert session.run(count) == 0
            session.run(apply)
            assert session.run(count) == 1
            mean = np.mean(sent, axis=0)
            np.testing.assert_allclose(session.run(m), 0.1 * mean, rtol=1e-5)
            after = session.run(steps)
        moved = [np.log(after[n] / before[n]).ravel() for n in steps if before[n].all()]
        assert moved
        np.testing.assert_allclose(np.abs(np.concatenate(moved)).max(), 1e-3, rtol=0.01)


def test_what_a_step_clips_hides_no_update_of_the_others():
    with tf.Graph().as_default() as graph:
        x = tf.layers.dense(tf.ones([2, 3]), 4, name="one")
        loss = tf.reduce_sum(tf.layers.dense(x, 5, name="two"))
        optimizer = tf.train.SyncReplicasOptimizer(tf.train.AdamOptimizer(), 2)
        train_op = optimizer.minimize(loss, tf.train.get_or_create_global_step())
        kernel = tf.trainable_variables()[0]
        clipped = kernel.assign(tf.clip_by_value(kernel, -1.0, 1.0))
        names = {"one/kernel", "two/kernel"}
        companions = gate_updates(
            graph, names, lambda name, update: update, tf.group(train_op, clipped)
        )
    assert {n: len(c) for n, c in companions.items()} == {n: 2 for n in names}


class _HandWritten(tf.train.Optimizer):
    """Momentum, written with assignments, as BERT's optimizer is."""

    def __init__(self):
        super().__init__(False, "HandWritten")

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        ops = [global_step.assign_add(1)]
        for gradient, variable in grads_and_vars:
            name = f"{variable.op.name}/sum"
            kept = tf.get_variable(
                name, initializer=tf.zeros_like(variable), trainable=False
            )
            total = 0.9 * kept + gradient
            ops += [kept.assign(total), variable.assign(variable - 0.1 * total)]
        return tf.group(*ops)


def test_what_is_computed_from_averaged_gradients_is_the_optimizers():
    with tf.Graph().as_default() as graph:
        loss = tf.reduce_sum(tf.layers.dense(tf.ones([2, 3]), 4))
        optimizer = tf.train.SyncReplicasOptimizer(_HandWritten(), 2)
        optimizer.minimize(loss, tf.train.get_or_create_global_step())
        found = optimizer_variables(graph)
    assert found == {"dense/kernel/sum", "dense/bias/sum"}
