"""finetune(): a model_fn in, a model_fn that builds the pruned network out."""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.model_fn import ModelFn
from ec_estimator.graph.variables import checkpoint_name
from ec_estimator.shrink.check import check_same_network, check_same_variables
from ec_estimator.shrink.cut import Cut
from ec_estimator.shrink.getter import GapFinetune
from ec_estimator.shrink.veil import Veil
from ec_estimator.shrink.whole import build_whole, ends_forward_pass


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
    user, helper = ModelFn(model_fn), GapFinetune(folder)

    def build(features, labels, mode, params, config):
        def call(features, labels, mode):
            return user(features, labels, mode, params, config)

        return _build_small(call, helper, features, labels, mode)

    return user.stand_in(build)


def _build_small(call, helper, features, labels, mode):
    graph = tf.get_default_graph()
    whole = build_whole(call, features, labels, mode, graph)
    variables = helper.artifact.variables
    check_same_variables(whole, variables)
    cut = Cut(
        whole.graph,
        {name: cut.kept for name, cut in variables.items()},
        frozenset(helper.artifact.manifest.get("served", variables)),
    )
    helper = helper.cut_to(cut.variables())
    veil = Veil(graph, cut, whole.shapes)
    initializers = []

    def get_variable(getter, name, shape=None, **kwargs):
        if veil.covers(name):
            # Shared. It shows another shape than it has, so ask for none.
            return getter(name, **kwargs)
        return helper.get_cut_variable(getter, name, shape=shape, **kwargs)

    def create_variable(next_creator, **kwargs):
        variable = helper.create_variable(next_creator, **kwargs)
        veil.cover_variable(variable)
        initializers.append((variable, tf_private.initializer_of(variable)))
        return variable

    checked = []

    def take_gradients(take, ys, xs):
        if ends_forward_pass(xs):
            veil.lift()
            # Before a compressor around this model_fn changes the graph.
            if not checked:
                check_same_network(whole, cut, graph)
                checked.append(True)
        with veil.lifted():
            return take(xs)

    try:
        with veil.worn(), tf_private.intercept_gradients(graph, take_gradients):
            scope = tf.get_variable_scope()
            with tf.variable_scope(scope, custom_getter=get_variable):
                with tf.variable_creator_scope(create_variable):
                    spec = call(features, labels, mode)
    except (ValueError, TypeError) as error:
        # What is wrong shows best in what was built before it failed.
        check_same_network(whole, cut, graph, error)
    if not checked:
        check_same_network(whole, cut, graph)
    for variable, initializer in initializers:
        # tf.train.init_from_checkpoint in user code wants the whole model's values.
        if checkpoint_name(variable) in variables:
            tf_private.set_initializer(variable, initializer)
    return spec
