"""quantize_graph(): quantizers in a Session-mode graph, before its optimizer."""
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import ConfigError, PlanError
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.state import is_state
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.graph.variables import model_variables
from ec_estimator.quantization.pretrained import start_from
from ec_estimator.quantization.quantizer import LSQQuantizer
from ec_estimator.rewrite.backward import backward_ops

MODES = ("train", "eval")


def quantize_graph(mode, model_dir, config):
    """Quantizes the default graph's layers as a QuantizerConfig says.

    Call it when the model is built and before its optimizer is. In mode 'train'
    CompressionHook(LSQQuantizer(...)) fits the step sizes, and trains them with each
    run of its session; in mode 'eval', for graphs that evaluate or serve, they are as
    the checkpoint has them.

    Args:
      mode: 'train' or 'eval'.
      model_dir: folder for what the run leaves; checked now, None to leave nothing.
      config: a QuantizerConfig.

    Raises:
      ConfigError: another mode; a scope or layer name that matches nothing.
      PlanError: gradients exist already, the graph is quantized already, or there is
        nothing to quantize.
      RunFolderError: model_dir cannot be written; pretrained_model cannot be read.
    """
    if mode not in MODES:
        raise ConfigError(
            f"quantize_graph: mode must be 'train' or 'eval', got {mode!r}"
        )
    graph = tf.get_default_graph()
    quantizer = LSQQuantizer(config, model_dir)
    if any(is_state(v.op.name) for v in graph.get_collection("variables")):
        raise PlanError("quantize_graph: this graph is quantized already")
    if backward_ops(graph):
        raise PlanError(
            "quantize_graph: gradients have been taken in this graph already; call it "
            "before the optimizer is built"
        )
    plan = make_plan("session", graph, find_layers(graph), None, [quantizer])
    details = plan.details[quantizer.name]
    if mode == "eval":
        quantizer.serve(graph, lambda: details, None)
        return
    if model_dir is not None:
        RunFolder(model_dir).create()
    if config.pretrained_model is not None:
        start_from(config.pretrained_model, model_variables(graph))
    quantizer.quantize_forward(graph, details)
