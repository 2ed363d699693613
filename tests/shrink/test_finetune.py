"""The small network through ec.finetune, where user code makes it hard."""
import functools
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import eager

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from tests import models
from tests.shrink import networks
from tests.shrink.test_networks import prune, run_small
from tests.training.test_zoo import checkpoint

MODES = tf.estimator.ModeKeys


def small_variables(model_fn, folder, input_fn):
    """{name: value} of the small network's variables as it is loaded for training."""
    return run_small(
        model_fn,
        folder,
        input_fn,
        MODES.TRAIN,
        lambda spec: {v.op.name: v for v in tf.global_variables()},
    )


def test_values_of_the_artifact_win_over_init_from_checkpoint(tmp_path):
    dense, folder = str(tmp_path / "dense"), str(tmp_path / "pruned")
    model_fn, input_fn = models.classifier(networks.vgg, (8, 8, 3))
    tf.estimator.Estimator(model_fn, dense).train(input_fn, max_steps=1)

    def network(x, training):
        logits = networks.vgg(x, training)
        tf.train.init_from_checkpoint(dense, {"/": "/"})
        return logits

    _, model_fn, input_fn = prune(folder, network, (8, 8, 3), 0.5)
    loaded = small_variables(model_fn, folder, input_fn)
    reader = tf.train.load_checkpoint(read_artifact(folder).checkpoint)
    for name in ("conv2d/kernel", "dense/bias"):
        np.testing.assert_array_equal(loaded[name], reader.get_tensor(name))


@pytest.mark.parametrize("mode", [MODES.TRAIN, MODES.PREDICT])
def test_a_graph_with_init_from_checkpoint_can_be_imported(mode, tmp_path):
    """As a SavedModel is, and the meta graph of a checkpoint."""
    dense, folder = str(tmp_path / "dense"), str(tmp_path / "pruned")

    def network(x, training, start=True):
        h = tf.layers.dense(tf.layers.flatten(x), 8, tf.nn.relu)
        w = tf.get_variable("w", [8, 6], use_resource=True)
        logits = tf.layers.dense(tf.nn.relu(h @ w), models.CLASSES)
        if start:
            tf.train.init_from_checkpoint(dense, {"/": "/"})
        return logits

    model_fn, input_fn = models.classifier(
        functools.partial(network, start=False), (4, 4, 3)
    )
    tf.estimator.Estimator(model_fn, dense).train(input_fn, max_steps=1)
    _, model_fn, input_fn = prune(folder, network, (4, 4, 3), 0.5)
    meta = str(tmp_path / "meta")
    run_small(
        model_fn,
        folder,
        input_fn,
        mode,
        lambda _: tf.train.export_meta_graph(meta, as_text=True) and tf.no_op(),
    )
    with tf.Graph().as_default():
        tf.train.import_meta_graph(meta)


@pytest.mark.parametrize("use_resource", [False, True])
def test_variables_whose_names_end_in_a_slash_are_loaded(use_resource, tmp_path):
    """TensorFlow takes such a name as it is, whatever the scope."""
    folder = str(tmp_path / "pruned")

    def network(x, training):
        with tf.variable_scope("net"):
            x = tf.layers.flatten(x)
            for name, shape in (("first", [12, 8]), ("second", [8, models.CLASSES])):
                start = tf.random_normal(shape)
                x = tf.nn.relu(
                    x
                    @ tf.Variable(start, name=f"net/{name}/", use_resource=use_resource)
                )
        return x

    _, model_fn, input_fn = prune(folder, network, (2, 2, 3), 0.5)
    loaded = small_variables(model_fn, folder, input_fn)
    reader = tf.train.load_checkpoint(read_artifact(folder).checkpoint)
    assert loaded["net/first"].shape == (12, 4)
    for name in ("net/first", "net/second"):
        np.testing.assert_array_equal(loaded[name], reader.get_tensor(name))


def test_a_variable_that_no_creator_sees_is_loaded(tmp_path):
    """Nothing is cut of it, so that nothing else would show random values."""
    folder = str(tmp_path / "pruned")

    def network(x, training):
        table = eager.Variable(lambda: tf.random_normal([12, 6]), name="w")
        x = tf.nn.softmax(tf.layers.flatten(x) @ table)
        x = tf.layers.dense(x, 8, tf.nn.relu)
        return tf.layers.dense(x, models.CLASSES)

    _, model_fn, input_fn = prune(folder, network, (2, 2, 3), 0.5)
    loaded = small_variables(model_fn, folder, input_fn)
    reader = tf.train.load_checkpoint(read_artifact(folder).checkpoint)
    np.testing.assert_array_equal(loaded["w"], reader.get_tensor("w"))


def test_gradients_that_are_part_of_the_forward_pass(tmp_path):
    """A penalty on the derivative of the logits by an inner layer."""
    folder = str(tmp_path / "pruned")

    def network(x, training):
        h = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
        logits = tf.layers.dense(tf.reshape(h, [-1, 288]), models.CLASSES)
        (slope,) = tf.gradients(logits, [h])
        tf.losses.add_loss(tf.reduce_sum(slope**2))
        # Built after the first gradients, and counts on the whole size all the same.
        return logits + tf.layers.dense(tf.reshape(h, [-1, 288]), models.CLASSES)

    estimator, model_fn, input_fn = prune(folder, network, (8, 8, 3), 0.5)
    logits = run_small(
        model_fn, folder, input_fn, MODES.PREDICT, lambda s: s.predictions["logits"]
    )
    rows = list(estimator.predict(lambda: input_fn().take(1)))
    np.testing.assert_allclose(
        logits, np.stack([row["logits"] for row in rows]), rtol=1e-5, atol=1e-6
    )
    assert small_variables(model_fn, folder, input_fn)["dense/kernel"].shape[0] < 288


def test_a_first_value_taken_from_another_variable_binds_nothing(tmp_path):
    folder = str(tmp_path / "pruned")

    def network(x, training):
        h = tf.layers.conv2d(x, 8, 3, name="first", activation=tf.nn.relu)
        bias = tf.global_variables("first/bias")[0].initialized_value()
        head = tf.get_variable("head", initializer=bias, use_resource=False)
        logits = tf.layers.dense(tf.reduce_mean(h, [1, 2]), 8) + head
        return tf.layers.dense(tf.nn.softmax(logits), models.CLASSES)

    estimator, model_fn, input_fn = prune(folder, network, (8, 8, 3), 0.5)
    loaded = small_variables(model_fn, folder, input_fn)
    assert loaded["first/bias"].shape[0] < 8
    assert loaded["head"].shape == (8,)


def test_constants_in_the_branches_of_a_conditional(tmp_path):
    """A full-size constant is cut inside its branch: outside it would always fire."""
    folder = str(tmp_path / "pruned")

    def network(x, training):
        on = tf.placeholder_with_default(True, [])
        h = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
        h = tf.cond(on, lambda: h * tf.fill([8], 2.0), lambda: h)
        h = tf.cond(on, lambda: h, lambda: tf.zeros([models.BATCH, 6, 6, 8]))
        h = tf.cond(on, lambda: h, lambda: tf.fill([models.BATCH, 6, 6, 8], 1.0))
        return tf.layers.dense(tf.reduce_mean(h, [1, 2]), models.CLASSES)

    estimator, model_fn, input_fn = prune(folder, network, (8, 8, 3), 0.5)
    logits = run_small(
        model_fn, folder, input_fn, MODES.PREDICT, lambda s: s.predictions["logits"]
    )
    rows = list(estimator.predict(lambda: input_fn().take(1)))
    np.testing.assert_allclose(
        logits, np.stack([row["logits"] for row in rows]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "name",
    ["keras_estimator", "dnn", pytest.param("wide_and_deep", marks=pytest.mark.slow)],
)
def test_estimators_that_others_made(name, tmp_path):
    folder = str(tmp_path / "pruned")
    config = ec.PrunerConfig(compression_ratio=0.5, step_interval=2, num_trials=2)
    estimator, input_fn = models.MODELS[name](
        folder, lambda model_fn: ec.compress(model_fn, ec.Pruner(config))
    )
    estimator.train(input_fn, max_steps=5)
    expected = estimator.evaluate(input_fn, steps=2)
    small, input_fn = models.MODELS[name](
        str(tmp_path / "small"), lambda model_fn: ec.finetune(model_fn, folder)
    )
    small.train(input_fn, max_steps=1)
    loaded = checkpoint(str(tmp_path / "small"))
    cut = {
        name: variable.small_shape
        for name, variable in read_artifact(folder).variables.items()
        if variable.small_shape != variable.shape
    }
    assert cut
    for name, shape in cut.items():
        assert loaded[name].shape == shape
    actual = small.evaluate(input_fn, steps=2)
    assert set(actual) == set(expected)


def test_finetuning_goes_on_from_its_own_checkpoint(tmp_path):
    folder = str(tmp_path / "pruned")
    _, model_fn, input_fn = prune(folder, networks.residual, (8, 8, 3), 0.5)

    def rest(small_folder):
        path = tf.train.latest_checkpoint(small_folder)
        return lambda: input_fn().skip(int(path.rsplit("-", 1)[1]) if path else 0)

    def train(small_folder, stops):
        for stop in stops:
            tf.estimator.Estimator(
                ec.finetune(model_fn, folder),
                config=models.run_config(small_folder),
            ).train(rest(small_folder), max_steps=stop)
        return checkpoint(small_folder)

    whole = train(str(tmp_path / "whole"), [4])
    parts = train(str(tmp_path / "parts"), [1, 3, 4])
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value, name)


def test_another_model_than_was_pruned_is_an_error_that_names_the_op(tmp_path):
    folder = str(tmp_path / "pruned")
    _, _, input_fn = prune(folder, networks.vgg, (8, 8, 3), 0.5)
    model_fn, _ = models.classifier(
        lambda x, training: tf.layers.dense(
            tf.layers.flatten(tf.layers.conv2d(x, 7, 3)), models.CLASSES
        ),
        (8, 8, 3),
    )
    message = "'conv2d/kernel' had shape .* and has .* that '.*pruned' was pruned from"
    with pytest.raises(ec.PlanError, match=message):
        small_variables(model_fn, folder, input_fn)


def other_names(x, training):
    x = tf.layers.flatten(tf.layers.conv2d(x, 7, 3, name="other"))
    return tf.layers.dense(x, models.CLASSES, name="out")


def test_a_model_without_the_pruned_variables_is_an_error_that_names_the_folder(
    tmp_path,
):
    folder = str(tmp_path / "run")
    _, _, input_fn = prune(folder, networks.vgg, (8, 8, 3), 0.5)
    model_fn, _ = models.classifier(other_names, (8, 8, 3))
    message = "has no variable 'conv2d/bias'; .* '.*run/compression/pruned' was pruned"
    with pytest.raises(ec.PlanError, match=message):
        small_variables(model_fn, folder, input_fn)
    with tf.Graph().as_default():
        getter = ec.GapFinetune(folder).get_variable
        with tf.variable_scope("", custom_getter=getter):
            logits = other_names(tf.placeholder(tf.float32, [None, 8, 8, 3]), True)
        with pytest.raises(ec.PlanError, match="none of .* '.*run/compression/pruned'"):
            tf.gradients(logits, tf.trainable_variables())


def test_code_that_differs_from_call_to_call_is_an_error_that_names_the_op(tmp_path):
    folder = str(tmp_path / "pruned")
    calls = []

    def network(x, training):
        x = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
        if calls:
            x = tf.nn.relu(x, name=f"call_{len(calls)}")
            calls.append(1)
        return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)

    _, model_fn, input_fn = prune(folder, network, (8, 8, 3), 0.5)
    calls.append(1)
    with pytest.raises(ec.PlanError, match="the small network has no Relu 'call_1'"):
        small_variables(model_fn, folder, input_fn)


def test_a_moved_folder_serves_another_process(tmp_path):
    folder = str(tmp_path / "pruned")
    _, model_fn, input_fn = prune(folder, networks.vgg, (8, 8, 3), 0.5)
    expected = small_variables(model_fn, folder, input_fn)
    moved = str(tmp_path / "moved")
    os.rename(os.path.join(folder, "compression", "pruned"), moved)
    actual = small_variables(model_fn, moved, input_fn)
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value)


def test_what_only_training_ties_together_is_an_error_that_names_the_op(tmp_path):
    """Both layers predict, so neither may lose what the other does."""
    folder = str(tmp_path / "pruned")

    def network(x, training):
        a = tf.layers.conv2d(x, 8, 3, name="a", activation=tf.nn.relu)
        b = tf.layers.conv2d(x, 8, 3, name="b", activation=tf.nn.relu)
        if training:
            tf.losses.add_loss(tf.reduce_sum(tf.subtract(a, b, name="tie") ** 2))
        means = [tf.reduce_mean(h, [1, 2]) for h in (a, tf.nn.tanh(b))]
        return tf.layers.dense(tf.concat(means, -1), models.CLASSES)

    _, model_fn, input_fn = prune(folder, network, (8, 8, 3), 0.4)
    kept = {n: v.kept for n, v in read_artifact(folder).variables.items()}
    assert kept["a/kernel"][3] != kept["b/kernel"][3]
    with pytest.raises(ec.PlanError, match="'tie' can't be built|'tie' has shape"):
        small_variables(model_fn, folder, input_fn)


def op_names(path):
    """Of a SavedModel's graph, in which nothing at all is called after this package.

    Without initializers: the small network's are other ones.
    """
    with tf.Graph().as_default() as graph, tf.Session() as session:
        meta = tf.saved_model.load(session, ["serve"], path)
        assert "ec_estimator" not in str(meta)
        names = {op.name for op in graph.get_operations()}
    return {name for name in names if "Initializer" not in name}


@pytest.mark.parametrize(
    "name", ["literal_constants", pytest.param("transformer", marks=pytest.mark.slow)]
)
def test_an_export_has_the_models_names_and_what_is_cut_beside_them(name, tmp_path):
    folder = str(tmp_path / "pruned")
    network, shape = networks.SMALL[name]
    whole, model_fn, _ = prune(folder, network, shape, 0.5)
    small = tf.estimator.Estimator(
        ec.finetune(model_fn, folder), config=models.run_config(str(tmp_path / "small"))
    )
    small.train(models.dataset(shape), max_steps=1)

    def receiver():
        x = tf.placeholder(tf.float32, [None, *shape], "images")
        return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})

    before, after = (
        op_names(estimator.export_saved_model(str(tmp_path / "export"), receiver))
        for estimator in (whole, small)
    )
    assert before - after == set()
    added = after - before
    assert added
    for op in added:
        assert op.split("/kept")[0] in before, op


@pytest.mark.parametrize("taken", ["Gate/kept", "gate/Kept/const"])
def test_what_is_cut_leaves_the_models_own_names_free(taken, tmp_path):
    def network(x, training):
        x = tf.layers.conv2d(x, 8, 3)
        x = tf.identity(x * tf.constant([2.0] * 8, name="gate"), taken)
        return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)

    folder = str(tmp_path / "pruned")
    estimator, model_fn, input_fn = prune(folder, network, (8, 8, 3), 0.5)
    small = run_small(
        model_fn, folder, input_fn, MODES.PREDICT, lambda s: s.predictions["logits"]
    )
    rows = list(estimator.predict(lambda: input_fn().take(1), ["logits"]))
    np.testing.assert_allclose(small, [row["logits"] for row in rows], 1e-5, 1e-5)


def test_a_mode_may_lack_a_head_that_is_whole(tmp_path):
    """A head that only predicts, and that no channel of the trunk reaches."""
    folder = str(tmp_path / "pruned")

    def model_fn(features, labels, mode):
        x = tf.layers.flatten(features["x"])
        h = tf.layers.dense(x, 12, tf.nn.relu, name="trunk")
        logits = tf.layers.dense(h, models.CLASSES, name="logits")
        if mode == tf.estimator.ModeKeys.PREDICT:
            whole = tf.layers.dense(x, 2, name="whole")
            return tf.estimator.EstimatorSpec(mode, {"a": logits, "b": whole})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.train.get_global_step()
        if mode == tf.estimator.ModeKeys.TRAIN:
            # There to be trained elsewhere.
            tf.layers.dense(x, 2, name="whole")
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    input_fn = models.dataset((8, 8, 3))
    pruner = ec.Pruner(ec.PrunerConfig(0.5, step_interval=1, num_trials=1))
    tf.estimator.Estimator(ec.compress(model_fn, pruner), folder).train(
        input_fn, max_steps=2
    )
    small = tf.estimator.Estimator(
        ec.finetune(model_fn, folder), str(tmp_path / "small")
    ).train(input_fn, max_steps=1)
    assert np.isfinite(small.evaluate(input_fn, steps=1)["loss"])
    assert small.get_variable_value("trunk/kernel").shape[1] < 12
