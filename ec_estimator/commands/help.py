"""What COMMAND --help shows: the command's own flags, by what they are for."""
import re
import textwrap

_WIDTH = 88


def format_help(command, does, groups):
    """The help of a command as text.

    Args:
      command: its name; does: what it does, in a few words.
      groups: {title: [absl Flag]}.
    """
    lines = [
        f"usage: python -m ec_estimator {command} [flags]",
        "",
        f"{command}: {does}",
    ]
    for title, flags in groups.items():
        lines += ["", f"{title}:"] if flags else []
        for flag in flags:
            lines += [f"  --{flag.name}{_value(flag)}", *_wrapped(flag.help)]
    return "\n".join(lines)


def _value(flag):
    if flag.boolean:
        return f" (default {str(bool(flag.default)).lower()})"
    if flag.default in (None, [], ""):
        return "=..."
    # absl quotes what it shows.
    return f"={flag.default_as_str[1:-1]} (default)"


def _wrapped(text):
    indent = " " * 6
    # absl puts the values of an enum first.
    values, what = re.fullmatch("(?:<(.*?)>: )?(.*)", text, re.DOTALL).groups()
    choices = f"; one of {values.replace('|', ', ')}" if values else ""
    return textwrap.wrap(
        f"{what}{choices}", _WIDTH, initial_indent=indent, subsequent_indent=indent
    )
