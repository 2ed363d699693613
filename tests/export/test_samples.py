"""Which examples of the eval input can be sent to what is served."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.export.frozen_model import Port, Signature
from ec_estimator.export.samples import take_samples

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10, dtype=np.int64)


def served(size=(None, 2), dtype=tf.float32, **others):
    ports = {"x": Port("x:0", size, dtype)}
    ports.update({key: Port(f"{key}:0", (None,), tf.int32) for key in others})
    return Signature(ports, {})


def data(features=None, labels=Y, batch=4):
    features = {"x": X} if features is None else features
    return lambda: tf.data.Dataset.from_tensor_slices((features, labels)).batch(batch)


def take(input_fn, signature=None, count=100):
    estimator = tf.estimator.Estimator(
        lambda features, labels, mode: None, "never_made"
    )
    return take_samples(estimator, input_fn, signature or served(), count)


def test_the_first_examples_and_their_labels():
    samples = take(data(), count=6)
    np.testing.assert_array_equal(samples.inputs["x"], X[:6])
    np.testing.assert_array_equal(samples.labels, Y[:6])
    assert samples.reason == ""


def test_data_that_ends_and_data_that_does_not():
    assert len(take(data()).inputs["x"]) == 10
    forever = take(lambda: data()().repeat(), count=25)
    np.testing.assert_array_equal(forever.inputs["x"], np.tile(X, (3, 1))[:25])


def test_features_that_nobody_asks_for_are_left_away():
    words = tf.SparseTensor([[0, 0]], ["a"], [10, 1])
    samples = take(lambda: ({"x": tf.constant(X), "words": words}, None), count=10)
    assert list(samples.inputs) == ["x"]
    assert samples.labels is None


def test_a_single_tensor_is_the_only_input():
    samples = take(data(X))
    np.testing.assert_array_equal(samples.inputs["x"], X)
    assert "no feature 'x'" in take(data(X), served(z=1)).reason


def test_an_input_fn_gets_what_an_estimator_gives_it():
    def input_fn(params, config, mode):
        assert mode == tf.estimator.ModeKeys.EVAL
        assert config.tf_random_seed == 1
        return data(batch=params["batch"])()

    config = tf.estimator.RunConfig(tf_random_seed=1)
    estimator = tf.estimator.Estimator(
        lambda features, labels, mode, params: None, "never_made", config, {"batch": 3}
    )
    samples = take_samples(estimator, input_fn, served(), 5)
    np.testing.assert_array_equal(samples.inputs["x"], X[:5])


def test_a_batch_of_fixed_size_is_filled():
    assert len(take(data(), served((4, 2))).inputs["x"]) == 8
    assert "not the 16 examples" in take(data(), served((16, 2))).reason


def test_they_end_where_the_shape_changes():
    def input_fn():
        lines = tf.data.Dataset.range(1, 7)
        lines = lines.map(lambda n: ({"x": tf.ones([n // 4 + 1])}, n))
        return lines.padded_batch(2, ({"x": [None]}, []))

    assert take(input_fn, served((None, None))).inputs["x"].shape == (2, 1)


@pytest.mark.parametrize(
    "labels", [X[:, 0], X.astype(np.int64), {"a": Y}], ids=["float", "several", "dict"]
)
def test_labels_that_are_no_classes_are_left_away(labels):
    assert take(data(labels=labels)).labels is None


def test_labels_may_have_an_axis_of_one():
    np.testing.assert_array_equal(take(data(labels=Y[:, None])).labels, Y)


@pytest.mark.parametrize(
    "input_fn,signature,reason",
    [
        (None, None, "no input_fn was given"),
        (data({"z": X}), None, "no feature 'x', an input of what is served"),
        (data(), served(dtype=tf.string), "'x' of the eval input is float32, the"),
        (data(), served((None, 3)), r"has shape (?, 2), the input of what is served"),
        (data(), served(()), "'x' of the eval input has no axis of examples"),
        (lambda: data()().take(0), None, "the eval input is empty"),
        (
            lambda: {"x": tf.SparseTensor([[0, 0]], [1.0], [1, 2])},
            None,
            "'x' of the eval input is not a dense tensor",
        ),
    ],
)
def test_why_there_are_none(input_fn, signature, reason):
    samples = take(input_fn, signature)
    assert reason in samples.reason
    assert samples.inputs == {}
