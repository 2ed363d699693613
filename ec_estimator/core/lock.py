"""A folder that one training at a time writes to: a lock that dies with its process.

The lock is the operating system's (POSIX, which NFS knows, too), on a file that stays:
a process that is killed holds it no longer, and nothing has to be cleared away. It does
not keep trainings of one process apart, so a table does that.
"""
import errno
import json
import os
import socket
import threading
import time

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import RunFolderError

try:
    import fcntl
except ImportError:  # Windows has none.
    fcntl = None

_NAME = "lock"
# What a file system says of a lock that someone else holds.
_TAKEN = (errno.EACCES, errno.EAGAIN)

_guard = threading.RLock()
# {real path of the file: FolderLock of this process}
_held = {}
_warned = set()


class FolderLock:
    """The right to train in a folder.

    On a file system without locks there is a warning, once, and no protection.

    Args:
      folder: path; it exists when the lock is acquired.
    """

    def __init__(self, folder):
        self._folder = folder
        self._path = os.path.realpath(os.path.join(folder, _NAME))
        self._descriptor = None
        self._in_use = False

    def acquire(self):
        """Takes the lock; nothing, if it is held already.

        Raises:
          RunFolderError: someone else holds it; the message says who.
        """
        with _guard:
            other = _held.get(self._path)
            if other is self:
                return
            if other is not None:
                if other.is_busy():
                    raise self._refusal(other.owner)
                other.release()
            self._thread, self.owner = threading.current_thread(), _this_process()
            self._descriptor = self._lock_file()
            if self._descriptor is not None:
                _held[self._path] = self

    def use(self):
        """Says that training goes on: from now on `release` alone ends it."""
        self._in_use = True

    def release(self):
        """Gives the lock back; nothing, if it is not held."""
        with _guard:
            self._in_use = False
            if _held.get(self._path) is self:
                del _held[self._path]
                os.close(self._descriptor)

    def is_busy(self):
        """Whether the training goes on. One that failed before its first step tells
        nobody; but what its thread does now is something else."""
        mine = self._thread is threading.current_thread()
        return self._in_use or (self._thread.is_alive() and not mine)

    def _lock_file(self):
        """Descriptor of the locked file, None where there are no locks."""
        if "://" in self._folder:
            self._warn("it is no folder of the operating system's")
            return None
        if fcntl is None:
            self._warn("this operating system has no such locks")
            return None
        descriptor = None
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            # Not flock: a child of a killed trainer, such as a reader of data, would
            # still hold that. This one is lost when any descriptor of the file is
            # closed, so nothing else in this process may open it.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _read_owner(descriptor)
            if descriptor is not None:
                os.close(descriptor)
                if error.errno in _TAKEN:
                    raise self._refusal(owner) from error
            self._warn(error.strerror)
            return None
        _write_owner(descriptor, self.owner)
        return descriptor

    def _refusal(self, owner):
        return RunFolderError(
            f"{self._folder!r} is being trained in by {owner}; wait for it or end it "
            "first, or use another folder"
        )

    def _warn(self, reason):
        if self._path not in _warned:
            _warned.add(self._path)
            tf.logging.warning(
                "%r cannot be locked (%s): nothing will stop a second training there.",
                self._folder,
                reason,
            )


def _this_process():
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return f"process {os.getpid()} of {socket.gethostname()} since {since}"


def _write_owner(descriptor, owner):
    try:
        content = json.dumps({"owner": owner}).encode()
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    except OSError as error:
        # The lock holds without it; only a refusal could not say by whom.
        tf.logging.warning("The lock's owner could not be noted (%s).", error.strerror)


def _read_owner(descriptor):
    try:
        return json.loads(os.pread(descriptor, 4096, 0).decode())["owner"]
    except (OSError, TypeError, ValueError, KeyError):
        # It may be writing its name just now.
        return "another process"
