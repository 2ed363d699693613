"""Runs what the pages show: the Python blocks of each, and its commands.

A page's Python blocks run in order in one process, in a folder of its own, so what a
block needs is before it on the page. Its `python -m ec_estimator` lines run in order in
another folder. A block whose first line is `# name.py` is written there, too.
"""
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Shown indented, and gone on with after a backslash.
_COMMAND = re.compile(
    r"^ {4}python -m ec_estimator ((?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE
)
_FILE = re.compile(r"# (\w+\.py)\n")


def python_blocks(page):
    """[(number of the line before it, code)] of a page or a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return [(0, "".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    return [
        (text[: found.start(1)].count("\n"), found.group(1))
        for found in _BLOCK.finditer(text)
    ]


def without_code(text):
    return _BLOCK.sub("", text)


def commands(page):
    """The arguments of each `python -m ec_estimator` line, as the shell splits them."""
    text = page.read_text(encoding="utf-8")
    lines = [line.replace("\\\n", " ") for line in _COMMAND.findall(text)]
    return [shlex.split(line, comments=True) for line in lines]


# Each part of a page has a copy of one process, for TensorFlow takes seconds to import.
# Two things that TensorFlow spends a quarter of short runs with are left away, as in
# tests/conftest.py.
_RUN = """
import json, os, sys, traceback
import sklearn.datasets
from tensorflow.python.training import training_util
from tensorflow.python.util import deprecation
from ec_estimator import __main__ as shell

training_util.write_graph = lambda *args, **kwargs: None

def python(blocks):
    for line, code in blocks:
        exec(compile("\\n" * line + code, "page", "exec"), names)

def parsed(arguments):
    command = shell.COMMANDS[arguments[0]]
    shell._define(command)
    shell._parse(command, ["ec_estimator"] + arguments[1:])

def run(arguments):
    sys.argv = ["ec_estimator"] + arguments
    shell.main()

names = {"__name__": "page"}
codes = []
for number, (folder, how, what) in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if not child:
        os.chdir(folder)
        log = open(f"{number}.log", "a")
        os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        code = 99
        try:
            with deprecation.silence():
                globals()[how](what)
            code = 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    codes.append(os.waitpid(child, 0)[1] >> 8)
with open("codes.json", "w") as file:
    json.dump(codes, file)
"""


def run_python(pages, folder):
    """Runs the Python of each page in a process and a folder of its own.

    Returns:
      {page: what it wrote before it failed, "" if it did not}.
    """
    tasks = []
    for page in pages:
        (folder / page.name).mkdir()
        blocks = [block for block in python_blocks(page) if not _FILE.match(block[1])]
        tasks.append((str(folder / page.name), "python", blocks))
    return dict(zip(pages, _failures(tasks, folder)))


def run_commands(pages, folder):
    """Runs the commands of each page in order; as run_python."""
    return _of_commands(pages, folder, "run")


def parse_commands(pages, folder):
    """Parses the commands of each page without running them; as run_python."""
    return _of_commands(pages, folder, "parsed")


def _of_commands(pages, folder, how):
    tasks, owners = [], []
    for page in pages:
        place = folder / page.name
        place.mkdir()
        for _, code in python_blocks(page):
            name = _FILE.match(code)
            if name:
                (place / name.group(1)).write_text(code)
        for arguments in commands(page):
            tasks.append((str(place), how, arguments))
            owners.append(page)
    failures = dict.fromkeys(pages, "")
    for page, failure in zip(owners, _failures(tasks, folder)):
        failures[page] = failures[page] or failure
    return failures


def _failures(tasks, folder):
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUN],
        input=json.dumps(tasks),
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
        universal_newlines=True,
    )
    codes = json.loads((folder / "codes.json").read_text())
    return [
        Path(place, f"{number}.log").read_text() + f"exit code {code}" if code else ""
        for number, (code, (place, _, _)) in enumerate(zip(codes, tasks))
    ]
