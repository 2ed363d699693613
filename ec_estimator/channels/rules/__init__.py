"""How channel labels move through each type of op: small rules in one table."""
from ec_estimator.channels.rules import axes, entries, layers, parts
from ec_estimator.channels.rules.table import RULES
from ec_estimator.channels.rules.users import channel_rule

__all__ = [
    *("ALIGNED", "CHANNEL_PARAMETERS", "ENTRY_BY_ENTRY", "RULES", "SHAPE_OPERAND"),
    "SIZE_OPERAND",
    "channel_rule",
]


def _types(*functions):
    return frozenset(t for t, function in RULES.items() if function in functions)


# The operand that is a shape, of the ops whose rules see to the sizes in it.
SHAPE_OPERAND = {
    **dict.fromkeys(_types(axes.reshape), 1),
    **dict.fromkeys(_types(entries.made_to_size, layers.transposed_convolution), 0),
}
# {op type: input that holds sizes of what it puts out, maybe as literals}.
SIZE_OPERAND = {**SHAPE_OPERAND, "Slice": 2, "SplitV": 1}
# Ops whose inputs have the axes of the output, counted from the back.
ALIGNED = _types(entries.elementwise, entries.select, entries.merge, parts.concat)
# An entry of the output is computed from the same entries of inputs.
ENTRY_BY_ENTRY = _types(
    *(entries.passes, entries.passes_each, entries.elementwise, entries.select),
    entries.merge,
)
# {op type: inputs that are vectors with an entry for each channel}.
CHANNEL_PARAMETERS = {
    **dict.fromkeys(_types(entries.bias_add), (1,)),
    **dict.fromkeys(_types(entries.batch_norm), (1, 2, 3, 4)),
}
