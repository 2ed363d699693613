"""Holds a run's folder for as long as a session trains."""
import threading
import weakref

import tensorflow.compat.v1 as tf

from ec_estimator.core.lock import FolderLock


class HoldFolder(tf.train.SessionRunHook):
    """Refuses a training in a folder where another one goes on.

    Hooks do not hear of a training that fails, but their session's coordinator does.

    Args:
      folder: RunFolder that exists when the session begins.
    """

    def __init__(self, folder):
        self._lock = FolderLock(folder.path)

    def begin(self):
        self._lock.acquire()
        # A session that cannot be made has no coordinator.
        weakref.finalize(tf.get_default_graph(), self._lock.release).atexit = False

    def after_create_session(self, session, coord):
        # Anew when the session before was lost with a parameter server.
        self._lock.acquire()
        waiting = threading.Thread(target=self._release_after, args=[coord])
        waiting.daemon = True
        # So that the session's end waits for it.
        coord.register_thread(waiting)
        waiting.start()

    def before_run(self, run_context):
        self._lock.use()

    def _release_after(self, coord):
        coord.wait_for_stop()
        self._lock.release()
