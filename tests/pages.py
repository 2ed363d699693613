"""Runs what the pages show: the Python blocks of each, and its commands.

A page's Python blocks run in order in one process, in a folder of its own, so what a
block needs is before it on the page. Its `python -m ec_estimator` lines run in order in
another folder. A block whose first line is `# name.py` is written there, too.
"""
import json
import re
import shlex
import sys

from ec_estimator import __main__ as shell

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


def run_python(launcher, pages, folder):
    """Runs the Python of each page in a process and a folder of its own.

    Args:
      launcher: launcher.Launcher.
      pages: paths.
      folder: empty.

    Returns:
      {page: what it wrote before it failed, "" if it did not}.
    """
    tasks = []
    for page in pages:
        (folder / page.name).mkdir()
        blocks = [block for block in python_blocks(page) if not _FILE.match(block[1])]
        tasks.append((folder / page.name, __name__, "python", json.dumps(blocks)))
    return dict(zip(pages, _failures(launcher, tasks)))


def run_commands(launcher, pages, folder):
    """Runs the commands of each page in order; as run_python."""
    return _of_commands(launcher, pages, folder, lambda line: ("ec_estimator", *line))


def parse_commands(launcher, pages, folder):
    """Parses the commands of each page without running them; as run_python."""
    return _of_commands(
        launcher, pages, folder, lambda line: (__name__, "command", json.dumps(line))
    )


def _of_commands(launcher, pages, folder, task_of):
    tasks, owners = [], []
    for page in pages:
        place = folder / page.name
        place.mkdir()
        for _, code in python_blocks(page):
            name = _FILE.match(code)
            if name:
                (place / name.group(1)).write_text(code)
        for line in commands(page):
            tasks.append((place, *task_of(line)))
            owners.append(page)
    failures = dict.fromkeys(pages, "")
    for page, failure in zip(owners, _failures(launcher, tasks)):
        failures[page] = failures[page] or failure
    return failures


def _failures(launcher, tasks):
    """What each task, (folder, module, *arguments), wrote if it failed, or ""."""
    done = [launcher.run(*task, cwd=place) for place, *task in tasks]
    return [
        f"{each.stdout}{each.stderr}exit code {each.returncode}"
        if each.returncode
        else ""
        for each in done
    ]


def _execute(blocks):
    names = {"__name__": "page"}
    for line, code in blocks:
        exec(compile("\n" * line + code, "page", "exec"), names)


def _parse(line):
    command = shell.COMMANDS[line[0]]
    shell._define(command)
    shell._parse(command, ["ec_estimator", *line[1:]])


if __name__ == "__main__":
    {"python": _execute, "command": _parse}[sys.argv[1]](json.loads(sys.argv[2]))
