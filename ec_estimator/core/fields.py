"""What configs are made of: a declaration a field gives validation, flag and docs.

    @dataclasses.dataclass(frozen=True)
    class MovementConfig(ScheduledConfig):
        target_field = "sparse_ratio"
        sparse_ratio: float = fields.field(
            0.5, fields.ratio(), "fraction of weights that are zero at the end"
        )
        step_interval: int = fields.step_interval(1000)
        num_trials: int = fields.num_trials(10)
        include_scopes: Tuple[str, ...] = fields.include_scopes()
        exclude_scopes: Tuple[str, ...] = fields.exclude_scopes()
        ramp: str = fields.ramp()
        start_step: int = fields.start_step()

        @property
        def target(self):
            return self.sparse_ratio

`MovementConfig(sparse_ratio=1.5)` then raises a ConfigError that says what is right.
"""
import dataclasses
import numbers
from typing import Any, Callable, ClassVar, NamedTuple, Tuple

from ec_estimator.core.errors import ConfigError
from ec_estimator.core.schedule import RAMPS, Schedule


class Rule(NamedTuple):
    """What a field accepts.

    kind: the type of its flag: float, integer, boolean, string, enum (one of
      `choices`), or integers or strings (lists).
    text: completes the sentence "must be ...".
    parse: callable(value) -> the normal form of a good value; raises TypeError,
      ValueError or OverflowError for a bad one.
    choices: the values of an enum, as text.
    """

    kind: str
    text: str
    parse: Callable[[Any], Any]
    choices: Tuple[str, ...] = ()


def ratio():
    """A float in [0, 1]."""

    def parse(value):
        # True is a number to Python, and float() reads text.
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError
        value = float(value)
        if not 0.0 <= value <= 1.0:  # also refuses NaN
            raise ValueError
        return value

    return Rule("float", "a float in [0, 1]", parse)


def open_interval():
    """A float in (0, 1)."""

    def parse(value):
        value = ratio().parse(value)
        if not 0.0 < value < 1.0:
            raise ValueError
        return value

    return Rule("float", "a float in (0, 1)", parse)


def integer(low, high=None):
    """An integer of at least `low` and, if it is given, at most `high`."""

    def parse(value):
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise TypeError
        value = int(value)
        if value < low or (high is not None and value > high):
            raise ValueError
        return value

    if high is not None:
        text = f"an integer from {low} to {high}"
    elif low == 1:
        text = "an integer greater than 0"
    else:
        text = f"an integer of at least {low}"
    return Rule("integer", text, parse)


def boolean():
    """True or False, not 1 or 0."""

    def parse(value):
        if not isinstance(value, bool):
            raise TypeError
        return value

    return Rule("boolean", "True or False", parse)


def one_of(*choices):
    """One of these words."""

    def parse(value):
        if not isinstance(value, str) or value not in choices:
            raise ValueError
        return value

    text = " or ".join(repr(choice) for choice in choices)
    return Rule("enum", text, parse, choices)


def subset(*choices):
    """Some of these words, at least one and each once; becomes a tuple."""

    def parse(value):
        if isinstance(value, str):
            raise TypeError
        value = tuple(value)
        if not value or len(set(value)) < len(value) or not set(value) <= set(choices):
            raise ValueError
        return value

    text = "a non-empty selection of " + ", ".join(map(repr, choices))
    return Rule("strings", text, parse)


def scopes():
    """Names of scopes or ops; become a tuple without slashes at their ends."""

    def parse(value):
        if isinstance(value, str):
            raise TypeError
        value = tuple(value)
        if not all(isinstance(scope, str) and scope.strip("/") for scope in value):
            raise TypeError
        return tuple(scope.rstrip("/") for scope in value)

    return Rule("strings", "a tuple of non-empty scope names", parse)


def path():
    """A path, as text."""

    def parse(value):
        if not isinstance(value, str) or not value:
            raise TypeError
        return value

    return Rule("string", "a path", parse)


def or_none(rule):
    """What a rule accepts, or None."""

    def parse(value):
        return None if value is None else rule.parse(value)

    return rule._replace(text=f"{rule.text}, or None", parse=parse)


def field(default, rule, doc):
    """A field of a Config.

    Args:
      default: as `rule.parse` returns it.
      rule: Rule.
      doc: what it does, in a sentence for the flag's help.
    """
    return dataclasses.field(default=default, metadata={"rule": rule, "doc": doc})


# Fields that several configs have; defaults differ. ScheduledConfig needs some of them.


def step_interval(default):
    return field(default, integer(1), "training steps between trials")


def num_trials(default):
    return field(default, integer(1), "trials until the target is reached")


def include_scopes():
    return field((), scopes(), "only layers in these scopes; empty: all layers")


def exclude_scopes():
    return field((), scopes(), "no layer in these scopes")


def ramp():
    doc = "ratio at trial t of n: cubic r(1-(1-t/n)^3), linear r t/n"
    return field("cubic", one_of(*RAMPS), doc)


def start_step():
    return field(0, integer(0), "first step counted")


class Config:
    """Base of frozen dataclasses whose fields come from `field`; valid by construction.

    A compressor's config has include_scopes and exclude_scopes, and a `schedule`.

    Raises:
      ConfigError: a value breaks its field's rule; the message names class, field,
        rule and value.
    """

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            rule = field.metadata["rule"]
            try:
                value = rule.parse(value)
            except (TypeError, ValueError, OverflowError):
                raise ConfigError(
                    f"{type(self).__name__}.{field.name}: must be {rule.text}, "
                    f"got {value!r}"
                ) from None
            object.__setattr__(self, field.name, value)

    def to_dict(self):
        """The fields as JSON-ready values (tuples become lists)."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


@dataclasses.dataclass(frozen=True)
class ScheduledConfig(Config):
    """A config with trials that go to its `target`, a ratio, on a ramp.

    Has the fields start_step, step_interval, num_trials and ramp.
    """

    # Name of the field that says the target, for messages.
    target_field: ClassVar[str] = "target"

    @property
    def schedule(self):
        return Schedule(
            target=self.target,
            start_step=self.start_step,
            step_interval=self.step_interval,
            num_trials=self.num_trials,
            ramp=self.ramp,
        )
