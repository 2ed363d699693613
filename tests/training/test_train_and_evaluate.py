"""train_and_evaluate(): what users of tf.estimator would expect."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.folder import RunFolder
from tests import models
from tests.training.runs import estimator, raw_model, sparsifier, specs, zeros
from tests.training.test_zoo import checkpoint


class TestTrainAndEvaluate:
    def test_max_steps_too_small_is_an_error_before_training(self, tmp_path):
        with pytest.raises(ec.ConfigError, match="max_steps=5 is too small.*need 6"):
            ec.train_and_evaluate(estimator(tmp_path), *specs(5))
        assert not (tmp_path / "checkpoint").exists()

    @pytest.mark.parametrize(
        "compressor,config,way_out",
        [
            (ec.Sparsifier, ec.SparsifierConfig(), "step_interval=7 fits them into"),
            (
                ec.Pruner,
                ec.PrunerConfig(0.5, step_interval=80, num_trials=2),
                "step_interval=35 fits them into 100 steps",
            ),
            (ec.LSQQuantizer, ec.QuantizerConfig(), "step_interval=7 fits them into"),
            (
                ec.Sparsifier,
                ec.SparsifierConfig(num_trials=101),
                "no step_interval is short enough: set fewer num_trials",
            ),
        ],
    )
    def test_too_few_steps_come_with_the_interval_that_fits(
        self, tmp_path, compressor, config, way_out
    ):
        plain = estimator(tmp_path, wrap=models.unwrapped)
        with pytest.raises(ec.ConfigError, match=way_out):
            ec.train_and_evaluate(plain, *specs(100), compressor=compressor(config))

    def test_steps_that_just_fit_all_trials_reach_the_target(self, tmp_path):
        ec.train_and_evaluate(estimator(tmp_path), *specs(6))
        assert 0.55 < zeros(tmp_path) <= 0.6

    def test_missing_max_steps_is_warned_about(self, tmp_path, caplog):
        input_fn = raw_model()[1]
        with caplog.at_level("WARNING"):
            ec.train_and_evaluate(
                estimator(tmp_path),
                tf.estimator.TrainSpec(lambda: input_fn().take(7)),
                specs(1)[1],
            )
        assert "max_steps is not set; the model is finished at step 6" in caplog.text

    def test_drop_in_for_an_estimator_made_without_us(self, tmp_path):
        plain = estimator(tmp_path, wrap=models.unwrapped)
        results, _ = ec.train_and_evaluate(plain, *specs(7), compressor=sparsifier())
        assert results["global_step"] == 7
        assert 0.55 < zeros(tmp_path) <= 0.6
        # The user's own object serves the sparse model as it is.
        evaluated = plain.evaluate(raw_model()[1], 2)
        assert evaluated["loss"] == results["loss"]

    def test_estimator_without_compressor_is_an_error(self, tmp_path):
        plain = estimator(tmp_path, wrap=models.unwrapped)
        with pytest.raises(ec.PlanError, match="made without compress"):
            ec.train_and_evaluate(plain, *specs(7))

    def test_keras_estimator_as_a_drop_in_keeps_its_weights(self, tmp_path):
        model = tf.keras.Sequential(
            [
                tf.keras.layers.Flatten(input_shape=(8, 8, 3), name="flatten"),
                # Keras numbers what has no name, through all tests of a process.
                tf.keras.layers.Dense(5, name="dense"),
            ]
        )
        model.compile("sgd", "mse")
        model.layers[1].set_weights([np.full((192, 5), 2.0), np.zeros(5)])
        keras = tf.keras.estimator.model_to_estimator(
            model, config=models.run_config(str(tmp_path))
        )

        def input_fn():
            data = tf.data.Dataset.from_tensors(
                (np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 5), np.float32))
            )
            return data.map(lambda x, y: ({"flatten_input": x}, y)).repeat()

        tf.keras.backend.clear_session()
        ec.train_and_evaluate(
            keras,
            tf.estimator.TrainSpec(input_fn, 7),
            tf.estimator.EvalSpec(input_fn, 1, start_delay_secs=0, throttle_secs=0),
            compressor=sparsifier(),
        )
        kernel = next(
            v
            for n, v in checkpoint(str(tmp_path)).items()
            if n.endswith("dense/kernel")
        )
        # The input is zero, so what is left are the weights that Keras had.
        assert set(np.unique(kernel)) == {0.0, 2.0}
        assert np.mean(kernel == 0) == 0.6

    def test_trials_are_in_the_log_the_folder_and_tensorboard(self, tmp_path, caplog):
        with caplog.at_level("INFO"):
            ec.train_and_evaluate(estimator(tmp_path), *specs(7))
        assert "sparsity: trial 2/3 before step 4: ratio 0.5" in caplog.text
        records = RunFolder(str(tmp_path / "compression")).trials()
        assert [(r["trial"], r["step"]) for r in records] == [(1, 2), (2, 4), (3, 6)]
        values = {}
        for event_file in tmp_path.glob("events.*"):
            for event in tf.train.summary_iterator(str(event_file)):
                for value in event.summary.value:
                    values.setdefault(value.tag, []).append(value)
        ratios = [v.simple_value for v in values["compression/sparsity/ratio"]]
        np.testing.assert_allclose(ratios, [r["ratio"] for r in records], rtol=1e-6)
        histogram = values["compression/sparsity/mask_density"][-1].histo
        assert histogram.num == 3
        assert histogram.max == pytest.approx(0.4, abs=0.02)

    def test_training_goes_on_after_a_restart_and_says_where(self, tmp_path, caplog):
        estimator(tmp_path).train(raw_model()[1], max_steps=5)
        with caplog.at_level("INFO"):
            estimator(tmp_path).train(raw_model()[1], max_steps=7)
        assert "resumed after trial 2/3 at step 5" in caplog.text
        assert 0.55 < zeros(tmp_path) <= 0.6
