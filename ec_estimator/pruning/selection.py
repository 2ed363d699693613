"""Importance -> which groups stay."""
from typing import NamedTuple, Tuple

import numpy as np


class Choice(NamedTuple):
    """alive: [groups] bool; ratio: what of the metric is gone; notes: for the user."""

    alive: np.ndarray
    ratio: float
    notes: Tuple[str, ...]


def choose(groups, importance, alive, ratio, sort_range, align, remaining):
    """Removes the least important groups until `ratio` of the metric is gone.

    Args:
      groups: pruning.candidates.Groups.
      importance: [groups] float.
      alive: [groups] bool; what is gone stays gone.
      ratio: in [0, 1].
      sort_range: "global": all groups compete; "local": each stage loses the same
        fraction of its groups.
      align: each stage keeps a multiple of this many groups where it is that wide.
      remaining: callable(alive) -> fraction of the metric that is left, in [0, 1];
        never grows when more groups go.

    Returns:
      The Choice that comes closest to `ratio` from below.
    """
    scores = np.where(alive, importance, -np.inf)
    if sort_range == "local":
        scores = _ranks_in_stage(groups.stages, scores)
    candidates = np.nonzero(groups.selectable)[0]
    order = candidates[np.argsort(scores[candidates], kind="stable")]

    def after(count):
        left = np.ones(groups.count, bool)
        left[order[:count]] = False
        _restore(groups.stages, left, order[:count], align)
        return left

    # The largest count that fits: what goes with n groups goes with n + 1, too.
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if 1.0 - remaining(after(middle)) <= ratio + 1e-9:
            low = middle
        else:
            high = middle - 1
    # What earlier trials removed stays away, also if alignment would give it back.
    left = after(low) & alive
    return Choice(left, 1.0 - remaining(left), _notes(groups, left, align))


def _notes(groups, left, align):
    """Which layers are as narrow now as they may get."""
    notes = []
    for stage, makers in enumerate(groups.makers):
        mine = groups.stages == stage
        size, kept = np.count_nonzero(mine), np.count_nonzero(left[mine])
        if kept > _least(size, align):
            continue
        names, one = " and ".join(makers), len(makers) == 1
        channels = "channel" if kept == 1 else f"{kept} channels"
        if kept == size:
            notes.append(f"{names} {'has' if one else 'have'} no channel to spare")
        else:
            keep = "keeps its" if one else "keep their"
            notes.append(f"{names} {keep} last {channels}")
    return tuple(notes)


def _least(sizes, align):
    """How many groups stages of these sizes have to keep; also their step."""
    return np.where(np.asarray(sizes) >= align, align, 1)


def _ranks_in_stage(stages, scores):
    """(rank + 1) / size within each stage: equal ranks are equal fractions."""
    order = np.lexsort((scores, stages))
    sizes = np.bincount(stages[stages >= 0], minlength=1)
    first = np.searchsorted(stages[order], np.arange(len(sizes)))
    ranks = np.empty(len(scores))
    placed = stages[order]
    inside = placed >= 0
    position = np.arange(len(order))[inside] - first[placed[inside]]
    ranks[order[inside]] = (position + 1) / sizes[placed[inside]]
    ranks[stages < 0] = np.inf
    return ranks


def _restore(stages, left, removed, align):
    """Gives stages their best removed groups back until their number is allowed."""
    if not len(removed):
        return
    sizes = np.bincount(stages[stages >= 0])
    gone = np.bincount(stages[removed], minlength=len(sizes))
    kept = sizes - gone
    step = _least(sizes, align)
    wanted = np.minimum(sizes, np.maximum(-(-kept // step), 1) * step)
    back = wanted - kept
    if not back.any():
        return
    # `removed` is in ascending order of score: the last of a stage are its best.
    for group in removed[::-1]:
        stage = stages[group]
        if back[stage]:
            left[group] = True
            back[stage] -= 1
