"""A folder that is damaged or of another run is refused; so is a run that failed."""
import itertools
import json

import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.training.runs import estimator, raw_model, sparsifier

TRAIN = tf.estimator.ModeKeys.TRAIN


class TestFolder:
    def test_a_clock_that_is_set_back_gives_no_trial_less_than_no_time(
        self, tmp_path, monkeypatch
    ):
        times = itertools.count(2e9, -1)
        monkeypatch.setattr("time.time", lambda: next(times))
        estimator(tmp_path).train(raw_model()[1], max_steps=2)
        (line,) = (tmp_path / "compression" / "trials.jsonl").read_text().splitlines()
        assert json.loads(line)["seconds"] >= 0

    def test_other_settings_in_the_same_folder_are_an_error_that_names_them(
        self, tmp_path
    ):
        estimator(tmp_path).train(raw_model()[1], max_steps=1)
        other = estimator(
            tmp_path,
            wrap=lambda f: ec.compress(f, sparsifier(target_sparse_ratio=0.9)),
        )
        with pytest.raises(
            ec.RunFolderError, match="target_sparse_ratio=0.6, this one"
        ):
            other.train(raw_model()[1], max_steps=2)

    def test_plan_that_no_longer_fits_the_model_is_an_error(self, tmp_path):
        estimator(tmp_path).train(raw_model()[1], max_steps=1)
        plan = tmp_path / "compression" / "plan.json"
        plan.write_text(plan.read_text().replace('"w2"', '"gone"'))
        with pytest.raises(ec.RunFolderError, match="no longer fits the model"):
            estimator(tmp_path).train(raw_model()[1], max_steps=2)

    def test_truncated_plan_is_an_error(self, tmp_path):
        estimator(tmp_path).train(raw_model()[1], max_steps=1)
        plan = tmp_path / "compression" / "plan.json"
        plan.write_text(plan.read_text()[:40])
        with pytest.raises(ec.RunFolderError, match="plan.json' is damaged"):
            estimator(tmp_path).train(raw_model()[1], max_steps=2)

    def test_truncated_checkpoint_is_an_error_and_is_kept(self, tmp_path):
        estimator(tmp_path).train(raw_model()[1], max_steps=1)
        index = tmp_path / "model.ckpt-1.index"
        index.write_bytes(index.read_bytes()[:20])
        with pytest.raises(ec.RunFolderError, match="cannot be read"):
            estimator(tmp_path).train(raw_model()[1], max_steps=2)
        assert index.exists()

    def test_truncated_data_is_an_error_before_training(self, tmp_path):
        estimator(tmp_path).train(raw_model()[1], max_steps=1)
        data = next(tmp_path.glob("model.ckpt-1.data-*"))
        data.write_bytes(data.read_bytes()[:-40])
        with pytest.raises(
            ec.RunFolderError, match="cannot be read \\('w3/Momentum': "
        ):
            estimator(tmp_path).train(raw_model()[1], max_steps=2)

    def test_dense_checkpoint_in_model_dir_is_an_error_that_says_how_to_start(
        self, tmp_path
    ):
        estimator(tmp_path, wrap=models.unwrapped).train(raw_model()[1], max_steps=1)
        with pytest.raises(
            ec.RunFolderError, match="trained without sparsity; use a new"
        ):
            estimator(tmp_path).train(raw_model()[1], max_steps=2)

    def test_compression_folder_that_is_a_file_is_an_error(self, tmp_path):
        (tmp_path / "compression").write_text("")
        with pytest.raises(ec.RunFolderError, match="is a file"):
            estimator(tmp_path).train(raw_model()[1], max_steps=1)

    def test_trials_that_are_overdue_at_the_start_are_an_error(self, tmp_path):
        estimator(tmp_path / "dense", wrap=models.unwrapped).train(
            raw_model()[1], max_steps=30
        )
        inner, input_fn = raw_model()

        def model_fn(features, labels, mode):
            if mode == TRAIN:
                tf.train.init_from_checkpoint(
                    str(tmp_path / "dense"), {"global_step": tf.train.get_global_step()}
                )
            return inner(features, labels, mode)

        with pytest.raises(ec.CompressionError, match="overdue; set start_step=30"):
            estimator(tmp_path / "new", model_fn).train(input_fn, max_steps=40)

    def test_diverged_weights_are_an_error_at_the_trial(self, tmp_path):
        model_fn, input_fn = models.classifier(
            models._raw_network,
            (8, 8, 3),
            lambda: tf.train.GradientDescentOptimizer(float("nan")),
        )
        # The first loss is finite; the trial comes before the second.
        wrapped = estimator(
            tmp_path, model_fn, lambda f: ec.compress(f, sparsifier(step_interval=1))
        )
        with pytest.raises(
            ec.CompressionError, match="kernel 'w1' holds NaN at a trial: training has"
        ):
            wrapped.train(input_fn, max_steps=7)
