"""What a drill is: drawn from its seed."""
from typing import NamedTuple

import numpy as np

import ec_estimator as ec
from examples import digits_model
from tests.drills import embeddings_model, synchronous_model

STEPS, INTERVAL, TRIALS = 60, 12, 3
MODELS = {
    "digits": digits_model,
    "embeddings": embeddings_model,
    "synchronous": synchronous_model,
}
COMPRESSORS = {
    "sparsity": lambda: ec.Sparsifier(
        ec.SparsifierConfig(
            step_interval=INTERVAL, num_trials=TRIALS, sparse_block_shape=(1, 4)
        )
    ),
    "pruning": lambda: ec.Pruner(
        ec.PrunerConfig(0.5, step_interval=INTERVAL, num_trials=TRIALS)
    ),
    "quantization": lambda: ec.LSQQuantizer(
        ec.QuantizerConfig(step_interval=INTERVAL, num_trials=TRIALS)
    ),
}
# Where in its work the chief can be killed, or its disk be full.
MOMENTS = ("trial", "between", "checkpoint", "index", "artifact", "manifest")
# Seconds.
_SKEW = 3600
# Seeds below it are of asynchronous clusters whose clocks agree.
_ASYNCHRONOUS = 50


class Drill(NamedTuple):
    """seed: of all the rest.

    compressor, model: names.
    workers, ps: how many, beside the chief.
    fault: "kill", a SIGKILL that is followed by a restart; "full" or "read-only",
      the model_dir for a while; "late", a task that starts late.
    victim: a task, such as "worker-0".
    moment: where in the chief's work, one of MOMENTS; "export", in the evaluator's; or
      "" for any time.
    count: the how-manyth time it gets there.
    after: seconds, from the chief's first step, where it is any time.
    away: seconds until the restart, or until the model_dir is as it was.
    strategy: "mirrored": two replicas in one process, "chief-0", and no cluster.
    skewed: a task whose clock is `skew` seconds ahead (below 0: behind), or "". What is
      started in its place is on another host, whose clock is right. It is the clock
      that Python reads; what is C++, and the times of files, have this machine's.
    """

    seed: int
    compressor: str
    model: str
    workers: int
    ps: int
    fault: str
    victim: str
    moment: str
    count: int
    after: float
    away: float
    strategy: str = ""
    skewed: str = ""
    skew: int = 0


def draw(seed):
    """The Drill of a seed."""
    random = np.random.RandomState(seed)

    def pick(values):
        return values[random.randint(len(values))]

    drill = _asynchronous(seed, random, pick)
    if seed < _ASYNCHRONOUS:
        return drill
    return (_synchronous, _mirrored, _skewed)[seed % 3](drill, pick)


def _asynchronous(seed, random, pick):
    compressor, model = pick(sorted(COMPRESSORS)), pick(["digits", "embeddings"])
    workers, ps = (int(n) for n in random.randint(1, 3, 2))
    fault = pick(["kill"] * 7 + ["full", "full", "read-only", "late"])
    tasks = [f"worker-{random.randint(workers)}", "evaluator-0"]
    servers = [f"ps-{random.randint(ps)}"]
    moment, count, victim = "", 1, "chief-0"
    if fault == "kill":
        victim = pick(["chief-0"] * 3 + tasks + servers * 2)
        if victim == "chief-0" and random.rand() < 0.8:
            moment = pick(_moments(compressor))
            count = int(random.randint(1, TRIALS + 1))
    if fault == "late":
        victim = pick(tasks)
    after, away = random.uniform(0, 1.8), random.uniform(0, 2)
    return Drill(
        *(seed, compressor, model, workers, ps, fault, victim, moment, count),
        *(round(after, 2), round(away, 2)),
    )


def _synchronous(drill, pick):
    # The last server is not the one with the queue of tokens, if there are two.
    victim = pick(["chief-0", "worker-0", f"ps-{drill.ps - 1}"])
    return _killed(drill._replace(model="synchronous", victim=victim), pick)


def _mirrored(drill, pick):
    drill = drill._replace(strategy="mirrored", model="digits", workers=0, ps=0)
    return _killed(drill._replace(victim="chief-0"), pick)


def _skewed(drill, pick):
    skewed = pick(["chief-0", "evaluator-0"])
    drill = drill._replace(skewed=skewed, skew=pick([-_SKEW, _SKEW]), victim=skewed)
    if skewed == "chief-0":
        return _killed(drill, pick)
    # It has exported by its clock; its successor does by the right one.
    return drill._replace(fault="kill", moment="export", count=1)


def _killed(drill, pick):
    drill = drill._replace(fault="kill", moment="", count=1)
    moment = pick(["", *_moments(drill.compressor)])
    if drill.victim != "chief-0" or not moment:
        return drill
    return drill._replace(moment=moment, count=pick(range(1, TRIALS + 1)))


def _moments(compressor):
    # Trials are much alike; what writes an artifact is the pruner alone.
    return MOMENTS[2:] if compressor == "pruning" else MOMENTS[:4]
