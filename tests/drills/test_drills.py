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
