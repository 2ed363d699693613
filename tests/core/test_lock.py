"""One training at a time in a folder, and no lock that outlives its process."""
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.lock import FolderLock
from tests.launcher import ROOT

# Another process that holds the lock; without the seconds that TensorFlow takes.
HOLDER = """
import json, fcntl, os, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write(sys.argv[2]), file.flush()
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    text = json.dumps({"owner": "process 7 of node3 since noon"})
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock"), text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=str(ROOT),
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def lock(folder):
    return FolderLock(str(folder))


def is_free(folder):
    """Whether another process would get it. This one may not open the file."""
    code = (
        "import fcntl, sys; "
        "fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    command = [sys.executable, "-c", code, str(folder / "lock")]
    return not subprocess.run(command, stderr=subprocess.DEVNULL).returncode


def test_another_process_is_refused_and_told_who_holds_it(holder, tmp_path):
    with pytest.raises(RunFolderError) as error:
        lock(tmp_path).acquire()
    assert str(error.value) == (
        f"{str(tmp_path)!r} is being trained in by process 7 of node3 since noon; wait "
        "for it or end it first, or use another folder"
    )


def test_a_process_that_is_killed_holds_it_no_longer(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    mine = lock(tmp_path)
    mine.acquire()
    assert not is_free(tmp_path)
    owner = json.loads(subprocess.check_output(["cat", str(tmp_path / "lock")]))
    assert owner["owner"].startswith(f"process {os.getpid()} of ")
    mine.release()
    assert is_free(tmp_path)


def test_a_holder_that_has_not_written_its_name_yet_is_another_process(
    holder, tmp_path
):
    os.truncate(str(tmp_path / "lock"), 0)
    with pytest.raises(RunFolderError, match="trained in by another process; wait"):
        lock(tmp_path).acquire()


def test_it_is_acquired_and_released_as_often_as_one_likes(tmp_path):
    mine = lock(tmp_path)
    for _ in range(2):
        mine.acquire(), mine.acquire()
        mine.release(), mine.release()
    other = lock(tmp_path)
    other.acquire()
    mine.release()
    assert not is_free(tmp_path)
    other.release()


def test_a_training_inside_another_of_the_same_process_is_refused(tmp_path):
    outer, inner = lock(tmp_path), lock(tmp_path / "." / "")
    outer.acquire()
    outer.use()
    with pytest.raises(RunFolderError, match=f"in by process {os.getpid()} of"):
        inner.acquire()
    outer.release()
    inner.acquire()
    inner.release()


def test_one_that_failed_before_its_first_step_gives_way_to_the_next(tmp_path):
    failed, following = lock(tmp_path), lock(tmp_path)
    failed.acquire()
    following.acquire()
    failed.release()
    assert not is_free(tmp_path)
    following.release()


def test_another_thread_is_refused_while_the_first_builds_its_graph(tmp_path):
    mine, refusals = lock(tmp_path), []

    def train():
        try:
            lock(tmp_path).acquire()
        except RunFolderError as error:
            refusals.append(error)

    mine.acquire()
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    mine.release()
    assert len(refusals) == 1


def test_one_of_a_thread_that_has_ended_gives_way(tmp_path):
    thread = threading.Thread(target=lock(tmp_path).acquire)
    thread.start()
    thread.join()
    mine = lock(tmp_path)
    mine.acquire()
    mine.release()


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(tf.logging, "warning", lambda *args: said.append(args))
    return said


def test_a_file_system_without_locks_is_a_warning_once(tmp_path, monkeypatch, warnings):
    def lockf(descriptor, command):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    for _ in range(2):
        mine = lock(tmp_path)
        mine.acquire()
        mine.use()
        mine.release()
    assert len(warnings) == 1
    assert warnings[0][1:] == (str(tmp_path), "No locks available")


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, warnings):
    (tmp_path / "lock").mkdir()
    lock(tmp_path).acquire()
    assert warnings[0][1:] == (str(tmp_path), "Is a directory")


def test_a_remote_folder_is_a_warning(warnings):
    lock("hdfs://host/run").acquire()
    assert warnings[0][1] == "hdfs://host/run"


def test_a_disk_that_takes_no_name_still_takes_the_lock(
    tmp_path, monkeypatch, warnings
):
    def pwrite(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    mine = lock(tmp_path)
    mine.acquire()
    assert not is_free(tmp_path) and len(warnings) == 1
    mine.release()
