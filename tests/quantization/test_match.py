"""Planned layers are found in other graphs."""
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
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
