"""The moving averages of kernels: variables that training writes with their values."""
from ec_estimator.channels.rules import ENTRY_BY_ENTRY
from ec_estimator.core.replicas import variable_name
from ec_estimator.core.state import is_state
from ec_estimator.graph.backward_pass import backward_ops
from ec_estimator.graph.op_types import ASSIGNMENTS
from ec_estimator.graph.variables import first_writes
from ec_estimator.graph.walk import aliases, descendants, origin, values


def averages(graph, kernels, variables):
    """Finds the variables that follow a kernel entry by entry.

    What is computed from the kernel, entry by entry, is written to them; they are not
    trained, and no gradient is taken through what reads them: that would be a teacher.

    Args:
      graph: a complete training graph.
      kernels: names of variables.
      variables: {name: variable} of the graph.

    Returns:
      {name of a kernel: [variable]}.
    """
    backward = backward_ops(graph)
    return {
        name: [
            variables[target]
            for target in sorted(_written_with(variables[name], variables, backward))
            if target not in kernels
            and not variables[target].trainable
            and not is_state(target)
            and variables[target].shape == variables[name].shape
            and not any(
                op.name in backward for op in descendants([variables[target].op])
            )
        ]
        for name in kernels
    }


def _written_with(kernel, variables, backward):
    """Names of the variables that values of a kernel are written to."""
    targets, seen = set(), set()
    stack = [*aliases(kernel.op), *values(kernel.op)]
    while stack:
        tensor = stack.pop()
        for op in dict.fromkeys(tensor.consumers()):
            if op in backward.ops or op in seen:
                continue
            if op.type in ASSIGNMENTS:
                target = variable_name(origin(op.inputs[0]))
                if target in variables and op.inputs[ASSIGNMENTS[op.type]] is tensor:
                    if op not in first_writes(variables[target]):
                        targets.add(target)
            elif op.type in ENTRY_BY_ENTRY:
                seen.add(op)
                stack.extend(o for o in op.outputs if o.shape == kernel.shape)
    return targets
