"""Clusters whose processes are killed, late, or out of room end as they should.

`make drills` runs many more, of all compressors, tasks and moments.
"""
import json
import subprocess
import sys

import pytest

from tests.drills.scenario import MOMENTS, draw
from tests.launcher import ROOT

# Each has more processes than this machine cores.
pytestmark = pytest.mark.xdist_group("drills")

_CODE = """
import json, sys
from tests.drills import drill, scenario
drill.run(scenario.Drill(**json.loads(sys.argv[1])), sys.argv[2])
"""
_SMALL = draw(0)._replace(model="embeddings", workers=1, ps=1, fault="kill", away=0.1)
_MIRRORED = {"strategy": "mirrored", "model": "digits", "victim": "chief-0"}


def run(drill, folder):
    # In a process that has no threads yet, which forks.
    command = [sys.executable, "-c", _CODE, json.dumps(drill._asdict()), str(folder)]
    done = subprocess.run(
        command,
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_chief_that_is_killed_while_it_writes_the_artifact(tmp_path):
    chief = _SMALL._replace(compressor="pruning", victim="chief-0")
    run(chief._replace(moment="artifact", count=2), tmp_path)


@pytest.mark.slow
def test_a_parameter_server_that_loses_its_variables(tmp_path):
    lost = _SMALL._replace(compressor="sparsity", victim="ps-0", moment="", after=0.8)
    run(lost, tmp_path)
    log = (tmp_path / "logs" / "chief-0.log").read_text()
    assert "resumed after trial" in log or "trial 3/3" in log


def test_a_synchronous_chief_that_is_killed_in_a_trial(tmp_path):
    chief = _SMALL._replace(compressor="sparsity", model="synchronous")
    run(chief._replace(victim="chief-0", moment="between", count=2), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["chief-0", "worker-0", "ps-0", "ps-1"])
def test_a_synchronous_cluster_whose_task_is_killed(victim, tmp_path):
    task = _SMALL._replace(compressor="quantization", model="synchronous")
    run(task._replace(ps=2, victim=victim, moment="", after=0.8), tmp_path)


@pytest.mark.slow
def test_two_replicas_that_are_killed_in_a_trial(tmp_path):
    replicas = _SMALL._replace(compressor="sparsity", **_MIRRORED)
    run(replicas._replace(moment="between", count=2), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["", "checkpoint", "index", "artifact", "manifest"])
def test_two_replicas_that_are_killed_at_each_moment(moment, tmp_path):
    replicas = _SMALL._replace(compressor="pruning", **_MIRRORED)
    run(replicas._replace(moment=moment, count=2, after=1.5), tmp_path)


@pytest.mark.slow
def test_an_evaluator_that_exported_when_its_clock_was_ahead(tmp_path):
    evaluator = _SMALL._replace(compressor="sparsity", victim="evaluator-0")
    evaluator = evaluator._replace(skewed="evaluator-0", skew=3600)
    run(evaluator._replace(moment="export"), tmp_path)
    log = (tmp_path / "logs" / "evaluator-0.log").read_text()
    assert "later than this host's clock" in log


@pytest.mark.slow
@pytest.mark.parametrize("skew", [-3600, 3600])
def test_a_chief_whose_clock_is_wrong_until_it_is_killed(skew, tmp_path):
    chief = _SMALL._replace(compressor="pruning", victim="chief-0", moment="checkpoint")
    run(chief._replace(count=3, skewed="chief-0", skew=skew), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_chief_that_is_killed_at_each_moment(moment, tmp_path):
    chief = _SMALL._replace(compressor="pruning", victim="chief-0")
    run(chief._replace(moment=moment, count=2), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_model_dir_that_takes_nothing_for_a_while(fault, tmp_path):
    drill = _SMALL._replace(compressor="sparsity", fault=fault, victim="chief-0")
    run(drill._replace(moment="", after=0.5, away=1.0), tmp_path)


def test_a_seed_gives_the_same_drill_and_all_kinds_come():
    drills = [draw(seed) for seed in range(50)]
    assert drills == [draw(seed) for seed in range(50)]
    assert {d.fault for d in drills} == {"kill", "full", "read-only", "late"}
    assert {d.compressor for d in drills} == {"sparsity", "pruning", "quantization"}
    jobs = {d.victim.split("-")[0] for d in drills if d.fault == "kill"}
    assert jobs == {"chief", "worker", "ps", "evaluator"}
    assert {d.moment for d in drills} == {"", *MOMENTS}


def test_the_other_kinds_come_after_those():
    drills = [draw(seed) for seed in range(50, 65)]
    assert drills == [draw(seed) for seed in range(50, 65)]
    synchronous = [d for d in drills if d.model == "synchronous"]
    assert {d.victim for d in synchronous} == {"chief-0", "worker-0", "ps-1"}
    mirrored = [d for d in drills if d.strategy]
    assert {d.compressor for d in mirrored} == {"sparsity", "pruning", "quantization"}
    skewed = {(d.skewed, d.skew) for d in drills}
    assert skewed > {("chief-0", 3600), ("evaluator-0", -3600), ("", 0)}
    assert {d.fault for d in (*synchronous, *mirrored)} == {"kill"}


@pytest.mark.parametrize("error,code", [("", 0), ("AssertionError: lost", 1)])
def test_what_was_run_before_is_not_run_again_and_a_failure_stays(
    error, code, tmp_path
):
    results = tmp_path / "drills.jsonl"
    lines = [{"seed": 0, "error": ""}, {"seed": 1, "error": error}]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "tests.drills", "--count=2"]
    done = subprocess.run([*command, f"--results={results}"], cwd=str(ROOT))
    assert done.returncode == code
    assert len(results.read_text().splitlines()) == 2
