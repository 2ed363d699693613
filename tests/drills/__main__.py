"""`make drills`: seeded drills in a row; what was run before is not run again.

    python -m tests.drills --count=65 --results=demo_output/drills.jsonl

Exits with 1 if a drill failed, now or before; a failed one leaves its logs and its
model_dir in the folder that its result names.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=65, help="seeds 0 to count - 1")
    parser.add_argument("--results", default="demo_output/drills.jsonl")
    arguments = parser.parse_args()
    results = read_results(arguments.results)
    for seed in range(arguments.count):
        if seed not in results:
            results[seed] = run(seed)
            add_result(arguments.results, results[seed])
        print(json.dumps(results[seed]), flush=True)
    failed = [s for s in range(arguments.count) if results[s]["error"]]
    print(f"{arguments.count - len(failed)} of {arguments.count} passed", flush=True)
    if failed:
        sys.exit(f"failed: seeds {failed}; remove their lines to run them again")


def read_results(path):
    """{seed: result} of an earlier start."""
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        results = [json.loads(line) for line in file]
    return {result["seed"]: result for result in results}


def add_result(path, result):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(result) + "\n")


def run(seed):
    """A drill's result: its fields, seconds, folder and error, "" if it passed."""
    from tests.drills import drill, scenario

    drawn, started, error = scenario.draw(seed), time.time(), ""
    folder = tempfile.mkdtemp(prefix=f"drill-{seed}-")
    try:
        drill.run(drawn, folder)
        shutil.rmtree(folder)
    except (AssertionError, TimeoutError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    seconds = round(time.time() - started, 1)
    return {**drawn._asdict(), "seconds": seconds, "folder": folder, "error": error}


if __name__ == "__main__":
    # A thread for each op leaves none for the other processes of a drill.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
    main()
