"""Selection is exact: it removes what a full sort would remove."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ec_estimator.sparsity import selection
from ec_estimator.sparsity.selection import Cut, Segment, find_cut, removed


def select(segments, budget):
    """The masks of what goes, one a segment."""
    cut, ties, masks = find_cut(segments, budget), 0, []
    for segment in segments:
        gone, ties = removed(segment, cut, ties)
        masks.append(gone)
    return masks


def select_by_sorting(segments, budget):
    """The same, block by block in the order of a stable sort of all scores."""
    blocks = [
        (score, number, position, segment.size)
        for number, segment in enumerate(segments)
        for position, score in enumerate(segment.scores.ravel().tolist())
    ]
    masks = [np.zeros(segment.scores.size, bool) for segment in segments]
    for score, number, position, size in sorted(blocks, key=lambda block: block[0]):
        if score == np.inf or size > budget:
            break
        budget -= size
        masks[number][position] = True
    return [mask.reshape(s.scores.shape) for mask, s in zip(masks, segments)]


def assert_exact(segments, budget):
    masks = select(segments, budget)
    for mask, expected in zip(masks, select_by_sorting(segments, budget)):
        np.testing.assert_array_equal(mask, expected)
    return masks


def weights(segments, masks):
    return sum(int(m.sum()) * s.size for s, m in zip(segments, masks))


# -1 marks weights that are gone, inf those that must stay; few values make many ties.
FEW = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, np.inf])
MANY = st.one_of(st.floats(-1, 4, width=32), st.just(np.inf))


@st.composite
def grids(draw):
    """A segment as blocks.segments cuts it: a slice of a larger array, or all of it."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    grid = draw(arrays(np.float32, shape, elements=draw(st.sampled_from([FEW, MANY]))))
    rows, columns = (slice(draw(st.integers(0, n - 1)), None) for n in shape)
    return Segment(grid[rows, columns], draw(st.integers(1, 8)))


SEGMENTS = st.lists(grids(), min_size=1, max_size=5)


@given(SEGMENTS, st.floats(0, 1))
def test_what_goes_is_what_a_stable_sort_puts_first(segments, ratio):
    total = sum(segment.scores.size * segment.size for segment in segments)
    assert_exact(segments, int(ratio * total))


@given(SEGMENTS, st.floats(0, 1))
def test_less_than_one_block_of_the_budget_is_left(segments, ratio):
    total = sum(segment.scores.size * segment.size for segment in segments)
    budget = int(ratio * total)
    masks = select(segments, budget)
    gone = weights(segments, masks)
    left = [
        segment.size
        for segment, mask in zip(segments, masks)
        if np.isfinite(segment.scores[~mask]).any()
    ]
    assert gone <= budget
    assert not left or gone > budget - max(left)


@given(grids(), st.floats(0, 1), st.sampled_from([1, 2, 7]))
def test_the_size_of_sample_and_chunk_does_not_matter(segment, ratio, size):
    before = selection._SAMPLE, selection._CHUNK
    try:
        selection._SAMPLE = selection._CHUNK = size
        budget = int(ratio * segment.scores.size * segment.size)
        assert_exact([segment, segment], budget)
    finally:
        selection._SAMPLE, selection._CHUNK = before


@pytest.mark.parametrize("budget", range(13))
def test_equal_scores_go_in_order(budget):
    (mask,) = select([Segment(np.zeros((3, 4), np.float32), 1)], budget)
    assert mask.ravel().tolist() == [True] * budget + [False] * (12 - budget)


def test_ties_are_counted_over_all_segments():
    first = Segment(np.array([1, 0, 1], np.float32), 1)
    second = Segment(np.array([[1, 2], [1, 1]], np.float32), 1)
    assert find_cut([first, second], 4) == Cut(1.0, 3)
    masks = select([first, second], 4)
    assert masks[0].tolist() == [True, True, True]
    assert masks[1].tolist() == [[True, False], [False, False]]


def test_a_block_that_does_not_fit_ends_the_selection():
    big = Segment(np.array([1.0], np.float32), 4)
    small = Segment(np.array([0.5, 2.0], np.float32), 1)
    masks = select([big, small], 4)
    assert [mask.tolist() for mask in masks] == [[False], [True, False]]


def test_infinite_scores_stay_whatever_the_budget():
    scores = np.array([[np.inf, 3], [1, np.inf]], np.float32)
    (mask,) = select([Segment(scores, 5)], 10**9)
    assert mask.tolist() == [[False, True], [True, False]]


def test_no_budget_removes_nothing():
    (mask,) = select([Segment(np.full((4, 4), -1, np.float32), 1)], 0)
    assert not mask.any()


def test_scores_that_are_not_contiguous_are_read_and_left_alone():
    grid = np.arange(48, dtype=np.float32).reshape(6, 8)[::-1]
    before = grid.copy()
    segments = [Segment(grid[1:4, 2:5], 1), Segment(grid[:, 6:], 2)]
    assert_exact(segments, 9)
    np.testing.assert_array_equal(grid, before)


def test_budgets_beyond_32_bits_do_not_overflow():
    segments = [Segment(np.arange(8, dtype=np.float32), 2**31)]
    (mask,) = select(segments, 5 * 2**31 + 1)
    assert mask.tolist() == [True] * 5 + [False] * 3


def test_three_million_scores_agree_with_np_partition():
    scores = np.random.RandomState(0).standard_normal((1500, 2000)).astype(np.float32)
    budget = 1_800_000
    threshold = np.partition(scores.ravel(), budget)[budget]
    (mask,) = select([Segment(scores, 1)], budget)
    assert mask.sum() == budget
    assert scores[mask].max() <= threshold <= scores[~mask].min()


@pytest.mark.parametrize("ratio", [0.001, 0.5, 0.999])
def test_a_sample_that_misleads_does_not_make_it_inexact(ratio):
    # Every 11th score is what a sample of 3 M / 2^18 sees, and it sees only extremes.
    size = 3_000_000
    for extreme in (-1.0, 1.0):
        scores = np.random.RandomState(1).permutation(size).astype(np.float32)
        scores[:: size // selection._SAMPLE] += extreme * 2 * size
        budget = int(ratio * size)
        (mask,) = select([Segment(scores, 1)], budget)
        expected = np.zeros(size, bool)
        expected[np.argsort(scores, kind="stable")[:budget]] = True
        np.testing.assert_array_equal(mask, expected)
