"""MonitoredSession mode: the graph is complete before the hook sees it."""
import os
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.training.attachment import attach_to_finished_graph
from tests import models
from tests.training import clusters
from tests.training.sessions import build, sparsifier
from tests.training.test_cluster import ALL, quantizer


def snippet(save_dir, steps=25, global_step=True, hooks=()):
    """The seed's snippet on a small model, with a loop that ends."""
    with tf.Graph().as_default():
        x, y = tf.data.make_one_shot_iterator(models.dataset((8, 8, 3))()).get_next()
        logits = models._raw_network(x["x"], True)
        loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
        step = tf.train.get_or_create_global_step() if global_step else None
        train_op = tf.train.AdamOptimizer(0.01).minimize(loss, step)

        sparsifier_config = ec.SparsifierConfig(
            target_sparse_ratio=0.6,
            sparse_block_shape=(1, 16),
            step_interval=4,
            num_trials=5,
        )
        compression_hook = ec.CompressionHook(
            ec.Sparsifier(sparsifier_config), save_dir=save_dir
        )
        with tf.train.MonitoredSession(
            session_creator=tf.train.ChiefSessionCreator(),
            hooks=[compression_hook, *hooks],
        ) as session:
            for _ in range(steps):
                session.run(train_op)
            raw = session._tf_sess()
            return {v.op.name: raw.run(v) for v in tf.trainable_variables()}


@pytest.mark.parametrize("global_step", [True, False])
def test_seed_snippet_trains_sparse_with_or_without_a_global_step(
    tmp_path, global_step
):
    save_dir = str(tmp_path / "output")
    values = snippet(save_dir, global_step=global_step)
    w2 = values["w2"]  # [8, 20]: rows of a block of 16 and a block of 4.
    assert 96 - 16 <= np.count_nonzero(w2 == 0) <= 96
    reader = tf.train.load_checkpoint(os.path.join(save_dir, "clean"))
    expected = {"w1", "w2", "w3"} | ({"global_step"} if global_step else set())
    assert set(reader.get_variable_to_shape_map()) == expected
    np.testing.assert_array_equal(reader.get_tensor("w2"), w2)


@pytest.mark.parametrize("global_step", [True, False])
def test_an_init_op_from_before_the_hook_initializes_its_state(global_step):
    with tf.Graph().as_default():
        _, train_op = build(models._raw_network, (8, 8, 3))
        if global_step:
            with tf.control_dependencies([train_op]):
                train_op = tf.train.get_or_create_global_step().assign_add(1)
        scaffold = tf.train.Scaffold(init_op=tf.global_variables_initializer())
        hook = ec.CompressionHook(sparsifier(step_interval=2, num_trials=1))
        with tf.train.MonitoredSession(
            tf.train.ChiefSessionCreator(scaffold), [hook]
        ) as session:
            for _ in range(4):
                session.run(train_op)
            w2 = session._tf_sess().run("net/w2:0")
    assert np.count_nonzero(w2 == 0) == 96


@pytest.mark.parametrize("global_step", [True, False])
def test_a_hook_serves_a_second_session_on_its_graph(global_step):
    with tf.Graph().as_default():
        _, train_op = build(models._raw_network, (8, 8, 3))
        if global_step:
            with tf.control_dependencies([train_op]):
                train_op = tf.train.get_or_create_global_step().assign_add(1)
        hook = ec.CompressionHook(sparsifier(step_interval=2, num_trials=1))
        gone = []
        for steps in (1, 4):
            with tf.train.MonitoredSession(hooks=[hook]) as session:
                for _ in range(steps):
                    session.run(train_op)
                gone.append(np.count_nonzero(session._tf_sess().run("net/w2:0") == 0))
    assert gone == [0, 96]


def test_an_imported_graph_of_a_compressed_run_is_refused():
    with tf.Graph().as_default() as graph:
        build(models._raw_network, (8, 8, 3))
        attach_to_finished_graph(graph, [sparsifier()])
        meta = tf.train.export_meta_graph()
    with tf.Graph().as_default():
        tf.train.import_meta_graph(meta)
        with pytest.raises(ec.PlanError, match="imported from .* rebuild the model in"):
            ec.CompressionHook(sparsifier()).begin()


def test_two_hooks_on_one_graph_are_refused(tmp_path):
    with pytest.raises(ec.PlanError, match="has a compression hook already"):
        snippet(None, hooks=[ec.CompressionHook(sparsifier())])


def test_save_dir_that_is_a_file_is_refused_when_the_hook_is_made(tmp_path):
    path = tmp_path / "file"
    path.write_text("kept")
    with pytest.raises(ec.RunFolderError, match="is a file"):
        ec.CompressionHook(sparsifier(), save_dir=str(path))
    assert path.read_text() == "kept"


def test_training_that_ends_before_the_last_trial_says_so(caplog):
    with caplog.at_level("WARNING"):
        snippet(None, steps=9)
    assert "ended at step 9 after trial 2 of 5; the model is not" in caplog.text
    assert "last trial at step 20" in caplog.text


def test_saver_built_before_the_hook_is_warned_about(caplog):
    with tf.Graph().as_default():
        build(models._raw_network, (8, 8, 3))
        tf.train.get_or_create_global_step()
        tf.add_to_collection(tf.GraphKeys.SAVERS, tf.train.Saver())
        with caplog.at_level("WARNING"):
            ec.CompressionHook(sparsifier()).begin()
    assert "does not save its state" in caplog.text


def test_steps_of_more_than_one_miss_no_trial(tmp_path):
    with tf.Graph().as_default():
        build_op = build(models._raw_network, (8, 8, 3))[1]
        step = tf.train.get_or_create_global_step()
        with tf.control_dependencies([build_op]):
            train_op = step.assign_add(8)
        hook = ec.CompressionHook(
            sparsifier(step_interval=40, num_trials=2), save_dir=str(tmp_path)
        )
        stop = tf.train.StopAtStepHook(last_step=80)
        with tf.train.MonitoredSession(hooks=[hook, stop]) as session:
            while not session.should_stop():
                session.run(train_op)
    w2 = tf.train.load_checkpoint(str(tmp_path / "clean")).get_tensor("net/w2")
    assert np.mean(w2 == 0) == 0.6


def test_loading_a_kernel_leaves_masks_and_trials_as_they_are():
    with tf.Graph().as_default() as graph:
        build(models._raw_network, (8, 8, 3))
        attachment = attach_to_finished_graph(graph, [sparsifier()])
        kernels = [v for v in tf.global_variables() if v.op.name in attachment.names]
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            attachment.attached[0].run_trial(session, 1, 0.5)
            before = session.run(attachment.state)
            assert len(before) == 4  # Three masks and the trial.
            for kernel in kernels:
                kernel.load(session.run(kernel), session)
            after = session.run(attachment.state)
    for old, new in zip(before, after):
        np.testing.assert_array_equal(old, new)


def test_no_clean_checkpoint_is_written_of_an_unfinished_model(tmp_path):
    snippet(str(tmp_path), steps=9)
    assert not (tmp_path / "clean").exists()


def test_restart_of_a_session_goes_on_with_its_masks(tmp_path):
    def run(folder, stops):
        for steps in stops:
            with tf.Graph().as_default():
                build_op = build(models._raw_network, (8, 8, 3))[1]
                step = tf.train.get_or_create_global_step()
                with tf.control_dependencies([build_op]):
                    train_op = step.assign_add(1)
                hook = ec.CompressionHook(
                    sparsifier(step_interval=3, num_trials=4), save_dir=folder + "/c"
                )
                with tf.train.MonitoredTrainingSession(
                    checkpoint_dir=folder,
                    hooks=[hook, tf.train.StopAtStepHook(last_step=steps)],
                    save_checkpoint_steps=100,
                    save_checkpoint_secs=None,
                    log_step_count_steps=None,
                    save_summaries_steps=None,
                    save_summaries_secs=None,
                    config=models.ONE_THREAD,
                ) as session:
                    while not session.should_stop():
                        session.run(train_op)
        reader = tf.train.load_checkpoint(folder)
        return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}

    whole = run(str(tmp_path / "whole"), [14])
    parts = run(str(tmp_path / "parts"), [5, 14])
    masks = [name for name in whole if name.endswith("/mask")]
    assert len(masks) == 3
    # The input starts anew at a restart, so weights may differ; counts may not.
    assert int(parts["ec_estimator/sparsity/trial"]) == 4
    for name in masks:
        assert np.count_nonzero(parts[name]) == np.count_nonzero(whole[name])


def on_cluster(job, compressor, has_step=True):
    """The train_op of a graph whose variables are on a parameter server."""
    tf.set_random_seed(1)
    setter = tf.train.replica_device_setter(1, worker_device=f"/job:{job}/task:0")
    with tf.device(setter):
        step = tf.train.get_or_create_global_step() if has_step else None
        x, y = tf.data.make_one_shot_iterator(models.dataset((8, 8, 3))()).get_next()
        loss = tf.losses.sparse_softmax_cross_entropy(
            y, models._raw_network(x["x"], True)
        )
        if isinstance(compressor, ec.LSQQuantizer):
            ec.quantize_graph("train", None, config=compressor.config)
        train_op = tf.train.AdamOptimizer(0.01).minimize(loss, step)
    return train_op


@pytest.mark.parametrize("compressor", ALL)
def test_on_a_cluster_the_chief_alone_runs_trials(compressor, tmp_path, caplog):
    addresses = clusters.cluster(chief=1, worker=1, ps=1)
    servers = {
        job: tf.train.Server(addresses, job, 0, config=models.ONE_THREAD)
        for job in addresses
    }
    sessions = {}
    for job in ("chief", "worker"):
        with tf.Graph().as_default() as graph:
            train_op = on_cluster(job, compressor())
            hook = ec.CompressionHook(
                compressor(), str(tmp_path / job), is_chief=job == "chief"
            )
            session = tf.train.MonitoredTrainingSession(
                servers[job].target, job == "chief", hooks=[hook]
            )
            sessions[job] = graph, session, train_op
    with caplog.at_level("INFO"):
        for job in ["worker", "chief"] * 4 + ["worker", "worker"]:
            graph, session, train_op = sessions[job]
            with graph.as_default():
                session.run(train_op)
        graph, chief, _ = sessions["chief"]
        variables = {v.op.name: v for v in graph.get_collection("variables")}
        places = {n: v.device for n, v in variables.items() if n.startswith("ec_")}
        assert places and set(places.values()) == {"/job:ps/task:0"}
        values = chief._tf_sess().run(variables)
        for job in ("worker", "chief"):
            sessions[job][1].close()
    trials = re.findall(r"trial (\d)/3 before step", caplog.text)
    assert trials == ["1", "2", "3"]
    assert not (tmp_path / "worker").exists()
    assert (tmp_path / "chief" / "trials.jsonl").exists()
    assert values["global_step"] == 10
    for name in (n for n in values if n.startswith("ec_") and n.endswith("mask")):
        gone = values[name] == 0
        kernel = name[len("ec_estimator/sparsity/") : -len("/mask")]
        assert gone.any() and not values[kernel][gone].any()
    if compressor is quantizer:
        # Every worker's steps since the last trial, which began anew before step 6.
        assert values["ec_estimator/quantization/adam/count"] == 10 - 5


def test_a_cluster_needs_a_global_step():
    for job, is_chief in (("chief", True), ("worker", False)):
        with tf.Graph().as_default():
            on_cluster(job, sparsifier(), has_step=False)
            hook = ec.CompressionHook(sparsifier(), is_chief=is_chief)
            with pytest.raises(ec.PlanError, match="no global step.*get_or_create"):
                hook.begin()
