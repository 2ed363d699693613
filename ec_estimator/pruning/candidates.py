"""What can be pruned, in which units, and what a cut would leave. Data only."""
import dataclasses
import re
import zlib
from typing import Tuple

import numpy as np

from ec_estimator.channels.cost import LayerUse
from ec_estimator.channels.groups import Channels


@dataclasses.dataclass(frozen=True)
class Groups:
    """The channel groups of a model, with what the pruner may do to them.

    channels: channels.groups.Channels.
    count: number of groups.
    selectable: [count] bool: may be removed.
    members: [count] producer channels in each group.
    stages: [count] the stage of each group. Groups made by the same layers form a
      stage: the channels of one layer, or of all layers that add up to a residual
      stream. -1 for groups that can't be removed.
    makers: for each stage the names of the kernels that make its channels.
    layers: how each layer uses its kernel, for counting multiply-accumulates.
    """

    channels: Channels
    count: int
    selectable: np.ndarray
    members: np.ndarray
    stages: np.ndarray
    makers: Tuple[Tuple[str, ...], ...]
    layers: Tuple[LayerUse, ...] = ()

    def kept(self, axes, alive):
        """For each axis of a variable which positions stay; None: all.

        Args:
          axes: for each axis a vector with the group of each position, -1 for none; or
            None.
          alive: [count] bool.
        """
        alive = np.append(alive, True)
        return [None if vector is None else alive[vector] for vector in axes]

    def removable(self, vector):
        """A vector of groups, or -1 for none, with -1 for those that always stay."""
        return np.where(np.append(self.selectable, False)[vector], vector, -1)

    def size(self, variable, alive):
        """Entries that a variable has after the cut."""
        shape = self.channels.shapes[variable]
        kept = self.kept(self.channels.axes[variable], alive)
        return int(
            np.prod(
                [n if k is None else np.count_nonzero(k) for n, k in zip(shape, kept)],
                dtype=np.int64,
            )
        )

    def params(self, alive):
        """Entries of all variables after the cut."""
        return sum(self.size(name, alive) for name in self.channels.axes)

    def macs(self, alive):
        """Multiply-accumulates of one example after the cut: each entry of a kernel is
        used once at each position."""
        return sum(
            layer.positions * self.size(part, alive)
            for layer in self.layers
            for part in layer.parts
        )

    def remaining(self, metric):
        """A function of `alive`: the fraction of a metric that is left.

        Args:
          metric: "channels" (of the prunable producer channels), "params" or "macs"
            (of the whole network).
        """
        everything = np.ones(self.count, bool)
        if metric == "channels":
            members = np.where(self.selectable, self.members, 0)
            total = members.sum()
            return lambda alive: members[alive].sum() / total
        count = self.params if metric == "params" else self.macs
        total = count(everything)
        return lambda alive: count(alive) / total

    def gone_of_producers(self, alive):
        """{kernel variable: fraction of its output channels that is gone}."""
        return {
            name: float(np.mean(~alive[self.channels.axes[name][axis]]))
            for name, axes in self.channels.producers.items()
            for axis in axes
            if self.selectable[self.channels.axes[name][axis]].any()
        }

    def digest(self):
        """Changes when the model's channels are grouped otherwise."""
        checksum = zlib.crc32(self.selectable.tobytes())
        for name, axes in sorted(self.channels.axes.items()):
            checksum = zlib.crc32(name.encode(), checksum)
            for vector in axes:
                if vector is not None:
                    checksum = zlib.crc32(vector.astype(np.int64).tobytes(), checksum)
        return {"groups": self.count, "checksum": checksum}


def make_groups(channels, allowed):
    """Finds the units of pruning.

    Args:
      channels: channels.groups.Channels.
      allowed: callable(variable name) -> whether the output channels of this kernel may
        go. A group goes only if all its producers allow it.

    Returns:
      Groups, without layers.
    """
    count = 1 + max(
        (int(v.max()) for axes in channels.axes.values() for v in axes if _some(v)),
        default=-1,
    )
    selectable = np.zeros(count, bool)
    selectable[channels.prunable()] = True
    members = np.zeros(count, np.int64)
    signature = np.zeros(count, np.uint64)
    # Each producing axis adds its own random number; equal sums, equal producers.
    random = np.random.RandomState(0)
    for name, axes in channels.producers.items():
        for axis in axes:
            vector = channels.axes[name][axis]
            np.add.at(members, vector, 1)
            word = random.randint(0, 2**63, dtype=np.uint64)
            signature[np.unique(vector)] += word
            if not allowed(name):
                selectable[vector] = False
    stages = np.full(count, -1)
    stages[selectable] = np.unique(signature[selectable], return_inverse=True)[1]
    makers = _makers(channels, stages)
    return Groups(channels, count, selectable, members, stages, makers)


def _makers(channels, stages):
    """Kernels of each stage, in the order they were made; partitions under one name."""
    makers = [{} for _ in range(stages.max(initial=-1) + 1)]
    for name, axes in channels.producers.items():
        for axis in axes:
            for stage in np.unique(stages[channels.axes[name][axis]]):
                if stage >= 0:
                    makers[stage][re.sub(r"/part_\d+$", "", name)] = True
    return tuple(tuple(names) for names in makers)


def _some(vector):
    return vector is not None and len(vector) > 0
