"""Code with a custom_getter of its own builds the small network, too."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.shrink.test_networks import prune, run_small

PREDICT = tf.estimator.ModeKeys.PREDICT


def by_position(getter, name, shape=None, dtype=tf.float32, *args, **kwargs):
    """Stores float32 and computes in float16, as the official ResNets do."""
    if dtype != tf.float16:
        return getter(name, shape, dtype, *args, **kwargs)
    variable = getter(name, shape, tf.float32, *args, **kwargs)
    return tf.cast(variable, tf.float16, name=name.split("/")[-1] + "_cast")


def by_keyword(getter, **kwargs):
    if kwargs["dtype"] != tf.float16:
        return getter(**kwargs)
    return tf.cast(getter(**{**kwargs, "dtype": tf.float32}), tf.float16)


def network_with(custom_getter):
    def network(x, training):
        with tf.variable_scope("net", custom_getter=custom_getter):
            x = tf.cast(tf.layers.flatten(x), tf.float16)
            h = tf.layers.dense(x, 16, tf.nn.relu, name="a")
            h = tf.layers.dense(h, 12, tf.nn.relu, name="b")
            return tf.cast(tf.layers.dense(h, models.CLASSES, name="c"), tf.float32)

    return network


@pytest.mark.parametrize("custom_getter", [by_position, by_keyword])
def test_the_small_network_is_the_masked_one(custom_getter, tmp_path):
    folder = str(tmp_path / "pruned")
    network = network_with(custom_getter)
    estimator, model_fn, input_fn = prune(folder, network, (4, 4, 3), 0.5)
    with tf.Graph().as_default():
        whole = np.stack(
            [row["logits"] for row in estimator.predict(lambda: input_fn().take(1))]
        )
    small = run_small(
        model_fn, folder, input_fn, PREDICT, lambda spec: spec.predictions["logits"]
    )
    np.testing.assert_allclose(small, whole, rtol=1e-2, atol=2e-3)
    helper = ec.GapFinetune(folder)
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("", custom_getter=helper.get_variable):
            x = tf.data.make_one_shot_iterator(input_fn()).get_next()[0]["x"]
            logits = network(x, False)
        kernel = next(v for v in tf.global_variables() if v.op.name == "net/b/kernel")
        assert kernel.dtype.base_dtype == tf.float32 and kernel.shape[0].value < 16
        session.run(tf.global_variables_initializer())
        np.testing.assert_allclose(session.run(logits), small, rtol=1e-2, atol=2e-3)
