"""What a drill is: drawn from its seed."""
from typing import NamedTuple

import numpy as np

import ec_estimator as ec
from examples import digits_model
from tests.drills import embeddings_model

STEPS, INTERVAL, TRIALS = 60, 12, 3
MODELS = {"digits": digits_model, "embeddings": embeddings_model}
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


class Drill(NamedTuple):
    """seed: of all the rest.

    compressor, model: names.
    workers, ps: how many, beside the chief.
    fault: "kill", a SIGKILL that is followed by a restart; "full" or "read-only",
      the model_dir for a while; "late", a task that starts late.
    victim: a task, such as "worker-0".
    moment: where in the chief's work, one of MOMENTS, or "" for any time.
    count: the how-manyth time it gets there.
    after: seconds, from the chief's first step, where it is any time.
    away: seconds until the restart, or until the model_dir is as it was.
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


def draw(seed):
    """The Drill of a seed."""
    random = np.random.RandomState(seed)

    def pick(values):
        return values[random.randint(len(values))]

    compressor, model = pick(sorted(COMPRESSORS)), pick(sorted(MODELS))
    workers, ps = (int(n) for n in random.randint(1, 3, 2))
    fault = pick(["kill"] * 7 + ["full", "full", "read-only", "late"])
    tasks = [f"worker-{random.randint(workers)}", "evaluator-0"]
    servers = [f"ps-{random.randint(ps)}"]
    # Trials are much alike; what writes an artifact is the pruner alone.
    moments = MOMENTS[2:] if compressor == "pruning" else MOMENTS[:4]
    moment, count, victim = "", 1, "chief-0"
    if fault == "kill":
        victim = pick(["chief-0"] * 3 + tasks + servers * 2)
        if victim == "chief-0" and random.rand() < 0.8:
            moment, count = pick(moments), int(random.randint(1, TRIALS + 1))
    if fault == "late":
        victim = pick(tasks)
    after, away = random.uniform(0, 1.8), random.uniform(0, 2)
    return Drill(
        *(seed, compressor, model, workers, ps, fault, victim, moment, count),
        *(round(after, 2), round(away, 2)),
    )
