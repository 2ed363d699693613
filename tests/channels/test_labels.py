"""Uniting and freezing labels."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ec_estimator.channels.labels import Labels


def united(size, *pairs):
    """The roots of `size` labels after uniting pairs of single labels."""
    labels = Labels()
    labels.new(size)
    for a, b in pairs:
        labels.unite(np.array([a]), np.array([b]))
    return labels.roots().tolist()


def test_new_labels_are_numbered_on():
    labels = Labels()
    assert labels.new(3).tolist() == [0, 1, 2]
    assert labels.new(0).tolist() == []
    assert labels.new(2).tolist() == [3, 4]


def test_without_labels_there_are_no_roots():
    assert Labels().roots().tolist() == []


def test_labels_that_were_not_united_are_their_own_roots():
    assert united(3) == [0, 1, 2]


def test_vectors_are_united_position_by_position():
    labels = Labels()
    a, b = labels.new(3), labels.new(3)
    labels.unite(b, a)
    assert labels.roots().tolist() == [0, 1, 2, 0, 1, 2]


def test_the_root_is_the_smallest_label_however_they_are_united():
    assert united(5, (4, 3), (3, 1), (0, 2)) == [0, 1, 0, 1, 1]
    assert united(4, (0, 1), (1, 2), (2, 3)) == [0, 0, 0, 0]
    assert united(4, (3, 2), (2, 1), (1, 0)) == [0, 0, 0, 0]


def test_a_label_may_be_united_with_itself_and_twice():
    assert united(3, (1, 1), (1, 2), (2, 1)) == [0, 1, 1]


def test_a_vector_may_repeat_a_label():
    labels = Labels()
    a, b = labels.new(2), labels.new(4)
    labels.unite(np.repeat(a, 2), b)
    assert labels.roots().tolist() == [0, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("centre", [0, 2500, 5000])
def test_a_label_that_is_united_with_thousands_takes_few_rounds(centre, monkeypatch):
    rounds = []
    minimum = np.minimum

    class Counted:
        at = minimum.at

        def __call__(self, a, b):
            rounds.append(len(a))
            return minimum(a, b)

    labels = Labels()
    vector = labels.new(5001)
    labels.unite(vector, np.full(5001, centre))
    monkeypatch.setattr(np, "minimum", Counted())
    assert labels.roots().tolist() == [0] * 5001
    assert len(rounds) <= 3


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=30))
def test_roots_are_those_of_a_search_through_the_edges(pairs):
    expected = list(range(16))
    for _ in range(16):
        for a, b in pairs:
            expected[a] = expected[b] = min(expected[a], expected[b])
    assert united(16, *pairs) == expected


def test_a_group_is_frozen_by_the_first_reason_for_any_of_its_labels():
    labels = Labels()
    a, b = labels.new(2), labels.new(2)
    labels.unite(a, b)
    labels.freeze(b[1:], "first")
    labels.freeze(a, "second")
    assert labels.frozen_reasons(labels.roots()) == {1: "first", 0: "second"}


def test_nothing_frozen_has_no_reasons():
    labels = Labels()
    labels.new(2)
    labels.freeze(labels.new(0), "an empty axis")
    assert labels.frozen_reasons(labels.roots()) == {}


def test_unknown_labels_take_the_number_that_those_they_are_united_with_have():
    labels = Labels()
    known, other, unknown = labels.new(3), labels.new(1), labels.new(4)
    labels.unite(unknown[:3], known)
    # The third is united with two numbers, the fourth with none.
    labels.unite(unknown[2:3], other)
    numbers = labels.spread([(known, [5, 0, 6]), (other, [7])])
    assert numbers.tolist() == [5, 0, 6, 7, 5, 0, -1, -1]


def test_known_numbers_stay_whatever_they_are_united_with():
    labels = Labels()
    a, b = labels.new(2), labels.new(2)
    labels.unite(a, b)
    assert labels.spread([(a, [1, 2]), (b, [3, 4])]).tolist() == [1, 2, 3, 4]
