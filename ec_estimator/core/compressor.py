"""What every compressor is: a config that plans, and a part that lives in a graph.

docs/extending.md says how to write one.
"""
import abc
from typing import Any, Callable, Dict, FrozenSet, NamedTuple, Sequence, Tuple

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import ConfigError
from ec_estimator.core.state import create_variable


class Compressor(abc.ABC):
    """One algorithm with its config; holds no graph and no state.

    name: the namespace of its variables.
    flag: what --compressor calls it, and its flags begin with.
    config_type: the class of its config; its fields become flags.

    Raises:
      ConfigError: it is made with anything else than a config of that class.
    """

    name: str
    flag: str
    config_type: type
    # Trials that a model must have been through before it can be evaluated at all.
    trials_to_serve = 0

    def __init__(self, config):
        if not isinstance(config, self.config_type):
            maker, wanted = type(self).__name__, self.config_type.__name__
            raise ConfigError(
                f"{maker}: config must be a {wanted}, as in {maker}({wanted}()), got "
                f"{config!r}"
            )
        self.config = config

    @property
    def schedule(self):
        return self.config.schedule

    @abc.abstractmethod
    def decide(self, model):
        """Which layers are compressed, and why the others are not.

        Args:
          model: graph.decisions.Model.

        Returns:
          graph.decisions.Decisions.
        """

    @abc.abstractmethod
    def inject(self, graph, kernels, details):
        """Puts this compressor into a graph that trains.

        Called before the model is built, or in a session when its graph is complete.
        What is made later, on first use, leaves the seeds of the user's random ops as
        they are.

        Args:
          graph: the tf.Graph, which is the default.
          kernels: [graph.layers.Kernel] that `decide` named.
          details: what `decide` gave.

        Returns:
          An Attached.
        """

    def serve(self, graph, details, stored):
        """Changes a graph that evaluates or predicts, if that is needed.

        Args:
          graph: the tf.Graph, built by the user's code.
          details: callable() -> what `decide` gives; surveys the model when it is
            called first.
          stored: what `details.digest()` gave in the run that the graph belongs to;
            None if there is no run's folder.

        Returns:
          None, or an object with `constants` and `describe`; see rewrite.serving.
        """
        return None

    def conflict(self, others):
        """Why this compressor cannot work together with others; "" if it can.

        Args:
          others: [Compressor].
        """
        return ""


class Forward(NamedTuple):
    """A forward pass that is complete, as `Attached.look` sees it.

    graph: the tf.Graph.
    losses: tensors whose gradients were or are taken, all of them so far.
    call: names of those that are taken now; () when the whole graph is complete.
    backward: ops that compute gradients, so far.
    has_news: whether there are layers or losses that an earlier look did not see.
    observe: callable(op, index, receive): has receive(tensor, gradient) see the
      gradients that flow from an op to its input; see rewrite.edges.
    """

    graph: Any
    losses: Sequence[Any]
    call: Tuple[str, ...]
    backward: FrozenSet[Any]
    has_news: bool
    observe: Callable


class Trained(NamedTuple):
    """A training graph that is complete, optimizer included.

    companions: {name of a gated variable: [rewrite.updates.Companion]}: what follows
      it entry by entry, such as its slots. Without an entry nothing writes it.
    variables: the model's own variables.
    served_from: {name of a variable: the variable whose value a checkpoint of this
      graph serves it with}, such as its moving average; of those not in it, itself.
    """

    companions: Dict[str, Sequence[Any]]
    variables: Sequence[Any]
    served_from: Dict[str, Any]


class Settled(NamedTuple):
    """What of a compressor's plan a training graph carries out.

    details: what `Decisions.details` becomes, for every graph of the run.
    left_alone: {op name of a layer in the plan: why it is left alone after all}.
    only_trained: [graph.layers.Layer] of the training graph that are left alone because
      the graph that predicts has none like them.
    """

    details: Any
    left_alone: Dict[str, str]
    only_trained: Sequence[Any]


class EveryStep(NamedTuple):
    """Ops that a compressor has run with every training step.

    train_op: on every worker, as a part of the Estimator's train_op; in a session with
      each of its runs, by the hook. They may read what the step computes, but a
      reference variable of the user's may have been updated before they do.
    chief: on the chief alone, which runs the trials.
    """

    train_op: Sequence[Any] = ()
    chief: Sequence[Any] = ()


class Attached(abc.ABC):
    """A compressor in one training graph; its state is in the graph's variables.

    Args:
      name: of the compressor.
    """

    # Names of the variables whose gradients and updates go through `gate`.
    gated = frozenset()
    # Whether `gate` alone is enough for a gradient that comes to the optimizer as it
    # is: on a cluster a worker then computes nothing of `gate_gradient`.
    gate_is_enough = False
    # Variables of ours that a graph which serves the model reads, too.
    served_variables = ()

    def __init__(self, name):
        self.name = name
        self._trials = None

    @property
    def trial_counter(self):
        """int64 scalar variable: trials done. `run_trial` counts."""
        if self._trials is None:
            self._trials = create_variable(f"{self.name}/trial", [], tf.int64, 0)
        return self._trials

    @abc.abstractmethod
    def finish(self, trained):
        """Builds the ops of a trial. Called once, when the user's graph is complete.

        Args:
          trained: Trained.

        Returns:
          EveryStep.
        """

    @abc.abstractmethod
    def run_trial(self, session, trial, ratio):
        """Brings the model to `ratio`, sets the trial counter, returns a Report."""

    def gate(self, variable_name, update):
        """What of an update (a gradient, a new value) may reach a gated variable.

        Args:
          update: tensor of the variable's shape.

        Returns:
          Tensor of the same shape.
        """
        return update

    def gate_gradient(self, variable_name, gradient):
        """`gate` for a gradient as it comes out of the layers, before the user's code
        or an optimizer clips it, averages it, or adds a decay to it.

        Called where that is: in a loop or a conditional if the variable is read there;
        and once for each read that TensorFlow takes a gradient of, so that what was
        given adds up to the variable's gradient. Not called for tf.GradientTape, whose
        updates come to `gate` alone.

        Args:
          gradient: tensor of the variable's shape.

        Returns:
          Tensor of the same shape.
        """
        return self.gate(variable_name, gradient)

    def look(self, forward):
        """Sees each forward pass before its gradients are taken, and at last the whole
        graph, with what its optimizer made.

        Args:
          forward: Forward.
        """
        return None

    def settle(self):
        """Called when the user's graph is complete, before `finish`.

        Returns:
          Settled, or None: all is carried out as planned.
        """
        return None

    @property
    def started(self):
        """bool tensor: whether `start` was done, which other workers of a cluster wait
        for; None if they need not."""
        return None

    def sweep(self, session):
        """Removes again what trials have removed: on a cluster an update that was
        computed before a trial may land while it runs."""
        return None

    def start(self, session):
        """Called when a session has its variables and no trial was done yet."""
        return None

    def save(self, session, folder, step, variables):
        """Writes what a run leaves of this compressor; after trials and at the end.

        Args:
          folder: path of the run's folder.
          step: global step.
          variables: the model's own variables.
        """
        return None
