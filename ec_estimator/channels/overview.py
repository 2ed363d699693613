"""channel_groups(): which channels of a model live and die together, to read."""
import dataclasses
from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.channels.groups import Channels, find_channels
from ec_estimator.core.errors import PlanError
from ec_estimator.core.model_fn import ModelFn
from ec_estimator.core.replicas import variables_of
from ec_estimator.graph.survey import survey
from ec_estimator.graph.variables import checkpoint_name

_NAMES_SHOWN = 3


class Stage(NamedTuple):
    """Groups that the same kernels make and the same kernels read.

    groups: their numbers, ascending.
    made_by, read_by: names of kernels, in the order of the layers.
    frozen: why none of them can be removed, or None.
    """

    groups: Tuple[int, ...]
    made_by: Tuple[str, ...]
    read_by: Tuple[str, ...]
    frozen: Optional[str]


@dataclasses.dataclass(frozen=True)
class ChannelGroups:
    """The channel groups of a model; `print` shows a table with a line for each stage.

    stages: Stages, in the order in which layers make their channels.
    """

    stages: Tuple[Stage, ...]
    _channels: Channels = dataclasses.field(repr=False)
    # {name of a kernel: the variables that it is stored in}.
    _parts: Dict[str, Tuple[str, ...]] = dataclasses.field(repr=False)

    @property
    def frozen(self):
        """{group: why it can't be removed}, of all groups that a layer makes."""
        return {g: s.frozen for s in self.stages if s.frozen for g in s.groups}

    def of(self, kernel, axis=None):
        """The groups of a kernel's channels.

        Args:
          kernel: name of its variable.
          axis: of the variable; None: the one that holds its layer's output channels.

        Returns:
          A tuple with the number of the group of each position. Positions of several
          kernels that have the same number can only be removed together.

        Raises:
          PlanError: there is no such kernel, the axis has no channels, or it has to be
            named.
        """
        if kernel not in self._parts:
            raise PlanError(
                f"channel_groups: {kernel!r} has no channels; these have: "
                f"{', '.join(self._parts)}"
            )
        parts = self._parts[kernel]
        if axis is None:
            axis = self._output_axis(kernel)
        every = [self._channels.axes[part] for part in parts]
        if not -len(every[0]) <= axis < len(every[0]) or every[0][axis] is None:
            raise PlanError(
                f"channel_groups: axis {axis} of {kernel!r} has no channels; its shape "
                f"is {self._channels.shapes[parts[0]]}"
            )
        vectors = [axes[axis].tolist() for axes in every]
        if all(vector == vectors[0] for vector in vectors):
            return tuple(vectors[0])
        return tuple(group for vector in vectors for group in vector)

    def _output_axis(self, kernel):
        made = self._channels.producers.get(self._parts[kernel][0], ())
        if len(made) != 1:
            raise PlanError(
                f"channel_groups: {kernel!r} holds the output channels of layers on "
                f"{len(made)} axes {made}; name one, as in of({kernel!r}, axis=0)"
            )
        return made[0]

    def __str__(self):
        rows = [("channels", "made by", "read by", "")]
        for stage in self.stages:
            rows.append(
                (
                    str(len(stage.groups)),
                    _shortened(stage.made_by),
                    _shortened(stage.read_by),
                    f"frozen: {stage.frozen}" if stage.frozen else "",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join(
            "  ".join(
                [row[0].rjust(widths[0])]
                + [cell.ljust(width) for cell, width in zip(row[1:], widths[1:])]
            ).rstrip()
            for row in rows
        )


def channel_groups(model_fn, features, labels=None, params=None):
    """Which channels of a model can be removed, and what goes with them.

    The model is built once, in a graph of its own, as ec.compress builds it to plan:
    in PREDICT mode, or in EVAL mode where it has no PREDICT. Which of the channels
    found here a Pruner removes, its config decides. Example:

        print(ec.channel_groups(model_fn, {"image": np.zeros([1, 32, 32, 3], "f")}))

    Args:
      model_fn: as tf.estimator.Estimator takes it.
      features, labels: what an input_fn gives, as tensors of any graph or as NumPy
        arrays, also in structures; only structure, types and static shapes are used.
      params: for a model_fn that takes params.

    Returns:
      ChannelGroups.

    Raises:
      PlanError: the model_fn builds in neither mode.
    """
    user, config = ModelFn(model_fn), tf.estimator.RunConfig()
    with tf.Graph().as_default():
        features, labels = _as_tensors(features), _as_tensors(labels)
    seen = survey(lambda x, y, mode: user(x, y, mode, params, config), features, labels)
    channels = find_channels(seen.graph, seen.outputs)
    names = {
        variable.op.name: checkpoint_name(variable)
        for variable in variables_of(seen.graph)
    }
    parts = {}
    for name, axes in channels.axes.items():
        if any(vector is not None for vector in axes):
            parts.setdefault(names.get(name, name), []).append(name)
    return ChannelGroups(
        tuple(_stages(channels, names)),
        channels,
        {name: tuple(sorted(its, key=_natural)) for name, its in parts.items()},
    )


def _as_tensors(structure):
    """Placeholders of the types and shapes of the arrays in a structure."""

    def tensor(value):
        if not isinstance(value, (np.ndarray, np.generic)):
            return value
        return tf.placeholder(tf.as_dtype(value.dtype), value.shape)

    return tf.nest.map_structure(tensor, structure, expand_composites=True)


def _natural(part):
    """part_10 after part_9."""
    head, _, number = part.rpartition("_")
    return (head, int(number), "") if number.isdigit() else (part, -1, "")


def _stages(channels, names):
    makers, readers = (
        _kernels_by_group(channels, role, names)
        for role in (channels.producers, channels.readers)
    )
    stages = {}
    for group, made_by in makers.items():
        read_by = readers.get(group, ())
        frozen = channels.frozen.get(group)
        if not frozen and not read_by:
            frozen = "no layer reads them"
        key = (tuple(made_by), tuple(read_by), frozen)
        stages.setdefault(key, []).append(group)
    for (made_by, read_by, frozen), groups in stages.items():
        yield Stage(tuple(sorted(groups)), made_by, read_by, frozen)


def _kernels_by_group(channels, role, names):
    """{group: the kernels, in order, that make (or read) it}.

    Args:
      role: {variable name: axes}.
      names: {variable name: the kernel that it is, or is a part of}.
    """
    found = {}
    for name, axes in role.items():
        for axis in axes:
            for group in np.unique(channels.of(name, axis)).tolist():
                # A dict for its order; the parts of a kernel are one.
                found.setdefault(group, {})[names.get(name, name)] = None
    return found


def _shortened(names):
    if not names:
        return "-"
    if len(names) <= _NAMES_SHOWN + 1:
        return ", ".join(names)
    more = len(names) - _NAMES_SHOWN
    return f"{', '.join(names[:_NAMES_SHOWN])} and {more} more"
