"""Pruning from training to the small network."""
import json
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from ec_estimator.training.attachment import attach_to_finished_graph
from tests import models
from tests.shrink.networks import residual, transformer, vgg
from tests.training.test_zoo import checkpoint

PREDICT = tf.estimator.ModeKeys.PREDICT


def pruner(**kwargs):
    return ec.Pruner(
        ec.PrunerConfig(
            **{
                "compression_ratio": 0.5,
                "step_interval": 2,
                "num_trials": 2,
                **kwargs,
            }
        )
    )


def run(tmp_path, network, compressor, steps=5, shape=(8, 8, 3), optimizer=None):
    model_fn, input_fn = models.classifier(network, shape, optimizer)
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, compressor), config=models.run_config(str(tmp_path))
    )
    estimator.train(input_fn, max_steps=steps)
    return estimator, model_fn, input_fn


def small_predictions(model_fn, folder, input_fn):
    """Predictions and number of trainable parameters of the small network, as built."""
    with tf.Graph().as_default(), tf.Session(config=models.ONE_THREAD) as session:
        tf.train.get_or_create_global_step()
        features, _ = tf.data.make_one_shot_iterator(input_fn()).get_next()
        spec = ec.finetune(model_fn, folder)(
            features=features, labels=None, mode=PREDICT, config=None
        )
        session.run(tf.global_variables_initializer())
        shapes = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
        return session.run(spec.predictions)["probabilities"], shapes


def whole_predictions(estimator, input_fn):
    rows = estimator.predict(lambda: input_fn().take(1))
    return np.stack([row["probabilities"] for row in rows])


def test_small_network_trains_and_exports_with_a_stock_estimator(tmp_path):
    _, model_fn, input_fn = run(tmp_path / "prune", residual, pruner())
    small = tf.estimator.Estimator(
        ec.finetune(model_fn, str(tmp_path / "prune")),
        config=models.run_config(str(tmp_path / "small")),
    )
    tf.estimator.train_and_evaluate(
        small,
        tf.estimator.TrainSpec(input_fn, 6),
        tf.estimator.EvalSpec(input_fn, 2, start_delay_secs=0, throttle_secs=0),
    )

    def receiver():
        x = tf.placeholder(tf.float32, [None, 8, 8, 3])
        return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})

    path = small.export_saved_model(str(tmp_path / "export"), receiver).decode()
    kernel = tf.train.load_checkpoint(path + "/variables/variables")
    shapes = kernel.get_variable_to_shape_map()
    full = checkpoint(str(tmp_path / "prune"))
    assert np.prod(shapes["conv2d_1/kernel"]) < full["conv2d_1/kernel"].size
    assert not [name for name in shapes if "ec_estimator" in name]


def test_ratio_0_is_bit_identical_to_no_pruning(tmp_path):
    run(tmp_path / "pruned", residual, pruner(compression_ratio=0.0))
    model_fn, input_fn = models.classifier(residual, (8, 8, 3))
    tf.estimator.Estimator(
        model_fn, config=models.run_config(str(tmp_path / "plain"))
    ).train(input_fn, max_steps=5)
    pruned = checkpoint(str(tmp_path / "pruned"))
    for name, value in checkpoint(str(tmp_path / "plain")).items():
        np.testing.assert_array_equal(pruned[name], value, name)


@pytest.mark.parametrize("session_mode", [False, True])
def test_importance_is_the_squared_derivative_of_a_gate_without_regularizer(
    session_mode,
):
    random = np.random.RandomState(0)
    x = random.standard_normal((6, 5, 5, 2)).astype(np.float32)

    def network(gate=None):
        h = tf.layers.conv2d(tf.placeholder_with_default(x, x.shape), 4, 3, name="a")
        h = tf.nn.relu(h) if gate is None else tf.nn.relu(h) * gate
        return tf.layers.conv2d(h, 3, 3, name="b")

    def loss_of(y):
        return tf.reduce_sum(tf.sin(y))

    compressor = pruner(ema_alpha=0.75)
    with tf.Graph().as_default() as graph:
        loss = loss_of(network())
        # The kernel's own gradient is polluted, a gate's is not.
        loss += sum(tf.nn.l2_loss(v) for v in tf.trainable_variables())
        optimizer = tf.train.GradientDescentOptimizer(0.0)
        if session_mode:
            train_op = optimizer.minimize(loss)
            attachment = attach_to_finished_graph(graph, [compressor])
        else:
            from ec_estimator.graph.layers import find_layers
            from ec_estimator.graph.plan import make_plan
            from ec_estimator.training.attachment import Attachment

            layers = find_layers(graph)
            plan = make_plan("x", graph, layers, None, [compressor], [loss])
            attachment = Attachment(graph, plan, [compressor])
            with attachment.gradients():
                train_op = optimizer.minimize(loss)
            attachment.finish()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            weights = session.run({v.op.name: v for v in tf.trainable_variables()})
            session.run([train_op, attachment.step_ops])
            importance = session.run(
                graph.get_tensor_by_name("ec_estimator/pruning/importance:0")
            )
        groups = attachment.plan.details["pruning"].channels.of("a/kernel", 3)
    with tf.Graph().as_default(), tf.Session() as session:
        gate = tf.ones([4])
        (derivative,) = tf.gradients(loss_of(network(gate)), [gate])
        session.run(tf.global_variables_initializer())
        for variable in tf.trainable_variables():
            variable.load(weights[variable.op.name], session)
        expected = 0.25 * session.run(derivative) ** 2
    np.testing.assert_allclose(
        importance[groups], expected, rtol=1e-5, atol=1e-5 * expected.max()
    )
    others = np.delete(importance, groups)
    np.testing.assert_array_equal(others, 0)


def test_channels_that_matter_to_nobody_go_first(tmp_path):
    def network(x, training):
        kernel = np.random.RandomState(0).standard_normal((3, 3, 3, 8)) * 0.3
        kernel[..., [1, 4, 6]] = 0
        h = tf.layers.conv2d(
            x, 8, 3, kernel_initializer=tf.constant_initializer(kernel), use_bias=False
        )
        return tf.layers.dense(tf.reduce_mean(tf.nn.relu(h), [1, 2]), models.CLASSES)

    run(tmp_path, network, pruner(compression_ratio=3 / 8))
    kept = read_artifact(str(tmp_path)).variables["conv2d/kernel"].kept[3]
    assert kept == (0, 2, 3, 5, 7)


def test_a_restart_ends_with_the_same_channels_and_weights(tmp_path):
    config = dict(num_trials=4)

    def train_to(folder, stop):
        model_fn, input_fn = models.classifier(residual, (8, 8, 3))
        path = tf.train.latest_checkpoint(folder)
        done = int(path.rsplit("-", 1)[1]) if path else 0
        tf.estimator.Estimator(
            ec.compress(model_fn, pruner(**config)), config=models.run_config(folder)
        ).train(lambda: input_fn().skip(done), max_steps=stop)

    def train(folder, stops):
        for stop in stops:
            train_to(folder, stop)
        return checkpoint(folder)

    whole = train(str(tmp_path / "whole"), [10])
    parts = train(str(tmp_path / "parts"), [1, 3, 4, 7, 10])
    assert set(whole) == set(parts)
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name], name)


def test_the_artifact_says_which_versions_wrote_it(tmp_path):
    run(tmp_path, vgg, pruner())
    manifest = read_artifact(str(tmp_path)).manifest
    assert manifest["tensorflow"] == tf.version.VERSION
    assert manifest["ec_estimator"] == ec.__version__


def test_nothing_pruned_is_said_at_the_trial(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        run(tmp_path, vgg, pruner(compression_ratio=0.01))
    assert "pruning: trial 1 removed nothing" in caplog.text


def test_layers_that_keep_their_last_channel_are_named_at_the_trial(tmp_path, caplog):
    def network(x, training):
        h = tf.layers.conv2d(x, 8, 3, padding="same", name="stem")
        y = tf.layers.conv2d(tf.nn.relu(h), 8, 3, padding="same", name="branch")
        h = tf.layers.conv2d(tf.nn.relu(h + y), 6, 3, name="last")
        return tf.layers.dense(tf.reduce_mean(h, [1, 2]), models.CLASSES)

    with caplog.at_level("INFO"):
        run(tmp_path, network, pruner(compression_ratio=1.0, channel_align=4))
    notes = "pruning: stem/kernel and branch/kernel keep their last 4 channels"
    assert notes in caplog.text
    assert "pruning: last/kernel keeps its last 4 channels" in caplog.text


@pytest.mark.parametrize("metric", ["macs", "params"])
def test_layers_of_unknown_size_are_warned_about_where_it_counts(
    metric, tmp_path, caplog
):
    def network(x, training):
        x = tf.placeholder_with_default(x, [None, None, None, 3])
        h = tf.layers.conv2d(x, 8, 3, name="open", activation=tf.nn.relu)
        return tf.layers.dense(tf.reduce_mean(h, [1, 2]), models.CLASSES, name="known")

    with caplog.at_level("WARNING"):
        run(tmp_path, network, pruner(ratio_metric=metric))
    warned = "the spatial sizes of open/Conv2D are not known" in caplog.text
    assert warned == (metric == "macs")
    assert "known/MatMul" not in caplog.text


def test_coverage_says_what_froze_a_layer(tmp_path):
    def network(x, training):
        h = tf.layers.dense(tf.layers.flatten(x), 8, tf.nn.relu, name="free")
        h = tf.layers.dense(h, 6, name="frozen")
        return tf.layers.dense(tf.nn.softmax(h), models.CLASSES, name="head")

    run(tmp_path, network, pruner())
    with open(os.path.join(str(tmp_path), "compression", "coverage.json")) as file:
        rows = {
            r["kernel"]: r["decisions"]["pruning"] for r in json.load(file)["layers"]
        }
    assert rows["free/kernel"] == "compressed"
    assert "frozen: Softmax" in rows["frozen/kernel"]
    frozen = "its output channels are frozen: Softmax 'Softmax_1'"
    assert rows["head/kernel"] == frozen


def test_seed_snippets_prune_in_a_session_and_build_the_small_network(tmp_path):
    model_dir = str(tmp_path / "output")
    images = np.random.RandomState(0).standard_normal((4, 8, 8, 3)).astype(np.float32)

    with tf.Graph().as_default():
        x, y = tf.data.make_one_shot_iterator(models.dataset((8, 8, 3))()).get_next()
        loss = tf.losses.sparse_softmax_cross_entropy(y, vgg(x["x"], True))
        train_op = tf.train.AdamOptimizer(0.01).minimize(loss)
        pruner_config = ec.PrunerConfig(
            compression_ratio=0.5, step_interval=5, num_trials=3
        )
        compression_hook = ec.CompressionHook(
            ec.Pruner(pruner_config), save_dir=model_dir
        )
        with tf.train.MonitoredSession(
            session_creator=tf.train.ChiefSessionCreator(), hooks=[compression_hook]
        ) as session:
            for _ in range(17):
                session.run(train_op)
    with tf.Graph().as_default(), tf.Session() as session:
        masked = vgg(images, False)
        tf.train.Saver().restore(
            session, tf.train.latest_checkpoint(os.path.join(model_dir, "clean"))
        )
        expected = session.run(masked)

    from ec_estimator.pruning.utils import GapFinetune

    ft_helper = GapFinetune(model_dir)
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("", custom_getter=ft_helper.get_variable):
            logits = vgg(images, False)
        session.run(tf.global_variables_initializer())
        np.testing.assert_allclose(session.run(logits), expected, rtol=1e-5, atol=1e-6)
        kernels = [v for v in tf.trainable_variables() if "conv2d/kernel" in v.name]
        assert kernels[0].shape[-1] < 8


class TestArtifact:
    def test_folder_without_one_is_an_error(self, tmp_path):
        with pytest.raises(ec.RunFolderError, match="there is no pruned model in"):
            ec.GapFinetune(str(tmp_path))

    def test_damaged_manifest_is_an_error(self, tmp_path):
        run(tmp_path, vgg, pruner())
        path = tmp_path / "compression" / "pruned" / "manifest.json"
        whole = path.read_text()
        path.write_text(whole[:200])
        with pytest.raises(ec.RunFolderError, match="is damaged"):
            ec.GapFinetune(str(tmp_path))
        path.write_text(whole.replace('"shape"', '"form"'))
        with pytest.raises(ec.RunFolderError, match="is damaged .*shape"):
            ec.GapFinetune(str(tmp_path))

    def test_truncated_checkpoint_is_an_error(self, tmp_path):
        run(tmp_path, vgg, pruner())
        folder = tmp_path / "compression" / "pruned"
        (data,) = folder.glob("model.ckpt-*.data-*")
        data.write_bytes(data.read_bytes()[:-10])
        with pytest.raises(ec.RunFolderError, match="cannot be read \\('"):
            ec.GapFinetune(str(tmp_path))

    def test_manifest_that_does_not_fit_its_checkpoint_is_an_error(self, tmp_path):
        run(tmp_path, vgg, pruner())
        path = tmp_path / "compression" / "pruned" / "manifest.json"
        content = json.loads(path.read_text())
        content["variables"]["dense/bias"] = {"shape": [7], "kept": [None]}
        path.write_text(json.dumps(content))
        with pytest.raises(ec.RunFolderError, match="its checkpoint says"):
            ec.GapFinetune(str(tmp_path))

    def test_another_models_shape_is_an_error(self, tmp_path):
        run(tmp_path, vgg, pruner())
        helper = ec.GapFinetune(str(tmp_path))
        with tf.Graph().as_default():
            with tf.variable_scope("", custom_getter=helper.get_variable):
                with pytest.raises(
                    ec.PlanError, match="had shape .* when it was pruned"
                ):
                    tf.get_variable("conv2d/kernel", [5, 5, 3, 8])


@pytest.mark.parametrize("extra", [False, True])
def test_a_getter_around_code_that_decides_by_counts_warns(extra, tmp_path, caplog):
    def network(x, training):
        h = tf.layers.conv2d(x, 8, 3, padding="same", activation=tf.nn.relu)
        y = tf.layers.conv2d(h, 8, 3, padding="same", name="second")
        if extra and int(y.shape[-1]) != 8:
            y = tf.nn.elu(y)
        return tf.layers.dense(tf.reduce_mean(y, [1, 2]), models.CLASSES)

    run(tmp_path, network, pruner(compression_ratio=0.6))
    helper = ec.GapFinetune(str(tmp_path))
    with tf.Graph().as_default(), caplog.at_level("WARNING"):
        with tf.variable_scope("", custom_getter=helper.get_variable):
            logits = network(tf.zeros([2, 8, 8, 3]), True)
        tf.gradients(tf.reduce_sum(logits), tf.trainable_variables())
    said = "The layers of dense/kernel are not connected as they were" in caplog.text
    assert said == extra


def queued(x, y):
    return tf.estimator.inputs.numpy_input_fn(
        {"x": x}, y, batch_size=2, num_epochs=None, shuffle=False
    )


def constant(x, y):
    return lambda: ({"x": tf.constant(x)}, tf.constant(y))


@pytest.mark.parametrize("source", [queued, constant])
def test_input_may_come_from_queues_and_constants(source, tmp_path):
    random = np.random.RandomState(0)
    x = random.standard_normal((4, 8, 8, 3)).astype(np.float32)
    model_fn, _ = models.classifier(residual, (8, 8, 3))
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, pruner()), config=models.run_config(str(tmp_path))
    )
    estimator.train(source(x, random.randint(0, models.CLASSES, 4)), max_steps=5)
    params = read_artifact(str(tmp_path)).manifest["params"]
    assert params[1] < params[0]
    importance = checkpoint(str(tmp_path))["ec_estimator/pruning/importance"]
    assert np.count_nonzero(importance) > 10


class HandWritten(tf.train.Optimizer):
    """Makes no Apply op: subtracts from the variables itself."""

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        ops = [v.assign_sub(0.01 * g) for g, v in grads_and_vars if g is not None]
        return tf.group(*ops, global_step.assign_add(1))


class Clipping(tf.train.GradientDescentOptimizer):
    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        gradients, variables = zip(*grads_and_vars)
        gradients, _ = tf.clip_by_global_norm(gradients, 1e-3)
        return super().apply_gradients(zip(gradients, variables), global_step, name)


class ScalingTheLoss(tf.train.GradientDescentOptimizer):
    """By a power of two, so that nothing is rounded otherwise."""

    def compute_gradients(self, loss, *args, **kwargs):
        pairs = super().compute_gradients(loss * 1024.0, *args, **kwargs)
        return [(g / 1024.0, v) for g, v in pairs if g is not None]


OPTIMIZERS = {
    "plain": (lambda: tf.train.GradientDescentOptimizer(0.01), 1),
    "momentum": (lambda: tf.train.MomentumOptimizer(0.01, 0.9), 1),
    "adam": (lambda: tf.train.AdamOptimizer(0.01), 1),
    "clipping": (lambda: Clipping(0.01), 1),
    "hand-written": (lambda: HandWritten(True, "hand"), 1),
    # Importance is in units of the scaled loss, squared, for all groups alike.
    "loss scaling": (lambda: ScalingTheLoss(0.01), 1024.0**2),
}


def first_importance(folder, optimizer):
    """After one step: what the optimizer makes of the gradients is not in it."""
    run(folder, residual, pruner(step_interval=5), 1, optimizer=optimizer)
    return checkpoint(str(folder))["ec_estimator/pruning/importance"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_importance_is_that_of_the_loss_whatever_the_optimizer_does(name, tmp_path):
    optimizer, scale = OPTIMIZERS[name]
    expected = first_importance(tmp_path / "plain", OPTIMIZERS["plain"][0])
    actual = first_importance(tmp_path / "other", optimizer)
    assert np.count_nonzero(expected) > 10
    np.testing.assert_allclose(actual, scale * expected, rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruning_ends_at_the_target_whatever_the_optimizer(name, tmp_path):
    run(tmp_path, residual, pruner(), optimizer=OPTIMIZERS[name][0])
    values = checkpoint(str(tmp_path))
    alive = values["ec_estimator/pruning/alive"]
    cut = read_artifact(str(tmp_path)).variables["conv2d_1/kernel"]
    assert len(cut.kept[2]) < cut.shape[2] and not alive.all()
    gone = np.delete(np.arange(cut.shape[2]), cut.kept[2])
    np.testing.assert_array_equal(values["conv2d_1/kernel"][:, :, gone], 0)


def test_of_a_transformer_the_feed_forward_part_goes_and_the_rest_says_why(tmp_path):
    run(tmp_path, transformer, pruner(), shape=(6, 10))
    with open(os.path.join(str(tmp_path), "compression", "coverage.json")) as file:
        rows = [row for row in json.load(file)["layers"] if row["kernel"]]
    decisions = {row["kernel"]: row["decisions"]["pruning"] for row in rows}
    taken = {name for name, decision in decisions.items() if decision == "compressed"}
    # A block has q, k, v, the projection, and two feed-forward layers.
    assert taken == {"dense_5/kernel", "dense_11/kernel"}
    assert all("frozen: " in decisions[name] for name in set(decisions) - taken)
