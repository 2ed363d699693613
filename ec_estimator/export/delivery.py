"""A folder that comes whole or not at all, on any file system TensorFlow knows."""
import contextlib
import errno
import os
import tempfile
import uuid

import tensorflow.compat.v1 as tf

from ec_estimator.export.format import ExportError

# What a disk says that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextlib.contextmanager
def temporary_folder(who):
    """A local folder to write to, which is gone afterwards.

    Args:
      who: begins the error.

    Raises:
      ExportError: it cannot be made, or its disk takes no more, whoever writes.
    """
    advice = "make room there, or set TMPDIR to where there is some"
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        except OSError as error:
            raise ExportError(
                f"{who}: no temporary folder can be made ({error}); {advice}"
            ) from error
        with writing(who, folder, advice):
            yield folder


@contextlib.contextmanager
def writing(who, folder, advice="make room there, or export to another folder"):
    """Makes what a folder or its disk does not take an ExportError that names it."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        if not _is_of_a_full_disk(error) and folder not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"{who}: {folder!r} cannot be written ({reason}); {advice}"
        ) from error


def _is_of_a_full_disk(error):
    if isinstance(error, OSError):
        return error.errno in _FULL
    # TensorFlow has a class for several of them, and other things have that class too.
    return any(os.strerror(code) in str(error) for code in _FULL)


def deliver_anew(folder, target):
    """As `deliver`, but what is there goes first."""
    try:
        if tf.gfile.Exists(target):
            tf.gfile.DeleteRecursively(target)
    except tf.errors.OpError as error:
        raise ExportError(f"{target!r} cannot be replaced ({error})") from error
    deliver(folder, target)


def deliver(folder, target):
    """Copies a local folder to where it is handed over.

    It is copied under a temporary name beside the target and then renamed.

    Args:
      folder: a local folder, nested ones included.
      target: path, of which nothing may be there.

    Raises:
      ExportError: target is there, or cannot be written; nothing of it is left.
    """
    partial = f"{target}.partial-{uuid.uuid4().hex}"
    try:
        tf.gfile.MakeDirs(partial)
        for path, _, names in os.walk(folder):
            below = partial
            if path != folder:
                below = os.path.join(partial, os.path.relpath(path, folder))
                tf.gfile.MakeDirs(below)
            for name in names:
                tf.gfile.Copy(os.path.join(path, name), os.path.join(below, name))
        tf.gfile.Rename(partial, target)
    except (tf.errors.OpError, OSError) as error:
        raise ExportError(
            f"{target!r} cannot be written ({error}); nothing of it is left there"
        ) from error
    finally:
        if tf.gfile.Exists(partial):
            tf.gfile.DeleteRecursively(partial)
