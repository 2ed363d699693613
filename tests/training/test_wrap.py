"""compress() and train_and_evaluate(): what users of tf.estimator would expect."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.folder import RunFolder
from tests import models
from tests.training.test_zoo import checkpoint, sparsify

TRAIN = tf.estimator.ModeKeys.TRAIN
PREDICT = tf.estimator.ModeKeys.PREDICT


def sparsifier(**kwargs):
    return ec.Sparsifier(
        ec.SparsifierConfig(**{"step_interval": 2, "num_trials": 3, **kwargs})
    )


def raw_model():
    return models.classifier(models._raw_network, (8, 8, 3))


def estimator(model_dir, model_fn=None, wrap=None, **config):
    model_fn = model_fn or raw_model()[0]
    wrap = wrap or (lambda f: ec.compress(f, sparsifier()))
    return tf.estimator.Estimator(
        wrap(model_fn), config=models.run_config(str(model_dir), **config)
    )


def receiver():
    x = tf.placeholder(tf.float32, [None, 8, 8, 3])
    return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})


def specs(steps, **evaluation):
    input_fn = raw_model()[1]
    return (
        tf.estimator.TrainSpec(input_fn, steps),
        tf.estimator.EvalSpec(
            input_fn, 2, start_delay_secs=0, throttle_secs=0, **evaluation
        ),
    )


def zeros(folder, name="w2"):
    return np.mean(checkpoint(str(folder))[name] == 0)


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

    def test_estimator_refuses_params_that_the_model_fn_does_not_take(self, tmp_path):
        with pytest.raises(ValueError, match="does not include params"):
            tf.estimator.Estimator(
                ec.compress(raw_model()[0], sparsifier()),
                str(tmp_path),
                params={"a": 1},
            )

    def test_model_fn_without_the_mode_asked_for_is_an_error_in_one_sentence(
        self, tmp_path
    ):
        inner, input_fn = raw_model()

        def no_eval(features, labels, mode):
            if mode != tf.estimator.ModeKeys.EVAL:
                return inner(features, labels, mode)

        trained = estimator(tmp_path, no_eval)
        trained.train(input_fn, max_steps=1)
        with pytest.raises(ec.PlanError, match="returned None for mode 'eval'"):
            trained.evaluate(input_fn, 1)

    def test_labels_for_a_model_fn_without_labels_are_an_error(self, tmp_path):
        def model_fn(features, mode):
            raise AssertionError("not called")

        with pytest.raises(ec.PlanError, match="does not take labels"):
            estimator(tmp_path, model_fn).train(raw_model()[1], max_steps=1)

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

    def test_kernel_that_is_looked_up_in_training_is_an_error(self, tmp_path):
        inner, input_fn = raw_model()

        def model_fn(features, labels, mode):
            w = tf.get_variable("table", [models.CLASSES, 192])
            x = tf.layers.flatten(features["x"])
            if mode == PREDICT:
                logits = tf.matmul(x, w, transpose_b=True)
                return tf.estimator.EstimatorSpec(mode, predictions=logits)
            loss = tf.reduce_mean(tf.nn.embedding_lookup(w, labels) * x)
            train_op = tf.train.GradientDescentOptimizer(0.1).minimize(
                loss, tf.train.get_global_step()
            )
            return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

        with pytest.raises(ec.PlanError, match="'table' is looked up while training"):
            estimator(tmp_path, model_fn).train(input_fn, max_steps=1)

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

    def test_saver_made_from_a_saver_def_is_an_error(self, tmp_path):
        inner, input_fn = raw_model()

        def model_fn(features, labels, mode):
            spec = inner(features, labels, mode)
            saver = tf.train.Saver(saver_def=tf.train.Saver().as_saver_def())
            return spec._replace(scaffold=tf.train.Scaffold(saver=saver))

        with pytest.raises(ec.PlanError, match="made from a saver_def"):
            estimator(tmp_path, model_fn).train(input_fn, max_steps=1)

    def test_kernel_that_training_names_otherwise_is_an_error(self, tmp_path):
        def network(x, training):
            name = "a" if training else "b"
            return tf.layers.dense(tf.layers.flatten(x), models.CLASSES, name=name)

        model_fn, input_fn = models.classifier(network, (8, 8, 3))
        with pytest.raises(
            ec.PlanError, match="'b/kernel' of the infer graph is not in"
        ):
            estimator(tmp_path, model_fn).train(input_fn, max_steps=1)

    def test_distribution_strategy_is_refused_before_training(self, tmp_path):
        strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
        with pytest.raises(
            ec.PlanError, match="MirroredStrategy.*: training under a dist"
        ):
            estimator(tmp_path, train_distribute=strategy).train(
                raw_model()[1], max_steps=1
            )

    def test_compress_twice_is_an_error(self):
        once = ec.compress(raw_model()[0], sparsifier())
        with pytest.raises(ec.PlanError, match="compressed already"):
            ec.compress(once, sparsifier())

    @pytest.mark.parametrize(
        "compressors, message",
        [
            ([], "give at least one"),
            (lambda: [sparsifier(), sparsifier()], "each kind once"),
            ([3], "3 is not a compressor"),
        ],
    )
    def test_what_is_no_list_of_compressors_is_an_error(self, compressors, message):
        compressors = compressors() if callable(compressors) else compressors
        with pytest.raises(ec.CompressionError, match=message):
            ec.compress(raw_model()[0], compressors)

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


class TestFolder:
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


class TestTrainAndEvaluate:
    def test_max_steps_too_small_is_an_error_before_training(self, tmp_path):
        with pytest.raises(ec.ConfigError, match="max_steps=5 is too small.*need 6"):
            ec.train_and_evaluate(estimator(tmp_path), *specs(5))
        assert not (tmp_path / "checkpoint").exists()

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
            [tf.keras.layers.Flatten(input_shape=(8, 8, 3)), tf.keras.layers.Dense(5)]
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
        (tmp_path / "manifest.json").write_text('{"format_version": 1}')
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
