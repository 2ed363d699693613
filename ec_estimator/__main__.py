"""python -m ec_estimator train | plan --model=pkg.module --flagfile=recipe"""
import importlib
import os
import sys

import tensorflow.compat.v1 as tf
from absl import app, flags
from tensorflow.python.util import function_utils

from ec_estimator import flags as ec_flags
from ec_estimator.core.errors import CompressionError, ConfigError
from ec_estimator.export.exporters import (
    BestExporter,
    CleanCheckpointExporter,
    SavedModelExporter,
)
from ec_estimator.graph.plan import format_coverage
from ec_estimator.training.loop import train_and_evaluate
from ec_estimator.training.warm_start import warm_start
from ec_estimator.training.wrap import compress, compressed_model

FLAGS = flags.FLAGS
_TRAIN = tf.estimator.ModeKeys.TRAIN
USAGE = """usage: python -m ec_estimator COMMAND --model=pkg.module [flags]

commands:
  train  train the module's model compressed, evaluate and export it
  plan   print which layers would be compressed and why not the others

The module has model_fn, train_input_fn and eval_input_fn; serving_input_receiver_fn
to export a SavedModel; params if its model_fn takes them. It may define absl flags.
All flags: python -m ec_estimator train --helpfull. A flag file is a recipe.
"""


def train(module):
    """Trains, evaluates and exports what the flags say."""
    for name in ("model_dir", "train_steps"):
        if getattr(FLAGS, name) is None:
            raise ConfigError(f"--{name} is needed to train")
    if FLAGS.train_steps < 1:
        raise ConfigError(
            f"--train_steps: must be an integer greater than 0, got {FLAGS.train_steps}"
        )
    estimator = tf.estimator.Estimator(
        compress(_get(module, "model_fn"), ec_flags.compressor()),
        FLAGS.model_dir,
        config=tf.estimator.RunConfig(
            save_checkpoints_steps=FLAGS.save_checkpoints_steps
            or max(1, FLAGS.train_steps // 10)
        ),
        params=getattr(module, "params", None),
        warm_start_from=_warm_start(),
    )
    eval_spec = tf.estimator.EvalSpec(
        _get(module, "eval_input_fn"),
        FLAGS.eval_steps,
        exporters=[_exporter(kind, module) for kind in FLAGS.export],
        start_delay_secs=0,
        throttle_secs=0,
    )
    results, exports = train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(_get(module, "train_input_fn"), FLAGS.train_steps),
        eval_spec,
    )
    if results is None:
        results, exports = _evaluate_and_export(estimator, eval_spec)
    for name, value in sorted(results.items()):
        print(f"{name}: {value:.6g}")
    for path in exports or []:
        if path:
            print(f"exported: {path.decode() if isinstance(path, bytes) else path}")


def _evaluate_and_export(estimator, eval_spec):
    """What train_and_evaluate leaves out when there is nothing left to train."""
    results = estimator.evaluate(eval_spec.input_fn, eval_spec.steps)
    print(f"already at step {results['global_step']}", file=sys.stderr)
    exports = [
        exporter.export(
            estimator,
            os.path.join(estimator.model_dir, "export", exporter.name),
            estimator.latest_checkpoint(),
            results,
            is_the_final_export=True,
        )
        for exporter in eval_spec.exporters
    ]
    return results, exports


def plan(module):
    """Prints the coverage report without training."""
    model_fn = compress(_get(module, "model_fn"), ec_flags.compressor())
    with tf.Graph().as_default():
        params = getattr(module, "params", None) or {}
        config = tf.estimator.RunConfig(FLAGS.model_dir)
        features, labels = _data(_get(module, "train_input_fn"), params, config)
        made = compressed_model(model_fn).plan(features, labels, params, config)
    print(format_coverage(made))


def _data(input_fn, params, config):
    """(features, labels) of an input_fn, called as an Estimator calls it."""
    offered = {"mode": _TRAIN, "params": params, "config": config}
    taken = function_utils.fn_args(input_fn)
    data = input_fn(**{k: v for k, v in offered.items() if k in taken})
    if isinstance(data, tf.data.Dataset):
        data = tf.data.make_initializable_iterator(data).get_next()
    return data if isinstance(data, (tuple, list)) else (data, None)


COMMANDS = {"train": train, "plan": plan}


def _warm_start():
    """Only a new run starts from elsewhere; one that goes on has its checkpoint."""
    if not FLAGS.warm_start_from or tf.train.latest_checkpoint(FLAGS.model_dir):
        return None
    return warm_start(FLAGS.warm_start_from)


def _exporter(kind, module):
    if kind == "clean_checkpoint":
        return CleanCheckpointExporter()
    receiver_fn = _get(module, "serving_input_receiver_fn")
    return {"saved_model": SavedModelExporter, "best": BestExporter}[kind](receiver_fn)


def _get(module, name):
    if not hasattr(module, name):
        raise ConfigError(f"module {module.__name__!r} has no {name}")
    return getattr(module, name)


def _import_model(arguments):
    """The module that --model names, whose own flags must be known before parsing."""
    early = flags.FlagValues()
    flags.DEFINE_string("model", None, "", flag_values=early)
    flags.DEFINE_string("flagfile", "", "", flag_values=early)
    early(["ec_estimator"] + early.read_flags_from_files(arguments), known_only=True)
    if not early.model:
        raise ConfigError("--model=pkg.module is needed: where model_fn is defined")
    sys.path.insert(0, "")
    try:
        return importlib.import_module(early.model)
    except ModuleNotFoundError as error:
        if error.name and f"{early.model}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"--model: there is no module {early.model!r} here or in PYTHONPATH"
            ) from error
        raise


def _run(arguments):
    """Runs one command; returns the exit code."""
    if len(arguments) < 2 or arguments[1] not in COMMANDS:
        print(USAGE, file=sys.stderr)
        return 0 if set(arguments) & {"--help", "-h", "help"} else 2
    command = arguments[1]
    tf.logging.set_verbosity(tf.logging.INFO)
    ec_flags.define()
    flags.DEFINE_string("model", None, "module with model_fn and input functions")
    try:
        app.define_help_flags()
        if {"--help", "--helpshort", "--helpfull"} & set(arguments):
            FLAGS(arguments[:1] + arguments[2:])
        module = _import_model(arguments[2:])
        _, *extra = FLAGS(arguments[:1] + arguments[2:])
        if extra:
            raise ConfigError(f"{extra[0]!r} is not understood; flags start with --")
        if not FLAGS.compressor:
            raise ConfigError(
                f"--compressor is needed: {', '.join(ec_flags.COMPRESSORS)}"
            )
        COMMANDS[command](module)
    except (CompressionError, flags.Error) as error:
        print(f"ec_estimator: {error}", file=sys.stderr)
        return 1
    return 0


def main():
    """Entry point."""
    sys.exit(_run(sys.argv))


if __name__ == "__main__":
    main()
