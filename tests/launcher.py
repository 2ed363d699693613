"""`python -m module`, without the seconds that TensorFlow takes to import.

A process imports TensorFlow, and what else it is told to, and waits for commands. Each
runs in a copy of it, a process of its own that ends, or is killed, alone; it is made
before TensorFlow starts threads, and imports all else itself. Copies share the seed of
Python's hashes: where the order of sets might matter, two launchers take turns.
"""
import importlib
import itertools
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Launcher:
    """A context; runs one command at a time.

    Args:
      modules: names of those that all commands find imported, besides TensorFlow.
    """

    def __init__(self, *modules):
        self._modules = modules

    def __enter__(self):
        self._folder, self._count = tempfile.TemporaryDirectory(), itertools.count()
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.launcher", *self._modules],
            cwd=str(ROOT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        return self

    def __exit__(self, *_):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()
        self._folder.cleanup()

    def start(self, module, *arguments, cwd=ROOT):
        folder = os.path.join(self._folder.name, str(next(self._count)))
        os.mkdir(folder)
        request = [module, [str(a) for a in arguments], str(cwd), folder]
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        return _Running([module, *arguments], self._server.stdout, Path(folder))

    def run(self, module, *arguments, **kwargs):
        """subprocess.CompletedProcess with stdout and stderr as text."""
        return self.start(module, *arguments, **kwargs).result()


class _Running:
    def __init__(self, command, answers, folder):
        self._command, self._answers, self._folder = command, answers, folder
        self.pid = int(answers.readline())

    def wait(self, timeout=None):
        """The exit code, negative for a signal.

        Raises:
          subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        if not select.select([self._answers], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self._command, timeout)
        return int(self._answers.readline())

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def result(self):
        code = self.wait()
        out, err = ((self._folder / name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(self._command, code, out, err)


def _run_as_main(module, arguments, cwd, folder):
    """What `python -m module` does; never returns."""
    # Not above: it imports TensorFlow, for which only the server has the time.
    from tests import idle_work

    code = 1
    try:
        for number, name in enumerate(("out", "err"), 1):
            file = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT)
            os.dup2(file, number)
        os.chdir(cwd)
        sys.path[:1] = [cwd, str(ROOT)]
        sys.argv = [module, *arguments]
        with idle_work.left_away():
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code
        if not isinstance(code, (int, type(None))):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code or 0)


def _serve(modules):
    """Answers each line of stdin with two: a process's number and its exit code."""
    for module in ("tests.idle_work", *modules):
        importlib.import_module(module)

    # Not the buffer of sys.stdin: a copy would have read ahead what is not for it.
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            _run_as_main(*json.loads(line))
        print(child, flush=True)
        status = os.waitpid(child, 0)[1]
        killed = os.WIFSIGNALED(status)
        code = -os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)
        print(code, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1:])
