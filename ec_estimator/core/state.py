"""Names and creation of the state that lives in checkpoints."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.devices import task_of
from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.memory import recall, remember
from ec_estimator.core.replicas import first
from ec_estimator.core.tf_replicas import no_creators

SCOPE = "ec_estimator"
_MADE = "made"
# Elements of an initial value that a graph may hold as a constant.
_CONSTANT = 2**14
# Bytes of a variable that is read only to see whether it can be.
_LARGEST = 2**30
# What TensorFlow says of an entry that holds a part of its shape.
_IN_PARTS = "Does not have sufficient slices"


def create_variable(name, shape, dtype, value, beside=None, use_resource=False):
    """A global variable `ec_estimator/<name>`, uniform at first.

    Works wherever it is called from: inside name scopes, conditionals and loops of
    user code, and under a device function. `beside` is a variable to be placed with
    (a mask has to live on its kernel's parameter server); without it the state of a
    cluster is where the global step is, so that all processes agree. The replicas of a
    distribution strategy share it. With `use_resource` what was read is not changed by
    a later write in the same training step; a mask needs none of that: an update that
    lands should meet the newest.
    """
    graph = tf.get_default_graph()
    place = beside.op if beside is not None else None
    device = "" if beside is not None else _global_step_task()
    with tf.init_scope(), tf.name_scope(None), graph.colocate_with(
        place, True
    ), tf.device(device), no_creators(graph):
        variable = tf.Variable(
            lambda: _uniform(shape, dtype, value),
            trainable=False,
            name=f"{SCOPE}/{name}",
            dtype=dtype,
            expected_shape=shape,
            use_resource=use_resource,
        )
    remember(graph, _MADE, made_here(graph) | {variable.op.name})
    return variable


def _global_step_task():
    step = tf.train.get_global_step()
    return "" if step is None else task_of(first(step).device)


def _uniform(shape, dtype, value):
    if np.prod(shape) <= _CONSTANT:
        # One op, of one number.
        return tf.constant(value, dtype, shape)
    return tf.fill(shape, tf.constant(value, dtype))


def made_here(graph):
    """Names of our variables that this process made in a graph; those of an imported
    graph are not among them."""
    return recall(graph, _MADE, frozenset())


def is_state(name):
    """Whether a variable or checkpoint entry of this name is ours."""
    return name.startswith(SCOPE + "/")


class Checkpoint:
    """A reader of a checkpoint that says in one sentence what cannot be read.

    The index is checked when it is opened, the data only where a tensor is read. Sizes
    prove nothing: a slot of a partitioned variable is stored with the whole variable's
    shape and a part of its bytes.

    Args: as of open_checkpoint.
    """

    def __init__(self, path, given_as=""):
        self._path = path
        self._where = f"{given_as}: " if given_as else ""
        self._open()

    def _open(self):
        try:
            self._reader = tf.train.load_checkpoint(self._path)
        except (tf.errors.OpError, ValueError) as error:
            raise self._unreadable(_first_line(error)) from error

    def has_tensor(self, name):
        """Whether the checkpoint has a variable of this name."""
        return self._reader.has_tensor(name)

    def get_variable_to_shape_map(self):
        """{name: shape as a list} of everything in the checkpoint."""
        return self._reader.get_variable_to_shape_map()

    def get_variable_to_dtype_map(self):
        """{name: tf.DType} of everything in the checkpoint."""
        return self._reader.get_variable_to_dtype_map()

    def get_tensor(self, name):
        """The array of a variable, partitions joined.

        Raises:
          RunFolderError: it is not there, or the data is truncated or damaged.
        """
        try:
            return self._reader.get_tensor(name)
        except tf.errors.OpError as error:
            # TensorFlow ends the process if a reader that failed is used again.
            self._open()
            raise self._unreadable(f"{name!r}: {_first_line(error)}") from error

    def check(self, names=None):
        """Reads variables, so that damage is found before they are restored.

        Args:
          names: of variables; None: all. What the checkpoint holds a part of, such as
            the slot above, is left to who knows which part.

        Raises:
          RunFolderError: one of them cannot be read.
        """
        shapes = self.get_variable_to_shape_map()
        types = self.get_variable_to_dtype_map()
        for name in sorted(shapes if names is None else names):
            size = np.prod(shapes.get(name, ()), dtype=np.float64)
            # A table that is spread over parameter servers may fit into none of the
            # workers; they restore it part by part.
            if name in types and size * types[name].size > _LARGEST:
                continue
            try:
                self.get_tensor(name)
            except RunFolderError as error:
                if _IN_PARTS not in str(error.__cause__):
                    raise

    def _unreadable(self, reason):
        return RunFolderError(
            f"{self._where}checkpoint {self._path!r} cannot be read ({reason}); "
            "restore it, or point the folder's 'checkpoint' file at an older one"
        )


def open_checkpoint(path, given_as=""):
    """Opens a checkpoint.

    Args:
      path: a checkpoint's path, or the folder of the newest.
      given_as: the setting that names it, for errors.

    Returns:
      Checkpoint.

    Raises:
      RunFolderError: no checkpoint there, or its index is damaged.
    """
    return Checkpoint(path, given_as)


def _first_line(error):
    return str(error).split("\n")[0]


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
