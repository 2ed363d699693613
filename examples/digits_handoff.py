"""The whole way: dense, half of the channels pruned, finetuned quantized, and served.

    python -m examples.digits_handoff [--output_dir=demo_handoff]

The model is examples/digits_model.py, which knows nothing of ec_estimator. What comes
out are two ONNX files, of the dense and of the compressed model, a table of what ONNX
Runtime makes of them (accuracy, bytes, latency), and report.html with the same as bars
and what was done to each layer. Under three minutes on two cores. Needs `make engines`,
and `pip install 'ec_estimator[onnx,report]'`.
"""
import argparse
import logging
import os
import sys

if __name__ == "__main__":
    # Before TensorFlow, whose import takes seconds.
    print("Dense, pruned, quantized, served: starting TensorFlow", flush=True)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.export.engines import THREADS, measure, run_engine
from ec_estimator.report.comparison import Comparison, Measure, format_comparison
from ec_estimator.report.data import pruning_report
from ec_estimator.report.page import check_packages, html_page
from ec_estimator.report.run import compressor_reports, find_run
from examples import digits_model
from examples.digits import Lines

FORMAT = "onnx_onnxruntime"
RUNS = ("dense", "pruned", "quantized")
PAGE = "report.html"
LATENCY_RUNS = 200


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
    check_packages()
    dense, pruned, quantized = (os.path.join(options.output_dir, run) for run in RUNS)
    logger = tf.get_logger()
    logger.handlers, logger.propagate = [Lines()], False
    logger.setLevel(logging.INFO)
    steps = options.steps

    print(f"1. Dense training, {steps} steps", flush=True)
    _, [dense_file] = train(digits_model.model_fn, dense, steps, exporters=[exporter()])

    print(f"\n2. Half of the channels go, {steps} steps", flush=True)
    train(ec.compress(digits_model.model_fn, pruner(steps)), pruned, steps, dense)

    print(f"\n3. The small network, quantized to 8 bits, {steps} steps", flush=True)
    small = ec.compress(ec.finetune(digits_model.model_fn, pruned), quantizer(steps))
    _, [small_file] = train(small, quantized, steps, exporters=[exporter()])

    print("\n4. Both in ONNX Runtime, two threads, without TensorFlow\n", flush=True)
    found = comparison(served(dense, dense_file), served(quantized, small_file))
    print(format_comparison(found))
    made = [
        *compressor_reports(find_run(pruned)),
        *compressor_reports(find_run(quantized)),
    ]
    page = os.path.join(options.output_dir, PAGE)
    with open(page, "w", encoding="utf-8") as file:
        file.write(html_page(pruning_report(pruned), made, comparison=found))
    print(f"\nThe same as a picture, and each layer: {page}")


def pruner(steps):
    return ec.Pruner(
        ec.PrunerConfig(
            compression_ratio=0.5,
            ratio_metric="macs",
            channel_align=8,
            step_interval=max(1, steps // 10),
            num_trials=7,
        )
    )


def quantizer(steps):
    return ec.LSQQuantizer(
        ec.QuantizerConfig(
            signed="auto",
            post_quant=True,
            step_interval=max(1, steps // 4),
            num_trials=3,
        )
    )


def served(run, export):
    """What ONNX Runtime makes of an export."""
    path = os.path.join(export, "model.onnx")
    _, (images, labels) = digits_model.load_data()
    answers = run_engine("onnxruntime", path, {"image": images})
    classes = next(a for name, a in answers.items() if name.startswith("classes"))
    reader = tf.train.load_checkpoint(run)
    seconds = {
        count: np.median(
            measure("onnxruntime", path, {"image": images[:count]}, LATENCY_RUNS)
        )
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


def comparison(dense, small):
    """Two results of `served`, side by side."""
    measures = [
        Measure("accuracy", "", dense["accuracy"], small["accuracy"], digits=3),
        Measure("parameters", "", dense["parameters"], small["parameters"], 0, "less"),
        Measure("file", "bytes", dense["bytes"], small["bytes"], 0, "less"),
    ]
    for count in dense["seconds"]:
        before, after = (1e3 * one["seconds"][count] for one in (dense, small))
        name = f"latency of {count}"
        measures.append(Measure(name, "ms", before, after, 3, "faster"))
    return Comparison(
        "Digits: dense and compressed, in ONNX Runtime",
        ("dense", "compressed"),
        f"{len(digits_model.load_data()[1][1])} test images; latency: median of "
        f"{LATENCY_RUNS} runs, {THREADS} threads",
        tuple(measures),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
