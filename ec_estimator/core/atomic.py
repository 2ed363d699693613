"""Files that are whole or not there."""
import os
import uuid

import tensorflow.compat.v1 as tf


def write_atomically(path, text):
    """Writes text under a temporary name, then renames; readers see all or nothing."""
    # Not mkstemp, whose files nobody else may read: exports are for other users, too.
    temporary = f"{path}.{uuid.uuid4().hex}"
    try:
        with tf.gfile.GFile(temporary, "w") as file:
            file.write(text)
        if "://" not in temporary:
            # GFile does not do it, and a rename may reach the disk before the text.
            with open(temporary) as written:
                os.fsync(written.fileno())
        tf.gfile.Rename(temporary, path, overwrite=True)
    except BaseException:
        if tf.gfile.Exists(temporary):
            tf.gfile.Remove(temporary)
        raise
