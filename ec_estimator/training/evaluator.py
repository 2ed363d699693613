"""The evaluator of a cluster: it follows the checkpoints that can be evaluated."""
import copy

import tensorflow.compat.v1 as tf

from ec_estimator.core.state import open_checkpoint, trials_done


def follower(estimator, compressors):
    """An Estimator like another, to which a checkpoint is the latest one only when it
    can be evaluated; TensorFlow's evaluator waits until there is one.

    Args:
      estimator: tf.estimator.Estimator; left as it is.
      compressors: [Compressor] of it.
    """
    following, skipped = copy.copy(estimator), set()

    def latest_checkpoint():
        path = estimator.latest_checkpoint()
        reason = too_early(path, compressors) if path else ""
        if not reason:
            return path
        if path not in skipped:
            skipped.add(path)
            tf.logging.info("Evaluation waits: %s", reason)
        return None

    following.latest_checkpoint = latest_checkpoint
    return following


def too_early(path, compressors):
    """Why a checkpoint cannot be evaluated yet; "" if it can.

    Args:
      path: of the checkpoint.
      compressors: [Compressor] of the run.
    """
    reader = open_checkpoint(path)
    for compressor in compressors:
        done, needed = trials_done(reader, compressor.name), compressor.trials_to_serve
        if done is not None and done < needed:
            return (
                f"{compressor.name}: checkpoint {path!r} is from before trial {needed}"
            )
    return ""
