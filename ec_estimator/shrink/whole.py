"""The whole model's forward pass, in a scratch graph beside the small one's."""
from typing import Any, Dict, FrozenSet, NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_intercept, tf_private, tf_replicas
from ec_estimator.core.replicas import first, replica_scope, variable_name, variables_of
from ec_estimator.graph.op_types import LAYER_OPS
from ec_estimator.graph.survey import outputs_of, placeholders
from ec_estimator.graph.walk import ancestors, descendants

# Where the scratch graph has what the other graph reads its input from.
INPUTS = "ec_estimator/inputs"


class Whole(NamedTuple):
    """graph: the scratch graph; ends: the tensors that its forward pass ends in;
    shapes: {op name: static shape of each output as it was when the op was made};
    derived: ops of gradients that are part of the forward pass, and what is computed
    from them. TensorFlow sized them by the tensors it found."""

    graph: tf.Graph
    ends: Tuple[Any, ...]
    shapes: Dict[str, Tuple[tf.TensorShape, ...]]
    derived: FrozenSet[Any]

    def forward_ops(self):
        """The ops that the ends are computed from, in the order they were made."""
        return sorted(ancestors(self.ends), key=tf_private.order_of_creation)

    def network_ops(self):
        """Those of them that layers are or read."""
        ops = self.forward_ops()
        layers = ancestors(t for op in ops if op.type in LAYER_OPS for t in op.outputs)
        return [op for op in ops if op in layers]


def ends_forward_pass(xs):
    """Whether gradients with respect to `xs` train, or are part of the forward pass, as
    those with respect to an input are in a gradient penalty."""
    names = {v.op.name for v in variables_of(tf.get_default_graph())}
    return not names.isdisjoint(variable_name(x.op) for x in xs)


class _ForwardComplete(BaseException):
    """Ends a build. Not an Exception: user code may catch those."""


def build_whole(build, inputs, like, ends_of):
    """Builds a model in a scratch graph, up to where gradients of variables are taken.

    Args:
      build: callable(*inputs), which builds the model.
      inputs: tuple; of its tensors only the structure, types and static shapes are
        used.
      like: the graph that the same code will build in next. Names are numbered as
        there, and there is a global step if there is one.
      ends_of: callable(what `build` returns) -> the tensors that the model ends in.

    Returns:
      Whole.
    """
    graph, shapes = tf.Graph(), {}
    scope, has_strategy = replica_scope(like), tf.distribute.has_strategy()
    variables = _variables_like(like)

    def record(make, op_type, inputs, name):
        op = make(inputs)
        shapes[op.name] = tuple(tensor.shape for tensor in op.outputs)
        return op

    losses, gradient_ops = [], set()

    def stop(take, ys, xs):
        if not ends_forward_pass(xs):
            before = set(graph.get_operations())
            gradients = take(xs)
            gradient_ops.update(set(graph.get_operations()) - before)
            return gradients
        losses.extend(ys if isinstance(ys, (list, tuple)) else [ys])
        raise _ForwardComplete()

    with graph.as_default():
        if tf.train.get_global_step(like) is not None:
            tf.train.create_global_step(graph)
        with tf.name_scope(INPUTS):
            inputs = placeholders(inputs)
        tf_private.copy_names_in_use(like, graph, scope)
        with tf_intercept.intercept_creation(graph, record):
            with tf_intercept.intercept_gradients(graph, stop):
                try:
                    with variables:
                        ends = ends_of(build(*inputs))
                except _ForwardComplete:
                    # Replicas write their moving statistics otherwise.
                    updates = () if has_strategy else _updates(graph)
                    ends = losses + [op.outputs[0] for op in updates]
    return Whole(graph, tuple(ends), shapes, frozenset(descendants(gradient_ops)))


def _variables_like(graph):
    """Context for a scratch graph, in which variables are of the kind that a strategy
    makes in `graph`, the default one, or the usual."""
    # The strategy is the graph's: the scratch graph has none.
    has_strategy = tf.distribute.has_strategy()
    # Made under the strategy, as all variables there.
    step = tf.train.get_global_step(graph)
    has_containers = has_strategy and step is not None and first(step) is not step

    def creator(next_creator, **kwargs):
        if has_strategy:
            kwargs["use_resource"] = True
        variable = next_creator(**kwargs)
        return tf_replicas.ContainerOfOne(variable) if has_containers else variable

    return tf.variable_creator_scope(creator)


def ends_of_spec(spec):
    """The tensors that an EstimatorSpec's model ends in."""
    metrics = [value for value, _ in (spec.eval_metric_ops or {}).values()]
    losses = [] if spec.loss is None else [spec.loss]
    return (*outputs_of(spec), *losses, *metrics)


def _updates(graph):
    """What writes moving statistics."""
    found = graph.get_collection(tf.GraphKeys.UPDATE_OPS)
    ops = [getattr(update, "op", update) for update in found]
    return [op for op in ops if op.outputs]
