"""channel_groups(): the groups of a model_fn, to print and as data."""
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec

DOCUMENT = Path(__file__).parents[2] / "docs" / "channel-rules.md"
IMAGES, ROWS = np.zeros([2, 8, 8, 4], np.float32), np.zeros([2, 4], np.float32)


def residual(x):
    """A residual block with a stem of eight channels and six inside."""
    x = tf.layers.conv2d(x, 8, 3, padding="same", name="stem")
    y = tf.nn.relu(tf.layers.conv2d(tf.nn.relu(x), 6, 3, padding="same", name="a"))
    x = x + tf.layers.conv2d(y, 8, 3, padding="same", name="b")
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), 3, name="logits")


def of(network, features=IMAGES, **kwargs):
    def model_fn(features, labels, mode):
        return tf.estimator.EstimatorSpec(mode, predictions=network(features))

    return ec.channel_groups(model_fn, features, **kwargs)


TABLE = """\
channels  made by                read by
       8  stem/kernel, b/kernel  a/kernel, logits/kernel
       6  a/kernel               b/kernel
       3  logits/kernel          -                        frozen: the model predicts it
"""


def test_the_table_of_a_residual_network():
    assert str(of(residual)) + "\n" == TABLE


def test_the_table_in_the_documentation_is_what_is_printed():
    assert textwrap.indent(TABLE, "    ") in DOCUMENT.read_text()


def test_a_residual_add_puts_both_branches_in_one_group():
    groups = of(residual)
    assert groups.of("stem/kernel") == groups.of("b/kernel")
    assert groups.of("stem/kernel") == groups.of("logits/kernel", axis=0)
    assert groups.of("stem/kernel") == groups.of("a/kernel", axis=-2)
    assert len(set(groups.of("stem/kernel"))) == 8
    assert not set(groups.of("stem/kernel")) & set(groups.of("a/kernel"))


def test_stages_and_frozen_groups_are_data():
    groups = of(residual)
    first, _, last = groups.stages
    assert first.groups == groups.of("stem/kernel")
    assert first.made_by == ("stem/kernel", "b/kernel")
    assert first.read_by == ("a/kernel", "logits/kernel")
    assert first.frozen is None
    assert last.frozen == "the model predicts it"
    assert groups.frozen == {
        group: "the model predicts it" for group in groups.of("logits/kernel")
    }


def test_the_op_that_freezes_is_named():
    groups = of(lambda x: tf.layers.dense(tf.nn.softmax(residual(x), name="p"), 2))
    assert set(map(groups.frozen.get, groups.of("logits/kernel"))) == {"Softmax 'p'"}


def test_what_no_layer_reads_says_so():
    def network(x):
        h = tf.layers.dense(x, 6, name="h")
        return {"out": tf.layers.dense(x, 2, name="out"), "rows": tf.shape(h)[:1]}

    with tf.Graph().as_default():
        # Of a static shape, tf.shape is a constant.
        groups = of(network, tf.placeholder(tf.float32, [None, 4]))
    (stage,) = (s for s in groups.stages if s.made_by == ("h/kernel",))
    assert len(stage.groups) == 6
    assert stage.read_by == ()
    assert stage.frozen == "no layer reads them"


def test_many_kernels_are_counted():
    def network(x):
        for index in range(7):
            x += tf.layers.dense(x, 4, name=f"d{index}")
        return tf.layers.dense(x, 2, name="out")

    line = str(of(network, ROWS)).splitlines()[1]
    assert re.match(r" +4  d0/kernel, d1/kernel, d2/kernel and 4 more ", line)


def test_the_parts_of_a_partitioned_kernel_are_one_kernel():
    def network(x):
        parts = tf.fixed_size_partitioner(2, axis=1)
        x = tf.matmul(x, tf.get_variable("h/kernel", [4, 6], partitioner=parts))
        return tf.layers.dense(x, 2, name="out")

    groups = of(network, ROWS)
    assert groups.stages[0].made_by == ("h/kernel",)
    assert groups.of("h/kernel") == groups.of("out/kernel", axis=0)
    assert len(set(groups.of("h/kernel"))) == 6


def test_features_are_structures_of_tensors_or_arrays_of_any_graph():
    def network(features):
        return tf.layers.dense(tf.cast(features["x"][0], tf.float32), 3, name="out")

    shape, dtype = [5, 4], np.float64
    with tf.Graph().as_default():
        tensors = of(network, {"x": (tf.zeros(shape, dtype),)})
    arrays = of(network, {"x": (np.zeros(shape, dtype),)})
    assert tensors.stages == arrays.stages
    assert arrays.stages[0].made_by == ("out/kernel",)


def test_a_model_fn_without_predict_is_built_with_its_labels_and_params():
    def model_fn(features, labels, mode, params):
        logits = tf.layers.dense(features, params["width"], name="h")
        loss = tf.losses.mean_squared_error(labels, tf.layers.dense(logits, 1))
        return tf.estimator.EstimatorSpec(mode, loss=loss)

    one = np.zeros([2, 1], np.float32)
    groups = ec.channel_groups(model_fn, one, one, {"width": 7})
    assert len(groups.of("h/kernel")) == 7
    assert groups.stages[0].frozen is None


def test_a_model_that_cannot_be_built():
    def model_fn(features, labels, mode):
        raise ValueError("no such thing")

    with pytest.raises(ec.PlanError, match="no such thing"):
        ec.channel_groups(model_fn, ROWS)


@pytest.mark.parametrize(
    "kernel,axis,message",
    [
        ("c/kernel", None, "'c/kernel' has no channels; these have: stem/kernel"),
        ("a/kernel", 4, r"axis 4 of 'a/kernel' .* its shape is \(3, 3, 8, 6\)"),
        ("a/bias", None, r"output channels of layers on 0 axes \(\); name one"),
    ],
)
def test_what_has_no_channels(kernel, axis, message):
    with pytest.raises(ec.PlanError, match=message):
        of(residual).of(kernel, axis)
