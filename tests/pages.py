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
_RUN = """
import json, os, sys, traceback
import tensorflow, sklearn.datasets
from ec_estimator import __main__ as shell

def in_copy(folder, name, run):
    os.makedirs(folder, exist_ok=True)
    child = os.fork()
    if not child:
        os.chdir(folder)
        sys.stdout = open(f"{name}.out", "w")
        os.dup2(sys.stdout.fileno(), 1)
        os.dup2(os.open(f"{name}.err", os.O_WRONLY | os.O_CREAT), 2)
        code = 99
        try:
            run()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    return os.waitpid(child, 0)[1] >> 8

def run_blocks(page):
    names = {"__name__": "page"}
    for line, code in page["blocks"]:
        exec(compile("\\n" * line + code, page["name"], "exec"), names)

def run_command(arguments):
    sys.argv = ["ec_estimator"] + arguments
    sys.exit(shell.main())

for page in json.load(sys.stdin):
    folder = page["name"]
    codes = {}
    if page["blocks"]:
        codes["python"] = in_copy(f"{folder}/python", "log", lambda: run_blocks(page))
    for name, code in page["files"].items():
        os.makedirs(f"{folder}/shell", exist_ok=True)
        with open(f"{folder}/shell/{name}", "w") as file:
            file.write(code)
    for number, line in enumerate(page["commands"]):
        name = f"{number}-{line[0]}"
        codes[name] = in_copy(f"{folder}/shell", name, lambda: run_command(line))
    with open(f"{folder}.json", "w") as file:
        json.dump(codes, file)
"""


def run(pages, folder):
    """Runs what is on some pages, each in <folder>/<name of the page>.

    Returns:
      {page: {"python" or "<number>-<command>": exit code}}.
    """
    work = []
    for page in pages:
        blocks = python_blocks(page)
        files = {
            _FILE.match(code).group(1): code for _, code in blocks if _FILE.match(code)
        }
        work.append(
            {
                "name": page.name,
                "blocks": [block for block in blocks if not _FILE.match(block[1])],
                "files": files,
                "commands": commands(page),
            }
        )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUN],
        input=json.dumps(work),
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
        universal_newlines=True,
    )
    return {
        page: json.loads((folder / f"{page.name}.json").read_text()) for page in pages
    }


def log(folder, page, part):
    """What a part of a page wrote to stderr."""
    place = "python/log" if part == "python" else f"shell/{part}"
    return (folder / page.name / f"{place}.err").read_text()
