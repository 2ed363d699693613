"""Tasks as processes: copies of this one, which has imported TensorFlow and no more
threads than that, so that a start takes no seconds."""
import os
import signal
import time
import traceback


class Processes:
    """A context; at its end all are killed.

    Args:
      log_dir: folder for `<name>.log` of each.
    """

    def __init__(self, log_dir):
        self._log_dir = log_dir
        # {name: process number}, and {name: exit code} of those that have ended.
        self.running, self.codes = {}, {}

    def __enter__(self):
        os.makedirs(self._log_dir, exist_ok=True)
        return self

    def __exit__(self, *_):
        for name in list(self.running):
            self.kill(name)

    def start(self, name, function, environment):
        """Runs function() in a process of its own."""
        self.codes.pop(name, None)
        child = os.fork()
        if not child:
            _run(function, self.log(name), environment)
        self.running[name] = child

    def kill(self, name):
        self.poll()
        if name in self.running:
            os.kill(self.running[name], signal.SIGKILL)
            self._ended(name, os.waitpid(self.running[name], 0)[1])

    def poll(self):
        """Brings `running` and `codes` up to date."""
        for name, pid in list(self.running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ended(name, status)

    def _ended(self, name, status):
        killed = os.WIFSIGNALED(status)
        del self.running[name]
        self.codes[name] = -os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)

    def wait(self, until, seconds):
        """Waits until `until()`.

        Raises:
          TimeoutError: it takes longer; the message says who still runs.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.poll()
            if until():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"running: {self.running}, ended: {self.codes}")
            time.sleep(0.02)

    def log(self, name):
        return os.path.join(self._log_dir, f"{name}.log")


def _run(function, log, environment):
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(file, number)
        os.environ.update(environment)
        function()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
