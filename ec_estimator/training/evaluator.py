"""The evaluator of a cluster: it follows the checkpoints that can be evaluated."""
import copy

import tensorflow.compat.v1 as tf

from ec_estimator.core.state import open_checkpoint, trials_done


def is_evaluator(config):
    """Whether this process is a cluster's evaluator.

    Args:
      config: tf.estimator.RunConfig; under a strategy that TensorFlow's coordinator
        runs on a cluster it does not know it yet.
    """
    environment = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    return "evaluator" in (config.task_type, environment.task_type)


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
        if done is not None and lacks_trials(reader, compressor):
            return (
                f"{compressor.name}: other workers took steps while checkpoint "
                f"{path!r} was written; the next one has its last trials"
            )
    return ""


def lacks_trials(reader, compressor):
    """Whether a checkpoint is as far as the last trial's step, but was prepared before.

    Others take steps while the chief writes it. Training may have nothing to do then,
    and an evaluator takes it for the last one.

    Args:
      reader: core.state.Checkpoint with state of the compressor.
      compressor: Compressor.
    """
    schedule = compressor.schedule
    step = int(reader.get_tensor(tf.GraphKeys.GLOBAL_STEP))
    done = trials_done(reader, compressor.name)
    return step >= schedule.last_step and done < schedule.num_trials
