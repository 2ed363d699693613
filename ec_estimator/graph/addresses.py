"""Where a tensor of a model comes from, told without the names of ops.

The names of a model's ops differ between its modes: dropout, summaries and receivers
move their numbers. The names of its variables do not, nor does the way on which one
layer's output gets to the next.
"""
import hashlib
from typing import NamedTuple

from ec_estimator.core.replicas import variable_name
from ec_estimator.core.state import is_state
from ec_estimator.graph.op_types import LOOKUPS, SHAPE_OPS
from ec_estimator.graph.stand_ins import original_of
from ec_estimator.graph.walk import origin

# They tell operands apart that come from the same layer. What dropout or an unfused
# batch norm consists of is not among them: it differs between modes.
_NONLINEARITIES = (
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign"),
    *("Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Erf", "MaxPool", "AvgPool"),
)
# A turn of a loop is not followed into the one before.
_CUT = (*SHAPE_OPS, "NextIteration")


class Address(NamedTuple):
    """Of a layer or of another op, three times, from coarse to exact.

    own: its kernel, "" without one, and how the op multiplies.
    near: with the layers and tables that its operands come from, and the
      nonlinearities between them.
    deep: with the whole way from the model's inputs.
    """

    own: str
    near: str
    deep: str


class _Behind(NamedTuple):
    """What an op's output is made of, as bits: the nearest marks, which are layers and
    tables that are looked up, and the nonlinearities after them."""

    marks: int = 0
    nonlinearities: int = 0


class Addresses:
    """Of the ops of a graph, which may grow between two calls of `find`.

    What stands for another tensor (graph.stand_ins) is passed over, so that an address
    stays the same when a layer is quantized.
    """

    def __init__(self):
        self._behind = {}
        self._found = {}
        # Of each mark, how others call it: in their `near`, in their `deep`.
        self._near_names, self._deep_names = [], []
        self._tables = {}

    def find(self, graph, layers):
        """{op: Address} of layers of a graph.

        Args:
          layers: [graph.layers.Layer], at each call all that there are.
        """
        by_name = {op.name: op for op in graph.get_operations()}
        # Layers of function bodies are no ops of the graph.
        wanted = {by_name[layer.op]: layer for layer in layers if layer.op in by_name}
        for op in wanted:
            self._walk(op, wanted)
        return {op: self._found[op] for op in wanted if not is_state(op.name)}

    def of(self, op):
        """The Address of an op that is no layer; those before it are found."""
        self._walk(op, {})
        behind, key = self._behind[op], (op.type, op.outputs[0].shape.rank)
        return Address(
            op.type,
            _digest(*key, self._told(behind, self._near_names)),
            _digest(*key, self._told(behind, self._deep_names)),
        )

    def _walk(self, last, layers):
        """Finds what is behind an op, and all layers on the way."""
        stack, entered = [last], set()
        while stack:
            op = stack[-1]
            if op in self._behind:
                stack.pop()
                continue
            sources = _sources(op)
            if op not in entered:
                entered.add(op)
                stack.extend(s for s in sources if s not in self._behind)
                continue
            stack.pop()
            self._behind[op] = self._look(op, layers.get(op), sources)

    def _look(self, op, layer, sources):
        if layer is not None and not is_state(op.name):
            self._found[op] = address = self._of_layer(op, layer)
            return self._mark(address.own if layer.kernel else address.near, address)
        # Of integers: a size that is taken from a shape, in some modes.
        if op.type in LOOKUPS and op.inputs and op.outputs[0].dtype.is_floating:
            return self._table(variable_name(origin(op.inputs[0])))
        marks = nonlinearities = 0
        for source in sources:
            # In a loop that was not cut, as one of a graph that was imported.
            behind = self._behind.get(source, _Behind())
            marks |= behind.marks
            nonlinearities |= behind.nonlinearities
        if op.type in _NONLINEARITIES:
            nonlinearities |= 1 << _NONLINEARITIES.index(op.type)
        return _Behind(marks, nonlinearities)

    def _of_layer(self, op, layer):
        own = _digest(
            layer.kernel.name if layer.kernel else "",
            layer.index,
            op.type,
            *(op.get_attr(name) for name in _TRANSPOSES.get(op.type, ())),
        )
        operands = [
            self._behind.get(original_of(tensor).op, _Behind())
            for index, tensor in enumerate(op.inputs)
            if index != layer.index
        ]
        near, deep = (
            _digest(own, *(self._told(operand, names) for operand in operands))
            for names in (self._near_names, self._deep_names)
        )
        return Address(own, near, deep)

    def _mark(self, near_name, address):
        self._near_names.append(near_name)
        self._deep_names.append(address.deep)
        return _Behind(1 << (len(self._near_names) - 1))

    def _table(self, name):
        if name not in self._tables:
            table = _digest("table", name)
            self._tables[name] = self._mark(table, Address(table, table, table))
        return self._tables[name]

    def _told(self, behind, names):
        marks = bin(behind.marks)[:1:-1]
        told = {names[bit] for bit, is_set in enumerate(marks) if is_set == "1"}
        return f"{sorted(told)} {behind.nonlinearities}"


_TRANSPOSES = {
    "MatMul": ("transpose_a", "transpose_b"),
    "BatchMatMul": ("adj_x", "adj_y"),
    "BatchMatMulV2": ("adj_x", "adj_y"),
}


def _sources(op):
    if op.type in _CUT:
        return []
    return [original_of(tensor).op for tensor in op.inputs]


def _digest(*parts):
    return hashlib.sha1(repr(parts).encode()).hexdigest()[:16]
