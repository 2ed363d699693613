"""Names and creation of the state that lives in checkpoints."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.memory import recall, remember

SCOPE = "ec_estimator"
_MADE = "made"


def create_variable(name, shape, dtype, value, beside=None, trainable=False):
    """A global variable `ec_estimator/<name>`, uniform at first.

    Works wherever it is called from: inside name scopes, conditionals and loops of
    user code, and under a device function. `beside` is a variable to be placed with
    (a mask has to live on its kernel's parameter server).
    """
    graph = tf.get_default_graph()
    place = beside.op if beside is not None else None
    with tf.init_scope(), tf.name_scope(None), graph.colocate_with(place, True):
        variable = tf.Variable(
            lambda: tf.fill(shape, tf.constant(value, dtype)),
            trainable=trainable,
            name=f"{SCOPE}/{name}",
            dtype=dtype,
            expected_shape=shape,
            # A mask is read once a step and written by nobody else meanwhile.
            use_resource=False,
        )
    remember(graph, _MADE, made_here(graph) | {variable.op.name})
    return variable


def made_here(graph):
    """Names of our variables that this process made in a graph; those of an imported
    graph are not among them."""
    return recall(graph, _MADE, frozenset())


def is_state(name):
    """Whether a variable or checkpoint entry of this name is ours."""
    return name.startswith(SCOPE + "/")


def open_checkpoint(path):
    """A reader of a checkpoint, or an error in one sentence if it is damaged.

    Raises:
      RunFolderError: no checkpoint there, or its files are damaged.
    """
    try:
        reader = tf.train.load_checkpoint(path)
        _check_size(path, reader)
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise RunFolderError(
            f"checkpoint {path!r} cannot be read ({reason}); restore it, or point the "
            "folder's 'checkpoint' file at an older one"
        ) from error
    return reader


def _check_size(path, reader):
    """The index is checked by its reader, the data only where a tensor is read."""
    if tf.gfile.IsDirectory(path):
        path = tf.train.latest_checkpoint(path)
    types = reader.get_variable_to_dtype_map()
    needed = sum(
        int(np.prod(shape, dtype=np.int64)) * types[name].size
        for name, shape in reader.get_variable_to_shape_map().items()
        if types[name] != tf.string
    )
    found = sum(tf.gfile.Stat(file).length for file in tf.gfile.Glob(f"{path}.data-*"))
    if tf.gfile.Exists(f"{path}.index") and found < needed:
        raise ValueError(f"its data has {found} of {needed} bytes")


def write_checkpoint(path, values):
    """Writes a checkpoint of arrays.

    Args:
      path: prefix of the checkpoint's files.
      values: {name in the checkpoint: array}.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = [(tf.placeholder(v.dtype, v.shape), v) for v in values.values()]
        save = tf.raw_ops.SaveV2(
            prefix=path,
            tensor_names=list(values),
            shape_and_slices=[""] * len(values),
            tensors=[placeholder for placeholder, _ in feeds],
        )
        session.run(save, dict(feeds))


def trials_done(reader, compressor_name):
    """Trials that the checkpoint's weights have been through, or None without state."""
    name = f"{SCOPE}/{compressor_name}/trial"
    if not reader.has_tensor(name):
        return None
    return int(reader.get_tensor(name))
