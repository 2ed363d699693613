"""quantize_graph(): quantizers in a Session-mode graph, before its optimizer."""
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import ConfigError, PlanError
from ec_estimator.core.finished import FOLDER
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.replicas import variables_of
from ec_estimator.core.state import is_state
from ec_estimator.graph.backward_pass import backward_ops
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.graph.variables import model_variables
from ec_estimator.quantization.placement import read_placement
from ec_estimator.quantization.pretrained import start_from
from ec_estimator.quantization.quantizer import LSQQuantizer, serve

MODES = ("train", "eval")
# What only training depends on.
_OF_TRAINING = ("step_interval", "num_trials", "pretrained_model")


def quantize_graph(mode, model_dir, config):
    """Quantizes the default graph's layers as a QuantizerConfig says.

    Call it when the model is built and before its optimizer is. In mode 'train'
    CompressionHook(LSQQuantizer(...)) fits the step sizes, and trains them with each
    run of its session. In mode 'eval', for graphs that evaluate or serve, they are as
    the checkpoint has them, and the layers are those that the run in model_dir has
    quantized.

    Args:
      mode: 'train' or 'eval'.
      model_dir: in mode 'train' the folder for what the run leaves; checked now, None
        to leave nothing. In mode 'eval' the folder of the run; None, or one without a
        plan, to choose the layers anew.
      config: a QuantizerConfig.

    Raises:
      ConfigError: another mode; a scope or layer name that matches nothing.
      PlanError: gradients exist already, the graph is quantized already, there is
        nothing to quantize, or the run quantized a layer that the graph lacks.
      RunFolderError: model_dir cannot be written, is damaged, or, in mode 'eval', is
        that of a run with another config; pretrained_model cannot be read.
    """
    if mode not in MODES:
        raise ConfigError(
            f"quantize_graph: mode must be 'train' or 'eval', got {mode!r}"
        )
    graph = tf.get_default_graph()
    quantizer = LSQQuantizer(config, model_dir)
    if any(is_state(v.op.name) for v in variables_of(graph)):
        raise PlanError("quantize_graph: this graph is quantized already")
    if backward_ops(graph):
        raise PlanError(
            "quantize_graph: gradients have been taken in this graph already; call it "
            "before the optimizer is built"
        )
    if mode == "eval":
        serve(graph, _stored_placement(model_dir, config) or _placement(quantizer))
        return
    placement = _placement(quantizer)
    if model_dir is not None:
        RunFolder(model_dir).create()
    if config.pretrained_model is not None:
        start_from(config.pretrained_model, model_variables(graph))
    quantizer.quantize_forward(graph, placement)


def _placement(quantizer):
    graph = tf.get_default_graph()
    plan = make_plan("session", graph, find_layers(graph), None, [quantizer])
    return plan.details[quantizer.name]


def _stored_placement(model_dir, config):
    """The Placement of the run in a folder, or None."""
    for path in (model_dir, os.path.join(model_dir, FOLDER)) if model_dir else ():
        folder = RunFolder(path)
        stored = folder.details().get(LSQQuantizer.name)
        if stored is not None:
            folder.check_config(LSQQuantizer.name, config.to_dict(), _OF_TRAINING)
            return read_placement(stored)
    return None
