"""A folder that comes whole or not at all, on any file system TensorFlow knows."""
import os
import uuid

import tensorflow.compat.v1 as tf

from ec_estimator.export.format import ExportError


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
