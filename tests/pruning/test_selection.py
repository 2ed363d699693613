"""Which groups go: counted by hand and by brute force."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ec_estimator.pruning.selection import choose


class Stages:
    """What `choose` needs of Groups: stages and selectable; all groups count alike."""

    def __init__(self, stages):
        self.stages = np.array(stages)
        self.count = len(stages)
        self.makers = [(f"layer{n}",) for n in range(1 + max(stages))]
        self.selectable = self.stages >= 0

    def remaining(self, alive):
        return alive[self.selectable].sum() / max(1, self.selectable.sum())


def pick(stages, scores, ratio, sort_range="global", align=1, alive=None):
    groups = Stages(stages)
    alive = np.ones(groups.count, bool) if alive is None else np.array(alive, bool)
    scores = np.array(scores, float)
    return choose(groups, scores, alive, ratio, sort_range, align, groups.remaining)


def test_the_least_important_groups_of_all_stages_go():
    choice = pick([0, 0, 0, 1, 1, 1], [5, 1, 4, 2, 6, 3], 0.5)
    assert choice.alive.tolist() == [True, False, True, False, True, False]
    assert choice.ratio == 0.5


def test_local_takes_the_same_fraction_of_each_stage():
    choice = pick([0, 0, 0, 0, 1, 1, 1, 1], [1, 2, 3, 4, 50, 60, 70, 80], 0.5, "local")
    expected = [False, False, True, True, False, False, True, True]
    assert choice.alive.tolist() == expected


def test_a_stage_keeps_its_best_group_at_ratio_1():
    choice = pick([0, 0, 0, 1, 1, -1], [5, 1, 4, 2, 6, 0], 1.0)
    assert choice.alive.tolist() == [True, False, False, False, True, True]


def test_a_stage_keeps_a_multiple_of_align_where_it_is_that_wide():
    stages = [0] * 8 + [1] * 3
    choice = pick(stages, list(range(8)) + [0, 1, 2], 1.0, align=4)
    assert choice.alive[:8].tolist() == [False] * 4 + [True] * 4
    assert choice.alive[8:].sum() == 1


def test_layers_that_keep_their_last_channels_are_named():
    stages = [0] * 8 + [1] * 3 + [2]
    choice = pick(stages, list(range(11)) + [0], 1.0)
    assert choice.notes == (
        "layer0 keeps its last channel",
        "layer1 keeps its last channel",
        "layer2 has no channel to spare",
    )
    assert pick(stages, list(range(12)), 0.5).notes == (
        "layer2 has no channel to spare",
    )
    choice = pick([0] * 8 + [1] * 3, range(11), 1.0, align=4)
    assert choice.notes == (
        "layer0 keeps its last 4 channels",
        "layer1 keeps its last channel",
    )


def test_layers_that_go_together_are_named_together():
    groups = Stages([0, 0, 0])
    groups.makers = [("a/kernel", "b/kernel")]
    choice = choose(
        groups, np.arange(3), np.ones(3, bool), 1.0, "global", 1, groups.remaining
    )
    assert choice.notes == ("a/kernel and b/kernel keep their last channel",)


def test_what_is_gone_stays_gone():
    alive = [False, True, True, True]
    choice = pick([0, 0, 0, 0], [99, 1, 2, 3], 0.5, alive=alive)
    assert choice.alive.tolist() == [False, False, True, True]


def test_ratio_below_one_group_removes_nothing():
    choice = pick([0, 0, 0, 0], [1, 2, 3, 4], 0.2)
    assert choice.alive.all() and choice.ratio == 0


@given(st.data())
def test_the_ratio_is_met_from_below_as_closely_as_single_groups_allow(data):
    stages = data.draw(st.lists(st.integers(-1, 3), min_size=1, max_size=40))
    stages = stages + [0]
    scores = data.draw(
        st.lists(st.floats(0, 9), min_size=len(stages), max_size=len(stages))
    )
    ratio = data.draw(st.floats(0, 1))
    align = data.draw(st.integers(1, 4))
    sort_range = data.draw(st.sampled_from(["global", "local"]))
    # `choose` numbers stages densely.
    known = sorted({s for s in stages if s >= 0})
    stages = [known.index(s) if s >= 0 else -1 for s in stages]
    choice = pick(stages, scores, ratio, sort_range, align)
    stages = np.array(stages)
    assert choice.ratio <= ratio + 1e-9
    assert choice.alive[stages < 0].all()
    for stage in range(len(known)):
        mine = stages == stage
        size, kept = mine.sum(), choice.alive[mine].sum()
        assert kept >= 1
        assert size < align or kept % align == 0 or kept == size
        gone = np.array(scores)[mine & ~choice.alive]
        stay = np.array(scores)[mine & choice.alive]
        assert not len(gone) or gone.max() <= stay.min()
    if align == 1 and sort_range == "global" and len(known) == 1:
        total = (stages >= 0).sum()
        expected = min(int(ratio * total + 1e-6), total - 1)
        assert (~choice.alive).sum() == pytest.approx(expected, abs=1e-9)
