"""The whole way: dense, half of the channels pruned, finetuned quantized, and served.

    python -m examples.digits_handoff [--output_dir=demo_handoff]

The model is examples/digits_model.py, which knows nothing of ec_estimator. What comes
out are two ONNX files, of the dense and of the compressed model, and a table of what
ONNX Runtime makes of them: accuracy, bytes, latency. Under three minutes on two cores.
Needs `make engines`, and `pip install 'ec_estimator[onnx]'`.
"""
import argparse
import logging
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.export.engines import measure, run_engine
from examples import digits_model
from examples.digits import Lines

FORMAT = "onnx_onnxruntime"
RUNS = ("dense", "pruned", "quantized")


def config(steps):
    return tf.estimator.RunConfig(tf_random_seed=1, save_checkpoints_steps=steps)


def train(model_fn, folder, steps, start=None, exporters=()):
    """Trains, evaluates and exports; returns (accuracy, folders of the exports)."""
    estimator = tf.estimator.Estimator(
        model_fn, folder, config(steps), warm_start_from=start and ec.warm_start(start)
    )
    run = ec.train_and_evaluate
    if not hasattr(model_fn, "compressed_model"):
        run = tf.estimator.train_and_evaluate
    evaluation, exports = run(
        estimator,
        tf.estimator.TrainSpec(digits_model.train_input_fn, max_steps=steps),
        tf.estimator.EvalSpec(
            digits_model.eval_input_fn,
            steps=None,
            exporters=list(exporters),
            start_delay_secs=0,
            throttle_secs=0,
        ),
    )
    return evaluation["accuracy"], exports


def exporter():
    return ec.HandoffExporter(
        ec.FORMATS[FORMAT](),
        digits_model.serving_input_receiver_fn,
        digits_model.eval_input_fn,
    )


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", default="demo_handoff", help="a new folder")
    parser.add_argument("--steps", type=int, default=600, help="of each training")
    options = parser.parse_args(arguments)
    if os.path.exists(options.output_dir):
        parser.error(f"--output_dir: {options.output_dir!r} exists; name a new folder")
    dense, pruned, quantized = (os.path.join(options.output_dir, run) for run in RUNS)
    logger = tf.get_logger()
    logger.handlers, logger.propagate = [Lines()], False
    logger.setLevel(logging.INFO)
    steps = options.steps

    print(f"1. Dense training, {steps} steps", flush=True)
    _, [dense_file] = train(digits_model.model_fn, dense, steps, exporters=[exporter()])

    print(f"\n2. Half of the channels go, {steps} steps", flush=True)
    pruner = ec.Pruner(
        ec.PrunerConfig(
            compression_ratio=0.5,
            ratio_metric="macs",
            channel_align=8,
            step_interval=max(1, steps // 10),
            num_trials=7,
        )
    )
    train(ec.compress(digits_model.model_fn, pruner), pruned, steps, dense)

    print(f"\n3. The small network, quantized to 8 bits, {steps} steps", flush=True)
    quantizer = ec.LSQQuantizer(
        ec.QuantizerConfig(
            signed="auto",
            post_quant=True,
            step_interval=max(1, steps // 4),
            num_trials=3,
        )
    )
    small = ec.compress(ec.finetune(digits_model.model_fn, pruned), quantizer)
    _, [small_file] = train(small, quantized, steps, exporters=[exporter()])

    print("\n4. Both in ONNX Runtime, two threads, without TensorFlow\n", flush=True)
    print(comparison([served(dense, dense_file), served(quantized, small_file)]))


def served(run, export):
    """What ONNX Runtime makes of an export."""
    path = os.path.join(export, "model.onnx")
    _, (images, labels) = digits_model.load_data()
    answers = run_engine("onnxruntime", path, {"image": images})
    classes = next(a for name, a in answers.items() if name.startswith("classes"))
    reader = tf.train.load_checkpoint(run)
    seconds = {
        count: np.median(measure("onnxruntime", path, {"image": images[:count]}, 200))
        for count in (1, 32)
    }
    return {
        "accuracy": np.mean(classes == labels),
        "parameters": sum(
            int(np.prod(shape))
            for name, shape in reader.get_variable_to_shape_map().items()
            if name.endswith(("/kernel", "/bias", "/gamma", "/beta"))
        ),
        "bytes": os.path.getsize(path),
        "seconds": seconds,
    }


def comparison(found):
    dense, small = found
    rows = [
        ("", "dense", "compressed", ""),
        ("accuracy", f"{dense['accuracy']:.3f}", f"{small['accuracy']:.3f}", ""),
    ]
    for name in ("parameters", "bytes"):
        before, after = dense[name], small[name]
        rows.append((name, f"{before:,}", f"{after:,}", f"{before / after:.1f} x less"))
    for count in dense["seconds"]:
        before, after = (one["seconds"][count] * 1e3 for one in found)
        rows.append(
            (
                f"latency of {count}",
                f"{before:.3f} ms",
                f"{after:.3f} ms",
                f"{before / after:.1f} x faster",
            )
        )
    return "\n".join(f"{a:<14}{b:>12}{c:>14}   {d}".rstrip() for a, b, c, d in rows)


if __name__ == "__main__":
    main(sys.argv[1:])
