"""warm_start(): a compressed run begins with the weights of a dense one."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.training.runs import estimator, raw_model, sparsifier
from tests.training.test_zoo import checkpoint


class TestWarmStart:
    def test_moving_averages_are_loaded_and_slots_are_not(self, tmp_path):
        model_fn, input_fn = models.classifier(models._layers_network, (9, 9, 3))
        dense = tf.estimator.Estimator(
            model_fn, config=models.run_config(str(tmp_path / "dense"))
        )
        dense.train(input_fn, max_steps=3)
        before = checkpoint(str(tmp_path / "dense"))
        wrapped = tf.estimator.Estimator(
            ec.compress(model_fn, sparsifier()),
            config=models.run_config(str(tmp_path / "sparse")),
            warm_start_from=ec.warm_start(str(tmp_path / "dense")),
        )
        start = {}

        class Look(tf.train.SessionRunHook):
            def after_create_session(self, session, coord):
                variables = {v.op.name: v for v in tf.global_variables()}
                start.update(session.run(variables))

        wrapped.train(input_fn, [Look()], max_steps=1)
        assert start["global_step"] == 0
        for name, value in before.items():
            if name.endswith("Momentum"):
                np.testing.assert_array_equal(start[name], 0)
            elif name != "global_step":
                np.testing.assert_array_equal(start[name], value, name)

    def test_layers_of_one_name_in_two_scopes_are_both_loaded(self, tmp_path):
        def network(x, training):
            x = tf.layers.dense(tf.layers.flatten(x), 6, name="dense")
            with tf.variable_scope("head"):
                return tf.layers.dense(x, models.CLASSES, name="dense")

        make = tf.train.AdamOptimizer
        model_fn, input_fn = models.classifier(network, (8, 8, 3), make)
        estimator(tmp_path / "dense", model_fn, models.unwrapped).train(
            input_fn, max_steps=9
        )
        before = checkpoint(str(tmp_path / "dense"))
        start = {}

        class Look(tf.train.SessionRunHook):
            def after_create_session(self, session, coord):
                start.update(session.run({v.op.name: v for v in tf.global_variables()}))

        tf.estimator.Estimator(
            ec.compress(model_fn, sparsifier()),
            config=models.run_config(str(tmp_path / "sparse")),
            warm_start_from=ec.warm_start(str(tmp_path / "dense")),
        ).train(input_fn, [Look()], max_steps=1)
        for name in ("dense/kernel", "head/dense/kernel", "head/dense/bias"):
            np.testing.assert_array_equal(start[name], before[name])
        # Adam's slots are zero, so it must count its steps from the start, too.
        assert start["beta1_power"] == np.float32(0.9)

    def test_folder_without_a_checkpoint_is_an_error(self, tmp_path):
        with pytest.raises(ec.RunFolderError, match="there is no checkpoint in"):
            ec.warm_start(str(tmp_path))

    def test_truncated_data_is_an_error(self, tmp_path):
        estimator(tmp_path, wrap=models.unwrapped).train(raw_model()[1], max_steps=1)
        data = next(tmp_path.glob("model.ckpt-1.data-*"))
        data.write_bytes(data.read_bytes()[:100])
        with pytest.raises(ec.RunFolderError, match="cannot be read \\('w1': "):
            ec.warm_start(str(tmp_path))
