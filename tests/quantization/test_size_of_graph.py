"""How large a training graph with quantizers is."""
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

FEW, MANY = 2, 6


class Look(tf.train.SessionRunHook):
    """Names of the ops of a training graph, before what a session adds."""

    def begin(self):
        self.names = [op.name for op in tf.get_default_graph().get_operations()]


def trained(layers, compressors, model_dir):
    """Names of the ops of a dense network that trains."""

    def network(x, training):
        for _ in range(layers):
            x = tf.layers.dense(x, 8, tf.nn.relu)
        return tf.layers.dense(x, models.CLASSES)

    model_fn, input_fn = models.classifier(network, (4,))
    if compressors:
        model_fn = ec.compress(model_fn, *compressors)
    look = Look()
    estimator = tf.estimator.Estimator(model_fn, config=models.run_config(model_dir))
    estimator.train(input_fn, steps=1, hooks=[look])
    return look.names


def quantized(layers, folder):
    quantizer = ec.LSQQuantizer(ec.QuantizerConfig(signed="auto"))
    return trained(layers, [quantizer], str(folder / str(layers)))


def test_the_quantizers_of_a_layer_are_at_most_80_ops(tmp_path):
    plain = [
        len(trained(layers, [], str(tmp_path / f"plain_{layers}")))
        for layers in (FEW, MANY)
    ]
    ours = [len(quantized(layers, tmp_path)) for layers in (FEW, MANY)]
    few, many = (all_ops - own for all_ops, own in zip(ours, plain))
    assert (many - few) / (MANY - FEW) <= 80


def test_the_constants_of_quantizers_do_not_grow_with_the_layers(tmp_path):
    few, many = (
        sum(
            name.startswith("ec_estimator/quantization/constants/")
            for name in quantized(layers, tmp_path)
        )
        for layers in (FEW, MANY)
    )
    assert few and few == many
