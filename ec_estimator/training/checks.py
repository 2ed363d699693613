"""What is known to be wrong, or of no use, before a graph trains."""
import collections.abc

import tensorflow.compat.v1 as tf

from ec_estimator.core.compressor import Attached, Compressor
from ec_estimator.core.errors import CompressionError, PlanError


def as_compressors(compressors):
    """A compressor or a list of them as a tuple.

    Raises:
      CompressionError: something else, none, or two of a kind.
      PlanError: compressors that cannot work together.
    """
    is_list = isinstance(compressors, collections.abc.Iterable)
    compressors = tuple(compressors if is_list else [compressors])
    for compressor in compressors:
        if not isinstance(compressor, Compressor):
            raise CompressionError(
                f"{compressor!r} is not a compressor; pass for example "
                "Sparsifier(SparsifierConfig())"
            )
    names = [compressor.name for compressor in compressors]
    if not names or len(set(names)) < len(names):
        raise CompressionError(
            f"compressors {names}: give at least one, and each kind once"
        )
    for compressor in compressors:
        why = compressor.conflict([c for c in compressors if c is not compressor])
        if why:
            raise PlanError(why)
    return compressors


def warn_of_zero_targets(compressors):
    """Says which compressors would train to the end and change nothing."""
    for compressor in compressors:
        if not compressor.schedule.target:
            config = compressor.config
            tf.logging.warning(
                "%s: %s.%s is 0, so training removes nothing; set it to the ratio that "
                "should go, for example 0.5",
                compressor.name,
                type(config).__name__,
                config.target_field,
            )


def warn_of_lost_results(attached):
    """Says what a session without a save_dir would not leave.

    Args:
      attached: [Attached] of the session.
    """
    writers = [a.name for a in attached if type(a).save is not Attached.save]
    if writers:
        tf.logging.warning(
            "CompressionHook: without save_dir what %s makes of the model is lost when "
            "training ends; pass save_dir=FOLDER",
            " and ".join(writers),
        )
