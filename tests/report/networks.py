"""A pruned network whose every number is known by hand."""
import numpy as np

from ec_estimator.shrink.artifact import write_artifact

KEPT = np.array([True, False, True, True])


def layer(op, kernel, axes, positions, decision="compressed", op_type="MatMul"):
    return {
        "op": op,
        "op_type": op_type,
        "kernel": kernel,
        "parts": [kernel],
        "output_axes": axes,
        "positions": positions,
        "decision": decision,
    }


def write_network(folder, **facts):
    """A 3 x 3 convolution from 2 to 4 channels on 4 x 4 pixels, of which 3 are kept,
    and a dense layer to 5 classes that is used twice; `aux` only trains."""
    values = {
        "conv/kernel": np.zeros([3, 3, 2, 4], np.float32),
        "conv/bias": np.zeros([4], np.float32),
        "head/kernel": np.zeros([4, 5], np.float32),
        "head/bias": np.zeros([5], np.float64),
        "aux/kernel": np.zeros([4, 7], np.float32),
    }
    kept = {
        "conv/kernel": [None, None, None, KEPT],
        "conv/bias": [KEPT],
        "head/kernel": [KEPT, None],
        "head/bias": [None],
    }
    content = {
        "trials": 2,
        "num_trials": 3,
        "layers": [
            layer("conv/Conv2D", "conv/kernel", [3], 16, op_type="Conv2D"),
            layer("head/MatMul", "head/kernel", [1], 1, "its channels are <frozen>"),
            layer("again/MatMul", "head/kernel", [], 1, "its channels were not found"),
        ],
        "served": ["conv/bias", "conv/kernel", "head/bias", "head/kernel"],
    }
    write_artifact(str(folder), values, kept, {**content, **facts}, 70)
