"""What a model_fn under compress() may do, and what is left alone in it."""
import os

import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.folder import RunFolder
from tests import models
from tests.training.runs import estimator, raw_model, sparsifier, zeros
from tests.training.test_zoo import checkpoint

TRAIN = tf.estimator.ModeKeys.TRAIN


class TestModelFn:
    def test_variables_that_user_code_holds_stay_variables(self, tmp_path):
        inner, input_fn = raw_model()
        seen = []

        def model_fn(features, labels, mode):
            spec = inner(features, labels, mode)
            if mode != TRAIN:
                return spec
            w2 = next(v for v in tf.trainable_variables() if v.op.name == "w2")
            seen.append(w2)
            optimizer = tf.train.MomentumOptimizer(0.01, 0.9)
            step = tf.train.get_global_step()
            return spec._replace(
                train_op=optimizer.minimize(spec.loss, step, var_list=[w2])
            )

        estimator(tmp_path, model_fn).train(input_fn, max_steps=6)
        assert isinstance(seen[0], tf.Variable)
        assert 0.5 < zeros(tmp_path) <= 0.6

    def test_params_and_config_reach_the_model_fn(self, tmp_path):
        inner, input_fn = raw_model()
        got = []

        def model_fn(features, labels, mode, params, config):
            got.append((params["a"], config.model_dir))
            return inner(features, labels, mode)

        tf.estimator.Estimator(
            ec.compress(model_fn, sparsifier()),
            config=models.run_config(str(tmp_path)),
            params={"a": 5},
        ).train(input_fn, max_steps=1)
        # Once for the survey, once for the training graph.
        assert got == [(5, str(tmp_path))] * 2

    def test_two_gradient_calls_are_both_gated(self, tmp_path):
        inner, input_fn = raw_model()

        def model_fn(features, labels, mode):
            spec = inner(features, labels, mode)
            if mode != TRAIN:
                return spec
            variables = {v.op.name: v for v in tf.trainable_variables()}
            step = tf.train.get_global_step()
            first = tf.train.AdamOptimizer(0.01).minimize(
                spec.loss, step, var_list=[variables["w1"]]
            )
            second = tf.train.FtrlOptimizer(0.01).minimize(
                spec.loss, var_list=[variables["w2"], variables["w3"]]
            )
            return spec._replace(train_op=tf.group(first, second))

        estimator(tmp_path, model_fn).train(input_fn, max_steps=7)
        for name in ("w1", "w2", "w3"):
            assert 0.55 < zeros(tmp_path, name) <= 0.6

    def test_gradient_tape_trains_sparse_too(self, tmp_path):
        inner, input_fn = raw_model()

        def model_fn(features, labels, mode):
            if mode != TRAIN:
                return inner(features, labels, mode)
            scope = tf.get_variable_scope()
            with tf.GradientTape() as tape, tf.variable_scope(scope, use_resource=True):
                spec = inner(features, labels, mode)
            variables = tf.trainable_variables()
            tape_gradients = tape.gradient(spec.loss, variables)
            train_op = tf.train.AdamOptimizer(0.01).apply_gradients(
                zip(tape_gradients, variables), tf.train.get_global_step()
            )
            return spec._replace(train_op=train_op)

        estimator(tmp_path, model_fn).train(input_fn, max_steps=7)
        assert 0.55 < zeros(tmp_path) <= 0.6

    def test_kernel_that_the_optimizer_leaves_out_is_left_alone(self, tmp_path):
        inner, input_fn = raw_model()

        def alone(features, labels, mode):
            # The inner optimizer would update everything.
            if mode != TRAIN:
                return inner(features, labels, mode)
            logits = models._raw_network(features["x"], True)
            loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
            head = [v for v in tf.trainable_variables() if v.op.name == "w3"]
            train_op = tf.train.GradientDescentOptimizer(0.1).minimize(
                loss, tf.train.get_global_step(), var_list=head
            )
            return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

        estimator(tmp_path, alone).train(input_fn, max_steps=7)
        assert 0.55 < zeros(tmp_path, "w3") <= 0.6
        assert zeros(tmp_path, "w1") == zeros(tmp_path, "w2") == 0
        coverage = RunFolder(str(tmp_path / "compression")).read_json("coverage.json")
        decisions = {
            r["kernel"]: r["decisions"]["sparsity"] for r in coverage["layers"]
        }
        assert "is not trained: no op updates it" in decisions["w1"]

    def test_frozen_twin_in_another_scope_is_left_alone(self, tmp_path):
        def network(x, training):
            x = tf.layers.flatten(x)
            with tf.variable_scope("teacher"):
                taught = tf.layers.dense(x, models.CLASSES, trainable=False)
            with tf.variable_scope("", auxiliary_name_scope=False):
                return tf.layers.dense(x, models.CLASSES) + 0.1 * taught

        model_fn, input_fn = models.classifier(network, (8, 8, 3))
        estimator(tmp_path, model_fn).train(input_fn, max_steps=7)
        assert 0.59 < zeros(tmp_path, "dense/kernel") <= 0.6
        assert zeros(tmp_path, "teacher/dense/kernel") == 0
        manifest = RunFolder(str(tmp_path / "compression")).read_json("manifest.json")
        assert "teacher/dense/kernel" in manifest["variables"]

    def test_one_model_fn_serves_estimators_with_other_params(self, tmp_path):
        def model_fn(features, labels, mode, params):
            def network(x, training):
                x = tf.layers.dense(tf.layers.flatten(x), params["units"])
                return tf.layers.dense(x, models.CLASSES)

            return models.classifier(network, (8, 8, 3))[0](features, labels, mode)

        wrapped = ec.compress(model_fn, sparsifier())
        for units in (8, 24):
            folder = str(tmp_path / str(units))
            tf.estimator.Estimator(
                wrapped, config=models.run_config(folder), params={"units": units}
            ).train(raw_model()[1], max_steps=7)
            assert 0.55 < zeros(folder, "dense/kernel") <= 0.6

    def test_layer_that_only_trains_is_left_alone_and_reported(self, tmp_path):
        def network(x, training):
            hidden = tf.layers.flatten(x)
            if training:
                tf.losses.add_loss(
                    tf.reduce_mean(tf.layers.dense(hidden, 7, name="aux") ** 2)
                )
            return tf.layers.dense(hidden, models.CLASSES, name="main")

        model_fn, input_fn = models.classifier(network, (8, 8, 3))
        estimator(tmp_path, model_fn).train(input_fn, max_steps=7)
        coverage = RunFolder(str(tmp_path / "compression")).read_json("coverage.json")
        decisions = {row["kernel"]: row["decisions"] for row in coverage["layers"]}
        assert decisions["main/kernel"] == {"sparsity": "compressed"}
        assert "only trains" in decisions["aux/kernel"]["sparsity"]
        assert zeros(tmp_path, "aux/kernel") == 0

    def test_scaffold_with_a_saver_of_its_own_still_saves_our_state(self, tmp_path):
        inner, input_fn = raw_model()

        def model_fn(features, labels, mode):
            spec = inner(features, labels, mode)
            own = {v.op.name: v for v in tf.global_variables()}
            return spec._replace(
                scaffold=tf.train.Scaffold(saver=tf.train.Saver(own, max_to_keep=2))
            )

        trained = estimator(tmp_path, model_fn, save_checkpoints_steps=1)
        trained.train(input_fn, max_steps=3)
        trained.train(input_fn, max_steps=7)
        assert checkpoint(str(tmp_path))["ec_estimator/sparsity/trial"] == 3
        assert 0.55 < zeros(tmp_path) <= 0.6
        # The user's own options are kept.
        assert len([f for f in os.listdir(str(tmp_path)) if f.endswith(".index")]) == 2
        assert list(trained.predict(lambda: input_fn().take(1)))

    def test_saver_in_the_collection_still_saves_our_state(self, tmp_path):
        inner, input_fn = raw_model()

        def model_fn(features, labels, mode):
            spec = inner(features, labels, mode)
            if mode == TRAIN:
                saver = tf.train.Saver(tf.global_variables())
                tf.add_to_collection(tf.GraphKeys.SAVERS, saver)
            return spec

        estimator(tmp_path, model_fn).train(input_fn, max_steps=7)
        assert checkpoint(str(tmp_path))["ec_estimator/sparsity/trial"] == 3

    def test_hook_inside_a_compressed_estimator_is_refused(self, tmp_path):
        with pytest.raises(ec.PlanError, match="has a compression hook already"):
            estimator(tmp_path).train(
                raw_model()[1], [ec.CompressionHook(sparsifier())], max_steps=1
            )

    def test_hook_alone_compresses_an_unwrapped_estimator(self, tmp_path):
        hook = ec.CompressionHook(sparsifier(), str(tmp_path / "out"))
        estimator(tmp_path, wrap=models.unwrapped).train(
            raw_model()[1], [hook], max_steps=7
        )
        assert 0.55 < zeros(tmp_path) <= 0.6
