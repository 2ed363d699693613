"""Starting from a dense model, moving averages of its batch norms included."""
import re

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.state import is_state, open_checkpoint
from ec_estimator.graph.variables import optimizer_entries


def warm_start(checkpoint):
    """Settings for `Estimator(warm_start_from=...)` that load a whole dense model.

    TensorFlow's default loads trainable variables only, so batch norms would start
    with mean 0 and variance 1. This loads every variable of the checkpoint that the
    model has, but for the optimizer's slots and the global step: the trials count
    from 0. What is a slot the graph beside the checkpoint (`.meta`) tells; without it,
    slots are loaded, too, where the new optimizer has them.

    Args:
      checkpoint: a checkpoint's path, or the folder of the newest.

    Raises:
      RunFolderError: there is no checkpoint, or it cannot be read.
    """
    path = checkpoint
    if tf.gfile.IsDirectory(checkpoint):
        path = tf.train.latest_checkpoint(checkpoint)
        if path is None:
            raise RunFolderError(
                f"warm_start_from: there is no checkpoint in {checkpoint!r}"
            )
    reader = open_checkpoint(path, "warm_start_from")
    names = reader.get_variable_to_shape_map()
    left = optimizer_entries(path) | {"global_step"}
    wanted = sorted(n for n in names if n not in left and not is_state(n))
    reader.check(wanted)
    return tf.estimator.WarmStartSettings(
        path,
        vars_to_warm_start=[f"^{re.escape(name)}(:|/part_|$)" for name in wanted],
    )
