"""Variables of the small network, for code that asks for those of the large one."""
import copy

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import PlanError
from ec_estimator.core.names import name_in_graph
from ec_estimator.core.state import open_checkpoint
from ec_estimator.graph.variables import checkpoint_name
from ec_estimator.shrink.artifact import read_artifact

# The arguments of TensorFlow's own getter, in order.
_POSITIONS = (
    *("shape", "dtype", "initializer", "regularizer", "reuse", "trainable"),
    *("collections", "caching_device", "partitioner", "validate_shape"),
    *("use_resource", "constraint", "synchronization", "aggregation"),
)


class CutVariables:
    """The variables of an artifact, with their pruned shapes and values.

    Args:
      folder: the artifact's folder, or the save_dir or model_dir of the pruning run.

    Raises:
      RunFolderError: there is no artifact, or it is damaged.
    """

    def __init__(self, folder):
        self.artifact = read_artifact(folder)
        self._stored = self.artifact.variables
        reader = open_checkpoint(self.artifact.checkpoint)
        self._dtypes = reader.get_variable_to_dtype_map()

    def cut_to(self, kept):
        """A CutVariables that cuts what the artifact has whole, or less cut.

        Args:
          kept: {variable name: for each axis a bool vector, or None for all}.
        """
        variables = dict(self._stored)
        for name, axes in kept.items():
            stored = variables.get(name)
            if stored is not None:
                positions = tuple(
                    old if alive is None else tuple(np.nonzero(alive)[0].tolist())
                    for old, alive in zip(stored.kept, axes)
                )
                variables[name] = stored._replace(kept=positions)
        twin = copy.copy(self)
        twin.artifact = self.artifact._replace(variables=variables)
        return twin

    def get_variable(self, getter, name, *args, **kwargs):
        """For a custom_getter of tf.variable_scope.

        Raises:
          PlanError: the code asks for a shape that the variable never had.
        """
        kwargs.update(named(args))
        # Moving averages are asked for as `<variable>/ExponentialMovingAverage/`.
        stored = name.rstrip("/")
        cut = self.artifact.variables.get(stored)
        if cut is None:
            return getter(name, **kwargs)
        if kwargs.get("shape") is not None:
            self._check(stored, kwargs["shape"], cut)
        partitioner = kwargs.get("partitioner")
        if partitioner is not None:
            # As many parts as the whole variable has: their number is in the graph.
            kwargs["partitioner"] = lambda shape, dtype: partitioner(
                shape=tf.TensorShape(cut.shape), dtype=dtype
            )
        if isinstance(kwargs.get("initializer"), tf.Tensor):
            # It has the type of that, whatever is asked for.
            kwargs["dtype"] = kwargs["initializer"].dtype.base_dtype
        kwargs.update(shape=cut.small_shape, initializer=self._values(stored, cut))
        return getter(name, **kwargs)

    def create_variable(self, next_creator, **kwargs):
        """A creator for tf.variable_creator_scope: what never asks a getter, such as
        Keras layers."""
        name = kwargs.get("name")
        full = name_in_graph(tf.get_default_graph(), name) if name else None
        cut = self.artifact.variables.get(full)
        if cut is not None:
            dtype = kwargs.get("dtype")
            values = self._values(full, cut)
            kwargs["initial_value"] = lambda: values(cut.small_shape, dtype)
            kwargs["shape"] = cut.small_shape
        return next_creator(**kwargs)

    def value(self, variable):
        """The pruned value of a variable that exists, whole."""
        name = checkpoint_name(variable)
        cut = self.artifact.variables[name]
        return self._values(name, cut)(cut.small_shape, variable.dtype.base_dtype)

    def _check(self, name, shape, cut):
        """Each size is the old one or, where it was inferred, the new one."""
        asked = tf.TensorShape(shape)
        fits = asked.rank == len(cut.shape) and all(
            n is None or n in (old, new)
            for n, old, new in zip(asked.as_list(), cut.shape, cut.small_shape)
        )
        if not fits:
            raise PlanError(
                f"variable {name!r} had shape {cut.shape} when it was pruned, and is "
                f"asked for with shape {asked}; build the model that "
                f"{self.artifact.folder!r} was pruned from"
            )

    def _values(self, name, cut):
        """An initializer that reads the checkpoint, part by part for a partition."""
        path, stored = self.artifact.checkpoint, self._stored[name]

        def initializer(shape, dtype=None, partition_info=None, verify_shape=None):
            spec = ""
            if partition_info is not None and list(shape) != list(cut.small_shape):
                sizes = " ".join(str(n) for n in cut.small_shape)
                slices = ":".join(
                    f"{start},{n}" for start, n in zip(partition_info.var_offset, shape)
                )
                spec = f"{sizes} {slices}"
            (value,) = tf.raw_ops.RestoreV2(
                prefix=path,
                tensor_names=[name],
                shape_and_slices=[spec],
                # None where the dtype would follow from an initial value.
                dtypes=[dtype or self._dtypes[name]],
            )
            for axis, (have, want) in enumerate(zip(stored.kept, cut.kept)):
                if have != want:
                    have = range(cut.shape[axis]) if have is None else have
                    places = np.nonzero(np.isin(have, want))[0]
                    value = tf.gather(value, places, axis=axis)
            return tf.ensure_shape(value, shape)

        return initializer


def named(arguments):
    """{name of an argument: value} of what a getter was given by position, after name.

    Getters of users pass on by position as well as by keyword.
    """
    return dict(zip(_POSITIONS, arguments))
