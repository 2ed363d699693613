"""Two ranks of Horovod, with batches and first weights of their own: after the first
broadcast whatever masks, step sizes and weights one has, the other has to the bit."""
import os
import subprocess
import sys

import numpy as np
import pytest

from ec_estimator.core.folder import RunFolder
from tests.launcher import ROOT
from tests.ranks import COMPRESSORS, STEPS, STOP, records

RANKS = 2
# Before each step, and at the end of both parts of the run.
RECORDS = STEPS + 2
RUNS = [*COMPRESSORS, "session"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("ranks"))
    horovodrun = os.path.join(os.path.dirname(sys.executable), "horovodrun")
    program = [sys.executable, "-m", "tests.horovod.rank", folder]
    subprocess.run(
        [horovodrun, "-np", str(RANKS), "--gloo", "-H", f"localhost:{RANKS}", *program],
        cwd=str(ROOT),
        check=True,
        timeout=600,
    )
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    """Of each rank {compressor: [{name: value} before each step and at the ends]}."""
    found = [
        {name: records(folder, rank, name) for name in RUNS} for rank in range(RANKS)
    ]
    assert {len(each) for rank in found for each in rank.values()} == {RECORDS}
    return found


@pytest.mark.parametrize("name", RUNS)
def test_every_rank_has_the_same_masks_step_sizes_and_weights(ranks, name):
    first, second = (rank[name] for rank in ranks)
    for step, (ours, theirs) in enumerate(zip(first, second)):
        assert ours.keys() == theirs.keys()
        different = [n for n in ours if ours[n].tobytes() != theirs[n].tobytes()]
        assert different == [], step


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_trial_is_done_once(ranks, folder, name):
    trials = RunFolder(os.path.join(folder, name, "compression")).trials()
    expected = [c.name for c in COMPRESSORS[name]]
    for compressor in expected:
        done = [t["trial"] for t in trials if t["compressor"] == compressor]
        assert done == [1, 2, 3]
        for rank in ranks:
            counts = [
                values[f"ec_estimator/{compressor}/trial"] for values in rank[name]
            ]
            assert counts == sorted(counts)
            assert counts[-1] == 3
            # Rank 0's checkpoint is where all go on from.
            assert counts[STOP + 1] >= counts[STOP] > 0


def test_the_targets_are_met(ranks):
    for rank in ranks:
        weights = rank["sparsity"][-1]
        for name in ("w1", "w2", "w3"):
            zeros = np.mean(weights[name] == 0)
            assert zeros == pytest.approx(0.6, abs=1 / weights[name].size)
        # Half of the 8 and 20 channels of w1 and w2.
        alive = rank["pruning"][-1]["ec_estimator/pruning/alive"]
        assert np.sum(alive == 0) == 14


def test_step_sizes_are_trained_on_every_step(ranks):
    values = [
        {n: v for n, v in step.items() if n.endswith("/step")}
        for step in ranks[0]["quantization"]
    ]
    assert len(values[-1]) > 3
    for name in values[-1]:
        assert np.any(values[-1][name] != values[-2][name]), name


def test_ranks_with_weights_of_their_own_are_refused(folder):
    for rank in range(RANKS):
        said = str(records(folder, rank, "refusal")[0]["said"])
        assert said.startswith("before the first step: 'w1' is not the same on all")
        assert "BroadcastGlobalVariablesHook(0)" in said
