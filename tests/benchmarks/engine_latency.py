"""Latency of exported models in ONNX Runtime, OpenVINO and MNN.

    python -m tests.benchmarks.engine_latency

Batch 1, two threads, each engine in a process of its own; medians of the runs, and the
ratio to the same engine's float. Models have values of two training steps on noise:
latency does not depend on them. A row is written as soon as it is known; rows that are
there are not run again. `make docs` writes them into the documentation.

ort_static is the float model after ONNX Runtime's own static quantizer, unsigned: with
uint8 activations. sparse is 70 %
in blocks of (1, 4).
"""
import os
import tempfile
from typing import Any, Callable, Dict, NamedTuple, Sequence

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags
from tensorflow.contrib import slim
from tensorflow.contrib.slim import nets

import ec_estimator as ec
from ec_estimator.export.engines import THREADS, measure
from ec_estimator.export.frozen_model import freeze_model
from tests.benchmarks import mnn_timing, networks, record
from tests.benchmarks.ort_static import OrtStaticFormat

FLAGS = flags.FLAGS
flags.DEFINE_integer("runs", 60, "timed runs of each file")
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


class Form(NamedTuple):
    """formats: {engine: callable() -> export.format.Format}; make: callable() -> what
    it is trained with, or None; is_pruned: to half of the work before; nets: in which
    it is something of its own."""

    formats: Dict[str, Callable[[], Any]]
    make: Any = None
    is_pruned: bool = False
    nets: Sequence[str] = tuple(NETS)


def quantizer(**settings):
    config = ec.QuantizerConfig(step_interval=1, num_trials=1, **settings)
    return lambda: ec.LSQQuantizer(config)


def sparsifier():
    return ec.Sparsifier(
        ec.SparsifierConfig(
            target_sparse_ratio=0.7,
            sparse_block_shape=(1, 4),
            step_interval=1,
            num_trials=1,
        )
    )


ONNX = {name: ec.FORMATS[f"onnx_{name}"] for name in ("onnxruntime", "openvino")}
MNN = {"mnn": ec.FORMATS["mnn"]}
RESNETS, CONVOLUTIONAL = ("resnet50", "resnet20"), (
    "resnet50",
    "resnet20",
    "mobile_net",
)
# What ONNX Runtime fuses. signed=True is what TensorRT asks for.
FUSED = {"signed": "auto", "post_quant": True}
FORMS = {
    "float": Form({**ONNX, **MNN}),
    "int8": Form({**ONNX, **MNN}, quantizer(**FUSED)),
    "int8_signed": Form(ONNX, quantizer(signed=True)),
    "ort_static": Form({"onnxruntime": OrtStaticFormat}, nets=RESNETS),
    "ort_static_unsigned": Form(
        {"onnxruntime": lambda: OrtStaticFormat("QUInt8")}, nets=RESNETS
    ),
    "pruned_float": Form(ONNX, is_pruned=True),
    "pruned_int8": Form(ONNX, quantizer(**FUSED), is_pruned=True),
    "int8_winograd": Form(
        MNN, quantizer(int8_winograd=True, **FUSED), nets=CONVOLUTIONAL
    ),
    "sparse": Form(MNN, sparsifier),
}
flags.DEFINE_list("nets", list(NETS), "networks")
flags.DEFINE_list("forms", [name for name in FORMS if name != "pruned_float"], "forms")
flags.DEFINE_list("engines", ["onnxruntime", "openvino", "mnn"], "engines")


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


def trained(net, form, folder):
    """An Estimator after the trials."""
    network, shape, _ = NETS[net]
    made = FORMS[form]
    model_fn, data = model_fn_of(network), networks.noise(shape, 4)
    run = tf.estimator.RunConfig(save_checkpoints_steps=10**6)
    if made.is_pruned:
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
    if made.make is not None:
        model_fn = ec.compress(model_fn, made.make())
    estimator = tf.estimator.Estimator(model_fn, os.path.join(folder, "run"), run)
    estimator.train(data, max_steps=2)
    return estimator


def rows(net, form, engines):
    """A row for each engine."""
    served = NETS[net][2]

    def receiver():
        features = {"x": tf.placeholder(tf.float32, (1,) + served)}
        return tf.estimator.export.ServingInputReceiver(features, features)

    x = np.random.RandomState(1).standard_normal((1,) + served)
    inputs = {"x": x.astype(np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        estimator = trained(net, form, folder)
        model = freeze_model(estimator, receiver, estimator.latest_checkpoint())
        for engine in engines:
            place = os.path.join(folder, engine)
            os.mkdir(place)
            writer = FORMS[form].formats[engine]()
            file, *_ = writer.write(model, "serving_default", place, inputs)
            path = os.path.join(place, file)
            yield {
                "net": net,
                "form": form,
                "engine": engine,
                "ms": round(float(np.median(seconds(engine, path, inputs))) * 1e3, 3),
                "bytes": os.path.getsize(path),
            }


def seconds(engine, path, inputs):
    if engine == "mnn":
        return mnn_timing.measure(os.path.dirname(path), inputs, FLAGS.runs, THREADS)
    return measure(engine, path, inputs, FLAGS.runs)


def missing_engines(net, form, done):
    """The engines that have no row of this yet."""
    known = {row["engine"] for row in done if (row["net"], row["form"]) == (net, form)}
    if net not in FORMS[form].nets:
        return []
    return [e for e in FORMS[form].formats if e in FLAGS.engines and e not in known]


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    done = record.rows(FLAGS.results)
    for net in FLAGS.nets:
        for form in FLAGS.forms:
            engines = missing_engines(net, form, done)
            # Trained only where something is missing.
            for row in rows(net, form, engines) if engines else ():
                done.append(row)
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
