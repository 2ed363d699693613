"""python -m ec_estimator train | plan | finetune | export | report, with flags"""
import dataclasses
import re
import sys
from typing import Callable, NamedTuple, Tuple

import tensorflow.compat.v1 as tf
from absl import app, flags

from ec_estimator import flags as ec_flags
from ec_estimator.commands import export, report
from ec_estimator.commands.help import format_help
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
  report    print what a run did to each layer; with --model also to latency

The module has model_fn, train_input_fn and eval_input_fn; serving_input_receiver_fn
to export what is served; params if its model_fn takes them. It may define absl flags.
Flags of a command: python -m ec_estimator COMMAND --help. A flag file is a recipe.
"""
HELP = {"--help", "-help", "-h", "--helpshort"}
# Flags that a command may insist on -> what each is.
NEEDED = {
    "model": "--model=pkg.module is needed: where model_fn is defined",
    "pruned": "--pruned=FOLDER is needed: model_dir or save_dir of the pruning run",
    "model_dir": "--model_dir=FOLDER is needed: where the checkpoints are",
    "format": f"--format is needed: {', '.join(FORMATS)}",
    "compressor": f"--compressor is needed: {', '.join(ec_flags.COMPRESSORS)}",
}


class Command(NamedTuple):
    """run: callable(module); needs: flags that have to be given; takes: others that it
    looks at, of those that all commands know, so that one flag file serves all; define:
    defines flags that no other command has."""

    run: Callable
    needs: Tuple[str, ...]
    takes: Tuple[str, ...] = ()
    define: Callable = lambda: None


_OF_TRAINING = (
    *("compressor", "model_dir", "warm_start_from", "train_steps", "eval_steps"),
    *("save_checkpoints_steps", "export"),
)
COMMANDS = {
    "train": Command(train, ("model", "compressor"), _OF_TRAINING),
    "plan": Command(plan, ("model", "compressor"), ("model_dir",)),
    "finetune": Command(finetune, ("model", "pruned"), _OF_TRAINING),
    "export": Command(
        export.export, ("model", "model_dir", "format"), define=export.define
    ),
    "report": Command(report.report, ("pruned",), ("model",), report.define),
}


def _define(command):
    """Defines all flags; returns the names of those that only this command has."""
    ec_flags.define()
    flags.DEFINE_string("model", None, "module with model_fn and input functions")
    if "pruned" in command.needs:
        flags.DEFINE_string("pruned", None, "model_dir or save_dir of the pruning run")
    known = set(FLAGS)
    command.define()
    own = set(FLAGS) - known
    app.define_help_flags()
    return own


def _help(name, own, arguments):
    """The text of `name --help`.

    Args:
      own: names of the flags that only this command has.
      arguments: the command line without the program and the command.
    """
    command, known = COMMANDS[name], set(FLAGS)
    module = import_model([word for word in arguments if word not in HELP])
    shown = dict.fromkeys([*command.needs, *command.takes, *sorted(own)])
    groups = {name: [FLAGS[flag] for flag in shown]}
    if module:
        of_module = set(FLAGS) - known
        groups[module.__name__] = [FLAGS[flag] for flag in sorted(of_module)]
    if "compressor" in shown:
        for prefix, algorithm in ec_flags.COMPRESSORS.items():
            fields = dataclasses.fields(algorithm.config_type)
            groups[prefix] = [FLAGS[f"{prefix}_{field.name}"] for field in fields]
    does = re.search(rf"^  {name} +(.*)$", USAGE, re.MULTILINE).group(1)
    return format_help(name, does, groups)


def _parse(command, arguments):
    """Parses the flags, those of the user's module among them; returns the module.

    Args:
      arguments: the command line without the command.
    """
    if "--helpfull" in arguments:
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
        own = _define(command)
        if HELP & set(arguments[2:]):
            print(_help(arguments[1], own, arguments[2:]))
            return 0
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
