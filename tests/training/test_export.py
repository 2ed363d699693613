"""What a run exports: finished models alone, with nothing of ours in them."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.folder import FORMAT_VERSION
from tests import models
from tests.training.runs import estimator, raw_model, receiver, specs
from tests.training.test_zoo import checkpoint, sparsify


class TestExport:
    def test_plain_export_of_an_unfinished_checkpoint_raises(self, tmp_path):
        trained = estimator(tmp_path)
        trained.train(raw_model()[1], max_steps=5)
        with pytest.raises(ec.UnfinishedError, match="trial 2 of 3; train to step 6"):
            trained.export_saved_model(str(tmp_path / "export"), receiver)
        # Predictions along the way are nobody's final word.
        assert next(trained.predict(raw_model()[1]))
        with ec.unfinished_export():
            assert trained.export_saved_model(str(tmp_path / "asked"), receiver)

    def test_a_dense_checkpoint_is_not_exported_as_if_it_were_compressed(
        self, tmp_path
    ):
        estimator(tmp_path, wrap=models.unwrapped).train(raw_model()[1], max_steps=2)
        wrapped = estimator(tmp_path)
        assert next(wrapped.predict(raw_model()[1]))
        message = "sparsity: checkpoint .* was trained without it; use the model_fn as"
        with pytest.raises(ec.UnfinishedError, match=message):
            wrapped.export_saved_model(str(tmp_path / "export"), receiver)

    def test_truncated_data_is_an_error_before_the_export(self, tmp_path):
        trained = estimator(tmp_path)
        trained.train(raw_model()[1], max_steps=6)
        data = next(tmp_path.glob("model.ckpt-6.data-*"))
        # The last 400 bytes are of the optimizer.
        data.write_bytes(data.read_bytes()[:-450])
        with pytest.raises(ec.RunFolderError, match="cannot be read \\('w3': "):
            trained.export_saved_model(str(tmp_path / "export"), receiver)

    def test_exporters_wait_for_the_last_trial(self, tmp_path):
        train_spec, eval_spec = specs(
            10,
            exporters=[
                tf.estimator.LatestExporter("latest", receiver, exports_to_keep=None),
                tf.estimator.BestExporter("stock_best", receiver),
                ec.BestExporter(receiver, name="best"),
                ec.SavedModelExporter(receiver),
            ],
        )
        trained = estimator(tmp_path, save_checkpoints_steps=2)
        _, exports = ec.train_and_evaluate(trained, train_spec, eval_spec)
        for name in ("latest", "stock_best", "best", "saved_model"):
            assert os.listdir(str(tmp_path / "export" / name)), name
        # Checkpoints at 2 and 4 are unfinished; 6, 8 and 10 are exported.
        assert len(os.listdir(str(tmp_path / "export" / "latest"))) == 3
        for root, _, files in os.walk(str(tmp_path / "export")):
            if "saved_model.pb" in files:
                with tf.Graph().as_default(), tf.Session() as session:
                    tf.saved_model.load(session, ["serve"], root)
                    w2 = session.run("w2:0")
                assert 0.55 < np.mean(w2 == 0) <= 0.6

    def test_training_that_ends_early_exports_nothing_and_says_so(
        self, tmp_path, caplog
    ):
        input_fn = raw_model()[1]
        with caplog.at_level("WARNING"):
            _, exports = ec.train_and_evaluate(
                estimator(tmp_path),
                tf.estimator.TrainSpec(lambda: input_fn().take(5), 10),
                specs(1, exporters=[ec.SavedModelExporter(receiver)])[1],
            )
        assert exports == [None]
        assert "ended at step 5 after trial 3 of 3; the model is not" in caplog.text

    def test_final_export_of_an_unfinished_model_is_an_error(self, tmp_path):
        trained = estimator(tmp_path)
        trained.train(raw_model()[1], max_steps=5)
        path = tf.train.latest_checkpoint(str(tmp_path))
        exporter = ec.SavedModelExporter(receiver)
        with pytest.raises(ec.UnfinishedError, match="exporter 'saved_model'.*trial 2"):
            exporter.export(trained, str(tmp_path / "e"), path, {}, True)

    def test_best_exporter_keeps_the_best_over_a_restart(self, tmp_path):
        trained = estimator(tmp_path)
        trained.train(raw_model()[1], max_steps=6)
        path = tf.train.latest_checkpoint(str(tmp_path))
        out = str(tmp_path / "best")

        def offer(loss):
            # A new exporter each time, as after a restart.
            exporter = ec.BestExporter(receiver, exports_to_keep=2)
            return exporter.export(trained, out, path, {"loss": loss}, False)

        assert offer(2.0)
        assert offer(2.5) is None
        assert offer(1.5)
        assert offer(1.0)
        assert len([n for n in os.listdir(out) if n.isdigit()]) == 2

    def test_best_exporter_names_the_metrics_there_are(self, tmp_path):
        trained = estimator(tmp_path)
        trained.train(raw_model()[1], max_steps=6)
        path = tf.train.latest_checkpoint(str(tmp_path))
        exporter = ec.BestExporter(receiver, metric="f1")
        with pytest.raises(ValueError, match="'f1' is not evaluated; there is loss"):
            exporter.export(trained, str(tmp_path / "b"), path, {"loss": 1}, False)

    def test_saved_model_has_no_op_and_no_variable_of_ours(self, tmp_path):
        trained = estimator(tmp_path)
        trained.train(raw_model()[1], max_steps=6)
        path = trained.export_saved_model(str(tmp_path / "export"), receiver).decode()
        with tf.Graph().as_default() as graph, tf.Session() as session:
            meta = tf.saved_model.load(session, ["serve"], path)
            assert "ec_estimator" not in str(meta)
            assert {v.op.name for v in tf.global_variables()} == {
                "global_step",
                "w1",
                "w2",
                "w3",
            }
            assert not [o for o in graph.get_operations() if "ec_" in o.name]
        names = tf.train.load_checkpoint(path + "/variables/variables")
        assert set(names.get_variable_to_shape_map()) == {
            "global_step",
            "w1",
            "w2",
            "w3",
        }

    def test_clean_checkpoint_is_loaded_by_the_unwrapped_model(self, tmp_path):
        trained = estimator(tmp_path / "run")
        train_spec, eval_spec = specs(7, exporters=[ec.CleanCheckpointExporter()])
        results, _ = ec.train_and_evaluate(trained, train_spec, eval_spec)
        clean = tmp_path / "run" / "export" / "clean_checkpoint"
        assert set(checkpoint(str(clean))) == {"global_step", "w1", "w2", "w3"}
        moved = tmp_path / "moved"
        clean.rename(moved)
        plain = estimator(moved, wrap=models.unwrapped)
        assert plain.evaluate(raw_model()[1], 2)["loss"] == results["loss"]

    def test_clean_checkpoint_of_partitions_slots_and_averages(self, tmp_path):
        trained, input_fn = models.MODELS["wide_and_deep"](
            str(tmp_path), sparsify(target_sparse_ratio=0.6)
        )
        trained.train(input_fn, max_steps=5)
        out = str(tmp_path / "clean")
        ec.write_clean_checkpoint(
            tf.train.latest_checkpoint(str(tmp_path)),
            str(tmp_path / "compression"),
            out,
        )
        names = set(checkpoint(out))
        assert "dnn/hiddenlayer_0/kernel" in names
        assert not [n for n in names if "Adagrad" in n or "Ftrl" in n or "part_" in n]
        other, _ = models.MODELS["wide_and_deep"](out, models.unwrapped)
        assert other.evaluate(input_fn, 2) == trained.evaluate(input_fn, 2)

    def test_clean_checkpoint_without_a_manifest_is_an_error(self, tmp_path):
        with pytest.raises(ec.RunFolderError, match="no manifest.json"):
            ec.write_clean_checkpoint("x", str(tmp_path), str(tmp_path / "out"))

    def test_clean_checkpoint_with_a_damaged_manifest_is_an_error(self, tmp_path):
        (tmp_path / "manifest.json").write_text(
            f'{{"format_version": {FORMAT_VERSION}}}'
        )
        with pytest.raises(ec.RunFolderError, match="no 'variables'"):
            ec.write_clean_checkpoint("x", str(tmp_path), str(tmp_path / "out"))

    def test_clean_checkpoint_of_another_run_is_an_error(self, tmp_path):
        estimator(tmp_path / "a").train(raw_model()[1], max_steps=1)
        with tf.Graph().as_default(), tf.Session() as session:
            tf.get_variable("v", [])
            session.run(tf.global_variables_initializer())
            path = tf.train.Saver().save(session, str(tmp_path / "b"))
        with pytest.raises(ec.RunFolderError, match="of different runs"):
            ec.write_clean_checkpoint(
                path, str(tmp_path / "a" / "compression"), str(tmp_path / "out")
            )
