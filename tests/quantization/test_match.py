"""Planned layers are found in other graphs."""
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.quantization.match import Binding
from ec_estimator.quantization.ranges import ServingRanges
from ec_estimator.quantization.rewire import Rewired


def twice(first, second):
    """A kernel that two products read, under these names."""
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        w = tf.get_variable("w", [4, 4])
    x = tf.placeholder(tf.float32, [2, 4])
    x = tf.tanh(tf.matmul(x, w, name=first))
    return tf.matmul(x, w, name=second)


def test_readers_of_a_kernel_are_found_in_turn_if_their_names_have_moved():
    with tf.Graph().as_default() as graph:
        twice("product", "product_1")
        config = ec.QuantizerConfig()
        plan = make_plan(
            "predict", graph, find_layers(graph), None, [ec.LSQQuantizer(config)]
        )
    with tf.Graph().as_default() as graph:
        twice("product_1", "product_2")
        placement = plan.details["quantization"]
        ranges = ServingRanges(graph, placement)
        rewired = Rewired(graph, placement, ranges.quantize)
        rewired.rewire()
        for name in ("product_1", "product_2"):
            for operand in graph.get_operation_by_name(name).inputs:
                assert operand.op.name.startswith("ec_estimator/quantization/")
    assert rewired.binding.missing() == []


def layer_ends(training):
    """Two dense layers, one with an unfused batch norm, added."""
    x = tf.placeholder(tf.float32, [4, 6])
    y = tf.layers.batch_normalization(
        tf.layers.dense(x, 6, name="a"), training=training, fused=False, name="bn"
    )
    other = tf.layers.dense(x, 6, name="b")
    return tf.nn.relu(tf.layers.dropout(y, 0.5, training=training) + other)


def test_an_output_is_no_variance_and_nothing_of_dropout():
    with tf.Graph().as_default() as graph:
        outputs = [tf.reduce_sum(layer_ends(False))]
        config = ec.QuantizerConfig(post_quant=True)
        layers = find_layers(graph)
        plan = make_plan("infer", graph, layers, outputs, [ec.LSQQuantizer(config)])
    placement = plan.details["quantization"]
    assert "bn/batchnorm/add_1:0" in {o.tensor for o in placement.outputs}
    with tf.Graph().as_default() as graph:
        layer_ends(True)
        binding = Binding(graph, placement)
        binding.find()
        found = {t: [op.name for op in ops] for t, ops in binding.outputs.items()}
    assert found == {o.tensor: [o.tensor[:-2]] for o in placement.outputs}


def test_two_tensors_of_the_plan_that_are_one_in_training_are_refused(tmp_path):
    def model_fn(features, labels, mode):
        h = tf.layers.dense(features["x"], 6, name="h")
        served = mode != tf.estimator.ModeKeys.TRAIN
        a = tf.layers.dense(h, 3, name="a")
        b = tf.layers.dense(tf.minimum(h, 6.0) if served else h, 3, name="b")
        loss = tf.reduce_mean(tf.square(a + b))
        step = tf.train.get_global_step()
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
        return tf.estimator.EstimatorSpec(mode, {"y": a + b}, loss, train_op)

    def input_fn():
        return tf.data.Dataset.from_tensors(({"x": tf.ones([2, 4])}, 0)).repeat()

    wrapped = ec.compress(model_fn, ec.LSQQuantizer(ec.QuantizerConfig()))
    with pytest.raises(ec.PlanError, match="'b/kernel/input' quantizes a tensor of"):
        tf.estimator.Estimator(wrapped, str(tmp_path)).train(input_fn, max_steps=1)


def test_a_kernel_that_is_read_the_other_way_round_by_a_read_of_its_own_is_refused():
    with tf.Graph().as_default() as graph:
        w = tf.get_variable("w", [4, 4], use_resource=True)
        h = tf.nn.relu(tf.matmul(tf.placeholder(tf.float32, [2, 4]), w))
        tf.matmul(h, w, transpose_b=True)
        config = ec.QuantizerConfig()
        layers = find_layers(graph)
        plan = make_plan("infer", graph, layers, None, [ec.LSQQuantizer(config)])
        ranges = ServingRanges(graph, plan.details["quantization"])
        rewired = Rewired(graph, ranges.placement, ranges.quantize)
        with pytest.raises(ec.PlanError, match="kernel 'w' the other way round"):
            rewired.rewire()
