"""Scores -> which blocks go. Exact, in linear time, with little memory on top."""
from typing import NamedTuple, Sequence

import numpy as np

# Values looked at to bracket the threshold. The bracket is verified by counting,
# so this only trades the cost of the sample against the width of the bracket.
_SAMPLE = 1 << 18
# Values handled at a time, so that temporaries stay in the processor's cache.
_CHUNK = 1 << 18


class Segment(NamedTuple):
    """Blocks that hold the same number of weights.

    scores: any shape, float32, no NaN; +inf marks a block that must stay.
    size: weights in each block.
    """

    scores: np.ndarray
    size: int


class Cut(NamedTuple):
    """What goes: all blocks that score less than `threshold`, and the first `ties`
    of those that score exactly that, in the order of the segments."""

    threshold: float
    ties: int


def find_cut(segments: Sequence[Segment], budget: int) -> Cut:
    """The longest run of lowest-scored blocks that holds at most `budget` weights.

    Args:
      segments: what competes; a tie is decided by order.
      budget: number of weights that may go, >= 0.

    Returns:
      The Cut. The weights that go are at most `budget`, and less than one block
      fewer unless only blocks that score +inf are left.

    Method: Floyd & Rivest 1975 (algorithm 489). A sample brackets the threshold,
    one pass counts what lies below the bracket and collects what lies inside, and
    only that is sorted. Blocks that score exactly a border of the bracket are counted,
    not collected: all that earlier trials removed score the same.
    """
    low, high = _bracket(segments, budget)
    while True:
        found = _split(segments, low, high)
        left = budget - found.below
        if left < 0:
            low = -np.inf
            continue
        if low == np.inf:
            return Cut(np.inf, 0)
        ties, left, all_fit = _take(found.at_low, left)
        if not all_fit:
            return Cut(low, ties)
        if found.sizes.sum() > left:
            return _cut_inside(found.inside, found.sizes, left)
        if high == np.inf:
            return Cut(np.inf, 0)
        ties, _, all_fit = _take(found.at_high, left - int(found.sizes.sum()))
        if not all_fit:
            return Cut(high, ties)
        high = np.inf


def removed(segment: Segment, cut: Cut, ties_used: int):
    """Which blocks of a segment go, and how many of the cut's ties that uses up.

    Args:
      ties_used: ties that went in the segments before this one.

    Returns:
      (bool array shaped like the scores, ties used up so far).
    """
    gone = segment.scores < cut.threshold
    if ties_used < cut.ties:
        # A segment is a slice of its kernel's scores, so index arrays are needed:
        # ravel() would give a copy.
        tied = np.nonzero(segment.scores == cut.threshold)
        take = min(len(tied[0]), cut.ties - ties_used)
        gone[tuple(axis[:take] for axis in tied)] = True
        ties_used += take
    return gone, ties_used


def _bracket(segments, budget):
    """Two scores between which the threshold very likely lies."""
    total = sum(segment.scores.size for segment in segments)
    stride = max(1, total // _SAMPLE)
    # flat[::stride] walks a slice of a larger array without copying it.
    values = [segment.scores.flat[::stride] for segment in segments]
    sizes = [np.full(len(v), s.size) for v, s in zip(values, segments)]
    values, sizes = np.concatenate(values), np.concatenate(sizes)
    order = np.argsort(values, kind="stable")
    weights = np.cumsum(sizes[order]) * stride
    # Four standard deviations of a binomial with n = len(values), p = 1/2.
    margin = 2 + int(2 * np.sqrt(len(values)))
    middle = int(np.searchsorted(weights, budget))
    low = values[order[middle - margin]] if middle >= margin else -np.inf
    last = len(values) - 1
    high = values[order[middle + margin]] if middle + margin <= last else np.inf
    return low, high


def _chunks(segments):
    for segment in segments:
        if segment.scores.flags.c_contiguous:
            flat = segment.scores.reshape(-1)
            for start in range(0, flat.size, _CHUNK):
                yield flat[start : start + _CHUNK], segment.size
        else:
            rows = max(1, _CHUNK // max(1, segment.scores.shape[-1]))
            for start in range(0, len(segment.scores), rows):
                yield segment.scores[start : start + rows].reshape(-1), segment.size


class _Found(NamedTuple):
    """below: weights in blocks under the bracket; at_low, at_high: [(blocks that score
    exactly the border, weights in each)] in order; inside, sizes: scores and weights of
    the blocks between."""

    below: int
    at_low: list
    inside: np.ndarray
    sizes: np.ndarray
    at_high: list


def _split(segments, low, high):
    found = _Found(0, [], [], [], [])
    below = 0
    for scores, size in _chunks(segments):
        below += int(np.count_nonzero(scores < low)) * size
        found.at_low.append((int(np.count_nonzero(scores == low)), size))
        if high > low:
            found.at_high.append((int(np.count_nonzero(scores == high)), size))
        inside = scores[(scores > low) & (scores < high)]
        found.inside.append(inside)
        found.sizes.append(np.full(len(inside), size, np.int64))
    return found._replace(
        below=below,
        inside=np.concatenate(found.inside),
        sizes=np.concatenate(found.sizes),
    )


def _take(ties, budget):
    """How many tied blocks fit, in order; what is left; whether all of them fit."""
    taken = 0
    for count, size in ties:
        fits = min(count, budget // size)
        taken, budget = taken + fits, budget - fits * size
        if fits < count:
            return taken, budget, False
    return taken, budget, True


def _cut_inside(scores, sizes, budget):
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    fits = int(np.searchsorted(np.cumsum(sizes[order]), budget, side="right"))
    threshold = ordered[fits]
    return Cut(threshold, fits - int(np.searchsorted(ordered, threshold)))
