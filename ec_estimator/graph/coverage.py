"""The coverage report: what becomes of each layer, and why."""
import dataclasses
from typing import Dict

COMPRESSED = "compressed"


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What becomes of one layer.

    decisions: {compressor name: COMPRESSED or why not}.
    """

    op: str
    op_type: str
    kernel: str
    weights: int
    decisions: Dict[str, str]


def coverage_of(layer, decisions):
    """The Coverage of a graph.layers.Layer."""
    kernel = layer.kernel
    return Coverage(
        layer.op,
        layer.op_type,
        kernel.name if kernel else "",
        kernel.size if kernel else 0,
        decisions,
    )


def format_coverage(plan):
    """The coverage report as a table."""
    header = ("layer", "op", "kernel", "weights", *plan.targets)
    rows = [
        (
            row.op,
            row.op_type,
            row.kernel,
            str(row.weights or ""),
            *row.decisions.values(),
        )
        for row in plan.layers
    ]
    widths = [max(len(line[i]) for line in [header] + rows) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        for line in [header] + rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for name, targets in plan.targets.items():
        weights = sum(plan.kernels[target].size for target in targets)
        lines.append(
            f"{name}: {len(targets)} kernels with {weights} weights, "
            f"{sum(r.decisions[name].startswith(COMPRESSED) for r in plan.layers)} of "
            f"{len(plan.layers)} layers"
        )
    return "\n".join([*lines, *plan.notes])
