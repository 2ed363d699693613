"""Distribution strategies: replicas on logical CPU devices train as one."""
import json
import re
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import distribute as contrib_distribute
from tensorflow.contrib import predictor

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from ec_estimator.training.build import check_strategy
from ec_estimator.training.checks import warn_of_no_checkpoints
from ec_estimator.training.progress import ProgressBar
from tests import models
from tests.replicas import REPLICAS, Copies, for_each, mirrored, run_config
from tests.training.test_zoo import checkpoint

STEPS = 8


def sparsifier():
    return ec.Sparsifier(ec.SparsifierConfig(0.5, step_interval=2, num_trials=3))


def pruner():
    return ec.Pruner(ec.PrunerConfig(0.4, step_interval=2, num_trials=3))


def quantizer(**settings):
    return ec.LSQQuantizer(
        ec.QuantizerConfig(**{"step_interval": 2, "num_trials": 3, **settings})
    )


def model_fn(features, labels, mode, params):
    """A convolution, batch norm if that is wanted, and two dense layers."""
    is_training = mode == tf.estimator.ModeKeys.TRAIN
    seeded = iter(map(tf.glorot_uniform_initializer, (5, 6, 7)))
    x = tf.layers.conv2d(
        features["x"], 8, 3, name="conv", kernel_initializer=next(seeded)
    )
    x = tf.nn.relu(x)
    if params["norm"]:
        x = tf.layers.batch_normalization(x, training=is_training, momentum=0.5)
    x = tf.layers.flatten(x)
    x = tf.layers.dense(
        x, 16, tf.nn.relu, name="hidden", kernel_initializer=next(seeded)
    )
    logits = tf.layers.dense(
        x, models.CLASSES, name="logits", kernel_initializer=next(seeded)
    )
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"logits": logits})
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tf.train.MomentumOptimizer(0.05, 0.9)
    gradients, variables = zip(*optimizer.compute_gradients(loss))
    if params.get("clip"):
        gradients, _ = tf.clip_by_global_norm(gradients, params["clip"])
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies(updates):
        train_op = optimizer.apply_gradients(
            zip(gradients, variables), tf.train.get_global_step()
        )
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def input_fn(batch=8):
    """Batches in the same order every time; one of 16 is two of 8."""

    def read():
        random = np.random.RandomState(3)
        x = random.standard_normal((64, 6, 6, 2)).astype(np.float32)
        labels = random.randint(0, models.CLASSES, 64)
        data = tf.data.Dataset.from_tensor_slices(({"x": x}, labels))
        return data.repeat().batch(batch, drop_remainder=True)

    return read


def estimator(model_dir, compressor, strategy=None, evaluates=None, **params):
    return tf.estimator.Estimator(
        ec.compress(model_fn, compressor),
        config=run_config(model_dir, strategy, evaluates),
        params={"norm": False, **params},
    )


def kernels_read(graph):
    """{layer: what each replica's reads as its kernel}."""
    found = {}
    for op in graph.get_operations():
        layer = re.fullmatch(r"(replica_\d+/)?(\w+/(?:Conv2D|MatMul))", op.name)
        if layer:
            found.setdefault(layer.group(2), []).append(op.inputs[1])
    assert sorted(map(len, found.values())) == [REPLICAS] * 3
    return found


@pytest.fixture(scope="module", params=[sparsifier, pruner, quantizer])
def trained(request, tmp_path_factory):
    """(maker of the compressor, Estimator, what each half of its training saw)."""
    folder, seen = tmp_path_factory.mktemp("mirrored"), []
    for steps in (STEPS // 2, STEPS):
        hook = Copies(kernels_read)
        run = estimator(folder, request.param(), mirrored(), norm=True)
        # Hooks of the user come before ours: what is seen has been through a step.
        run.train(input_fn(), [hook], max_steps=steps)
        seen.append(hook.seen)
    return request.param, run, seen


def test_replicas_are_the_same_to_the_bit_before_each_step(trained):
    compressor, _, (first, second) = trained
    assert len(first) == len(second) == STEPS // 2
    for seen in (*first, *second):
        for name, values in seen.items():
            assert len(values) == REPLICAS
            np.testing.assert_array_equal(values[0], values[1], name)
    kernel, read = (
        second[-1][name][0] for name in ("hidden/kernel:0", "hidden/MatMul")
    )
    assert (kernel != first[0]["hidden/kernel:0"][0]).any()
    if compressor is quantizer:
        assert all(len(np.unique(channel)) < 256 for channel in read.T)
        assert (read != kernel).any()
    else:
        assert (kernel == 0).mean() > 0.1
        np.testing.assert_array_equal(read, kernel)


def test_a_run_goes_on_where_its_checkpoint_is(trained):
    compressor, run, _ = trained
    values = checkpoint(run.model_dir)
    assert values[f"ec_estimator/{compressor().name}/trial"] == 3
    trials = (Path(run.model_dir) / "compression" / "trials.jsonl").read_text()
    assert [json.loads(line)["trial"] for line in trials.splitlines()] == [1, 2, 3]


def test_a_checkpoint_has_what_one_of_a_single_device_has(trained, tmp_path):
    compressor, run, _ = trained
    alone = estimator(tmp_path, compressor(), norm=True)
    alone.train(input_fn(), max_steps=1)
    names = [set(checkpoint(str(folder))) for folder in (run.model_dir, tmp_path)]
    assert names[0] == names[1]


def test_evaluation_under_a_strategy_is_that_of_a_device(trained):
    compressor, run, _ = trained
    alone = run.evaluate(input_fn(), steps=4)["loss"]
    together = estimator(run.model_dir, compressor(), evaluates=mirrored(), norm=True)
    # Each step is a batch for each of them.
    assert together.evaluate(input_fn(), steps=2)["loss"] == pytest.approx(alone, 1e-6)


def test_one_device_goes_on_where_two_replicas_were(trained, tmp_path):
    compressor, run, _ = trained
    folder = shutil.copytree(run.model_dir, str(tmp_path / "copy"))
    before = checkpoint(folder)
    alone = estimator(folder, compressor(), norm=True)
    alone.train(input_fn(), max_steps=STEPS + 1)
    after = checkpoint(folder)
    assert after.keys() == before.keys()
    assert after["global_step"] == STEPS + 1
    for name in (n for n in after if n.endswith(("/mask", "/alive", "/trial"))):
        np.testing.assert_array_equal(after[name], before[name])
    if compressor is not quantizer:
        gone = before["hidden/kernel"] == 0
        assert gone.any() and not after["hidden/kernel"][gone].any()


@pytest.mark.parametrize("trained", [pruner], indirect=True)
def test_the_pruned_folder_has_the_moving_averages_of_the_checkpoint(trained):
    _, run, _ = trained
    small = tf.train.load_checkpoint(read_artifact(run.model_dir).checkpoint)
    name = "batch_normalization/moving_mean"
    whole, kept = checkpoint(run.model_dir)[name], small.get_tensor(name)
    assert 0 < len(kept) < len(whole)
    assert np.isin(np.round(kept, 5), np.round(whole, 5)).all()


@pytest.mark.parametrize("compressor", [sparsifier, pruner])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_two_replicas_train_as_one_device_on_their_batches_together(
    compressor, clip, tmp_path
):
    # Each replica clips its own gradients, so the same batch for both.
    single = input_fn(16) if clip is None else input_fn(8)
    double = input_fn(8) if clip is None else for_each(input_fn(8))
    trained = []
    for strategy, batches in ((None, single), (mirrored(), double)):
        # What a replica clips are the gradients of its share of the mean loss.
        norm = clip and clip / (2 if strategy else 1)
        folder = tmp_path / ("two" if strategy else "one")
        run = estimator(folder, compressor(), strategy, clip=norm)
        run.train(batches, max_steps=STEPS)
        trained.append(checkpoint(run.model_dir))
    one, two = trained
    for name, value in one.items():
        if "importance" in name:
            # Each replica's loss is a half of the mean's, and so is what it adds.
            np.testing.assert_allclose(two[name], value, rtol=1e-3, atol=1e-9)
        else:
            np.testing.assert_allclose(two[name], value, atol=2e-5, err_msg=name)


class FirstGradient(tf.train.SessionRunHook):
    """The gradients of all step sizes in step 1."""

    def begin(self):
        [self._m] = (v for v in tf.global_variables() if v.op.name.endswith("adam/m"))

    def after_run(self, run_context, run_values):
        self.found = run_context.session.run(self._m)


def first_gradient(folder, settings, strategy, batches):
    hook = FirstGradient()
    run = estimator(folder, quantizer(**settings), strategy, norm=True)
    run.train(batches, [hook], max_steps=1)
    return hook.found


@pytest.fixture(
    scope="module",
    params=[
        {},
        pytest.param(
            {"int8_winograd": True, "post_quant": True}, marks=pytest.mark.slow
        ),
    ],
)
def gradients_alone(request, tmp_path_factory):
    """(settings, [the gradients of the batch that each replica gets])."""
    found = [
        first_gradient(
            tmp_path_factory.mktemp("alone"),
            request.param,
            None,
            lambda number=number: input_fn()().skip(number),
        )
        for number in range(REPLICAS)
    ]
    return request.param, found


def central():
    devices = [f"/cpu:{number}" for number in range(REPLICAS)]
    return tf.distribute.experimental.CentralStorageStrategy(devices)


@pytest.mark.parametrize("make", [mirrored, central])
def test_step_sizes_get_the_gradients_of_all_replicas(make, gradients_alone, tmp_path):
    settings, alone = gradients_alone
    assert not np.allclose(*alone, rtol=0.1)
    together = first_gradient(tmp_path, settings, make(), input_fn())
    np.testing.assert_allclose(together, np.mean(alone, 0), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.distribute.OneDeviceStrategy("/cpu:0"),
        tf.distribute.experimental.ParameterServerStrategy,
        pytest.param(
            tf.distribute.experimental.CentralStorageStrategy,
            # A parameter server strategy.
            marks=pytest.mark.slow,
        ),
        tf.distribute.experimental.MultiWorkerMirroredStrategy,
        lambda: contrib_distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]),
    ],
    ids=["one_device", "parameter_server", "central", "multi_worker", "contrib"],
)
def test_other_strategies_of_one_machine(make, tmp_path):
    run = estimator(tmp_path, sparsifier(), make())
    run.train(input_fn(), max_steps=STEPS)
    values = checkpoint(run.model_dir)
    assert values["ec_estimator/sparsity/trial"] == 3
    kernels = [values[f"{name}/kernel"] for name in ("conv", "hidden", "logits")]
    assert sum((k == 0).sum() for k in kernels) / sum(k.size for k in kernels) >= 0.49


def test_what_is_no_known_strategy_is_refused_before_training(tmp_path):
    strategy = mock.Mock(spec=[], extended=object())
    with pytest.raises(ec.PlanError, match="train_distribute=Mock: training cannot"):
        check_strategy(strategy)


@pytest.mark.parametrize("summaries, is_warned", [(None, True), (100, False)])
def test_a_run_that_tensorflow_saves_no_checkpoint_of(summaries, is_warned, caplog):
    strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy()
    config = tf.estimator.RunConfig(
        train_distribute=strategy, save_summary_steps=summaries
    )
    warn_of_no_checkpoints(config)
    found = "TensorFlow writes no checkpoints under CollectiveAllReduce" in caplog.text
    assert found is is_warned


def test_an_error_of_user_code_leaves_nothing_behind(tmp_path):
    from tensorflow.python.ops import gradients_util

    before = gradients_util._GradientsHelper

    def broken(features, labels, mode, params):
        if mode == tf.estimator.ModeKeys.TRAIN:
            if "replica_1" in (tf.get_default_graph().get_name_scope() or ""):
                raise ValueError("on the second replica")
        return model_fn(features, labels, mode, params)

    with mock.patch.dict(globals(), model_fn=broken):
        run = estimator(tmp_path, sparsifier(), mirrored())
    with pytest.raises(ValueError, match="on the second replica"):
        run.train(input_fn(), max_steps=1)
    assert gradients_util._GradientsHelper is before


def test_train_and_evaluate_exports_what_replicas_have_trained(tmp_path):
    run = tf.estimator.Estimator(
        model_fn, config=run_config(tmp_path, mirrored()), params={"norm": True}
    )

    def receiver():
        x = tf.placeholder(tf.float32, [None, 6, 6, 2])
        return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})

    _, (path,) = ec.train_and_evaluate(
        run,
        tf.estimator.TrainSpec(input_fn(), STEPS, [ProgressBar(STEPS)]),
        tf.estimator.EvalSpec(
            input_fn(),
            steps=2,
            exporters=ec.SavedModelExporter(receiver),
            throttle_secs=0,
        ),
        compressor=sparsifier(),
    )
    x = np.random.RandomState(5).standard_normal((8, 6, 6, 2)).astype(np.float32)
    served = predictor.from_saved_model(path.decode())({"x": x})["logits"]
    predicted = run.predict(lambda: tf.data.Dataset.from_tensors({"x": x}))
    expected = np.stack([row["logits"] for row in predicted])
    np.testing.assert_allclose(served, expected, atol=1e-5)
    assert abs((checkpoint(str(tmp_path))["hidden/kernel"] == 0).mean() - 0.5) < 1e-2


def embeddings_model_fn(features, labels, mode):
    """Two looked-up rows and a dense network; the table's gradients are of rows."""
    table = tf.get_variable("table", [20, 4])
    x = tf.layers.flatten(tf.nn.embedding_lookup(table, features["ids"]))
    x = tf.layers.dense(x, 16, tf.nn.relu, name="hidden")
    logits = tf.layers.dense(x, models.CLASSES, name="logits")
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"logits": logits})
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    step = tf.train.get_global_step()
    train_op = tf.train.AdamOptimizer(0.01).minimize(loss, step)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def ids_input_fn():
    random = np.random.RandomState(6)
    ids, labels = random.randint(0, 20, [64, 2]), random.randint(0, models.CLASSES, 64)
    data = tf.data.Dataset.from_tensor_slices(({"ids": ids}, labels))
    return data.repeat().batch(8, drop_remainder=True)


@pytest.mark.parametrize("compressor", [sparsifier, pruner, quantizer])
def test_a_network_on_embeddings(compressor, tmp_path):
    run = tf.estimator.Estimator(
        ec.compress(embeddings_model_fn, compressor()),
        config=run_config(tmp_path, mirrored()),
    )
    hook = Copies()
    run.train(ids_input_fn, [hook], max_steps=STEPS)
    assert any(name.startswith("table") for name in hook.seen[0])
    for values in (v for seen in hook.seen for v in seen.values()):
        np.testing.assert_array_equal(*values)
    values = checkpoint(str(tmp_path))
    assert values[f"ec_estimator/{compressor().name}/trial"] == 3
    assert values["table"].all()
    gone = {n: (values[f"{n}/kernel"] == 0).mean() for n in ("hidden", "logits")}
    if compressor is sparsifier:
        assert gone == {"hidden": 0.5, "logits": 0.5}
    if compressor is pruner:
        # What reads the eight units of sixteen that went, or six: 0.4 of the weights.
        assert gone["hidden"] == 0 and 0.3 < gone["logits"] <= 0.5

    def receiver():
        ids = tf.placeholder(tf.int64, [None, 2])
        return tf.estimator.export.ServingInputReceiver({"ids": ids}, {"ids": ids})

    ids = np.arange(20).reshape([10, 2])
    path = run.export_saved_model(str(tmp_path / "export"), receiver).decode()
    served = predictor.from_saved_model(path)({"ids": ids})["logits"]
    predicted = run.predict(lambda: tf.data.Dataset.from_tensors({"ids": ids}))
    expected = np.stack([row["logits"] for row in predicted])
    np.testing.assert_allclose(served, expected, atol=1e-6)


def test_all_replicas_start_from_the_pretrained_model(tmp_path):
    dense = tf.estimator.Estimator(
        model_fn, config=run_config(tmp_path / "dense"), params={"norm": False}
    )
    dense.train(input_fn(), max_steps=2)
    start = quantizer(pretrained_model=dense.model_dir)
    hook = Copies()
    estimator(tmp_path / "run", start, mirrored()).train(input_fn(), [hook], steps=1)
    expected = checkpoint(dense.model_dir)
    for name in ("conv/kernel", "hidden/kernel", "logits/bias"):
        for value in hook.seen[0][f"{name}:0"]:
            np.testing.assert_array_equal(value, expected[name], name)
