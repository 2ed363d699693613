"""The configs. One declaration a field gives validation, flag and documentation."""
import dataclasses
import functools
import numbers
from typing import Any, Callable, NamedTuple, Optional, Tuple

from ec_estimator.core.errors import ConfigError
from ec_estimator.core.schedule import CONSTANT, RAMPS, Schedule


class Rule(NamedTuple):
    """What a field accepts.

    `kind` names the flag type, `text` completes the sentence "must be ...",
    `parse` returns the normal form of a good value and raises TypeError or
    ValueError for a bad one, `choices` are the values of an enum.
    """

    kind: str
    text: str
    parse: Callable[[Any], Any]
    choices: Tuple[str, ...] = ()


def _ratio():
    def parse(value):
        # True is a number to Python, and float() reads text.
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError
        value = float(value)
        if not 0.0 <= value <= 1.0:  # also refuses NaN
            raise ValueError
        return value

    return Rule("float", "a float in [0, 1]", parse)


def _integer(value, low):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError
    value = int(value)
    if value < low:
        raise ValueError
    return value


def _at_least(low):
    text = "an integer greater than 0" if low == 1 else f"an integer of at least {low}"
    return Rule("integer", text, lambda value: _integer(value, low))


def _block_shape():
    def parse(value):
        if isinstance(value, (str, bytes)):
            raise TypeError
        rows, columns = value
        return _integer(rows, 1), _integer(columns, 1)

    return Rule("integers", "two integers greater than 0", parse)


def _scopes():
    def parse(value):
        if isinstance(value, str):
            raise TypeError
        value = tuple(value)
        if not all(isinstance(scope, str) and scope.strip("/") for scope in value):
            raise TypeError
        return tuple(scope.rstrip("/") for scope in value)

    return Rule("strings", "a tuple of non-empty scope names", parse)


def _open_interval():
    def parse(value):
        value = _ratio().parse(value)
        if not 0.0 < value < 1.0:
            raise ValueError
        return value

    return Rule("float", "a float in (0, 1)", parse)


def _subset(*choices):
    def parse(value):
        if isinstance(value, str):
            raise TypeError
        value = tuple(value)
        if not value or len(set(value)) < len(value) or not set(value) <= set(choices):
            raise ValueError
        return value

    text = "a non-empty selection of " + ", ".join(map(repr, choices))
    return Rule("strings", text, parse)


def _one_of(*choices):
    def parse(value):
        if not isinstance(value, str) or value not in choices:
            raise ValueError
        return value

    text = " or ".join(repr(choice) for choice in choices)
    return Rule("enum", text, parse, choices)


def _bits():
    def parse(value):
        value = _integer(value, 1)
        if value > 8:
            raise ValueError
        return value

    return Rule("integer", "an integer from 1 to 8", parse)


def _bits_or_none():
    def parse(value):
        return None if value is None else _bits().parse(value)

    return Rule("integer", "an integer from 1 to 8, or None", parse)


def _boolean():
    def parse(value):
        if not isinstance(value, bool):
            raise TypeError
        return value

    return Rule("boolean", "True or False", parse)


def _signs():
    def parse(value):
        # Flags are text.
        named = {"true": True, "false": False, "auto": "auto"}
        if isinstance(value, str):
            return named[value.lower()] if value.lower() in named else _refuse()
        return _boolean().parse(value)

    return Rule("enum", "True, False or 'auto'", parse, ("true", "false", "auto"))


def _refuse():
    raise ValueError


def _path_or_none():
    def parse(value):
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise TypeError
        return value

    return Rule("string", "a path, or None", parse)


def _field(default, rule, doc):
    return dataclasses.field(default=default, metadata={"rule": rule, "doc": doc})


class Config:
    """A frozen dataclass whose fields carry rules; valid by construction.

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
    """A config with trials; `target` is what they lead to."""

    @property
    def schedule(self):
        return Schedule(
            target=self.target,
            start_step=self.start_step,
            step_interval=self.step_interval,
            num_trials=self.num_trials,
            ramp=self.ramp,
        )


# Fields that several configs have; defaults differ.


def _step_interval(default):
    return _field(default, _at_least(1), "training steps between trials")


def _num_trials(default):
    return _field(default, _at_least(1), "trials until the target is reached")


def _include_scopes():
    return _field((), _scopes(), "only layers in these scopes; empty: all layers")


def _exclude_scopes():
    return _field((), _scopes(), "no layer in these scopes")


def _ramp():
    doc = "ratio at trial t of n: cubic r(1-(1-t/n)^3), linear r t/n"
    return _field("cubic", _one_of(*RAMPS), doc)


def _start_step():
    return _field(0, _at_least(0), "first step counted")


@dataclasses.dataclass(frozen=True)
class PrunerConfig(ScheduledConfig):
    """Structured pruning: how many channels, of what, when and where."""

    compression_ratio: float = _field(
        0.0, _ratio(), "fraction of the ratio_metric that is removed at the end"
    )
    step_interval: int = _step_interval(1)
    num_trials: int = _num_trials(1)
    include_scopes: Tuple[str, ...] = _include_scopes()
    exclude_scopes: Tuple[str, ...] = _exclude_scopes()
    prune_sort_range: str = _field(
        "global",
        _one_of("global", "local"),
        "global: all channels compete; local: each layer loses the same fraction",
    )
    prunable_op_types: Tuple[str, ...] = _field(
        ("Conv2D", "MatMul"),
        _subset("Conv2D", "MatMul"),
        "op types whose output channels may go",
    )
    ema_alpha: float = _field(
        0.95,
        _open_interval(),
        "importance = alpha * old + (1 - alpha) * new, every step",
    )
    ratio_metric: str = _field(
        "channels",
        _one_of("channels", "params", "macs"),
        "what compression_ratio is a fraction of",
    )
    channel_align: int = _field(
        1,
        _at_least(1),
        "channels kept per layer are a multiple of this where the layer is that wide",
    )
    ramp: str = _ramp()
    start_step: int = _start_step()

    @property
    def target(self):
        return self.compression_ratio


@dataclasses.dataclass(frozen=True)
class SparsifierConfig(ScheduledConfig):
    """Block sparsity: how much, in which blocks, when and where."""

    target_sparse_ratio: float = _field(
        0.6, _ratio(), "fraction of each kernel's weights that are zero at the end"
    )
    sparse_block_shape: Tuple[int, int] = _field(
        (1, 1),
        _block_shape(),
        "rows x columns of a block, on the kernel viewed as [kh*kw*in, out]",
    )
    step_interval: int = _step_interval(1000)
    num_trials: int = _num_trials(10)
    include_scopes: Tuple[str, ...] = _include_scopes()
    exclude_scopes: Tuple[str, ...] = _exclude_scopes()
    sort_range: str = _field(
        "local",
        _one_of("local", "global"),
        "local: every kernel at the target; global: all kernels' blocks compete",
    )
    ramp: str = _ramp()
    start_step: int = _start_step()

    @property
    def target(self):
        return self.target_sparse_ratio


def _also_called(other, name):
    """Class decorator: a config takes its field `name` by another name, too.

    Not a dataclasses.InitVar, with which dataclasses.replace() fails.
    """

    def decorate(config):
        init = config.__init__

        @functools.wraps(init)
        def __init__(self, *args, **values):
            given = values.pop(other, None)
            if given is not None:
                if values.get(name) not in (None, given):
                    raise ConfigError(
                        f"{config.__name__}.{name}: is {values[name]!r}, but {other}, "
                        f"another name for it, {given!r}; give one of them"
                    )
                values[name] = given
            init(self, *args, **values)

        config.__init__ = __init__
        return config

    return decorate


@_also_called("pretrain_model", "pretrained_model")
@dataclasses.dataclass(frozen=True)
class QuantizerConfig(Config):
    """Quantization-aware training: how many bits, where, and when steps are fitted.

    `pretrain_model` is another name for `pretrained_model`.
    """

    bits: int = _field(8, _bits(), "bit width of activations")
    wbits: int = _field(8, _bits(), "bit width of weights")
    signed: Any = _field(
        True,
        _signs(),
        "activations as signed integers; auto: unsigned where they can't be negative",
    )
    pretrained_model: Optional[str] = _field(
        None, _path_or_none(), "FP32 checkpoint of the plain model to start from"
    )
    step_interval: int = _field(
        1000, _at_least(1), "training steps between fits of the step sizes"
    )
    num_trials: int = _field(
        10, _at_least(1), "fits of the step sizes, the first at the start"
    )
    include_scopes: Tuple[str, ...] = _include_scopes()
    exclude_scopes: Tuple[str, ...] = _exclude_scopes()
    fp32_layers: Tuple[str, ...] = _field(
        (), _scopes(), "names of the ops of layers that stay in float32"
    )
    post_quant: bool = _field(
        False,
        _boolean(),
        "also quantize what layers put out, after bias, batch norm and activation",
    )
    int8_winograd: bool = _field(
        False,
        _boolean(),
        "3x3 convolutions of stride 1 as F(2x2, 3x3) with integers in between",
    )
    first_last_bits: Optional[int] = _field(
        None, _bits_or_none(), "bit width of the first and the last layer if it differs"
    )

    @property
    def schedule(self):
        """The first trial is just before step 2: step 1 has shown activations."""
        return Schedule(
            target=1.0,
            start_step=2 - self.step_interval,
            step_interval=self.step_interval,
            num_trials=self.num_trials,
            ramp=CONSTANT,
        )
