"""Rules of ops that move, merge, drop or sum over whole axes."""
import numpy as np

from ec_estimator.channels.rules.table import rule


@rule("SpaceToBatchND", "BatchToSpaceND")
def space_and_batch(flow, op):
    """Passes the axes after the block's; the batch, and those that are moved between it
    and the block, freeze."""
    axes, block = flow.axes(op.inputs[0]), op.inputs[1].shape.as_list()[0]
    kept = range(len(axes) if block is None else block + 1, len(axes))
    flow.put(op.outputs[0], flow.keep(op, axes, kept))


@rule("Transpose")
def transpose(flow, op):
    """Axes change places with their labels; all freeze where the order is computed."""
    axes = flow.axes(op.inputs[0])
    permutation = flow.values.const(op.inputs[1])
    if permutation is None:
        flow.freeze_all(op)
    else:
        flow.put(op.outputs[0], [axes[axis] for axis in permutation])


@rule("ExpandDims")
def expand(flow, op):
    """A new axis of size 1 has no labels; all freeze where its place is computed."""
    axes = flow.axes(op.inputs[0])
    (axis,) = flow.values.const(op.inputs[1]) or (None,)
    if axis is None:
        flow.freeze_all(op)
        return
    axis %= len(axes) + 1
    flow.put(op.outputs[0], axes[:axis] + [None] + axes[axis:])


@rule("Squeeze")
def squeeze(flow, op):
    """Drops axes of size 1, whose labels are frozen: a cut can't take them. All freeze
    where sizes that aren't known decide which axes go."""
    axes, sizes = flow.axes(op.inputs[0]), flow.sizes(op.inputs[0])
    gone = {axis % len(axes) for axis in op.get_attr("squeeze_dims")}
    if not gone and None in sizes:
        flow.freeze_all(op)
        return
    gone = gone or {axis for axis, size in enumerate(sizes) if size == 1}
    kept = [axis for axis in range(len(axes)) if axis not in gone]
    axes = flow.keep(op, axes, kept)
    flow.put(op.outputs[0], [axes[axis] for axis in kept])


@rule("Reshape")
def reshape(flow, op):
    """Passes axes that keep their size, repeats an axis that is merged with unlabelled
    ones, and freezes the rest: an axis that is split, or merged with another."""
    if op.outputs[0].shape.rank is None:
        flow.freeze_all(op)
        return
    axes, sizes = flow.axes(op.inputs[0]), flow.sizes(op.inputs[0])
    new_sizes = _target_sizes(flow, op)
    output, matched = [None] * len(new_sizes), []
    for merged, axis in _merges(sizes, new_sizes):
        output[axis] = _merged(flow, [(axes[a], sizes[a]) for a in merged], op)
        matched.extend(merged)
    flow.keep(op, axes, matched)
    flow.agree(op, output, op.inputs[1])
    flow.put(op.outputs[0], output)


def _merges(sizes, new_sizes):
    """From the right: (neighbouring axes, the axis that a Reshape merges them into).

    [2, 7, 7, 8] -> [2, 392] gives ([1, 2, 3], 1) and ([0], 0); it ends where an axis
    is split or a size is unknown.
    """
    i, j = len(sizes) - 1, len(new_sizes) - 1
    while i >= 0 and j >= 0:
        if sizes[i] == 1:
            i -= 1
        elif new_sizes[j] == 1:
            j -= 1
        elif sizes[i] is None or new_sizes[j] is None:
            return
        else:
            merged, size = [], 1
            while i >= 0 and sizes[i] is not None and size < new_sizes[j]:
                size *= sizes[i]
                merged.insert(0, i)
                i -= 1
            if size != new_sizes[j]:
                return
            yield merged, j
            j -= 1


def _merged(flow, parts, op):
    """[(vector or None, size)] of neighbouring axes that become one axis."""
    labelled = [n for n, (vector, _) in enumerate(parts) if vector is not None]
    if len(labelled) != 1:
        for index in labelled:
            flow.freeze(parts[index][0], op)
        return None
    (index,) = labelled
    sizes = [size for _, size in parts]
    outer, inner = (
        int(np.prod(rest, dtype=np.int64))
        for rest in (sizes[:index], sizes[index + 1 :])
    )
    return np.tile(np.repeat(parts[index][0], inner), outer)


def _target_sizes(flow, op):
    """Sizes a Reshape gives, as far as its operand or shape inference tells."""
    sizes = op.outputs[0].shape.as_list()
    wanted = flow.values.of(op.inputs[1]) or []
    if len(wanted) == len(sizes):
        values = [element.value for element in wanted]
        sizes = [n if n is not None else v for n, v in zip(sizes, values)]
    return [None if size == -1 else size for size in sizes]


@rule("Mean", "Sum", "Max", "Min", "Prod", "All", "Any")
def reduction(flow, op):
    """Passes the axes that are kept. Those that are summed over are frozen: the result
    depends on every channel."""
    axes = flow.axes(op.inputs[0])
    reduced = flow.values.const(op.inputs[1])
    if reduced is None:
        flow.freeze_all(op)
        return
    reduced = {axis % len(axes) for axis in reduced}
    kept = [axis for axis in range(len(axes)) if axis not in reduced]
    axes = flow.keep(op, axes, kept)
    if not op.get_attr("keep_dims"):
        axes = [axes[axis] for axis in kept]
    flow.put(op.outputs[0], axes)
