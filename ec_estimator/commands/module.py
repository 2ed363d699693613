"""The user's module: its model_fn, input functions and settings."""
import importlib
import re
import sys

from absl import flags

from ec_estimator.core.errors import ConfigError


def import_model(arguments):
    """The module that --model names, or None without it.

    Imported before the flags are parsed, because it may define some.

    Args:
      arguments: the command line, without the program and the command.

    Raises:
      ConfigError: there is no such module. What the module itself raises is passed on.
    """
    early = flags.FlagValues()
    flags.DEFINE_string("model", None, "", flag_values=early)
    flags.DEFINE_string("flagfile", "", "", flag_values=early)
    early(["ec_estimator"] + early.read_flags_from_files(arguments), known_only=True)
    if not early.model:
        return None
    as_module = re.sub(r"\.py$", "", early.model).strip("./").replace("/", ".")
    if as_module != early.model:
        raise ConfigError(
            f"--model: {early.model!r} is a file's name; give the module's, "
            f"--model={as_module}"
        )
    sys.path.insert(0, "")
    try:
        return importlib.import_module(early.model)
    except ModuleNotFoundError as error:
        if error.name and f"{early.model}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"--model: there is no module {early.model!r} here or in PYTHONPATH"
            ) from error
        raise


def get(module, name):
    """What a module has to have.

    Raises:
      ConfigError: it has not.
    """
    if not hasattr(module, name):
        raise ConfigError(f"module {module.__name__!r} has no {name}")
    return getattr(module, name)


def params(module):
    """The module's params, or None."""
    return getattr(module, "params", None)
