"""The configs of pruning, block sparsity and quantization."""
import dataclasses
import functools
from typing import Any, Optional, Tuple

from ec_estimator.core import fields
from ec_estimator.core.errors import ConfigError
from ec_estimator.core.schedule import CONSTANT, Schedule


def _block_shape():
    def parse(value):
        if isinstance(value, (str, bytes)):
            raise TypeError
        rows, columns = map(fields.integer(1).parse, value)
        return rows, columns

    return fields.Rule("integers", "two integers greater than 0", parse)


def _signs():
    def parse(value):
        # Flags are text.
        named = {"true": True, "false": False, "auto": "auto"}
        if not isinstance(value, str):
            return fields.boolean().parse(value)
        if value.lower() not in named:
            raise ValueError
        return named[value.lower()]

    choices = ("true", "false", "auto")
    return fields.Rule("enum", "True, False or 'auto'", parse, choices)


_BITS = fields.integer(1, 8)


@dataclasses.dataclass(frozen=True)
class PrunerConfig(fields.ScheduledConfig):
    """Structured pruning: how many channels, of what, when and where."""

    target_field = "compression_ratio"
    compression_ratio: float = fields.field(
        0.0, fields.ratio(), "fraction of the ratio_metric that is removed at the end"
    )
    step_interval: int = fields.step_interval(1)
    num_trials: int = fields.num_trials(1)
    include_scopes: Tuple[str, ...] = fields.include_scopes()
    exclude_scopes: Tuple[str, ...] = fields.exclude_scopes()
    prune_sort_range: str = fields.field(
        "global",
        fields.one_of("global", "local"),
        "global: all channels compete; local: each layer loses the same fraction",
    )
    prunable_op_types: Tuple[str, ...] = fields.field(
        ("Conv2D", "MatMul"),
        fields.subset("Conv2D", "MatMul"),
        "op types whose output channels may go",
    )
    ema_alpha: float = fields.field(
        0.95,
        fields.open_interval(),
        "importance = alpha * old + (1 - alpha) * new, every step",
    )
    ratio_metric: str = fields.field(
        "channels",
        fields.one_of("channels", "params", "macs"),
        "what compression_ratio is a fraction of",
    )
    channel_align: int = fields.field(
        1,
        fields.integer(1),
        "channels kept per layer are a multiple of this where the layer is that wide",
    )
    ramp: str = fields.ramp()
    start_step: int = fields.start_step()

    @property
    def target(self):
        return self.compression_ratio


@dataclasses.dataclass(frozen=True)
class SparsifierConfig(fields.ScheduledConfig):
    """Block sparsity: how much, in which blocks, when and where."""

    target_field = "target_sparse_ratio"
    target_sparse_ratio: float = fields.field(
        0.6,
        fields.ratio(),
        "fraction of each kernel's weights that are zero at the end",
    )
    sparse_block_shape: Tuple[int, int] = fields.field(
        (1, 1),
        _block_shape(),
        "rows x columns of a block, on the kernel viewed as [kh*kw*in, out]",
    )
    step_interval: int = fields.step_interval(1000)
    num_trials: int = fields.num_trials(10)
    include_scopes: Tuple[str, ...] = fields.include_scopes()
    exclude_scopes: Tuple[str, ...] = fields.exclude_scopes()
    sort_range: str = fields.field(
        "local",
        fields.one_of("local", "global"),
        "local: every kernel at the target; global: all kernels' blocks compete",
    )
    ramp: str = fields.ramp()
    start_step: int = fields.start_step()

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
class QuantizerConfig(fields.Config):
    """Quantization-aware training: how many bits, where, and when steps are fitted.

    `pretrain_model` is another name for `pretrained_model`.
    """

    bits: int = fields.field(8, _BITS, "bit width of activations")
    wbits: int = fields.field(8, _BITS, "bit width of weights")
    signed: Any = fields.field(
        True,
        _signs(),
        "activations as signed integers; auto: unsigned where they can't be negative",
    )
    pretrained_model: Optional[str] = fields.field(
        None,
        fields.or_none(fields.path()),
        "FP32 checkpoint of the plain model to start from",
    )
    step_interval: int = fields.field(
        1000, fields.integer(1), "training steps between fits of the step sizes"
    )
    num_trials: int = fields.field(
        10, fields.integer(1), "fits of the step sizes, the first at the start"
    )
    include_scopes: Tuple[str, ...] = fields.include_scopes()
    exclude_scopes: Tuple[str, ...] = fields.exclude_scopes()
    fp32_layers: Tuple[str, ...] = fields.field(
        (), fields.scopes(), "names of the ops of layers that stay in float32"
    )
    post_quant: bool = fields.field(
        False,
        fields.boolean(),
        "also quantize what layers put out, after bias, batch norm and activation",
    )
    int8_winograd: bool = fields.field(
        False,
        fields.boolean(),
        "3x3 convolutions of stride 1 as F(2x2, 3x3) with integers in between",
    )
    first_last_bits: Optional[int] = fields.field(
        None,
        fields.or_none(_BITS),
        "bit width of the first and the last layer if it differs",
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
