"""What cannot be quantized says so: float16, and kernels that dropout changes."""
import json

import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

FLOAT16 = "works on float16; only float32 is quantized"
DROPPED = "its kernel is changed by dropout or noise, {}, before the layer reads it"


def float16_getter(getter, name, shape=None, dtype=tf.float32, *args, **kwargs):
    """Stores float32 and computes in float16, as the official ResNets do."""
    if dtype != tf.float16:
        return getter(name, shape, dtype, *args, **kwargs)
    variable = getter(name, shape, tf.float32, *args, **kwargs)
    return tf.cast(variable, tf.float16, name=name + "_cast")


def float16(x, training):
    with tf.variable_scope("half", custom_getter=float16_getter):
        x = tf.layers.dense(tf.cast(x, tf.float16), 8, tf.nn.relu)
        return tf.cast(tf.layers.dense(x, models.CLASSES), tf.float32)


def partly_float16(x, training):
    return float16(tf.layers.dense(x, 6, name="first"), training)


def drop_connect(x, training):
    """Wan et al. 2013: weights are dropped, while training only."""
    w = tf.get_variable("w", [6, models.CLASSES])
    return tf.matmul(x, tf.layers.dropout(w, 0.5, training=training))


def always_dropped(x, training):
    w = tf.get_variable("w", [6, 8])
    x = tf.matmul(x, tf.nn.dropout(w, rate=0.5), name="dropped")
    return tf.layers.dense(x, models.CLASSES)


def dropped_by_condition(x, training):
    w = tf.get_variable("w", [6, 8])
    is_training = tf.placeholder_with_default(training, [])
    x = tf.matmul(x, tf.layers.dropout(w, 0.5, training=is_training), name="dropped")
    return tf.layers.dense(x, models.CLASSES)


def train(network, folder):
    """A quantized run; returns (Estimator, {op: what became of it})."""
    model_fn, input_fn = models.classifier(network, (6,))
    quantizer = ec.LSQQuantizer(ec.QuantizerConfig(step_interval=2, num_trials=2))
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, quantizer), config=models.run_config(str(folder))
    )
    estimator.train(input_fn, max_steps=5)
    coverage = json.loads((folder / "compression" / "coverage.json").read_text())
    return estimator, {
        layer["op"]: layer["decisions"]["quantization"] for layer in coverage["layers"]
    }


def test_nothing_but_float16_is_an_error_that_says_so(tmp_path):
    with pytest.raises(ec.PlanError, match=f"2 layers of .*: 2 x {FLOAT16}"):
        train(float16, tmp_path)
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    "network,op,reason",
    [
        (partly_float16, "half/dense/MatMul", FLOAT16),
        (always_dropped, "dropped", DROPPED.format("Mul 'dropout/mul_1'")),
        (
            dropped_by_condition,
            "dropped",
            DROPPED.format("Merge 'dropout/cond/Merge'"),
        ),
    ],
)
def test_others_are_quantized_and_served_as_they_were_trained(
    network, op, reason, tmp_path
):
    estimator, decisions = train(network, tmp_path)
    assert decisions[op] == reason
    assert "compressed" in decisions.values()

    def receiver():
        x = tf.placeholder(tf.float32, [None, 6])
        return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})

    exported = estimator.export_saved_model(str(tmp_path / "export"), receiver)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.saved_model.load(session, ["serve"], exported.decode())
        operation = graph.get_operation_by_name(op)
        read = [tensor.op.type for tensor in operation.inputs]
    assert not any(kind.startswith("FakeQuant") for kind in read)


def test_a_kernel_that_is_dropped_while_training_alone_is_refused(tmp_path):
    # What is served would be quantized, what is trained would not.
    why = DROPPED.format("Mul 'dropout/dropout/mul_1'")
    with pytest.raises(
        ec.PlanError, match=f"layer 'MatMul' .* in 'MatMul' {why}; .*fp32"
    ):
        train(drop_connect, tmp_path)
    assert not (tmp_path / "checkpoint").exists()


def test_float16_while_training_alone_is_refused(tmp_path):
    def network(x, training):
        dtype = tf.float16 if training else tf.float32
        with tf.variable_scope("half", custom_getter=float16_getter):
            x = tf.layers.dense(tf.cast(x, dtype), models.CLASSES)
        return tf.cast(x, tf.float32)

    with pytest.raises(ec.PlanError, match="'half/dense/MatMul' works on float16 in"):
        train(network, tmp_path)
    assert not (tmp_path / "checkpoint").exists()
