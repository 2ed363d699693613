"""Two models that were measured alike, side by side."""
import dataclasses
from typing import Tuple

from ec_estimator.core.columns import columns

# What a gain is called that rounds to none, and what is a loss.
_NO_GAIN = {"less": "as much", "faster": "as fast"}
_LOSS = {"less": "more", "faster": "slower"}


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number of both models.

    name, unit: "latency", "ms"; a unit of "" is a number without one.
    before, after: in that unit, > 0.
    digits: after the point, where it is shown.
    gain: "less" or "faster", what a smaller number is; "" where none is hoped for.
    """

    name: str
    unit: str
    before: float
    after: float
    digits: int = 0
    gain: str = ""

    @property
    def texts(self):
        """(before, after) as they are shown, without unit."""
        return tuple(f"{x:,.{self.digits}f}" for x in (self.before, self.after))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """title: of the page; names: of the two models; conditions: what they were measured
    with, in a line."""

    title: str
    names: Tuple[str, str]
    conditions: str
    measures: Tuple[Measure, ...]


def comparison_table(comparison):
    """A Comparison as (column names, rows of cells, indices of the columns that hold
    numbers)."""
    rows = [
        (
            ", ".join(filter(None, (measure.name, measure.unit))),
            *measure.texts,
            _gain(measure),
        )
        for measure in comparison.measures
    ]
    return ("", *comparison.names, ""), rows, (1, 2)


def _gain(measure):
    """How many times less or faster, or more or slower; "" where none is hoped for."""
    if not measure.gain:
        return ""
    times, word = measure.before / measure.after, measure.gain
    if times < 1:
        times, word = 1 / times, _LOSS[word]
    shown = f"{times:.1f}"
    return _NO_GAIN[measure.gain] if shown == "1.0" else f"{shown} x {word}"


def format_comparison(comparison):
    """A Comparison as lines of text, for a terminal."""
    return "\n".join(columns(*comparison_table(comparison)))
