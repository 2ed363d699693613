"""Latency of exported models in ONNX Runtime and OpenVINO: float, int8, pruned int8.

    python -m tests.benchmarks.engine_latency

Batch 1, two threads, each engine in a process of its own; medians of the runs, and the
ratio to the same engine's float. Models have values of two training steps on noise:
latency does not depend on them. A row is written as soon as it is known; rows that are
there are not run again.
"""
import os
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags
from tensorflow.contrib import slim
from tensorflow.contrib.slim import nets

import ec_estimator as ec
from ec_estimator.export.engines import measure
from ec_estimator.export.frozen_model import freeze_model
from ec_estimator.export.onnx_format import FILE, OnnxFormat
from tests.benchmarks import networks, record

FLAGS = flags.FLAGS
flags.DEFINE_integer("runs", 60, "timed runs of each file")
flags.DEFINE_list("nets", ["resnet50", "resnet20", "mobile_net", "dense"], "networks")
flags.DEFINE_list("forms", ["float", "int8", "int8_signed", "pruned_int8"], "forms")
flags.DEFINE_string("results", "engine_latency", "results' file name")


def resnet50(x, training):
    with slim.arg_scope(nets.resnet_utils.resnet_arg_scope()):
        y, _ = nets.resnet_v1.resnet_v1_50(x, 1000, is_training=training)
    return tf.squeeze(y, [1, 2])


# network, shape of an example in training, and where it is served.
NETS = {
    "resnet50": (resnet50, (64, 64, 3), (224, 224, 3)),
    "resnet20": (networks.resnet20, (32, 32, 3), (32, 32, 3)),
    "mobile_net": (networks.mobile_net, (64, 64, 3), (64, 64, 3)),
    "dense": (networks.dense_net, (2048,), (2048,)),
}
# What ONNX Runtime fuses, and what TensorRT asks for.
FUSED, SIGNED = {"signed": "auto", "post_quant": True}, {"signed": True}
FORMS = {
    "float": (False, None),
    "int8": (False, FUSED),
    "int8_signed": (False, SIGNED),
    "pruned_float": (True, None),
    "pruned_int8": (True, FUSED),
}


def model_fn_of(network):
    def model_fn(features, labels, mode):
        logits = network(features["x"], mode == tf.estimator.ModeKeys.TRAIN)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"logits": logits})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        optimizer = tf.train.GradientDescentOptimizer(1e-3)
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def input_fn_of(shape):
    def input_fn():
        random = np.random.RandomState(0)
        x = random.standard_normal((4,) + shape).astype(np.float32)
        data = ({"x": x}, np.arange(4, dtype=np.int32) % 10)
        return tf.data.Dataset.from_tensors(data).repeat()

    return input_fn


def trained(net, form, folder):
    """An Estimator after the trials."""
    network, shape, _ = NETS[net]
    is_pruned, config = FORMS[form]
    model_fn, data = model_fn_of(network), input_fn_of(shape)
    run = tf.estimator.RunConfig(save_checkpoints_steps=10**6)
    if is_pruned:
        pruner = ec.PrunerConfig(
            compression_ratio=0.5,
            ratio_metric="macs",
            channel_align=16,
            step_interval=1,
            num_trials=1,
        )
        place = os.path.join(folder, "pruned")
        wrapped = ec.compress(model_fn, ec.Pruner(pruner))
        tf.estimator.Estimator(wrapped, place, run).train(data, max_steps=2)
        model_fn = ec.finetune(model_fn, place)
    if config is not None:
        quantizer = ec.QuantizerConfig(step_interval=1, num_trials=1, **config)
        model_fn = ec.compress(model_fn, ec.LSQQuantizer(quantizer))
    estimator = tf.estimator.Estimator(model_fn, os.path.join(folder, "run"), run)
    estimator.train(data, max_steps=2)
    return estimator


def rows(net, form):
    """A row for each engine."""
    served = NETS[net][2]

    def receiver():
        features = {"x": tf.placeholder(tf.float32, (1,) + served)}
        return tf.estimator.export.ServingInputReceiver(features, features)

    with tempfile.TemporaryDirectory() as folder:
        estimator = trained(net, form, folder)
        model = freeze_model(estimator, receiver, estimator.latest_checkpoint())
        for engine in ("onnxruntime", "openvino"):
            place = os.path.join(folder, engine)
            os.mkdir(place)
            OnnxFormat(engine).write(model, "serving_default", place, {})
            path = os.path.join(place, FILE)
            x = np.random.RandomState(1).standard_normal((1,) + served)
            seconds = measure(engine, path, {"x": x.astype(np.float32)}, FLAGS.runs)
            yield {
                "net": net,
                "form": form,
                "engine": engine,
                "ms": round(float(np.median(seconds)) * 1e3, 3),
                "bytes": os.path.getsize(path),
            }


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    done = record.rows(FLAGS.results)
    for net in FLAGS.nets:
        for form in FLAGS.forms:
            if any(row["net"] == net and row["form"] == form for row in done):
                continue
            done += rows(net, form)
            record.save(
                FLAGS.results, "tests.benchmarks.engine_latency", {"rows": done}
            )
    floats = {(r["net"], r["engine"]): r["ms"] for r in done if r["form"] == "float"}
    for row in done:
        ratio = row["ms"] / floats.get((row["net"], row["engine"]), np.nan)
        print(f"{row['net']:<12}{row['form']:<14}{row['engine']:<13}", end="")
        print(f"{row['ms']:>9.3f} ms {ratio:>6.2f} {row['bytes']:>12,}")


if __name__ == "__main__":
    app.run(main)
