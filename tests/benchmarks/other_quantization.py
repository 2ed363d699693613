"""Other ways to train quantized networks, to compare with."""
from unittest import mock

import tensorflow.compat.v1 as tf
from tensorflow.contrib import quantize as contrib_quantize

from ec_estimator.quantization import ranges


def with_contrib(network, bits):
    """A network with the quantizers of tf.contrib.quantize.

    It rewrites a whole graph before gradients exist, and quantizes from the first step.

    Args:
      network: callable(inputs, training) -> logits.
      bits: of weights and activations.
    """

    def quantized(x, training):
        logits = network(x, training)
        rewrite = (
            contrib_quantize.experimental_create_training_graph
            if training
            else contrib_quantize.experimental_create_eval_graph
        )
        rewrite(weight_bits=bits, activation_bits=bits)
        return logits

    return quantized


def element_wise():
    """While it is entered, graphs get LSQ as it is commonly written: of operations on
    every element, whose gradients TensorFlow derives. Placement and step sizes stay."""
    return mock.patch.object(ranges, "fake_quantize", _element_wise)


def _element_wise(x, step, quantizer):
    ratio = x / step
    clipped = tf.clip_by_value(ratio, float(quantizer.low), float(quantizer.high))
    rounded = clipped + tf.stop_gradient(tf.round(clipped) - clipped)
    return rounded * step
