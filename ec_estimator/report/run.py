"""What the compressors of a run did, read from the run's folder alone."""
import dataclasses
import os
from typing import Any, Dict, List, Tuple

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.finished import FOLDER
from ec_estimator.core.folder import RunFolder
from ec_estimator.graph.coverage import COMPRESSED
from ec_estimator.report.summary import NAME, after_report

# What the hook adds to a trial's record, of which a curve would say nothing.
_OF_THE_HOOK = ("compressor", "trial", "step", "seconds")


@dataclasses.dataclass(frozen=True)
class CompressorReport:
    """What one compressor of a run did.

    left_alone: {op of a layer: why it is not compressed}.
    layers, totals: after trial `trial` of `num_trials`; see core.report.Report.
    curves: {what: {of which kernel or tensor: [[step, number]]}}, a point each trial;
      of a range its upper end. units: {what: of these numbers}.
    """

    compressor: str
    trial: int
    num_trials: int
    left_alone: Dict[str, str]
    layers: Tuple[Dict[str, Any], ...]
    totals: Dict[str, Any]
    curves: Dict[str, Dict[str, List[List[float]]]]
    units: Dict[str, str]


def find_run(folder):
    """The RunFolder at a path, or at the model_dir above it; None if there is none."""
    for place in (folder, os.path.join(folder, FOLDER)):
        run = RunFolder(place)
        if tf.gfile.Exists(run.file(NAME)):
            return run
    return None


def compressor_reports(run):
    """What each compressor did, in the order in which they are applied.

    Args:
      run: core.folder.RunFolder.

    Returns:
      Tuple of CompressorReport.

    Raises:
      RunFolderError: a file is damaged.
    """
    summary, trials = run.read_json(NAME), run.trials()
    coverage = run.read_json("coverage.json") or {"layers": []}
    try:
        return tuple(
            CompressorReport(
                name,
                int(summary[name]["trial"]),
                int(summary[name]["num_trials"]),
                _left_alone(name, coverage["layers"]),
                tuple(dict(row) for row in summary[name]["layers"]),
                dict(summary[name]["totals"]),
                _curves([t for t in trials if t["compressor"] == name]),
                dict(summary[name].get("units", {})),
            )
            for name in run.schedules()
            if name in summary
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{run.file(NAME)!r} or a file beside it is damaged ({error!r}); restore "
            "them, or train again"
        ) from error


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    evaluation: {metric: value} of the last evaluation of train_and_evaluate, or {}.
    next: what to do next; "" while the run goes on.
    """

    evaluation: Dict[str, float]
    next: str


def outcome(run):
    """The Outcome of a run, for a reader of its report.

    Args:
      run: core.folder.RunFolder.
    """
    summary = run.read_json(NAME)
    return Outcome(summary.get("evaluation", {}), after_report(run, summary))


def _left_alone(name, layers):
    decisions = {layer["op"]: layer["decisions"][name] for layer in layers}
    return {
        op: decision
        for op, decision in decisions.items()
        if not decision.startswith(COMPRESSED)
    }


def _curves(trials):
    curves = {}
    for trial in trials:
        for what, values in trial.items():
            if what in _OF_THE_HOOK:
                continue
            named = values if isinstance(values, dict) else {"": values}
            for name, value in named.items():
                number = value[-1] if isinstance(value, list) and value else value
                if isinstance(number, (int, float)):
                    points = curves.setdefault(what, {}).setdefault(name, [])
                    points.append([trial["step"], number])
    return curves
