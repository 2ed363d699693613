"""GapFinetune: the small network in code that builds its graph without an Estimator."""
import collections
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import PlanError
from ec_estimator.core.replicas import variables_of
from ec_estimator.rewrite.reads import noticed_reads
from ec_estimator.shrink.finetune import SmallBuild
from ec_estimator.shrink.getter import CutVariables, named
from ec_estimator.shrink.structure import layer_structures
from ec_estimator.shrink.whole import build_whole

_USE_BUILD = "use GapFinetune({!r}).build(function, *inputs), not get_variable"


class GapFinetune:
    """Gives the variables of a model their pruned shapes and values.

    The values are loaded: nothing needs to be restored. Any code that builds the model
    with the names it was pruned with can be run by `build`:

        helper = GapFinetune(model_dir)
        logits = helper.build(network, images)

    Code that takes its sizes from tensors may ask `get_variable`, a custom_getter, and
    is called just once then:

        with tf.variable_scope("", custom_getter=helper.get_variable):
            logits = network(images)

    Args:
      folder: the artifact's folder, or the save_dir or model_dir of the pruning run.

    Raises:
      RunFolderError: there is no artifact, or it is damaged.
    """

    def __init__(self, folder):
        self._folder = os.fspath(folder)
        self._variables = CutVariables(folder)
        # Not in manifests of earlier versions.
        self._inputs = self.artifact.manifest.get("inputs", {})
        self._asked = set()

    @property
    def artifact(self):
        """shrink.artifact.Artifact: what the pruning run left."""
        return self._variables.artifact

    def build(self, function, *inputs):
        """Has a function build the small network in the default graph.

        The function is called twice: for the whole network, in a scratch graph, and for
        the small one. While it builds the second one, tensors show it the static shapes
        of the first, so code that decides by channel counts, computes with them or
        holds them as literals builds the same network; what is built is compared op by
        op, up to where gradients are taken. As `ec_estimator.finetune` does it.

        Args:
          function: callable(*inputs) that builds the model, and its training too if it
            wants; it makes all its variables, and reads no tensor made outside of it
            but `inputs`.
          inputs: tensors, structures of them, or anything else.

        Returns:
          What the function returns; tensors in it, or else the losses that it takes
          gradients of, are where the network ends.

        Raises:
          PlanError: the function builds something else than the pruned network, uses
            what was made outside of it, or ends in nothing.
        """
        graph = tf.get_default_graph()
        self._check_unbuilt(graph)
        scope, name_scope = tf.get_variable_scope(), graph.get_name_scope()

        def build(*inputs):
            with tf.variable_scope(scope, auxiliary_name_scope=False):
                with tf.name_scope(f"{name_scope}/" if name_scope else None):
                    return function(*inputs)

        version = graph.version
        try:
            whole = build_whole(build, inputs, graph, _tensors_of)
        except ValueError as error:
            if "same graph" not in str(error) and "of this graph" not in str(error):
                raise
            raise PlanError(_made_outside(error)) from error
        if graph.version != version:
            made = graph.get_operations()[-1]
            raise PlanError(_made_outside(f"{made.name!r} was made from it"))
        return SmallBuild(whole, self._variables, graph).run(lambda: function(*inputs))

    def _check_unbuilt(self, graph):
        for variable in variables_of(graph):
            name = variable.op.name
            if name in self.artifact.variables and name != "global_step":
                raise PlanError(
                    f"GapFinetune.build: this graph has variable {name!r} already; "
                    "build what shares variables in one function, and call build once "
                    "in a graph"
                )

    # TensorFlow looks for a first parameter of this name.
    def get_variable(self, getter, name, *args, **kwargs):
        """A custom_getter for tf.variable_scope.

        What lies between the variables it can't change: code that decides by channel
        counts builds another network. When gradients are taken, each layer is compared
        with the one that was pruned, and a warning says which ones are connected
        otherwise.

        Raises:
          PlanError: the code asks for a shape that the variable never had; for a
            kernel among the pruned layers that was not there when they were pruned; or
            for one whose layer would get channels that are not pruned.
        """
        kwargs.update(named(args))
        graph = tf.get_default_graph()
        self._asked.add(name)
        self._check_known(name, kwargs)
        self._check_input(name, graph)
        # The first gradient that reaches a variable tells that the model is built.
        with noticed_reads(graph, self._compare_layers):
            return self._variables.get_variable(getter, name, **kwargs)

    def _check_known(self, name, kwargs):
        """A layer more, that reads pruned channels beside the pruned layers, is how
        code that compares channel counts shows: slim's ResNet makes a shortcut."""
        shape = tf.TensorShape(kwargs.get("shape"))
        stored = self.artifact.variables
        # What belongs to a variable, such as a slot, is named after it.
        is_slot = any(name.startswith(f"{known}/") for known in stored)
        if name in stored or is_slot or not shape.rank or shape.rank < 2:
            return
        block = os.path.dirname(os.path.dirname(name))
        cut_sizes = {
            small
            for known, cut in stored.items()
            for size, small in zip(cut.shape, cut.small_shape)
            if block and known.startswith(f"{block}/") and small != size
        }
        if kwargs.get("trainable") is not False and cut_sizes & set(shape.as_list()):
            raise PlanError(
                f"variable {name!r} of shape {shape.as_list()} is not in the model "
                f"that was pruned in {self._folder!r}, and reads or makes pruned "
                f"channels in {block!r}: the code decides by channel counts what it "
                "builds; " + _USE_BUILD.format(self._folder)
            )

    def _check_input(self, name, graph):
        """What a literal, such as a reshape's, has not let go cannot be read."""
        for tensor, axis, kernel_axis in self._inputs.get(name, ()):
            cut = self.artifact.variables[name]
            size, small = cut.shape[kernel_axis], cut.small_shape[kernel_axis]
            try:
                actual = graph.get_tensor_by_name(tensor)
            except KeyError:
                continue
            if size != small and actual.shape.rank and actual.shape[axis].value == size:
                raise PlanError(
                    f"variable {name!r} reads {small} channels as it was pruned in "
                    f"{self._folder!r}, and {actual.op.type} {actual.op.name!r} still "
                    f"has {size}: the code holds a channel count as a literal; "
                    + _USE_BUILD.format(self._folder)
                )

    def _compare_layers(self, graph):
        missing = self.artifact.missing_in(graph)
        if missing and self.artifact.served.isdisjoint(self._asked):
            raise PlanError(
                f"none of the variables asked for, such as {min(self._asked)!r}, is "
                f"one of the pruned model in {self.artifact.folder!r}, such as "
                f"{missing[0]!r}; give them the names they had"
            )
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
                "what it builds; %s.",
                ", ".join(others),
                _USE_BUILD.format(self._folder),
            )


def _tensors_of(built):
    tensors = [t for t in tf.nest.flatten(built) if isinstance(t, tf.Tensor)]
    if not tensors:
        raise PlanError(
            "GapFinetune.build: the function takes no gradients and returned "
            f"{built!r}; return the tensors that the model puts out"
        )
    return tensors


def _made_outside(what):
    return (
        "GapFinetune.build: the function reads a tensor that was made outside of it "
        f"({what}); pass it as an argument: build(function, tensor)"
    )
