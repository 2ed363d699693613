"""How far an engine's answers are from TensorFlow's."""
import numbers
from typing import NamedTuple

import numpy as np

from ec_estimator.export.format import ExportError

# Of the largest answer: classes so near to the best are as good as it, because engines
# add in another order; quantized outputs have many that are equal.
_TIE = 1e-5
# What is relative to answers that are all 0 is relative to this.
_LEAST = 1e-30


class Limits(NamedTuple):
    """From where on an engine's answers are no longer the model's.

    top_1: smallest share of examples where both give the same class.
    difference: largest difference of a float output, relative to its largest answer;
      and largest root mean square (RMS) of the differences of any float output,
      relative to the RMS of its answers.
    class_difference: the first of the two for outputs that are a score for each class.
    """

    top_1: float
    difference: float
    class_difference: float

    def are_valid(self):
        """Whether top_1 is a share and the others are numbers of 0 or more."""
        valid = (isinstance(limit, numbers.Real) and limit >= 0 for limit in self)
        return all(valid) and self.top_1 <= 1


# Other engines add in another order, nothing more.
FLOAT = Limits(0.999, 1e-3, 1e-3)
# A sum that lies between two integers goes to either, and what follows with it: one
# example may get another class, and all its scores with it, but not all examples.
QUANTIZED = Limits(0.99, 0.1, 1.0)


def check_parity(reference, engine, samples, limits):
    """Asks TensorFlow and an engine the same.

    Args:
      reference, engine: callable({input key: array [n, ...]}) ->
        {output key: array [n, ...]}.
      samples: samples.Samples.
      limits: Limits.

    Returns:
      JSON-ready dict: `samples`, their count; `outputs` of `compare`; `accuracy` of
      each, where there are labels; `limits`; `failed`, a list of sentences.
    """
    expected, answers = reference(samples.inputs), engine(samples.inputs)
    parity = {
        "checked": True,
        "samples": len(next(iter(samples.inputs.values()))),
        "limits": limits._asdict(),
    }
    try:
        parity["outputs"] = compare(expected, answers)
    except ExportError as error:
        return {**parity, "failed": [str(error)]}
    if samples.labels is not None:
        parity["accuracy"] = {
            "tensorflow": accuracy(expected, samples.labels),
            "engine": accuracy(answers, samples.labels),
        }
    return {**parity, "failed": failures(parity["outputs"], limits)}


def compare(expected, answers):
    """Compares two models' outputs.

    Args:
      expected, answers: {output key: array [n, ...]}, of TensorFlow and of the engine.

    Returns:
      {output key: {figure: number}}. Of a float output `max_abs_difference`,
      `largest_answer` (TensorFlow's), `relative_difference` (their quotient),
      `rms_difference`, the RMS of the differences relative to that of the answers, and
      `not_finite`, the count of numbers that are finite in one of the two only; `top_1`
      if it is `[n, 2 or more]`, the share of examples with the same largest score. Of
      others `equal`, a share. `left_out` of strings that the engine does not give.

    Raises:
      ExportError: an output is missing, or has another shape.
    """
    return {key: _compared(key, expected[key], answers.get(key)) for key in expected}


def _compared(key, expected, answer):
    if answer is None and expected.dtype.kind in "OSU":
        # Engines have no strings; a format leaves them out, with a warning.
        return {"left_out": True}
    if answer is None:
        raise ExportError(f"the engine does not give output {key!r}")
    answer = np.asarray(answer)
    if answer.shape != expected.shape:
        raise ExportError(
            f"the engine gives output {key!r} with shape {answer.shape}, TensorFlow "
            f"with {expected.shape}"
        )
    if not np.issubdtype(expected.dtype, np.floating):
        return {"equal": float(np.mean(expected == answer))}
    expected, answer = expected.astype(np.float64), answer.astype(np.float64)
    both = np.isfinite(expected) & np.isfinite(answer)
    same = both | (expected == answer) | (np.isnan(expected) & np.isnan(answer))
    errors, answers = expected[both] - answer[both], expected[both]
    difference = np.abs(errors).max(initial=0.0)
    largest = np.abs(answers).max(initial=0.0)
    figures = {
        "max_abs_difference": float(difference),
        "largest_answer": float(largest),
        "relative_difference": float(difference / max(largest, _LEAST)),
        # Not the mean relative to the largest: of a thousand probabilities nearly all
        # are 0, and right whatever the few that are not.
        "rms_difference": float(
            np.linalg.norm(errors) / max(np.linalg.norm(answers), _LEAST)
        ),
        "not_finite": int(np.sum(~same)),
    }
    if has_classes(expected):
        chosen = np.argmax(answer, 1)[:, None]
        scores = np.take_along_axis(expected, chosen, 1)[:, 0]
        figures["top_1"] = float(np.mean(scores >= expected.max(1) - _TIE * largest))
    return figures


def has_classes(output):
    """Whether an array is taken for a score of each class."""
    is_float = np.issubdtype(output.dtype, np.floating)
    return is_float and output.ndim == 2 and output.shape[1] >= 2


def accuracy(outputs, labels):
    """{output key: share of examples whose label has the largest score}, of outputs
    that have a score for each label.

    Args:
      outputs: {output key: array [n, ...]}.
      labels: int array `[n]`.
    """
    return {
        key: float(np.mean(np.argmax(output, 1) == labels))
        for key, output in outputs.items()
        if has_classes(output) and 0 <= labels.min() <= labels.max() < output.shape[1]
    }


def failures(compared, limits):
    """What is beyond the limits, a sentence each; [] if nothing is.

    Args:
      compared: of `compare`.
      limits: Limits.
    """
    return [
        f"output {key!r}: {figure} is {value:.6g}, the limit is {limit:.6g}"
        for key, figures in compared.items()
        for figure, limit in _limits_of(figures, limits).items()
        for value in [figures[figure]]
        # NaN is within no limit.
        if not (value >= limit if figure in ("top_1", "equal") else value <= limit)
    ]


def _limits_of(figures, limits):
    if "left_out" in figures:
        return {}
    if "equal" in figures:
        return {"equal": limits.top_1}
    of_floats = {"rms_difference": limits.difference, "not_finite": 0}
    if "top_1" in figures:
        scores = {"top_1": limits.top_1, "relative_difference": limits.class_difference}
        return {**scores, **of_floats}
    return {"relative_difference": limits.difference, **of_floats}
