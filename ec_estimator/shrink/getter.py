"""Builds the small network from code that was written for the large one."""
import collections
import copy

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import PlanError
from ec_estimator.core.state import open_checkpoint
from ec_estimator.rewrite.reads import noticed_reads
from ec_estimator.shrink.artifact import read_artifact
from ec_estimator.shrink.structure import layer_structures

# The arguments of TensorFlow's own getter, in order.
_POSITIONS = (
    *("shape", "dtype", "initializer", "regularizer", "reuse", "trainable"),
    *("collections", "caching_device", "partitioner", "validate_shape"),
    *("use_resource", "constraint", "synchronization", "aggregation"),
)


class GapFinetune:
    """Gives variables their pruned shapes and values.

    Used as a custom_getter, around code that builds the model with the names it was
    pruned with. The values are loaded: nothing needs to be restored.

        helper = GapFinetune(model_dir)
        with tf.variable_scope("", custom_getter=helper.get_variable):
            logits = network(images)

    Args:
      folder: the artifact's folder, or the save_dir or model_dir of the pruning run.

    When gradients are taken, each layer is compared with the one that was pruned: a
    warning says which ones are connected otherwise. Code that decides by channel counts
    builds such another network, often without an error; `ec_estimator.finetune` does
    not depend on it.

    Raises:
      RunFolderError: there is no artifact, or it is damaged.
    """

    def __init__(self, folder):
        self.artifact = read_artifact(folder)
        self._stored = self.artifact.variables
        reader = open_checkpoint(self.artifact.checkpoint)
        self._dtypes = reader.get_variable_to_dtype_map()

    def cut_to(self, kept):
        """A GapFinetune that cuts what the artifact has whole, or less cut.

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

    # TensorFlow looks for a first parameter of this name.
    def get_variable(self, getter, *args, **kwargs):
        """A custom_getter for tf.variable_scope.

        Raises:
          PlanError: the code asks for a shape that the variable never had.
        """
        # The first gradient that reaches a variable tells that the model is built.
        with noticed_reads(tf.get_default_graph(), self._compare_layers):
            return self.get_cut_variable(getter, *args, **kwargs)

    def _compare_layers(self, graph):
        pruned = self.artifact.manifest.get("structure", {})
        forward = [o for o in graph.get_operations() if not tf_private.forward_op(o)]
        small = layer_structures(forward)
        others = sorted(
            name
            for name, marks in pruned.items()
            if name in small and collections.Counter(marks) - small[name]
        )
        if others:
            tf.logging.warning(
                "The layers of %s are not connected as they were when the model was "
                "pruned. If that is not intended: the code decides by channel counts "
                "what it builds; decide by names or hyper-parameters, or build the "
                "model with ec_estimator.finetune.",
                ", ".join(others),
            )

    def get_cut_variable(self, getter, name, *args, **kwargs):
        """`get_variable` for a build that is compared in another way."""
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
        graph = tf.get_default_graph()
        full = graph.unique_name(name, mark_as_used=False) if name else None
        cut = self.artifact.variables.get(full)
        if cut is not None:
            dtype = kwargs.get("dtype")
            values = self._values(full, cut)
            kwargs["initial_value"] = lambda: values(cut.small_shape, dtype)
            kwargs["shape"] = cut.small_shape
        return next_creator(**kwargs)

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
                f"asked for with shape {asked}; build the model it was pruned from"
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
