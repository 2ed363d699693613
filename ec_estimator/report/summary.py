"""summary.json: what each compressor of a run did, and what to do next.

    {compressor: {"trial": 3, "num_trials": 3, "layers": [...], "totals": {...},
                  "units": {...}},                          of numbers in trials.jsonl
     "small_network": {"layers": [...], "totals": {...}},   after pruning
     "evaluation": {metric: number},                        of train_and_evaluate
     "next": "python -m ec_estimator ..."}
"""
import dataclasses
import os
import shlex

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.finished import FOLDER as RUN
from ec_estimator.report.data import pruning_report
from ec_estimator.shrink.artifact import FOLDER as PRUNED

NAME = "summary.json"
_REPORT = "python -m ec_estimator report --run_folder="


class Summary:
    """Collects what compressors did; in a run's folder from their first trial on.

    content: as above.

    Args:
      folder: core.folder.RunFolder that is written to, and goes on from what an earlier
        start of the run left; or None.
    """

    def __init__(self, folder):
        self._folder = folder
        self.content = (folder.read_json(NAME) if folder else None) or {}

    def add(self, name, trial, schedule, report, layers):
        """Puts in what the newest trial of a compressor led to.

        Args:
          name: of the compressor.
          trial: its number, of core.schedule.Schedule `schedule`.
          report: core.report.Report.
          layers: [graph.coverage.Coverage] of the model.
        """
        sizes = {layer.kernel: layer.weights for layer in layers if layer.kernel}
        self.content[name] = {
            "trial": trial,
            "num_trials": schedule.num_trials,
            "layers": [_with_size(row, sizes) for row in report.layers()],
            "totals": report.totals(),
            "units": report.units(),
        }
        self._write()

    def end(self, next_command):
        """Completes it at the end of training."""
        if self._folder and tf.gfile.Exists(self._folder.file(PRUNED)):
            self.content["small_network"] = _small_network(self._folder.file(PRUNED))
        self.content["next"] = next_command
        self._write()

    def add_evaluation(self, metrics):
        """Puts in {metric: value}, of those that are numbers."""
        values = {name: np.asarray(value) for name, value in metrics.items()}
        self.content["evaluation"] = {
            name: value.item()
            for name, value in values.items()
            if value.ndim == 0 and value.dtype.kind in "biuf"
        }
        self._write()

    def _write(self):
        if self._folder:
            self._folder.write_json(NAME, self.content)


def next_command(folder, last_step):
    """What to do when training has ended.

    Args:
      folder: core.folder.RunFolder or None.
      last_step: at which the model is finished, None if it is.
    """
    if last_step is not None:
        return f"train to step {last_step}"
    if folder is None:
        return "export the model"
    path = shlex.quote(folder.path)
    if tf.gfile.Exists(folder.file(PRUNED)):
        return (
            f"python -m ec_estimator finetune --model=MODULE --pruned={path} "
            "--model_dir=FOLDER --train_steps=STEPS"
        )
    return f"{_REPORT}{path}"


def after_report(folder, content):
    """What to do next for one who reads the report.

    Args:
      folder: core.folder.RunFolder; content: of its summary.json.
    """
    command = content.get("next", "")
    if not command.startswith(_REPORT):
        return command
    model_dir, name = os.path.split(folder.path)
    if name != RUN:
        return "export the model"
    return (
        f"python -m ec_estimator export --model=MODULE "
        f"--model_dir={shlex.quote(model_dir or '.')} --format=FORMAT"
    )


def _with_size(row, sizes):
    """A row with the number of its kernel's weights, where that is known."""
    names = {name: row[name] for name in ("layer", "kernel") if name in row}
    return {**names, "weights": sizes.get(row.get("kernel")), **row}


def _small_network(folder):
    report = pruning_report(folder)
    return {
        "layers": [
            {
                "layer": layer.op,
                "kernel": layer.kernel,
                "channels": layer.channels and dataclasses.asdict(layer.channels),
                **_cost(layer.cost),
            }
            for layer in report.layers
        ],
        "totals": _cost(report.total),
    }


def _cost(cost):
    costs = dataclasses.asdict(cost)
    return {
        "parameters": costs["params"],
        "MACs": costs["macs"],
        "bytes": costs["bytes"],
    }
