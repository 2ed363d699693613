"""What every benchmark writes beside its figures, and how it prints them."""
import datetime
import json
import os
import platform
import sys

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python import pywrap_tensorflow

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")


def save(name, module, figures, placeholders=None):
    """Writes results/<name>.json.

    Args:
      name: of the file, without ending.
      module: the script's module name, for the command.
      figures: JSON-ready dict.
      placeholders: {flag name: word that stands for its value in the command}.
    """
    content = {
        "date": datetime.date.today().isoformat(),
        "command": _command(module, placeholders or {}),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("KMP_", "OMP_", "MALLOC_"))
        },
        "tensorflow": tf.version.VERSION,
        "mkl": bool(pywrap_tensorflow.IsMklEnabled()),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "cpu": _cpu(),
        "load_before_and_after": [_LOAD_AT_START, _load()],
        **figures,
    }
    os.makedirs(RESULTS, exist_ok=True)
    path = os.path.join(RESULTS, name + ".json")
    # At once: another run may read it to add its own.
    with open(path + ".new", "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)
    print(f"written: {os.path.relpath(path)}")


def rows(name):
    """The rows that results/<name>.json has so far."""
    path = os.path.join(RESULTS, name + ".json")
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return json.load(file)["rows"]


def flavour():
    """ "intel" for a TensorFlow built with MKL, else "stock"."""
    return "intel" if pywrap_tensorflow.IsMklEnabled() else "stock"


def print_table(header, rows):
    lines = [[str(cell) for cell in line] for line in [header, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        print("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip())


def _command(module, placeholders):
    arguments = []
    for argument in sys.argv[1:]:
        flag = argument.lstrip("-").split("=")[0]
        if flag in placeholders:
            argument = f"--{flag}={placeholders[flag]}"
        arguments.append(argument)
    return " ".join(["python", "-m", module, *arguments])


def _load():
    return os.getloadavg()[0]


def _cpu():
    model = platform.processor()
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


_LOAD_AT_START = _load()
