"""absl flags made from the configs' fields, and the compressors made from the flags."""
import dataclasses

from absl import flags

from ec_estimator.core.compressor import Compressor
from ec_estimator.core.errors import ConfigError
from ec_estimator.export.formats import FORMATS
from ec_estimator.pruning.pruner import Pruner
from ec_estimator.quantization.quantizer import LSQQuantizer
from ec_estimator.sparsity.sparsifier import Sparsifier

# What --compressor takes, and flags begin with -> compressor.
COMPRESSORS = {c.flag: c for c in (Pruner, Sparsifier, LSQQuantizer)}


def register(algorithm, flag_values=flags.FLAGS):
    """Has --compressor know a compressor of your own, and defines its flags.

    Call it when the module that has it is imported; the command line does that before
    it parses flags.

    Args:
      algorithm: subclass of ec_estimator.Compressor.
      flag_values: absl FlagValues, of `define`.

    Raises:
      ConfigError: it is none, or another compressor has its flag.
    """
    if not (isinstance(algorithm, type) and issubclass(algorithm, Compressor)):
        raise ConfigError(
            f"flags.register: {algorithm!r} is not a class derived from Compressor"
        )
    known = COMPRESSORS.setdefault(algorithm.flag, algorithm)
    if known is not algorithm:
        raise ConfigError(
            f"flags.register: --compressor={algorithm.flag} is {known.__name__} "
            f"already; give {algorithm.__name__}.flag another name"
        )
    if "compressor" in flag_values:
        _define_fields(algorithm, flag_values)


def define(flag_values=flags.FLAGS):
    """Defines the flags of every compressor, of training and of export.

    `--<compressor>_<field>` for each config field, with the field's default and
    documentation. Called once, before absl parses the command line.

    Args:
      flag_values: absl FlagValues to define them in.
    """
    options = {"flag_values": flag_values}
    flags.DEFINE_list(
        "compressor",
        [],
        f"compressors to train with, in this order: {', '.join(COMPRESSORS)}",
        **options,
    )
    flags.DEFINE_string("model_dir", None, "folder of checkpoints and logs", **options)
    flags.DEFINE_string(
        "warm_start_from",
        None,
        "dense checkpoint, or its folder, to start from",
        **options,
    )
    flags.DEFINE_integer(
        "train_steps", None, "global step to train to, at least 1", **options
    )
    flags.DEFINE_integer(
        "eval_steps", None, "batches an evaluation; default: all", **options
    )
    flags.DEFINE_integer(
        "save_checkpoints_steps", None, "training steps between checkpoints", **options
    )
    flags.DEFINE_integer(
        "worker_delay_secs",
        None,
        "longest that a worker of a cluster waits before it trains; default: 60, of "
        "which worker n takes 5 (n + 1)",
        **options,
    )
    flags.DEFINE_multi_enum(
        "export",
        [],
        ["saved_model", "best", "clean_checkpoint", *FORMATS],
        "what to write to <model_dir>/export when the model is finished",
        **options,
    )
    for algorithm in COMPRESSORS.values():
        _define_fields(algorithm, flag_values)


def compressor(flag_values=flags.FLAGS):
    """The compressors that --compressor names, built from the flags.

    Raises:
      ConfigError: an unknown compressor, or a value out of range.
    """
    built = []
    for prefix in flag_values["compressor"].value:
        if prefix not in COMPRESSORS:
            raise ConfigError(
                f"--compressor: {prefix!r} is unknown; there is "
                f"{', '.join(COMPRESSORS)}"
            )
        algorithm = COMPRESSORS[prefix]
        values = {
            field.name: _parse(flag_values[f"{prefix}_{field.name}"].value, field)
            for field in dataclasses.fields(algorithm.config_type)
        }
        built.append(algorithm(algorithm.config_type(**values)))
    return built


def to_flags(compressors):
    """The command line that `compressor` builds these compressors from.

    Returns:
      List of arguments, a flag each; joined by newlines it is a flag file.
    """
    names, arguments = [], []
    for item in compressors:
        prefix = item.flag
        names.append(prefix)
        for field in dataclasses.fields(item.config):
            value = getattr(item.config, field.name)
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            if value is not None:
                arguments.append(f"--{prefix}_{field.name}={text}")
    return [f"--compressor={','.join(names)}"] + arguments


def _define_fields(algorithm, flag_values):
    for field in dataclasses.fields(algorithm.config_type):
        name = f"{algorithm.flag}_{field.name}"
        if name not in flag_values:
            _define_field(name, field, {"flag_values": flag_values})


def _define_field(name, field, options):
    rule = field.metadata["rule"]
    doc = field.metadata["doc"]
    if rule.kind in ("float", "integer", "integers"):
        doc += f"; {rule.text}"
    if rule.kind == "float":
        flags.DEFINE_float(name, field.default, doc, **options)
    elif rule.kind == "integer":
        flags.DEFINE_integer(name, field.default, doc, **options)
    elif rule.kind == "enum":
        default = str(field.default)
        default = default if default in rule.choices else default.lower()
        flags.DEFINE_enum(
            name, default, rule.choices, doc, case_sensitive=False, **options
        )
    elif rule.kind == "boolean":
        flags.DEFINE_boolean(name, field.default, doc, **options)
    elif rule.kind == "string":
        flags.DEFINE_string(name, field.default, doc, **options)
    else:
        default = [str(value) for value in field.default]
        flags.DEFINE_list(name, default, doc, **options)


def _parse(value, field):
    """A flag's value as the config takes it; what is wrong with it the config says."""
    if field.metadata["rule"].kind != "integers":
        return value
    try:
        return [int(text) for text in value]
    except ValueError:
        return value
