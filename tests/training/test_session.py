"""MonitoredSession mode: the graph is complete before the hook sees it."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.training.attachment import attach_to_finished_graph
from tests import models

SHAPES = {
    "layers": (9, 9, 3),
    "raw": (8, 8, 3),
    "keras_layers": (8, 8, 3),
    "rnn": (6, 10),
    "rank3": (6, 10),
    "conv1d": (12, 6),
    "placeholder": (8, 8, 3),
}
NETWORKS = {
    "layers": models._layers_network,
    "raw": models._raw_network,
    "keras_layers": models._keras_layers_network,
    "rnn": models._rnn_network,
    "rank3": models._rank3_network,
    "conv1d": models._conv1d_network,
    "placeholder": models._placeholder_network,
}


def sparsifier(**kwargs):
    return ec.Sparsifier(ec.SparsifierConfig(**kwargs))


def build(network, shape, partitioner=None):
    """A complete training graph; returns its gradients and variables."""
    tf.set_random_seed(3)
    x, y = tf.data.make_one_shot_iterator(models.dataset(shape)()).get_next()
    with tf.variable_scope("net", partitioner=partitioner):
        logits = network(x["x"], False)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    pairs = optimizer.compute_gradients(loss)
    train_op = optimizer.apply_gradients(pairs)
    return {v.op.name: g for g, v in pairs}, train_op


def optimizer_inputs(graph):
    """{variable name: what its ApplyGradientDescent op gets}."""
    return {
        op.inputs[0].op.name: op.inputs[2]
        for op in graph.get_operations()
        if op.type == "ApplyGradientDescent"
    }


def by_hand(network, shape, kernels, masks, partitioner=None):
    """The same graph with the masks multiplied in where variables are read, by the
    getter that TensorFlow offers for it."""

    def getter(getter, name, *args, **kwargs):
        variable = getter(name, *args, **kwargs)
        if variable.op.name not in kernels:
            return variable
        return variable * masks[variable.op.name]

    tf.set_random_seed(3)
    x, y = tf.data.make_one_shot_iterator(models.dataset(shape)()).get_next()
    with tf.variable_scope("net", custom_getter=getter, partitioner=partitioner):
        logits = network(x["x"], False)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss, variables)
    return {v.op.name: g for g, v in zip(gradients, variables)}


# Keras layers do not ask a getter, so their masked graph cannot be made by hand this
# way; test_sgd_moves_only_what_is_alive covers them. In a loop the gradient as the user
# holds it is summed up before any op of ours can see it: there it is what the optimizer
# gets that counts.
@pytest.mark.parametrize("model", sorted(set(NETWORKS) - {"keras_layers"}))
def test_gradients_equal_those_of_a_graph_masked_by_hand(model):
    network, shape = NETWORKS[model], SHAPES[model]
    with tf.Graph().as_default() as graph:
        gradients, _ = build(network, shape)
        attachment = attach_to_finished_graph(graph, [sparsifier()])
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            attachment.attached[0].run_trial(session, 1, 0.5)
            values = {v.op.name: session.run(v) for v in tf.trainable_variables()}
            if model == "rnn":
                gradients = optimizer_inputs(graph)
            actual = session.run(gradients)
    masks = {n: (values[n] != 0).astype(np.float32) for n in attachment.names}
    assert all(0.4 < m.mean() < 0.6 for m in masks.values())
    with tf.Graph().as_default():
        expected = by_hand(network, shape, attachment.names, masks)
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            for variable in tf.trainable_variables():
                variable.load(values[variable.op.name], session)
            expected = session.run(expected)
    assert set(actual) == set(expected)
    for name in expected:
        np.testing.assert_allclose(
            actual[name], expected[name], rtol=1e-5, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("model", sorted(NETWORKS))
def test_gradients_are_found_in_the_graph_of_every_model(model, caplog):
    with tf.Graph().as_default() as graph:
        build(NETWORKS[model], SHAPES[model])
        with caplog.at_level("WARNING"):
            attach_to_finished_graph(graph, [sparsifier()])
    assert "No gradient" not in caplog.text


@pytest.mark.parametrize("model", sorted(NETWORKS))
@pytest.mark.parametrize("imported", [False, True])
def test_sgd_moves_only_what_is_alive(model, imported, tmp_path):
    with tf.Graph().as_default() as graph:
        _, train_op = build(NETWORKS[model], SHAPES[model])
        meta = tf.train.export_meta_graph()
    if imported:
        with tf.Graph().as_default() as graph:
            tf.train.import_meta_graph(meta)
            train_op = graph.get_operation_by_name(train_op.name)
    with graph.as_default():
        attachment = attach_to_finished_graph(graph, [sparsifier()])
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            attachment.attached[0].run_trial(session, 1, 0.5)
            variables = [
                v for v in tf.global_variables() if v.op.name in attachment.names
            ]
            before = session.run(variables)
            session.run(train_op)
            after = session.run(variables)
    assert variables
    for old, new in zip(before, after):
        assert np.any(old == 0)
        np.testing.assert_array_equal(new[old == 0], 0)
        assert np.any(new[old != 0] != old[old != 0])


def test_partitions_get_the_gradients_of_their_own_masks():
    network = models._raw_network
    partitioner = tf.fixed_size_partitioner(2)
    with tf.Graph().as_default() as graph:
        gradients, _ = build(network, (8, 8, 3), partitioner)
        attachment = attach_to_finished_graph(graph, [sparsifier()])
        assert len(attachment.names) == 6  # Three kernels in two parts.
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            attachment.attached[0].run_trial(session, 1, 0.5)
            values, actual = session.run(
                [{v.op.name: v for v in tf.trainable_variables()}, gradients]
            )
    for name in attachment.names:
        np.testing.assert_array_equal(actual[name][values[name] == 0], 0)
        assert np.any(actual[name][values[name] != 0] != 0)


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
