"""Which part of a graph was imported, and so has the same sizes every time."""
from ec_estimator.core import tf_imports
from ec_estimator.core.replicas import variables_of


def imported_ops(graph):
    """Ops that code which builds the rest in Python has imported, as hub.Module does.

    A graph that was imported whole has none: its code is elsewhere, and builds it.
    """
    variables = variables_of(graph)
    if all(tf_imports.is_imported(variable.op) for variable in variables):
        return frozenset()
    return frozenset(op for op in graph.get_operations() if tf_imports.is_imported(op))
