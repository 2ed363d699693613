"""Starting from an FP32 checkpoint of the plain model."""
import collections

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.state import open_checkpoint
from ec_estimator.graph.variables import checkpoint_name, slice_info

_FIELD = "QuantizerConfig.pretrained_model"
_LISTED = 10


def start_from(path, variables):
    """Has variables start from a checkpoint of the plain model, or the folder of one.

    What the checkpoint lacks, or has in another shape, keeps its own initializer and
    is logged. A run that goes on from a checkpoint of its own is not affected.

    Args:
      path: `QuantizerConfig.pretrained_model`.
      variables: those of the model.

    Raises:
      RunFolderError: there is no checkpoint, it is damaged, or has none of them.
    """
    if tf.gfile.IsDirectory(path) and tf.train.latest_checkpoint(path) is None:
        raise RunFolderError(f"{_FIELD}: there is no checkpoint in {path!r}")
    reader = open_checkpoint(path, _FIELD)
    wanted = collections.defaultdict(list)
    for variable in variables:
        wanted[checkpoint_name(variable)].append(variable)
    wanted.pop("global_step", None)
    found, other = _match(wanted, reader.get_variable_to_shape_map())
    if not found:
        raise RunFolderError(
            f"{_FIELD}: checkpoint {path!r} has none of the model's "
            f"{len(wanted)} variables ({other[0]})"
        )
    reader.check(found)
    if other:
        more = f" and {len(other) - _LISTED} more" if len(other) > _LISTED else ""
        tf.logging.warning(
            "pretrained_model %s: %d variables keep their own start: %s%s",
            path,
            len(other),
            "; ".join(other[:_LISTED]),
            more,
        )
    tf.train.init_from_checkpoint(path, found)


def _match(wanted, shapes):
    """Compares a model's variables with a checkpoint.

    Args:
      wanted: {name in a checkpoint: [variable, or the parts of a partitioned one]}.
      shapes: {name: shape} of the checkpoint.

    Returns:
      ({name: what tf.train.init_from_checkpoint takes for it}, [why each other variable
      can't be taken]).
    """
    found, other = {}, []
    for name, parts in sorted(wanted.items()):
        info = slice_info(parts[0])
        shape = list(info.full_shape) if info else parts[0].shape.as_list()
        if name not in shapes:
            other.append(f"{name} is missing")
        elif list(shapes[name]) != shape:
            other.append(f"{name} has shape {shapes[name]}, in the model {shape}")
        else:
            found[name] = parts if info else parts[0]
    return found, other
