"""Short names for what a conversion made up: in a file of small kernels, long ones are
a tenth of it."""
import itertools
import re

from ec_estimator.core.state import SCOPE

# tf2onnx numbers what it makes after two underscores.
_MADE_UP = re.compile(rf"__\d+|^{SCOPE}/")


def shorten(model):
    """Renames what has no name of the user's, in place: tensors to t0, t1 and so on;
    nodes lose theirs. What goes in and comes out keeps its name.

    Args:
      model: onnx.ModelProto.
    """
    graphs = list(_graphs(model.graph))
    kept = {port.name for port in (*model.graph.input, *model.graph.output)}
    names = dict.fromkeys(name for graph in graphs for name in _tensors(graph))
    made_up = [n for n in names if n not in kept and _MADE_UP.search(n)]
    taken = set(names).difference(made_up)
    free = (name for name in map("t{}".format, itertools.count()) if name not in taken)
    short = dict(zip(made_up, free))
    for graph in graphs:
        for thing in (
            *graph.initializer,
            *graph.value_info,
            *graph.input,
            *graph.output,
        ):
            thing.name = short.get(thing.name, thing.name)
        for node in graph.node:
            for ends in (node.input, node.output):
                ends[:] = [short.get(name, name) for name in ends]
            if _MADE_UP.search(node.name):
                node.name = ""


def _tensors(graph):
    for thing in (*graph.input, *graph.initializer):
        yield thing.name
    for node in graph.node:
        yield from node.output


def _graphs(graph):
    """A graph and those inside of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
