"""What compress() refuses, by an error that says why."""
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.training.runs import estimator, raw_model, sparsifier

PREDICT = tf.estimator.ModeKeys.PREDICT


class TestRefusals:
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

    @pytest.mark.parametrize("method", ["train", "evaluate"])
    def test_a_saver_of_objects(self, method, tmp_path):
        # What model_to_estimator(checkpoint_format="checkpoint") makes.
        inner, input_fn = raw_model()

        def of_objects(features, labels, mode):
            saver = tf.train.Checkpoint(step=tf.train.get_global_step())
            spec = inner(features, labels, mode)
            return spec._replace(scaffold=tf.train.Scaffold(saver=saver))

        with pytest.raises(ec.PlanError, match="is a tf.train.Checkpoint, which saves"):
            run = estimator(tmp_path, of_objects)
            if method == "evaluate":
                # A checkpoint that it does not refuse.
                estimator(tmp_path, inner).train(input_fn, max_steps=1)
            getattr(run, method)(input_fn, steps=1)
