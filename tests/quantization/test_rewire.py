"""Where quantizers come in, and that gradients are those of a graph built by hand."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.quantization.lsq import (
    fake_quantize,
    of_activations,
    of_weights,
)

MODES = tf.estimator.ModeKeys


def network(x, kernels, quantize):
    """A residual network of two convolutions and a dense layer.

    quantize: callable(tensor, name of the quantizer) -> tensor.
    """
    x = quantize(x, "conv/kernel/input")
    y = tf.nn.conv2d(x, quantize(kernels["conv"], "conv/kernel"), 1, "SAME")
    y = quantize(tf.nn.relu(y), "depthwise/kernel/input")
    z = tf.nn.depthwise_conv2d(
        y, quantize(kernels["depthwise"], "depthwise/kernel"), [1] * 4, "SAME"
    )
    # The shortcut reads what the convolution reads.
    y = tf.reduce_mean(tf.tanh(y + z), [1, 2])
    y = quantize(y, "dense/kernel/input")
    return tf.matmul(y, quantize(kernels["dense"], "dense/kernel"))


SHAPES = {"conv": (3, 3, 3, 4), "depthwise": (3, 3, 4, 1), "dense": (4, 5)}


def make_kernels():
    random = np.random.RandomState(5)
    return {
        name: tf.get_variable(
            f"{name}/kernel", initializer=random.standard_normal(shape).astype("f")
        )
        for name, shape in SHAPES.items()
    }


def data():
    random = np.random.RandomState(6)
    x = random.standard_normal((4, 6, 6, 3)).astype(np.float32)
    return tf.placeholder_with_default(x, (None, 6, 6, 3))


def model_fn(features, labels, mode):
    logits = network(features["x"], make_kernels(), lambda tensor, name: tensor)
    if mode == MODES.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"logits": logits})
    loss = tf.reduce_mean(tf.square(logits))
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss, variables)
    for variable, gradient in zip(variables, gradients):
        tf.add_to_collection("found", (variable.op.name, gradient))
    return tf.estimator.EstimatorSpec(
        mode,
        loss=loss,
        train_op=tf.train.GradientDescentOptimizer(0.1).apply_gradients(
            zip(gradients, variables), tf.train.get_or_create_global_step()
        ),
    )


def steps_of(name, bits):
    if name.endswith("/input"):
        return np.float32(0.03 if bits == 8 else 0.4)
    channels = {"conv/kernel": 4, "depthwise/kernel": 4, "dense/kernel": 5}[name]
    return np.linspace(0.01, 0.02, channels).astype("f") * (1 if bits == 8 else 20)


def by_hand(bits):
    """The loss and its gradients of variables and step sizes."""
    with tf.Graph().as_default(), tf.Session() as session:
        steps = {}

        def quantize(tensor, name):
            is_input = name.endswith("/input")
            quantizer = (
                of_activations(bits, True)
                if is_input
                else of_weights(bits, len(steps_of(name, bits)))
            )
            steps[name] = tf.constant(steps_of(name, bits))
            step = steps[name]
            if "depthwise/kernel" == name:
                flat = fake_quantize(tf.reshape(tensor, [9, 4]), step, quantizer)
                return tf.reshape(flat, tensor.shape)
            return fake_quantize(tensor, step, quantizer)

        kernels = make_kernels()
        loss = tf.reduce_mean(tf.square(network(data(), kernels, quantize)))
        wanted = {v.op.name: v for v in kernels.values()}
        wanted.update(
            (f"ec_estimator/quantization/{n}/step", v) for n, v in steps.items()
        )
        gradients = dict(zip(wanted, tf.gradients(loss, list(wanted.values()))))
        session.run(tf.global_variables_initializer())
        return session.run([loss, gradients])


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_every_gradient_is_that_of_a_graph_built_by_hand(bits, tmp_path):
    quantizer = Spied(ec.QuantizerConfig(bits=bits, wbits=bits))
    with tf.Graph().as_default(), tf.Session() as session:
        spec = ec.compress(model_fn, quantizer)(
            {"x": data()}, None, MODES.TRAIN, tf.estimator.RunConfig(str(tmp_path))
        )
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            name = variable.op.name
            if name.startswith("ec_estimator/") and name.endswith("/step"):
                middle = name[len("ec_estimator/quantization/") : -len("/step")]
                variable.load(steps_of(middle, bits), session)
        gradients = dict(tf.get_collection("found"))
        for name, (gradient,) in quantizer.attached.gradients.items():
            gradients[f"ec_estimator/quantization/{name}/step"] = gradient
        loss, found = session.run([spec.loss, gradients])
    expected_loss, expected = by_hand(bits)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        # A step's gradient is a sum of signed parts, added here in another order.
        atol = 1e-6 if name.endswith("/step") else 1e-7
        np.testing.assert_allclose(found[name], gradient, rtol=1e-5, atol=atol)
        assert np.any(gradient)


class Spied(ec.LSQQuantizer):
    def inject(self, *args):
        self.attached = super().inject(*args)
        return self.attached


def ops(mode, tmp_path, network=model_fn, **config):
    graph = tf.Graph()
    with graph.as_default():
        quantizer = ec.LSQQuantizer(ec.QuantizerConfig(**config))
        ec.compress(network, quantizer)(
            {"x": data()}, None, mode, tf.estimator.RunConfig(str(tmp_path))
        )
    return graph


@pytest.mark.parametrize("mode", [MODES.TRAIN, MODES.EVAL, MODES.PREDICT])
def test_every_mode_has_the_same_quantizers(mode, tmp_path):
    graph = ops(mode, tmp_path)
    found = [o for o in graph.get_operations() if o.type.startswith("FakeQuant")]
    scopes = [os.path.dirname(o.name) for o in found if not o.type.endswith("Gradient")]
    names = (
        *("conv/kernel", "conv/kernel/input", "depthwise/kernel"),
        *("depthwise/kernel/input", "dense/kernel", "dense/kernel/input"),
    )
    assert sorted(scopes) == sorted(
        f"ec_estimator/quantization/{name}" for name in names
    )


def test_a_residual_shortcut_reads_the_quantized_tensor(tmp_path):
    graph = ops(MODES.PREDICT, tmp_path)
    (add,) = [o for o in graph.get_operations() if o.type in ("Add", "AddV2")]
    assert add.inputs[0].op.name.endswith("depthwise/kernel/input/quantized")


def test_post_quant_makes_an_integer_chain_up_to_the_prediction(tmp_path):
    graph = ops(MODES.PREDICT, tmp_path, post_quant=True)
    (tanh,) = [o for o in graph.get_operations() if o.name == "Tanh"]
    (add,) = [o for o in graph.get_operations() if o.type in ("Add", "AddV2")]
    assert all(i.op.type == "FakeQuantWithMinMaxVars" for i in add.inputs)
    assert [c.type for c in tanh.outputs[0].consumers()] == ["FakeQuantWithMinMaxVars"]
    last = [o for o in graph.get_operations() if o.type == "MatMul"][-1]
    assert not last.outputs[0].consumers()


def test_what_a_variable_of_any_type_computes_is_quantized_for_all_readers():
    with tf.Graph().as_default():
        scale = tf.raw_ops.Variable(shape=[4], dtype=tf.float32)
        h = tf.placeholder(tf.float32, [2, 4]) * scale
        y = tf.layers.dense(h, 3, use_bias=False)
        other = tf.tanh(h)
        ec.quantize_graph("eval", None, ec.QuantizerConfig())
        # A model's input, which no variable computes, is quantized for its layer alone.
        assert y.op.inputs[0] is not h
        assert other.op.inputs[0] is y.op.inputs[0]
