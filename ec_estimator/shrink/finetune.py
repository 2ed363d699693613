"""finetune(): a model_fn in, a model_fn that builds the pruned network out."""
import functools
import threading

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_intercept, tf_private, tf_replicas
from ec_estimator.core.model_fn import ModelFn
from ec_estimator.core.replicas import members, replica_scope, variables_of
from ec_estimator.graph.variables import checkpoint_name
from ec_estimator.shrink.check import (
    check_all_variables,
    check_same_network,
    check_same_variables,
)
from ec_estimator.shrink.cut import Cut
from ec_estimator.shrink.getter import CutVariables, named
from ec_estimator.shrink.veil import Veil
from ec_estimator.shrink.whole import build_whole, ends_forward_pass, ends_of_spec


def finetune(model_fn, folder):
    """Wraps the model_fn that was pruned so that it builds the small network.

    Variables have their pruned shapes and start from the pruned values; the optimizer
    starts afresh. What comes out trains, evaluates and exports with any Estimator in a
    model_dir of its own, in this process or another: the folder is all that is needed.

    The model_fn is called twice for each graph: for the whole network's forward pass in
    a scratch graph, and for the small one. While it builds the second one, tensors
    show it the static shapes of the first, so code that counts on them builds the same
    network; what is built is compared op by op.

    Args:
      model_fn: as it was given to `compress`.
      folder: the artifact's folder, or the save_dir or model_dir of the pruning run.

    Returns:
      A model_fn with the same arguments.

    Raises:
      RunFolderError: at once: there is no artifact, or it is damaged.
      PlanError: when a graph is built: the code builds something else than the pruned
        network; the message names the op.
    """
    user, variables = ModelFn(model_fn), CutVariables(folder)

    def build(features, labels, mode, params, config):
        def call(features, labels):
            return user(features, labels, mode, params, config)

        graph = tf.get_default_graph()
        whole = build_whole(call, (features, labels), graph, ends_of_spec)
        return SmallBuild(whole, variables, graph).run(lambda: call(features, labels))

    return user.stand_in(build)


class SmallBuild:
    """One build of the small network, compared with the whole one.

    Args:
      whole: shrink.whole.Whole.
      variables: getter.CutVariables of the artifact.
      graph: the tf.Graph that the small network is built in.
    """

    def __init__(self, whole, variables, graph):
        stored = variables.artifact.variables
        check_same_variables(whole, variables.artifact)
        self._whole = whole
        self._graph = graph
        # Replicas of a distribution strategy build in threads of their own.
        self._thread, self._replica = threading.get_ident(), replica_scope(graph)
        self._stored = stored
        self._cut = Cut(
            whole.graph,
            {name: cut.kept for name, cut in stored.items()},
            variables.artifact.served,
        )
        self._variables = variables.cut_to(self._cut.variables())
        self._veil = Veil(graph, self._cut, whole.shapes)
        self._starts = []
        self._is_checked = False

    def run(self, build):
        """What `build`, a callable(), returns; it is run under the veil.

        Raises:
          PlanError: it builds something else than the pruned network.
        """
        scope = tf.get_variable_scope()
        try:
            with self._veil.worn(), tf_intercept.intercept_gradients(
                self._graph, self._take_gradients
            ), tf_replicas.intercept_merges(self._merge):
                with tf.variable_scope(scope, custom_getter=self._get_variable):
                    with tf.variable_creator_scope(self._create_variable):
                        built = build()
        except (ValueError, TypeError) as error:
            # What is wrong shows best in what was built before it failed.
            self._compare(error)
        self._check()
        check_all_variables(self._graph, self._variables.artifact)
        for start in self._starts:
            if start.name in self._stored:
                start.restore()
        self._load_others()
        return built

    def _load_others(self):
        """What asks neither getter nor creator for its values: what was imported, and
        variables made of the classes behind tf.Variable."""
        known = {op for start in self._starts for op in start.writes}
        # The small network counts its own steps.
        known.update(
            step.op for step in variables_of(self._graph, tf.GraphKeys.GLOBAL_STEP)
        )
        for variable in variables_of(self._graph) if not self._replica else ():
            if variable.op not in known and checkpoint_name(variable) in self._stored:
                value = self._variables.value(variable)
                assign = variable.assign(value, read_value=False)
                tf_private.set_initializer(variable, (assign, value))

    # TensorFlow looks for a first parameter of this name.
    def _get_variable(self, getter, name, *args, **kwargs):
        kwargs.update(named(args))
        if self._veil.covers(name):
            # Shared. It shows another shape than it has, so ask for none.
            return getter(name, **{**kwargs, "shape": None})
        variable = self._variables.get_variable(getter, name, **kwargs)
        if self._replica:
            # Another replica has made it, so no creator was asked.
            self._cover(variable)
        return variable

    def _create_variable(self, next_creator, **kwargs):
        variable = self._variables.create_variable(next_creator, **kwargs)
        self._cover(variable)
        self._starts.append(_Start(variable))
        return variable

    def _cover(self, variable):
        for member in members(variable):
            self._veil.cover_variable(member)

    def _merge(self, merge, merge_fn, args, kwargs):
        """Replicas wait for each other, and do what they do together, without veils."""
        if self._veil.is_worn and tf_replicas.starts_from_checkpoint(merge_fn):
            merge_fn = self._starting(merge_fn)
        with self._veil.lifted():
            return merge(merge_fn, args, kwargs)

    def _starting(self, merge_fn):
        """tf.train.init_from_checkpoint compares variables with the whole model's."""

        @functools.wraps(merge_fn)
        def start(*args, **kwargs):
            with self._veil.variables_shown():
                return merge_fn(*args, **kwargs)

        return start

    def _take_gradients(self, take, ys, xs):
        if threading.get_ident() != self._thread:
            return take(xs)
        if ends_forward_pass(xs):
            self._veil.lift()
            # Before a compressor around this model_fn changes the graph.
            self._check()
        with self._veil.lifted():
            return take(xs)

    def _check(self):
        """Once: what is built after the forward pass is no part of the network."""
        if not self._is_checked:
            self._compare()
            self._is_checked = True

    def _compare(self, failure=None):
        check_same_network(
            self._whole,
            self._cut,
            self._graph,
            self._veil.added,
            self._replica,
            failure,
        )


class _Start:
    """What gives a variable its first value, as it is when the variable is made.

    Args:
      variable: as it was made, a distribution strategy's container among them.
    """

    def __init__(self, variable):
        self._variable = variable
        self._initializer = tf_private.initializer_of(variable)
        copies = members(variable)
        self._first = copies[0]
        # {op of each copy: the op that writes its first value}
        self.writes = {copy.op: _op(copy.initializer) for copy in copies}

    @property
    def name(self):
        # That of a part is known only when all parts are made.
        return checkpoint_name(self._first)

    def restore(self):
        """tf.train.init_from_checkpoint in user code wants the whole model's values."""
        theirs, _ = tf_private.initializer_of(self._variable)
        for write in _writes(_op(theirs)):
            ours = self.writes.get(write.inputs[0].op)
            if ours not in (None, write) and ours.type == write.type:
                # It stays in the graph, and no graph whose shapes contradict each other
                # can be imported: neither a SavedModel nor a checkpoint's meta graph.
                tf_private.replace_input(write, 1, ours.inputs[1])
        tf_private.set_initializer(self._variable, self._initializer)


def _op(initializer):
    return getattr(initializer, "op", initializer)


def _writes(initializer):
    """The ops that an initializer writes with: itself, or those that it groups."""
    if initializer is None:
        return []
    if initializer.type == "NoOp":
        return [op for group in initializer.control_inputs for op in _writes(group)]
    return [initializer] if initializer.inputs else []
