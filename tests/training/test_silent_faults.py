"""Runs that would end without what was asked for say so before they start."""
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.training.runs import estimator, raw_model, receiver, sparsifier, specs
from tests.training.sessions import build
from tests.training.test_drop_in import MakesAnother

PREDICT = tf.estimator.ModeKeys.PREDICT


def pruner(ratio=0.5):
    return ec.Pruner(ec.PrunerConfig(compression_ratio=ratio, step_interval=2))


def quantizer():
    return ec.LSQQuantizer(ec.QuantizerConfig(step_interval=2, num_trials=1))


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """The folder of a dense checkpoint at step 6."""
    folder = tmp_path_factory.mktemp("dense")
    estimator(folder, wrap=lambda model_fn: model_fn).train(raw_model()[1], max_steps=6)
    return folder


def test_a_dense_run_that_is_complete_is_an_error(dense):
    # TensorFlow calls no model_fn to train, because the checkpoint is at max_steps.
    with pytest.raises(ec.RunFolderError, match="was trained without sparsity"):
        ec.train_and_evaluate(estimator(dense), *specs(6))


def test_a_dense_evaluation_through_compress_is_warned_about(dense, caplog):
    with caplog.at_level("WARNING"):
        estimator(dense).evaluate(raw_model()[1], 1)
    assert "model.ckpt-6' was trained without it" in caplog.text


@pytest.mark.parametrize(
    "exporter",
    [
        ec.SavedModelExporter(receiver),
        ec.CleanCheckpointExporter(),
        ec.FinishedOnly(tf.estimator.FinalExporter("final", receiver)),
        ec.HandoffExporter(ec.FORMATS["frozen_graph"](), receiver),
    ],
    ids=lambda exporter: exporter.name,
)
def test_no_exporter_takes_a_dense_checkpoint_for_a_finished_one(
    exporter, dense, tmp_path
):
    path = str(dense / "model.ckpt-6")
    with pytest.raises(ec.UnfinishedError, match="trained without it"):
        exporter.export(estimator(dense), str(tmp_path / "export"), path, {}, True)
    assert not (tmp_path / "export").exists()


def test_tensorflows_own_train_and_evaluate_of_another_model_fn_exports_nothing(
    tmp_path,
):
    model_fn, input_fn = raw_model()

    class Another(MakesAnother):
        def train(self, *args, **kwargs):
            inner = estimator(tmp_path, wrap=lambda dense: dense)
            inner.train(*args, **kwargs)
            return self

    outer = Another(
        ec.compress(model_fn, sparsifier()), config=models.run_config(str(tmp_path))
    )
    with pytest.raises(ec.UnfinishedError, match="trained without it"):
        tf.estimator.train_and_evaluate(
            outer, *specs(6, exporters=ec.CleanCheckpointExporter())
        )


@pytest.mark.parametrize("make", [sparsifier, pruner, quantizer])
def test_a_session_without_an_optimizer_is_an_error(make):
    with tf.Graph().as_default():
        x, y = tf.data.make_one_shot_iterator(models.dataset((8, 8, 3))()).get_next()
        logits = models._raw_network(x["x"], True)
        tf.losses.sparse_softmax_cross_entropy(y, logits)
        if make is quantizer:
            ec.quantize_graph("train", None, make().config)
        with pytest.raises(ec.PlanError, match="updates 'w1' .*build the optimizer"):
            ec.CompressionHook(make()).begin()


def test_a_train_op_that_trains_nothing_is_an_error(tmp_path):
    def model_fn(features, labels, mode):
        logits = models._raw_network(features["x"], False)
        if mode == PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=logits)
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        train_op = tf.train.get_global_step().assign_add(1)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    with pytest.raises(ec.PlanError, match="nothing in the training graph updates"):
        estimator(tmp_path, model_fn).train(raw_model()[1], max_steps=1)


@pytest.mark.parametrize("has_folder", [False, True])
def test_a_hook_that_would_lose_its_result_names_save_dir(has_folder, tmp_path, caplog):
    with tf.Graph().as_default(), caplog.at_level("WARNING"):
        build(models._raw_network, (8, 8, 3))
        tf.train.get_or_create_global_step()
        ec.CompressionHook(pruner(), str(tmp_path) if has_folder else None).begin()
    assert ("pass save_dir=FOLDER" in caplog.text) is not has_folder


@pytest.mark.parametrize(
    "compressor, field",
    [
        (ec.Pruner(ec.PrunerConfig()), "PrunerConfig.compression_ratio is 0"),
        (sparsifier(target_sparse_ratio=0), "SparsifierConfig.target_sparse_ratio is"),
        (sparsifier(), None),
    ],
)
def test_a_target_of_zero_is_said_once_at_the_start(
    compressor, field, tmp_path, caplog
):
    with caplog.at_level("WARNING"):
        estimator(tmp_path, wrap=lambda f: ec.compress(f, compressor)).train(
            raw_model()[1], max_steps=1
        )
    assert caplog.text.count("so training removes nothing") == (field is not None)
    assert field is None or field in caplog.text


def test_a_metric_that_is_not_evaluated_is_an_error_at_the_first_evaluation(tmp_path):
    exporter = ec.FinishedOnly(ec.BestExporter(receiver, metric="f1"))
    trained = estimator(tmp_path, save_checkpoints_steps=1)
    with pytest.raises(ec.ConfigError, match="BestExporter.metric: 'f1' is not eval"):
        ec.train_and_evaluate(trained, *specs(6, exporters=exporter))
    assert (tmp_path / "model.ckpt-1.index").exists()
    assert not (tmp_path / "model.ckpt-6.index").exists()


def test_an_export_while_training_is_told_of_finished_only(tmp_path):
    latest = tf.estimator.LatestExporter("latest", receiver)
    trained = estimator(tmp_path, save_checkpoints_steps=2)
    with pytest.raises(ec.UnfinishedError, match=r"FinishedOnly\(exporter\) waits"):
        tf.estimator.train_and_evaluate(trained, *specs(6, exporters=latest))


def test_training_to_fewer_steps_says_how_many_it_takes(tmp_path, caplog):
    with caplog.at_level("INFO"):
        estimator(tmp_path).train(raw_model()[1], max_steps=3)
    assert "not finished before its last trial at step 6" in caplog.text
    assert "next: train to step 6" in caplog.text


@pytest.mark.parametrize("make", [sparsifier, pruner, quantizer])
def test_a_kernel_that_training_computes_is_named_with_what_computes_it(make, tmp_path):
    def network(x, training):
        x = tf.layers.flatten(x)
        if training:
            v, g = tf.get_variable("v", [192, 8]), tf.get_variable("g", [8])
            w = tf.nn.l2_normalize(v, 0) * g
        else:
            w = tf.get_variable("w", [192, 8])
        return tf.layers.dense(tf.nn.relu(tf.matmul(x, w)), models.CLASSES)

    model_fn, input_fn = models.classifier(network, (8, 8, 3))
    trained = estimator(tmp_path, model_fn, lambda f: ec.compress(f, make()))
    message = "'w' of .* is computed by Mul 'mul' in 'MatMul'; .* or leave the layer"
    with pytest.raises(ec.PlanError, match=message):
        trained.train(input_fn, max_steps=1)


def test_a_missing_pretrained_model_is_named_by_its_field(tmp_path):
    config = ec.QuantizerConfig(pretrained_model=str(tmp_path / "nowhere"))
    trained = estimator(
        tmp_path, wrap=lambda f: ec.compress(f, ec.LSQQuantizer(config))
    )
    message = "QuantizerConfig.pretrained_model: checkpoint '.*nowhere' cannot be read"
    with pytest.raises(ec.RunFolderError, match=message):
        trained.train(raw_model()[1], max_steps=1)
    with pytest.raises(ec.RunFolderError, match="^warm_start_from: .*nowhere"):
        ec.warm_start(str(tmp_path / "nowhere"))
