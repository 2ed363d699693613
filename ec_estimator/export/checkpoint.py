"""A checkpoint that an unwrapped model_fn loads: its own variables, compressed."""
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core.atomic import write_atomically
from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.state import is_state, open_checkpoint, write_checkpoint
from ec_estimator.graph.variables import optimizer_entries


def write_clean_checkpoint(checkpoint_path, run_folder, output_dir):
    """Copies the user's variables of a training checkpoint into a new checkpoint.

    Left away are the optimizer's slots and our state; the removed weights are zero in
    the variables already.

    Args:
      checkpoint_path: a checkpoint that a compressed training wrote.
      run_folder: its `<model_dir>/compression`, whose manifest lists the variables.
      output_dir: folder for `model.ckpt-<step>`; usable as an Estimator's model_dir.

    Returns:
      The new checkpoint's path.

    Raises:
      RunFolderError: the manifest or the checkpoint is missing, damaged or does not fit
        the other.
    """
    manifest = RunFolder(run_folder).read_json("manifest.json")
    if manifest is None:
        raise RunFolderError(f"there is no manifest.json in {run_folder!r}")
    if not isinstance(manifest.get("variables"), list):
        raise RunFolderError(
            f"manifest.json in {run_folder!r} is damaged (no 'variables'); restore it"
        )
    reader = open_checkpoint(checkpoint_path)
    missing = [n for n in manifest["variables"] if not reader.has_tensor(n)]
    if missing:
        raise RunFolderError(
            f"checkpoint {checkpoint_path!r} has no variable {missing[0]!r}, which the "
            f"manifest in {run_folder!r} lists; they are of different runs"
        )
    return _copy(reader, manifest["variables"], checkpoint_path, output_dir)


def write_checkpoint_without_slots(checkpoint_path, output_dir):
    """Copies the variables of a checkpoint that was trained without compression, such
    as that of a network after `finetune`, but for the optimizer's.

    Args, returns: as `write_clean_checkpoint`.

    Raises:
      RunFolderError: the checkpoint is damaged, or was trained with compression.
    """
    reader = open_checkpoint(checkpoint_path)
    names = reader.get_variable_to_shape_map()
    state = sorted(filter(is_state, names))
    if state:
        raise RunFolderError(
            f"checkpoint {checkpoint_path!r} is of a compressed run (it has "
            f"{state[0]!r}), and there is no manifest.json in its compression folder; "
            "restore it"
        )
    kept = sorted(names.keys() - optimizer_entries(checkpoint_path))
    return _copy(reader, kept, checkpoint_path, output_dir)


def _copy(reader, names, checkpoint_path, output_dir):
    tf.gfile.MakeDirs(output_dir)
    path = os.path.join(output_dir, os.path.basename(checkpoint_path))
    write_checkpoint(path, {name: reader.get_tensor(name) for name in names})
    # A path relative to the folder itself: the folder can be moved.
    state = tf.train.generate_checkpoint_state_proto(".", os.path.basename(path))
    write_atomically(os.path.join(output_dir, "checkpoint"), str(state))
    return path
