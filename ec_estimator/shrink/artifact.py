"""What pruning leaves: a checkpoint of smaller variables, and a manifest.

    pruned/
      manifest.json         which positions of each variable were kept, what was saved
      model.ckpt-<step>.*   the values of those positions

The manifest names the checkpoint and is replaced after it is written, so a reader, or a
run that is killed in between, always finds the two fitting.
"""
import os
from typing import Any, Dict, NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.folder import VERSIONS, RunFolder
from ec_estimator.core.replicas import as_saved, others, variables_of
from ec_estimator.core.state import open_checkpoint, write_checkpoint
from ec_estimator.graph.variables import checkpoint_name, slice_info

FOLDER = "pruned"
_MANIFEST = "manifest.json"


class CutVariable(NamedTuple):
    """shape: before the cut; kept: for each axis the kept positions; None: all."""

    shape: Tuple[int, ...]
    kept: Tuple[Any, ...]

    @property
    def small_shape(self):
        return tuple(
            n if kept is None else len(kept) for n, kept in zip(self.shape, self.kept)
        )


class Artifact(NamedTuple):
    """checkpoint: its path; variables: {name in the checkpoint: CutVariable}; manifest:
    the whole content of manifest.json."""

    checkpoint: str
    variables: Dict[str, CutVariable]
    manifest: Dict[str, Any]

    @property
    def folder(self):
        return os.path.dirname(self.checkpoint)

    @property
    def served(self):
        """Names in the checkpoint of the variables that the model predicts with."""
        return frozenset(self.manifest.get("served", self.variables))

    def missing_in(self, graph):
        """Sorted names of the `served` variables that a graph lacks."""
        there = {checkpoint_name(v) for v in variables_of(graph)}
        return sorted(self.served - there - {tf.GraphKeys.GLOBAL_STEP})


def write_artifact(folder, values, kept, facts, step):
    """Writes checkpoint and manifest, in that order, then deletes the one before.

    Args:
      folder: path; made if it is not there.
      values: {checkpoint name: array} of all variables the model needs, full size.
      kept: {checkpoint name: for each axis a bool vector or None}.
      facts: JSON-ready dict for the manifest (parameters before and after, ...).
      step: global step.
    """
    run_folder = RunFolder(folder).create()
    name = _unused_name(run_folder.path, step)
    small, entries = {}, {}
    for variable, value in values.items():
        axes = kept.get(variable, (None,) * value.ndim)
        positions = [None if k is None else np.nonzero(k)[0] for k in axes]
        entries[variable] = {
            "shape": list(value.shape),
            "kept": [None if p is None else p.tolist() for p in positions],
        }
        for axis, chosen in enumerate(positions):
            if chosen is not None and len(chosen) < value.shape[axis]:
                value = np.take(value, chosen, axis)
        small[variable] = value
    write_checkpoint(run_folder.file(name), small)
    content = {
        **VERSIONS,
        **facts,
        "step": step,
        "checkpoint": name,
        "variables": entries,
    }
    run_folder.write_json(_MANIFEST, content)
    for file in tf.gfile.ListDirectory(run_folder.path):
        if file.startswith("model.ckpt-") and not file.startswith(name + "."):
            tf.gfile.Remove(run_folder.file(file))


def _unused_name(folder, step):
    """A step is written twice after a kill, or when training ends with a trial; the
    manifest that is there must find its checkpoint meanwhile."""
    used = {
        file.split(".")[1] for file in tf.gfile.ListDirectory(folder) if "." in file
    }
    name, count = f"ckpt-{step}", 1
    while name in used:
        count += 1
        name = f"ckpt-{step}-{count}"
    return "model." + name


def read_artifact(folder):
    """Finds and checks what a pruning run left.

    Args:
      folder: the artifact's, or the save_dir or model_dir above it.

    Raises:
      RunFolderError: there is none, or its files are damaged or do not fit.
    """
    place = find_artifact(folder)
    if place is None:
        raise RunFolderError(
            f"there is no pruned model in {os.fspath(folder)!r}; give the save_dir or "
            "model_dir of a run with a Pruner"
        )
    return _checked(place, RunFolder(place).read_json(_MANIFEST))


def find_artifact(folder):
    """The path of the artifact in a folder, as `read_artifact` has it, or None."""
    for below in ((), (FOLDER,), ("compression", FOLDER)):
        place = os.path.join(os.fspath(folder), *below)
        if "checkpoint" in (RunFolder(place).read_json(_MANIFEST) or ()):
            return place
    return None


def _checked(place, manifest):
    try:
        variables = {
            name: CutVariable(
                tuple(int(n) for n in entry["shape"]),
                tuple(
                    None if kept is None else tuple(int(k) for k in kept)
                    for kept in entry["kept"]
                ),
            )
            for name, entry in manifest["variables"].items()
        }
        path = os.path.join(place, os.path.basename(manifest["checkpoint"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(
            f"{os.path.join(place, _MANIFEST)!r} is damaged ({error!r}); restore it"
        ) from error
    reader = open_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    for name, variable in variables.items():
        if tuple(shapes.get(name, (None,))) != variable.small_shape:
            raise RunFolderError(
                f"{os.path.join(place, _MANIFEST)!r} says that {name!r} has shape "
                f"{variable.small_shape}, its checkpoint says {shapes.get(name)}; "
                "restore the folder"
            )
    reader.check(variables)
    return Artifact(path, variables, manifest)


def fetch_values(session, variables, served_from):
    """{checkpoint name: array} of graph variables, partitions joined.

    Args:
      served_from: {name of a variable: the one whose value it is to have}.
    """
    sources = [served_from.get(v.op.name, v) for v in variables]
    # In one run: for each new set of fetches TensorFlow prunes the whole graph.
    copies = session.run([[v, *others(v, session.graph)] for v in sources])
    values = {}
    for variable, source, members in zip(variables, sources, copies):
        array = as_saved(source, session.graph, members)
        info = slice_info(variable)
        if info is None:
            values[checkpoint_name(variable)] = array
            continue
        whole = values.setdefault(
            info.full_name, np.empty(info.full_shape, array.dtype)
        )
        place = tuple(
            slice(start, start + n) for start, n in zip(info.var_offset, array.shape)
        )
        whole[place] = array
    return values


def join_kept(variables, kept):
    """{checkpoint name: for each axis a bool vector or None}, partitions joined.

    Args:
      variables: of a graph.
      kept: {variable name: for each axis a bool vector, or None for all}.
    """
    joined = {}
    for variable in variables:
        axes, info = kept.get(variable.op.name), slice_info(variable)
        if axes is None or info is None:
            joined[checkpoint_name(variable)] = axes
            continue
        whole = joined.setdefault(
            info.full_name, [np.ones(size, bool) for size in info.full_shape]
        )
        for vector, start, part in zip(whole, info.var_offset, axes):
            if part is not None:
                vector[start : start + len(part)] &= part
    return {
        name: [None if k is None or k.all() else k for k in axes]
        for name, axes in joined.items()
        if axes is not None
    }
