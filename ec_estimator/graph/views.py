"""Views: steps from an array to another one of the same entries.

A step is ("reshape", shape) or ("transpose", permutation). rewrite/kernels.py has
tensors follow them.
"""
import numpy as np


def follow(view, array):
    """An array as a view sees it."""
    for kind, argument in view:
        turned = kind == "transpose"
        array = array.transpose(argument) if turned else array.reshape(argument)
    return array


def shapes_on_the_way(view, shape):
    """The shapes of an array before the first and after each of a view's steps."""
    shapes = [tuple(shape)]
    for kind, argument in view:
        before = shapes[-1]
        turned = kind == "transpose"
        shapes.append(tuple(before[a] for a in argument) if turned else argument)
    return shapes


def simplify(shape, steps):
    """Drops steps that do nothing and joins reshapes; gives the final shape too."""
    kept = []
    current = shape
    for kind, argument in steps:
        if kind == "transpose":
            if argument == tuple(range(len(current))):
                continue
            current = tuple(current[axis] for axis in argument)
        else:
            size = int(np.prod(current, dtype=np.int64))
            if -1 in argument:
                known = int(np.prod([n for n in argument if n != -1], dtype=np.int64))
                argument = tuple(size // known if n == -1 else n for n in argument)
            if kept and kept[-1][0] == "reshape":
                kept.pop()
            current = argument
        kept.append((kind, argument))
    # A reshape that restores the shape it started from was joined from two; what is
    # left of a tensordot is often exactly that.
    if kept and kept[0] == ("reshape", shape):
        kept.pop(0)
    return tuple(kept), current


def column_axes(kernel):
    """Which axes of a kernel's variable its layer's output channels run along.

    Example: (2,) of the kernel [height, width, out, in] of a transposed convolution.

    Returns:
      A tuple; none if a reshape mixes them with others.
    """
    shapes = shapes_on_the_way(kernel.view, kernel.shape)
    axes = {len(shapes[-1]) - 1}
    for (kind, argument), before in zip(reversed(kernel.view), reversed(shapes[:-1])):
        if kind == "transpose":
            axes = {argument[axis] for axis in axes}
        else:
            axes = _axes_before(before, argument, axes)
    return tuple(sorted(axes))


def _axes_before(before, after, axes):
    """What axes of a reshaped array were; none if they were parts of axes."""
    found, left, right = set(), len(before), len(after)
    while left and right and 0 not in before:
        # The shortest tails of both with as many entries.
        old, new = {left - 1}, {right - 1}
        sizes = [before[left - 1], after[right - 1]]
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                old.add(min(old) - 1)
                sizes[0] *= before[min(old)]
            else:
                new.add(min(new) - 1)
                sizes[1] *= after[min(new)]
        left, right = min(old), min(new)
        if new & axes:
            if not new <= axes:
                return set()
            found |= old
    return found
