"""The exporters, wherever the run is and whoever wraps the Estimator."""
import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib.estimator import (
    add_metrics,
    build_raw_supervised_input_receiver_fn,
)

import ec_estimator as ec
from tests import models
from tests.export.handoffs import files_end_after


def sparsifier(**kwargs):
    return ec.Sparsifier(
        ec.SparsifierConfig(**{"step_interval": 2, "num_trials": 3, **kwargs})
    )


def compressed(model_dir, **config):
    """An Estimator whose model is finished at step 6."""
    model_fn, _ = models.classifier(models._raw_network, (8, 8, 3))
    return tf.estimator.Estimator(
        ec.compress(model_fn, sparsifier()),
        config=models.run_config(str(model_dir), **config),
    )


input_fn = models.dataset((8, 8, 3))


def receiver():
    x = tf.placeholder(tf.float32, [None, 8, 8, 3])
    return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})


def supervised_receiver():
    return build_raw_supervised_input_receiver_fn(
        {"x": tf.placeholder(tf.float32, [None, 8, 8, 3])},
        tf.placeholder(tf.int64, [None]),
    )()


def specs(steps, *exporters):
    return (
        tf.estimator.TrainSpec(input_fn, steps),
        tf.estimator.EvalSpec(
            input_fn, 2, exporters=exporters, start_delay_secs=0, throttle_secs=0
        ),
    )


def with_metrics(estimator):
    """Hides the compressed model_fn in an Estimator of contrib's."""
    return add_metrics(estimator, lambda predictions: {})


def zeros(prefix):
    return np.mean(tf.train.load_checkpoint(str(prefix)).get_tensor("w2") == 0)


def test_a_remote_model_dir_holds_everything_a_run_leaves(tmp_path, monkeypatch):
    # To Python's own file functions file:// is as strange as gs://.
    monkeypatch.chdir(tmp_path)
    trained = compressed(f"file://{tmp_path}/run", save_checkpoints_steps=3)
    _, exports = ec.train_and_evaluate(
        trained,
        *specs(
            6,
            ec.BestExporter(receiver, exports_to_keep=1),
            ec.CleanCheckpointExporter(),
        ),
    )
    assert os.listdir(str(tmp_path)) == ["run"]
    assert (tmp_path / "run" / "compression" / "trials.jsonl").exists()
    assert (tmp_path / "run" / "export" / "best" / "best.json").exists()
    clean = tmp_path / "run" / "export" / "clean_checkpoint"
    assert tf.train.latest_checkpoint(str(clean)) == str(clean / "model.ckpt-6")
    assert 0.55 < zeros(clean) <= 0.6


@pytest.mark.parametrize(
    "train_and_evaluate", [ec.train_and_evaluate, tf.estimator.train_and_evaluate]
)
def test_an_estimator_around_ours_exports_the_finished_model_only(
    train_and_evaluate, tmp_path
):
    outer = with_metrics(compressed(tmp_path, save_checkpoints_steps=3))
    train_and_evaluate(
        outer,
        *specs(
            9,
            ec.SavedModelExporter(receiver),
            ec.FinishedOnly(tf.estimator.LatestExporter("latest", receiver)),
            ec.CleanCheckpointExporter(),
        ),
    )
    exports = tmp_path / "export"
    # Of the checkpoints at 3, 6 and 9 the first is unfinished.
    for name in ("saved_model", "latest"):
        written = list((exports / name).iterdir())
        assert len(written) == 2
        for path in written:
            assert 0.55 < zeros(path / "variables" / "variables") <= 0.6
    clean = exports / "clean_checkpoint"
    assert sorted(path.name for path in clean.glob("*.index")) == [
        "model.ckpt-6.index",
        "model.ckpt-9.index",
    ]


def test_an_estimator_around_ours_is_checked_before_training(tmp_path):
    outer = with_metrics(compressed(tmp_path))
    with pytest.raises(ec.ConfigError, match="max_steps=5 is too small.*need 6"):
        ec.train_and_evaluate(outer, *specs(5))
    assert not (tmp_path / "checkpoint").exists()


def test_an_estimator_around_a_dense_one_is_refused_before_training(tmp_path):
    model_fn, _ = models.classifier(models._raw_network, (8, 8, 3))
    dense = tf.estimator.Estimator(model_fn, config=models.run_config(str(tmp_path)))
    with pytest.raises(ec.PlanError, match="made without compress"):
        ec.train_and_evaluate(with_metrics(dense), *specs(9))
    assert not (tmp_path / "checkpoint").exists()


RECEIVERS = {
    tf.estimator.ModeKeys.TRAIN: supervised_receiver,
    tf.estimator.ModeKeys.EVAL: supervised_receiver,
    tf.estimator.ModeKeys.PREDICT: receiver,
}


def export_modes(estimator, folder, *modes):
    path = estimator.experimental_export_all_saved_models(
        str(folder), {mode: RECEIVERS[mode] for mode in modes}
    )
    return path.decode()


@pytest.mark.parametrize("modes", [["eval"], ["eval", "infer"]])
def test_exports_of_other_modes_wait_for_the_last_trial_too(modes, tmp_path):
    trained = compressed(tmp_path / "run")
    trained.train(input_fn, max_steps=5)
    with pytest.raises(ec.UnfinishedError, match="trial 2 of 3; train to step 6"):
        export_modes(trained, tmp_path / "early", *modes)
    # An evaluation along the way is nobody's final word.
    assert trained.evaluate(input_fn, 1)["global_step"] == 5
    trained.train(input_fn, max_steps=6)
    path = export_modes(trained, tmp_path / "export", *modes)
    names = [name for name, _ in tf.train.list_variables(f"{path}/variables/variables")]
    assert names == ["global_step", "w1", "w2", "w3"]


def test_the_training_graph_is_not_exported(tmp_path):
    trained = compressed(tmp_path / "run")
    trained.train(input_fn, max_steps=6)
    with pytest.raises(ec.PlanError, match="would hold masks; export EVAL and PREDICT"):
        export_modes(trained, tmp_path / "export", *RECEIVERS)


def test_tensorflows_best_exporter_forgets_what_unfinished_models_scored(tmp_path):
    trained = compressed(tmp_path)
    early = tf.Summary(value=[tf.Summary.Value(tag="loss", simple_value=1e-9)])
    with tf.summary.FileWriter(trained.eval_dir()) as writer:
        writer.add_summary(early, 1)
    ec.train_and_evaluate(
        trained, *specs(6, tf.estimator.BestExporter("best", receiver))
    )
    assert len(list((tmp_path / "export" / "best").iterdir())) == 1


def test_a_clean_checkpoint_without_compression_leaves_the_optimizer_away(tmp_path):
    model_fn, _ = models.classifier(
        models._raw_network, (8, 8, 3), tf.train.AdamOptimizer
    )
    plain = tf.estimator.Estimator(model_fn, config=models.run_config(str(tmp_path)))
    tf.estimator.train_and_evaluate(plain, *specs(6, ec.CleanCheckpointExporter()))
    trained = tf.train.load_checkpoint(str(tmp_path))
    assert {"beta1_power", "w1/Adam"} < set(trained.get_variable_to_shape_map())
    clean = tf.train.load_checkpoint(str(tmp_path / "export" / "clean_checkpoint"))
    assert set(clean.get_variable_to_shape_map()) == {"global_step", "w1", "w2", "w3"}
    np.testing.assert_array_equal(clean.get_tensor("w2"), trained.get_tensor("w2"))


def test_a_clean_checkpoint_of_a_run_that_lost_its_manifest_is_an_error(tmp_path):
    trained = compressed(tmp_path)
    trained.train(input_fn, max_steps=6)
    (tmp_path / "compression" / "manifest.json").unlink()
    exporter = ec.CleanCheckpointExporter()
    with pytest.raises(ec.RunFolderError, match="compressed run.*no manifest.json"):
        exporter.export(trained, str(tmp_path), trained.latest_checkpoint(), {}, True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return compressed(tmp_path_factory.mktemp("run")).train(input_fn, max_steps=6)


@pytest.mark.parametrize(
    "exporter",
    [
        ec.SavedModelExporter(receiver),
        ec.BestExporter(receiver),
        ec.CleanCheckpointExporter(),
    ],
    ids=lambda exporter: exporter.name,
)
def test_what_cannot_be_written_is_named_and_not_there(exporter, finished, tmp_path):
    full, blocked = str(tmp_path / "full"), str(tmp_path / "file" / "out")
    arguments = finished.latest_checkpoint(), {"loss": 1.0}, True
    with files_end_after(1000), pytest.raises(
        ec.ExportError, match=f"'{exporter.name}': '{full}' cannot be .*too large"
    ):
        exporter.export(finished, full, *arguments)
    # TensorFlow's own temporary folder may stay; nobody takes that for a model.
    left = [name.split("-")[0] for name in os.listdir(full)]
    assert set(left) <= {"temp", "model.ckpt"}
    assert not [name for name in os.listdir(full) if name.endswith(".index")]
    (tmp_path / "file").write_text("where a folder should be")
    with pytest.raises(ec.ExportError, match=f"'{blocked}' cannot be .*; make room th"):
        exporter.export(finished, blocked, *arguments)


@pytest.mark.parametrize("kept,left", [(1, ["3"]), (2, ["2", "3"]), (None, "123")])
def test_the_newest_exports_stay(kept, left, finished, tmp_path, monkeypatch):
    # TensorFlow names exports by the second, of which tests have no time for many.
    number = iter("123")
    export = finished.export_saved_model
    monkeypatch.setattr(
        finished,
        "export_saved_model",
        lambda base, *args, **kwargs: shutil.move(
            export(base, *args, **kwargs).decode(), f"{base}/{next(number)}"
        ),
    )
    (tmp_path / "notes").mkdir()
    exporter = ec.SavedModelExporter(receiver, exports_to_keep=kept)
    for _ in range(3):
        exporter.export(finished, str(tmp_path), finished.latest_checkpoint(), {}, True)
    assert sorted(os.listdir(str(tmp_path))) == [*left, "notes"]


def test_an_export_is_the_newest_also_after_one_of_a_clock_that_was_ahead(
    finished, tmp_path, monkeypatch, caplog
):
    exporter = ec.SavedModelExporter(receiver, exports_to_keep=1)

    def export():
        checkpoint = finished.latest_checkpoint()
        path = exporter.export(finished, str(tmp_path), checkpoint, {}, True)
        assert os.path.exists(path)
        return [path.name for path in tmp_path.iterdir()]

    clock = monkeypatch.setattr
    clock("time.time", lambda: 2e9)
    assert export() == ["2000000000"]
    clock("time.time", lambda: 1.9e9)
    assert export() == ["2000000001"]
    assert export() == ["2000000002"]
    assert "up to version 2000000001, later than this host's clock" in caplog.text


@pytest.mark.parametrize("exporter", [ec.SavedModelExporter, ec.BestExporter])
@pytest.mark.parametrize("kept", [0, -1, True, "all"])
def test_a_number_of_exports_that_makes_no_sense_is_an_error(exporter, kept):
    with pytest.raises(
        ec.ConfigError,
        match=rf"^{exporter.__name__}.exports_to_keep: must be .* got {kept!r}$",
    ):
        exporter(receiver, exports_to_keep=kept)
