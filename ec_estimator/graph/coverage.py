"""The coverage report: what becomes of each layer, and why."""
import collections
import dataclasses
from typing import Dict

from ec_estimator.core.columns import columns
from ec_estimator.core.replicas import variables_of
from ec_estimator.graph.fold import fold
from ec_estimator.graph.variables import checkpoint_name
from ec_estimator.graph.walk import is_looked_up

COMPRESSED = "compressed"
TABLE = "embedding table: looked up, never multiplied"
# Letters in a line of the report, and reasons in its totals.
_WIDTH, _REASONS = 120, 5


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


@dataclasses.dataclass(frozen=True)
class Others:
    """Trainable variables that no layer multiplies with.

    tables: {name of an embedding table: weights}; remaining: weights of the others,
    such as biases and norms.
    """

    tables: Dict[str, int]
    remaining: int


def other_variables(graph, layers):
    """The Others of a graph with these graph.layers.Layer."""
    kernels = {part for layer in layers if layer.kernel for part in layer.kernel.parts}
    tables, remaining = {}, 0
    for variable in variables_of(graph, "trainable_variables"):
        # A shape that is not known counts nothing.
        size = variable.shape.num_elements() or 0
        if variable.op.name in kernels:
            continue
        if is_looked_up(variable.op):
            name = checkpoint_name(variable)
            tables[name] = tables.get(name, 0) + size
        else:
            remaining += size
    return Others(tables, remaining)


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
    """The coverage report: a table of the layers, then the totals."""
    return "\n".join([format_layers(plan), "", format_totals(plan)])


def format_layers(plan):
    """A table of all layers, and of the variables that are embedding tables.

    Rows that differ in nothing but numbers in names are one:
    `block{1..4}/conv/Conv2D (4 layers)`.
    """
    rows = [
        ((row.op, row.kernel), (row.op_type, row.weights, *row.decisions.values()))
        for row in plan.layers
    ]
    reasons = (TABLE,) * len(plan.targets)
    rows += [
        ((name, name), ("lookup", weights, *reasons))
        for name, weights in plan.others.tables.items()
    ]
    cells = []
    for (op, kernel), (op_type, weights, *decisions), count in fold(rows):
        op = f"{op} ({count} layers)" if count > 1 else op
        weights = f"{weights:,}" if weights else ""
        cells.append((op, op_type, kernel, weights, *decisions))
    header = ("layer", "op", "kernel", "weights", *plan.targets)
    return "\n".join(columns(header, cells, right=(3,), width=_WIDTH))


def format_totals(plan):
    """For each compressor how much of the model it takes, and what it leaves."""
    lines = []
    sizes = {row.kernel: row.weights for row in plan.layers if row.kernel}
    others = plan.others
    total = sum(sizes.values()) + sum(others.tables.values()) + others.remaining
    for name, targets in plan.targets.items():
        taken = sum(row.decisions[name].startswith(COMPRESSED) for row in plan.layers)
        weights = sum(plan.kernels[target].size for target in targets)
        lines.append(
            f"{name}: {taken} of {len(plan.layers)} layers; kernels with {weights:,} "
            f"of the model's {_weights(total)} ({weights / max(total, 1):.1%})"
        )
        lines += [f"  left alone: {text}" for text in _left_alone(plan, name, sizes)]
    return "\n".join([*lines, *plan.notes])


def _left_alone(plan, name, sizes):
    """What a compressor leaves alone, in sentences."""
    layers, kernels = collections.Counter(), collections.defaultdict(set)
    for row in plan.layers:
        reason = row.decisions[name]
        if not reason.startswith(COMPRESSED):
            layers[reason] += 1
            kernels[reason] |= {row.kernel} & set(sizes) - set(plan.targets[name])
    for reason, count in layers.most_common(_REASONS):
        size = sum(sizes[kernel] for kernel in kernels[reason])
        held = f" with {_weights(size)}" if size else ""
        yield f"{count} layer{'s' * (count > 1)}{held}: {reason}"
    others = sum(count for _, count in layers.most_common()[_REASONS:])
    if others:
        yield f"{others} layer{'s' * (others > 1)} for other reasons"
    tables = plan.others.tables
    if tables:
        held = _weights(sum(tables.values()))
        yield f"{len(tables)} embedding table{'s' * (len(tables) > 1)} with {held}"
    if plan.others.remaining:
        yield f"{_weights(plan.others.remaining)} of biases, norms and the like"


def _weights(count):
    return f"{count:,} weight{'s' * (count != 1)}"
