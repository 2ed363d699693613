"""An ONNX graph to look around in and to change."""
import numpy as np


class OnnxGraph:
    """Nodes by what they put out and read; constants by name.

    nodes: list of NodeProto; constants: {tensor name: array} of initializers and
    Constant nodes; ends: names of the graph's outputs.

    Args:
      model: onnx.ModelProto; `save` writes what was changed back into it.
    """

    def __init__(self, model):
        from onnx import numpy_helper

        self._model = model
        graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.nodes = []
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                value = numpy_helper.to_array(node.attribute[0].t)
                self.constants[node.output[0]] = value
            else:
                self.nodes.append(type(node).FromString(node.SerializeToString()))
        self.ends = {output.name for output in graph.output}
        self._inputs = {port.name for port in graph.input}

    def producers(self):
        """{tensor name: node}."""
        return {name: node for node in self.nodes for name in node.output}

    def readers(self):
        """{tensor name: [(node, input index)]}; what a subgraph reads is None's."""
        found = {}
        for node in self.nodes:
            for index, name in enumerate(node.input):
                found.setdefault(name, []).append((node, index))
            for attribute in node.attribute:
                for name in _outer_names(attribute.g):
                    found.setdefault(name, []).append((node, None))
        return found

    def add_constant(self, name, value):
        """Adds an initializer under a name that is free.

        Returns:
          The name.
        """
        taken = {*self.constants, *self.producers(), *self.ends, *self._inputs}
        free, number = name, 0
        while free in taken:
            number += 1
            free = f"{name}_{number}"
        self.constants[free] = value
        return free

    def save(self):
        """Writes nodes and constants back, in order, and leaves out what no output
        needs."""
        from onnx import numpy_helper

        graph = self._model.graph
        nodes = _sorted(self._needed())
        used = {name for node in nodes for name in _all_inputs(node)} | self.ends
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.initializer[:]
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in self.constants.items()
            if name in used
        )

    def _needed(self):
        producers, needed = self.producers(), set()
        stack = list(self.ends)
        while stack:
            node = producers.get(stack.pop())
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                stack.extend(_all_inputs(node))
        return [node for node in self.nodes if id(node) in needed]


def _all_inputs(node):
    names = list(node.input)
    for attribute in node.attribute:
        names.extend(_outer_names(attribute.g))
    return names


def _outer_names(graph):
    """What a subgraph reads, its own tensors included: none has a name of outside."""
    return [name for node in graph.node for name in _all_inputs(node)] + [
        output.name for output in graph.output
    ]


def _sorted(nodes):
    """Producers first."""
    made = {name for node in nodes for name in node.output}
    done, ordered, left = set(), [], list(nodes)
    while left:
        waiting = []
        for node in left:
            if any(n in made and n not in done for n in _all_inputs(node)):
                waiting.append(node)
            else:
                ordered.append(node)
                done.update(node.output)
        left = waiting
    return ordered


def attribute(node, name, default=None):
    """An attribute's value."""
    from onnx import helper

    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default
