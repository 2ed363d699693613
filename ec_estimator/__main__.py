"""python -m ec_estimator train | plan | finetune | export | report, with flags"""
import sys
from typing import Callable, NamedTuple, Tuple

import tensorflow.compat.v1 as tf
from absl import app, flags

from ec_estimator import flags as ec_flags
from ec_estimator.commands import export, report
from ec_estimator.commands.module import import_model
from ec_estimator.commands.plan import plan
from ec_estimator.commands.train import finetune, train
from ec_estimator.core.errors import CompressionError, ConfigError
from ec_estimator.export.formats import FORMATS

FLAGS = flags.FLAGS
USAGE = """usage: python -m ec_estimator COMMAND --model=pkg.module [flags]

commands:
  train     train the module's model compressed, evaluate and export it
  plan      print which layers would be compressed and why not the others
  finetune  train the small network that pruning left, evaluate and export it
  export    write a finished checkpoint for an engine, and compare its answers
  report    print what pruning did to each layer; with --model also to latency

The module has model_fn, train_input_fn and eval_input_fn; serving_input_receiver_fn
to export what is served; params if its model_fn takes them. It may define absl flags.
All flags: python -m ec_estimator COMMAND --helpfull. A flag file is a recipe.
"""
# Flags that a command may insist on -> what each is.
NEEDED = {
    "model": "--model=pkg.module is needed: where model_fn is defined",
    "pruned": "--pruned=FOLDER is needed: model_dir or save_dir of the pruning run",
    "model_dir": "--model_dir=FOLDER is needed: where the checkpoints are",
    "format": f"--format is needed: {', '.join(FORMATS)}",
    "compressor": f"--compressor is needed: {', '.join(ec_flags.COMPRESSORS)}",
}


class Command(NamedTuple):
    """run: callable(module); needs: flags that have to be given; define: defines flags
    that no other command has."""

    run: Callable
    needs: Tuple[str, ...]
    define: Callable = lambda: None


COMMANDS = {
    "train": Command(train, ("model", "compressor")),
    "plan": Command(plan, ("model", "compressor")),
    "finetune": Command(finetune, ("model", "pruned")),
    "export": Command(export.export, ("model", "model_dir", "format"), export.define),
    "report": Command(report.report, ("pruned",), report.define),
}


def _define(command):
    ec_flags.define()
    flags.DEFINE_string("model", None, "module with model_fn and input functions")
    if "pruned" in command.needs:
        flags.DEFINE_string("pruned", None, "model_dir or save_dir of the pruning run")
    command.define()
    app.define_help_flags()


def _parse(command, arguments):
    """Parses the flags, those of the user's module among them; returns the module.

    Args:
      arguments: the command line without the command.
    """
    if {"--help", "--helpshort", "--helpfull"} & set(arguments):
        FLAGS(arguments)
    module = import_model(arguments[1:])
    if module is None and "model" in command.needs:
        raise ConfigError(NEEDED["model"])
    _, *extra = FLAGS(arguments)
    if extra:
        raise ConfigError(f"{extra[0]!r} is not understood; flags start with --")
    for name in command.needs:
        if not FLAGS[name].value:
            raise ConfigError(NEEDED[name])
    return module


def _run(arguments):
    """Runs one command; returns the exit code."""
    if len(arguments) < 2 or arguments[1] not in COMMANDS:
        print(USAGE, file=sys.stderr)
        if set(arguments) & {"--help", "-h", "help"}:
            return 0
        if len(arguments) > 1:
            print(
                f"ec_estimator: {arguments[1]!r} is no command; the first argument is "
                f"one of {', '.join(COMMANDS)}",
                file=sys.stderr,
            )
        return 2
    command = COMMANDS[arguments[1]]
    tf.logging.set_verbosity(tf.logging.INFO)
    try:
        _define(command)
        command.run(_parse(command, arguments[:1] + arguments[2:]))
    except (CompressionError, flags.Error) as error:
        print(f"ec_estimator: {error}", file=sys.stderr)
        return 1
    return 0


def main():
    """Entry point."""
    sys.exit(_run(sys.argv))


if __name__ == "__main__":
    main()
