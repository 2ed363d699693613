"""What may stand between QuantizeLinear and DequantizeLinear: for some engines all that
moves integers, and for TensorRT nothing."""
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


def move_before_rounding(model):
    """Has Transpose move floats instead of integers, in place.

    Args:
      model: onnx.ModelProto.
    """
    from onnx import helper

    graph = OnnxGraph(model)
    producers = graph.producers()
    for node in [n for n in graph.nodes if n.op_type == "DequantizeLinear"]:
        move = producers.get(node.input[0])
        rounding = move and producers.get(move.input[0])
        if not rounding or move.op_type != "Transpose":
            continue
        if rounding.op_type == "QuantizeLinear":
            moved, rounded = f"{move.output[0]}/moved", f"{move.output[0]}/rounded"
            again = helper.make_node("Transpose", rounding.input[:1], [moved])
            again.attribute.extend(move.attribute)
            inputs = [moved, *rounding.input[1:]]
            graph.nodes.append(again)
            graph.nodes.append(helper.make_node("QuantizeLinear", inputs, [rounded]))
            node.input[0] = rounded
    graph.save()
