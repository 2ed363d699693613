"""The table of rules: how channel labels move through each type of op.

A rule is a function of (flow, op). It reads the labels of the op's inputs with
`flow.axes(tensor)`, a list with a label vector or None for each axis; unites what must
live or die together; freezes what can't be removed; and gives the outputs their labels
with `flow.put`. An output without labels is just not put. Rules are called where an
input has labels, and the ranks of all inputs are known.
"""

# {op type: its rule}; users add to it with `channel_rule`.
RULES = {}


def rule(*op_types):
    """A decorator that makes a function the rule of these types of op."""

    def register(function):
        for op_type in op_types:
            RULES[op_type] = function
        return function

    return register
