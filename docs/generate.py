"""Writes settings.md and api.md from the code, and figures into other pages.

    python -m docs.generate
"""
import dataclasses
import inspect
from pathlib import Path

import ec_estimator as ec
from docs import latency
from docs.tables import table

FOLDER = Path(__file__).resolve().parent
ALGORITHMS = (ec.Sparsifier, ec.Pruner, ec.LSQQuantizer)
MADE = "<!-- Made from the code by `make docs`: change it there. -->"
# What a reader can copy from a signature; anything else has no short form.
_LITERALS = (bool, int, float, str, tuple, type(None))


def settings():
    """settings.md: a table for each config."""
    parts = [
        "# Settings",
        MADE,
        "Each compressor takes a config. A wrong value raises `ConfigError` that names "
        "class,\nfield, rule and value, before anything is built. A flag has the "
        "field's name after\nthe compressor's; lists are separated by commas.",
        "A scope is a prefix of whole name components of the layer's op or of its "
        "variable:\n`resnet/block1` matches `resnet/block1/conv`, not "
        "`resnet/block10`. Exclusion wins.",
    ]
    for algorithm in ALGORITHMS:
        parts += _config(algorithm)
    return "\n\n".join(parts) + "\n"


def _config(algorithm):
    config = algorithm.config_type
    rows = []
    for field in dataclasses.fields(config):
        rule, doc = field.metadata["rule"].text, field.metadata["doc"]
        rows.append([f"`{field.name}`", repr(field.default), rule, doc])
    return [
        f"## {config.__name__}",
        inspect.getdoc(config),
        f"For `ec.{algorithm.__name__}`. Flags are `--{algorithm.flag}_<field>`.",
        table(["field", "default", "accepts", "meaning"], rows),
    ]


def reference():
    """api.md: every public name with its signature and docstring."""
    parts = [
        "# API reference",
        MADE,
        "`import ec_estimator as ec`. Ratios are in [0, 1].",
    ]
    names = sorted(set(ec.__all__) - {"__version__"}, key=str.lower)
    for name in names:
        parts += _entry(f"ec.{name}", getattr(ec, name))
    parts += ["# ec.extend", "What a compressor of your own is built from."]
    for name in sorted(ec.extend.__all__, key=str.lower):
        parts += _entry(f"extend.{name}", getattr(ec.extend, name))
    return "\n\n".join(parts) + "\n"


def _entry(name, thing):
    """Markdown paragraphs about a class, function, module or constant."""
    if inspect.isclass(thing):
        members = _members(thing)
    elif inspect.ismodule(thing):
        members = [
            (member, function)
            for member, function in inspect.getmembers(thing, inspect.isfunction)
            if function.__module__ == thing.__name__ and not member.startswith("_")
        ]
    elif inspect.isfunction(thing):
        members = []
    else:
        return [f"## {name}", "Names: " + ", ".join(f"`{key}`" for key in thing) + "."]
    parts = [f"## {name}", _doc(name, thing)]
    for member, function in members:
        member = f"{name}.{member}"
        parts += [f"### {member}", _doc(member, function)]
    return parts


def _members(cls):
    """(name, function or property) of what a class documents itself, or takes over
    from a class of ours that has no public name."""
    public = {getattr(ec, name) for name in ec.__all__ if name != "FORMATS"} - {cls}
    # Of a named tuple's fields Python says their number, and nothing else.
    found, fields = {}, getattr(cls, "_fields", ())
    for base in cls.__mro__:
        if base in public or not base.__module__.startswith("ec_estimator"):
            continue
        for name, member in vars(base).items():
            function = getattr(member, "__func__", member)
            known = inspect.isfunction(function) or isinstance(function, property)
            named = name.startswith("_") or name in fields
            if known and not named and function.__doc__:
                found.setdefault(name, function)
    return sorted(found.items())


def _signature(thing):
    if inspect.ismodule(thing) or isinstance(thing, property):
        return ""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return ""
    parameters = [
        str(parameter.replace(annotation=parameter.empty, default=_default(parameter)))
        for name, parameter in inspect.signature(thing).parameters.items()
        if name not in ("self", "cls")
    ]
    return f"({', '.join(parameters)})"


class _Elsewhere:
    """Stands for a default that has no short form."""

    def __repr__(self):
        return "..."


def _default(parameter):
    if parameter.default is parameter.empty or isinstance(parameter.default, _LITERALS):
        return parameter.default
    return _Elsewhere()


def _doc(name, thing):
    call = name.split(".")[-1] + _signature(thing)
    return f"```text\n{call}\n\n{inspect.getdoc(thing)}\n```"


# Around what stands in a page that is written by hand.
BEGIN = "<!-- Made from the benchmark's results by `make docs`. -->"
END = "<!-- End of what is made. -->"


def with_table(page, table):
    """The page as it is, with this table between BEGIN and END."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


PAGES = {
    "settings.md": settings,
    "api.md": reference,
    "handoff.md": lambda: with_table("handoff.md", latency.speeds()),
    "measurements.md": lambda: with_table("measurements.md", latency.milliseconds()),
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (FOLDER / page).write_text(make(), encoding="utf-8")
