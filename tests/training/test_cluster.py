"""A cluster's tasks: where things are, what is sent, and what lands too late."""
import re
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.state import write_checkpoint
from ec_estimator.graph.walk import run_with
from ec_estimator.training.attachment import attach_to_finished_graph
from ec_estimator.training.cluster import AwaitStart, ClusterTrialHook
from ec_estimator.training.evaluator import follower, too_early
from tests import models
from tests.examples import movement
from tests.quantization import sessions
from tests.training import clusters
from tests.training.runs import estimator, raw_model, sparsifier, specs, zeros
from tests.training.test_zoo import checkpoint


def pruner():
    return ec.Pruner(ec.PrunerConfig(0.5, step_interval=2, num_trials=3))


def quantizer():
    return ec.LSQQuantizer(ec.QuantizerConfig(step_interval=2, num_trials=3))


ALL = [sparsifier, pruner, quantizer]


def table_model(clips=False):
    """(model_fn, input_fn) of a network on a table of a million rows."""

    def model_fn(features, labels, mode):
        table = tf.get_variable("table", [1000000, 8])
        x = tf.layers.flatten(tf.nn.embedding_lookup(table, features["x"]))
        x = tf.layers.dense(x, 256, tf.nn.relu)
        logits = tf.layers.dense(tf.layers.dense(x, 256, tf.nn.relu), models.CLASSES)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions={"logits": logits})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        optimizer = tf.train.AdagradOptimizer(0.1)
        gradients, variables = zip(*optimizer.compute_gradients(loss))
        if clips:
            gradients, _ = tf.clip_by_global_norm(gradients, 1.0)
        train_op = optimizer.apply_gradients(
            zip(gradients, variables), tf.train.get_global_step()
        )
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    def input_fn():
        batch = {"x": np.zeros([32, 4], np.int64)}, np.zeros([32], np.int64)
        return tf.data.Dataset.from_tensors(batch).repeat()

    return model_fn, input_fn


@pytest.mark.parametrize("compressor", ALL)
def test_all_tasks_have_each_variable_on_the_same_parameter_server(
    compressor, tmp_path
):
    places = []
    for job in ("chief", "worker"):
        graph, _ = clusters.build(job, *raw_model(), compressor(), str(tmp_path))
        variables = graph.get_collection("variables")
        places.append({v.op.name: v.device for v in variables})
    assert any(name.startswith("ec_estimator/") for name in places[0])
    assert places[0] == places[1]
    assert all("/job:ps/task:" in place for place in places[0].values())


@pytest.mark.parametrize("compressor", ALL)
def test_a_worker_pulls_no_more_than_without_us_and_never_the_table(
    compressor, tmp_path
):
    def bytes_of(compressor):
        _, train_op = clusters.build(
            "worker", *table_model(), compressor, str(tmp_path)
        )
        return clusters.pulled(train_op)

    plain, compressed = bytes_of(None), bytes_of(compressor())
    assert any(name.startswith("dense/kernel") for name in plain)
    assert sum(compressed.values()) <= 1.05 * sum(plain.values())
    assert not any(name.startswith("table") for name in compressed)


def test_a_worker_pulls_all_step_sizes_at_once(tmp_path):
    def pulled(compressor):
        _, train_op = clusters.build("worker", *raw_model(), compressor, str(tmp_path))
        return clusters.pulled(train_op)

    plain, compressed = pulled(None), pulled(quantizer())
    [(step_sizes, size)] = compressed.items() - plain.items()
    assert step_sizes.startswith("ec_estimator/quantization/adam_ops/")
    # Three of activations, and one a channel of the kernels.
    assert size == 4 * (3 + 8 + 20 + 5)
    assert plain.items() < compressed.items()


def test_a_worker_that_clips_pulls_a_bit_of_mask_for_each_weight(tmp_path):
    def bytes_of(compressor):
        _, train_op = clusters.build(
            "worker", *table_model(clips=True), compressor, str(tmp_path)
        )
        return sum(clusters.pulled(train_op).values())

    plain, sparse = bytes_of(None), bytes_of(sparsifier())
    weights = 32 * 256 + 256 * 256 + 256 * models.CLASSES
    assert sparse - plain == weights / 8
    assert sparse <= 1.05 * plain


@pytest.mark.parametrize(
    "compressor,decided_by",
    [(pruner, "importance_ops"), (quantizer, "/input/Assign")],
)
def test_what_trials_are_decided_by_is_the_chiefs_work(
    compressor, decided_by, tmp_path
):
    counts = {}
    for job in ("chief", "worker"):
        # The chief's hook runs more besides.
        _, train_op = clusters.build(job, *raw_model(), compressor(), str(tmp_path))
        run = [op.name for op in run_with([train_op])]
        counts[job] = sum(decided_by in name for name in run)
    assert counts["chief"] > 0
    assert counts["worker"] == 0


def test_what_a_compressor_does_with_gradients_is_done_on_workers(tmp_path):
    _, train_op = clusters.build(
        "worker", *raw_model(), movement.pruner(), str(tmp_path)
    )
    run = [op.name for op in run_with([train_op])]
    assert any("movement" in name and "AssignSub" in name for name in run)


class TestAnUpdateThatLandsAfterATrial:
    """A worker has read all it needs, masks too, and waits while the chief runs a
    trial; then its update lands."""

    def build(self, compressor):
        setter = tf.train.replica_device_setter(
            ps_tasks=2, worker_device="/job:worker/task:0"
        )
        random = np.random.RandomState(0)
        with tf.device(setter):
            self.arrived, self.may_go = (
                tf.FIFOQueue(9, [tf.bool], [[]], shared_name=name)
                for name in ("arrived", "may_go")
            )
            with tf.control_dependencies([self.arrived.enqueue(True)]):
                waited = self.may_go.dequeue()
            step = tf.train.get_or_create_global_step()
            x = tf.constant(random.standard_normal((8, 6)).astype(np.float32))
            x = tf.layers.dense(x, 16, tf.nn.relu)
            x = tf.layers.dense(x, 16, tf.nn.relu)
            x = tf.layers.dense(x, 4)
            with tf.control_dependencies([waited]):
                target = tf.identity(tf.ones([8, 4]))
            loss = tf.reduce_mean((x - target) ** 2)
            train_op = tf.train.AdamOptimizer(0.1).minimize(loss, step)
        self.go, self.at_work = self.may_go.enqueue(True), self.arrived.dequeue()
        graph = tf.get_default_graph()
        return train_op, attach_to_finished_graph(graph, [compressor])

    @pytest.mark.parametrize("compressor", [sparsifier, pruner])
    def test_brings_nothing_back(self, compressor, server):
        with tf.Graph().as_default():
            train_op, attachment = self.build(compressor())
            (attached,) = attachment.attached
            with tf.Session(server.target) as worker, tf.Session(
                server.target
            ) as chief:
                chief.run(tf.global_variables_initializer())
                chief.run(self.go)
                chief.run([train_op, attachment.chief_ops])
                chief.run(self.at_work)
                step = threading.Thread(target=worker.run, args=[train_op])
                step.start()
                chief.run(self.at_work)
                attached.run_trial(chief, 1, 0.5)
                # Kernels, and their slots.
                values = {
                    v.op.name: v
                    for v in tf.global_variables()
                    if v.op.name.startswith(tuple(attachment.names))
                }
                before = chief.run(values)
                chief.run(self.go)
                step.join(60)
                landed = chief.run(values)
        assert len(values) == 3 * len(attachment.names)
        for name, value in landed.items():
            gone = before[name.split("/Adam")[0]] == 0
            assert gone.any()
            assert not value[gone].any(), name
            assert (value != before[name]).any()


@pytest.fixture(scope="module")
def server():
    """A worker's server; the parameter servers are in this process, too."""
    addresses = clusters.cluster(worker=1, ps=2)
    # One thread is held up by the worker's step.
    threads = tf.ConfigProto(
        intra_op_parallelism_threads=2, inter_op_parallelism_threads=4
    )
    servers = [
        tf.train.Server(addresses, job, number, config=threads)
        for job in addresses
        for number in range(len(addresses[job]))
    ]
    yield servers[0]


class OthersTrain(tf.train.SessionRunHook):
    """Moves the global step as two more workers would: after every step of ours."""

    def begin(self):
        self._more = tf.assign_add(tf.train.get_global_step(), 2)

    def after_run(self, run_context, run_values):
        run_context.session.run(self._more)


def train_as_chief(model_dir, compressor, max_steps, model_fn=None, hooks=()):
    """Trains as the chief of a cluster whose worker does not run."""
    addresses = clusters.cluster(chief=1, worker=1)
    users, input_fn = raw_model()
    model_fn = model_fn or users
    with clusters.task(addresses, "chief"):
        config = tf.estimator.RunConfig(str(model_dir), save_checkpoints_steps=2)
    server = tf.train.Server(addresses, "chief", 0, config=models.ONE_THREAD)
    chief = tf.estimator.Estimator(ec.compress(model_fn, compressor), config=config)
    chief.train(input_fn, [OthersTrain(), *hooks], max_steps=max_steps)
    return server


# The chief takes the steps 1, 4, 7 and so on.
@pytest.mark.parametrize("max_steps", [6, 7])
def test_the_chief_runs_all_trials_though_it_does_not_see_all_steps(
    max_steps, tmp_path
):
    train_as_chief(tmp_path, sparsifier(), max_steps)
    values = checkpoint(str(tmp_path))
    assert values["global_step"] >= max_steps
    assert values["ec_estimator/sparsity/trial"] == 3
    assert 0.55 < zeros(tmp_path) <= 0.6


def test_trials_of_steps_that_others_take_at_the_end_are_in_all_that_is_left(
    tmp_path, caplog
):
    folder, coordinator = RunFolder(str(tmp_path)).create(), tf.train.Coordinator()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        _, loss = sessions.model()
        sessions.minimize(loss)
        step = tf.train.get_global_step()
        hook = ClusterTrialHook(
            attach_to_finished_graph(graph, [sparsifier()]), folder, None
        )
        hook.begin()
        session.run(tf.global_variables_initializer())
        hook.after_create_session(session, coordinator)
        session.run(step.assign(20))
        hook.end(session)
        coordinator.request_stop()
        coordinator.join()
    assert "training ended at step" not in caplog.text
    summary = folder.read_json("summary.json")
    assert summary["sparsity"]["trial"] == 3
    assert summary["next"].startswith("python -m ec_estimator report")


def test_no_trial_comes_before_its_step(tmp_path, caplog):
    with caplog.at_level("INFO"):
        train_as_chief(tmp_path, sparsifier(step_interval=10, num_trials=2), 24)
    for trial, step in (1, 10), (2, 20):
        found = re.search(f"sparsity: trial {trial}/2 before step (.*?):", caplog.text)
        assert step <= int(found.group(1)) <= step + 3


def test_a_worker_waits_until_kernels_are_fitted():
    with tf.Graph().as_default() as graph, tf.Session() as session:
        _, loss = sessions.model()
        ec.quantize_graph(mode="train", model_dir=None, config=sessions.config())
        sessions.minimize(loss)
        attachment = attach_to_finished_graph(
            graph, [ec.LSQQuantizer(sessions.config())]
        )
        hook = AwaitStart(attachment)
        hook.begin()
        session.run(tf.global_variables_initializer())
        waiting = threading.Thread(
            target=hook.after_create_session, args=(session, None)
        )
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        attachment.attached[0].start(session)
        waiting.join(60)
        assert not waiting.is_alive()


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """An Estimator that has trained 6 steps, with a checkpoint of step 0, too."""
    folder = tmp_path_factory.mktemp("quantized")
    trained = estimator(folder, wrap=lambda f: ec.compress(f, quantizer()))
    trained.train(raw_model()[1], max_steps=6)
    return trained


def test_an_evaluator_skips_what_it_cannot_evaluate(quantized, caplog):
    path = f"{quantized.model_dir}/model.ckpt-0"
    assert "quantization" in too_early(path, [quantizer()])
    assert too_early(path, [sparsifier()]) == ""
    assert too_early(quantized.latest_checkpoint(), [quantizer()]) == ""
    following = follower(quantized, [quantizer()])
    assert following.latest_checkpoint() == quantized.latest_checkpoint()
    tf.train.update_checkpoint_state(quantized.model_dir, path)
    try:
        with caplog.at_level("INFO"):
            assert following.latest_checkpoint() is None
            assert following.latest_checkpoint() is None
        assert quantized.latest_checkpoint() == path
    finally:
        newest = f"{quantized.model_dir}/model.ckpt-6"
        tf.train.update_checkpoint_state(quantized.model_dir, newest)
    waits = "Evaluation waits: quantization: checkpoint"
    assert caplog.text.count(waits) == 1


@pytest.fixture
def torn(tmp_path):
    """A model_dir whose checkpoint was prepared at step 5, before the last trial, and
    holds step 6, with which training ends."""
    estimator(tmp_path).train(raw_model()[1], max_steps=5)
    values = {**checkpoint(str(tmp_path)), "global_step": np.int64(6)}
    assert values["ec_estimator/sparsity/trial"] == 2
    path = str(tmp_path / "model.ckpt-5")
    write_checkpoint(path, values)
    return tmp_path, path


def test_an_evaluator_does_not_take_a_checkpoint_that_lacks_trials_for_the_last(torn):
    _, path = torn
    assert "other workers took steps while checkpoint" in too_early(
        path, [sparsifier()]
    )


def test_a_chief_that_was_killed_before_the_last_checkpoint_makes_up_for_its_trials(
    torn, caplog
):
    folder, _ = torn
    with caplog.at_level("WARNING"):
        results, _ = ec.train_and_evaluate(estimator(folder), *specs(6))
    assert "sparsity: the checkpoint of step 6 lacks the last trials" in caplog.text
    assert results["global_step"] == 7
    assert checkpoint(str(folder))["ec_estimator/sparsity/trial"] == 3
    assert 0.55 < zeros(folder) <= 0.6


def test_an_evaluator_ends_with_the_last_checkpoint(quantized):
    with clusters.task({"chief": ["localhost:1"], "ps": ["localhost:2"]}, "evaluator"):
        evaluator = estimator(
            quantized.model_dir, wrap=lambda f: ec.compress(f, quantizer())
        )
    assert ec.train_and_evaluate(evaluator, *specs(6)) is None
