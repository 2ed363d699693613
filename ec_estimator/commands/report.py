"""report: what pruning did, as text, JSON and HTML."""
import dataclasses
import shlex
import sys

from absl import flags

from ec_estimator.commands.module import get, params
from ec_estimator.core.errors import ConfigError
from ec_estimator.core.folder import RunFolder, write_atomically
from ec_estimator.report.data import pruning_report
from ec_estimator.report.latency import measure_latency
from ec_estimator.report.page import html_page
from ec_estimator.report.text import format_report

FLAGS = flags.FLAGS


def define():
    """Defines the flags that only this command has."""
    flags.DEFINE_string("output", None, "folder for report.json and report.html")
    flags.DEFINE_list("batch_sizes", ["1", "32"], "batches that latency is of")
    flags.DEFINE_integer("runs", 50, "timed batches of each network and size")


def report(module):
    """Prints what pruning did; with a module also what that does to latency."""
    for name in ("batch_sizes", "runs"):
        if FLAGS[name].present and not module:
            raise ConfigError(f"--{name} is for latency, which needs --model as well")
    made = pruning_report(FLAGS.pruned)
    # Before minutes are spent on measuring.
    folder = RunFolder(FLAGS.output).create() if FLAGS.output else None
    if module:
        made = dataclasses.replace(made, measurement=_measure(module))
    print(format_report(made))
    if folder:
        folder.write_json("report.json", dataclasses.asdict(made))
        write_atomically(folder.file("report.html"), html_page(made))


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
