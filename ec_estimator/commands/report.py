"""report: what the compressors of a run did, as text, JSON and HTML."""
import dataclasses
import shlex
import sys

import tensorflow.compat.v1 as tf
from absl import flags

from ec_estimator.commands.module import get, params
from ec_estimator.core.atomic import write_atomically
from ec_estimator.core.errors import ConfigError, RunFolderError
from ec_estimator.core.folder import RunFolder
from ec_estimator.report.data import pruning_report
from ec_estimator.report.latency import measure_latency
from ec_estimator.report.page import html_page
from ec_estimator.report.run import compressor_reports, find_run, outcome
from ec_estimator.report.text import format_report
from ec_estimator.shrink.artifact import FOLDER as PRUNED
from ec_estimator.shrink.artifact import find_artifact

FLAGS = flags.FLAGS


def define():
    """Defines the flags that only this command has."""
    flags.DEFINE_alias("run_folder", "pruned")
    flags.DEFINE_string("output", None, "folder for report.json and report.html")
    flags.DEFINE_list("batch_sizes", ["1", "32"], "batches that latency is of")
    flags.DEFINE_integer("runs", 50, "timed batches of each network and size")


def report(module):
    """Prints what the compressors of a run did; with a module also what pruning does
    to latency."""
    for name in ("batch_sizes", "runs"):
        if FLAGS[name].present and not module:
            raise ConfigError(f"--{name} is for latency, which needs --model as well")
    run = find_run(FLAGS.pruned)
    if run is None and find_artifact(FLAGS.pruned) is None:
        raise RunFolderError(
            f"--run_folder: there is no run in {FLAGS.pruned!r}; give the model_dir of "
            "an Estimator that was trained compressed, or the save_dir of a "
            "CompressionHook, once a trial was done"
        )
    compressors = compressor_reports(run) if run else ()
    end = outcome(run) if run else None
    small = None
    if run is None or tf.gfile.Exists(run.file(PRUNED)):
        small = pruning_report(FLAGS.pruned)
    elif module:
        raise ConfigError(
            f"--model is for latency, and the run in {FLAGS.pruned!r} has left no "
            "small network to measure; leave it away"
        )
    # Before minutes are spent on measuring.
    folder = RunFolder(FLAGS.output).create() if FLAGS.output else None
    if module:
        small = dataclasses.replace(small, measurement=_measure(module))
    print(format_report(small, compressors, end))
    if folder:
        content = dataclasses.asdict(small) if small else {}
        content["compressors"] = [dataclasses.asdict(made) for made in compressors]
        content["outcome"] = dataclasses.asdict(end) if end else {}
        folder.write_json("report.json", content)
        write_atomically(folder.file("report.html"), html_page(small, compressors, end))


def _measure(module):
    sizes = [_positive("batch_sizes", text) for text in FLAGS.batch_sizes]
    return measure_latency(
        get(module, "model_fn"),
        FLAGS.pruned,
        get(module, "eval_input_fn"),
        sizes,
        _positive("runs", FLAGS.runs),
        params(module) or {},
        " ".join(["python -m ec_estimator report", *map(shlex.quote, sys.argv[2:])]),
    )


def _positive(flag, value):
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(f"--{flag}: must be an integer greater than 0, got {value!r}")
    return number
