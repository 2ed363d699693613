"""What pruning did to a network, counted from the folder that it left."""
import dataclasses
from typing import Optional, Tuple

import numpy as np

from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.state import open_checkpoint
from ec_estimator.shrink.artifact import read_artifact


@dataclasses.dataclass(frozen=True)
class Change:
    """A count in the whole network and in the small one."""

    before: int
    after: int

    def __add__(self, other):
        return Change(self.before + other.before, self.after + other.after)

    @property
    def left(self):
        """What is left, as a fraction; 1 of nothing."""
        return self.after / self.before if self.before else 1.0


@dataclasses.dataclass(frozen=True)
class Cost:
    """params: entries of variables; macs: multiply-accumulates of one example; bytes:
    of the variables."""

    params: Change = Change(0, 0)
    macs: Change = Change(0, 0)
    bytes: Change = Change(0, 0)

    def __add__(self, other):
        return Cost(
            self.params + other.params,
            self.macs + other.macs,
            self.bytes + other.bytes,
        )


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One convolution or matrix product.

    op, op_type: of the layer; kernel: the variable it multiplies with.
    decision: "compressed", or why its output channels stayed.
    channels: that it puts out; None if they were not found.
    cost: of its kernel. Layers that share one use it each; the first one holds it.
    at_minimum: whether pruning left as few channels as it may: one, or channel_align.
    """

    op: str
    op_type: str
    kernel: str
    decision: str
    channels: Optional[Change]
    cost: Cost
    at_minimum: bool = False


@dataclasses.dataclass(frozen=True)
class Latency:
    """Medians, in milliseconds a batch."""

    batch_size: int
    before: float
    after: float


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Latencies with what they were measured with; command: the command line."""

    command: str
    runs: int
    tensorflow: str
    cpus: int
    latencies: Tuple[Latency, ...]


@dataclasses.dataclass(frozen=True)
class PruningReport:
    """All of a pruned network.

    checkpoint: path of the small network's variables; step: global step they are of.
    trials: that were done, of num_trials.
    layers: those that the predictions read; others: variables that are no layer's
      kernel (biases, norms, embeddings); total: of both.
    measurement: None if latency was not measured.
    """

    checkpoint: str
    step: int
    trials: int
    num_trials: int
    layers: Tuple[LayerReport, ...]
    others: Cost
    total: Cost
    measurement: Optional[Measurement] = None


def pruning_report(folder):
    """Counts what a pruning run removed.

    Args:
      folder: the artifact's folder, or the save_dir or model_dir of the pruning run.

    Returns:
      PruningReport, without a measurement.

    Raises:
      RunFolderError: there is no artifact, or it is damaged.
    """
    artifact = read_artifact(folder)
    types = open_checkpoint(artifact.checkpoint).get_variable_to_dtype_map()
    manifest = artifact.manifest
    try:
        fewest = int(manifest.get("channel_align", 1))
        layers, held = [], set()
        for use in manifest["layers"]:
            kernel = use["kernel"]
            size = types[kernel].size if kernel not in held else None
            layers.append(_layer(use, artifact.variables[kernel], size, fewest))
            held.add(kernel)
        others = Cost()
        for name in manifest["served"]:
            if name not in held:
                others += _stored(artifact.variables[name], types[name].size)
        return PruningReport(
            artifact.checkpoint,
            int(manifest["step"]),
            int(manifest["trials"]),
            int(manifest["num_trials"]),
            tuple(layers),
            others,
            sum((layer.cost for layer in layers), others),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"the manifest.json beside {artifact.checkpoint!r} is damaged ({error!r}); "
            "restore it, or prune again"
        ) from error


def _layer(use, kernel, bytes_each, fewest):
    """A LayerReport.

    Args:
      bytes_each: of an entry, None if another layer has counted it.
      fewest: channels that pruning leaves any layer.
    """
    entries = _entries(kernel)
    positions = int(use["positions"])
    macs = Change(positions * entries.before, positions * entries.after)
    cost = Cost(macs=macs)
    if bytes_each is not None:
        cost += _stored(kernel, bytes_each)
    axes = [int(axis) for axis in use["output_axes"]]
    channels = _entries(kernel, axes) if axes else None
    return LayerReport(
        str(use["op"]),
        str(use["op_type"]),
        use["kernel"],
        str(use["decision"]),
        channels,
        cost,
        bool(channels) and channels.after <= fewest and channels.left < 1,
    )


def _stored(variable, bytes_each):
    entries = _entries(variable)
    size = Change(bytes_each * entries.before, bytes_each * entries.after)
    return Cost(params=entries, bytes=size)


def _entries(variable, axes=slice(None)):
    """The product of a shrink.artifact.CutVariable's sizes, of all axes or some."""
    before, after = (
        int(np.prod(np.array(shape, np.int64)[axes]))
        for shape in (variable.shape, variable.small_shape)
    )
    return Change(before, after)
