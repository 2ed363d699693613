"""Which blocks of zeros a model's kernels have, as MNN's sparse layers read them."""
import numpy as np

from ec_estimator.graph.layers import output_axes
from ec_estimator.graph.walk import ancestors

# How sparse a kernel has to be for MNN's sparse layer to be the faster one, by how many
# neighbouring output channels are zero together.
THRESHOLDS = {4: 0.3, 2: 0.5, 1: 0.6}


def sparse_block(session):
    """The size of the blocks of output channels that are zero together in all kernels
    that are sparse enough for blocks of that size, the largest; 0 without any.

    MNN runs blocks of one size in a whole model, the largest of 4: larger ones are
    several of these.

    Args:
      session: tf.Session of a graph that predicts.
    """
    kernels = [matrix == 0 for matrix in _kernels(session)]
    for block, threshold in THRESHOLDS.items():
        sparse = [zeros for zeros in kernels if zeros.mean() > threshold]
        if sparse and all(_is_in_blocks(zeros, block) for zeros in sparse):
            return block
    return 0


def _kernels(session):
    """The constant kernels as [taps, output channels]."""
    for op in session.graph.get_operations():
        if op.type in ("Conv2D", "MatMul"):
            sources = ancestors([op.inputs[1]])
            if not any(source.type.startswith("Placeholder") for source in sources):
                kernel = session.run(op.inputs[1])
                axis = output_axes(op, 1)[0]
                kernel = np.moveaxis(kernel, axis, -1)
                yield kernel.reshape(-1, kernel.shape[-1])


def _is_in_blocks(zeros, block):
    """Whether zeros come for `block` neighbouring columns together, a ragged rest for
    the columns that it has."""
    first = np.repeat(zeros[:, ::block], block, axis=1)
    return np.array_equal(zeros, first[:, : zeros.shape[1]])
