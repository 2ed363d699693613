"""Shapes are read off integers where there are some."""
from ec_estimator.export.onnx_graph import OnnxGraph


def read_shapes_of_integers(model):
    """Has Shape read what a QuantizeLinear of the same tensor puts out, in place: a
    second reader would keep an engine from making one op of a layer and its rounding.

    Args:
      model: onnx.ModelProto.
    """
    graph = OnnxGraph(model)
    integers = {
        node.input[0]: node.output[0]
        for node in graph.nodes
        if node.op_type == "QuantizeLinear"
    }
    for node in graph.nodes:
        if node.op_type == "Shape" and node.input[0] in integers:
            node.input[0] = integers[node.input[0]]
    graph.save()
