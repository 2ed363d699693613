"""What every compressor is: a config that plans, and a part that lives in a graph."""
import abc
import dataclasses
from typing import Dict


@dataclasses.dataclass(frozen=True)
class TrialReport:
    """What a trial did.

    ratio: the fraction of the planned weights that is gone now.
    per_kernel: the same for each kernel, by name.
    notes: sentences the user should read (a kernel that kept its last block).
    """

    ratio: float
    per_kernel: Dict[str, float]
    notes: tuple = ()

    def headline(self, target):
        """What the trial led to, in a few words."""
        return f"ratio {self.ratio:.4f} (target {target:g})"

    def record(self):
        """JSON-ready."""
        return {"ratio": self.ratio, "per_kernel": self.per_kernel}


class Compressor(abc.ABC):
    """One algorithm with its config; holds no graph and no state.

    `name` is the namespace of its variables and of its flags.
    """

    name: str
    # Whether it writes kernel variables, so that whatever else does is gated.
    changes_kernels = True
    # Whether the graphs that evaluate and predict are changed, too.
    changes_serving = False

    def __init__(self, config):
        self.config = config

    @property
    def schedule(self):
        return self.config.schedule

    @abc.abstractmethod
    def decide(self, model):
        """Which layers are compressed, and why the others are not.

        Args:
          model: graph.plan.Model.

        Returns:
          graph.plan.Decisions.
        """

    def prepare(self, graph, details):
        """Called before a model is built for training.

        Args:
          graph: the graph it will be built in.
          details: what `decide` gave.
        """
        return None

    def prepared(self, graph):
        """Names of the variables that `prepare` made in a graph."""
        return frozenset()

    def serve(self, graph, details):
        """Changes a graph that evaluates or predicts, if `changes_serving`.

        Returns:
          rewrite.frozen.Frozen or None.
        """
        return None

    @abc.abstractmethod
    def attach(self, kernels, variables, details):
        """Puts this compressor into a training graph.

        Args:
          kernels: [graph.layers.Kernel] whose values it changes.
          variables: {variable name: tf.Variable} of the graph.
          details: what `decide` gave.

        Returns:
          An Attached.
        """


class Attached(abc.ABC):
    """A compressor in one training graph; its state is in the graph's variables."""

    @property
    @abc.abstractmethod
    def trial_counter(self):
        """int64 scalar variable: trials done."""

    @abc.abstractmethod
    def gate(self, variable_name, update):
        """What of an update (a gradient, a new value) may reach a kernel variable.

        Args:
          update: tensor of the variable's shape.

        Returns:
          Tensor of the same shape.
        """

    @abc.abstractmethod
    def finish(self, companions):
        """Builds the ops of a trial. Called once, after the user's graph is complete.

        Args:
          companions: {kernel variable name: [rewrite.updates.Companion]}, the variables
            that follow a kernel and what each starts from.
        """

    @abc.abstractmethod
    def run_trial(self, session, trial, ratio):
        """Brings the kernels to `ratio`, counts the trial, returns a TrialReport."""

    def learn(self, graph, losses, backward):
        """Looks for what the training graph has that the plan does not know. Called
        before gradients are taken and again when the graph is complete.

        Args:
          losses: tensors whose gradients are taken.
          backward: the ops that compute gradients.
        """
        return None

    @property
    def gated(self):
        """Names of the variables, beyond those of its kernels, whose updates it gates;
        `learn` may find more."""
        return frozenset()

    def watch(self, graph):
        """Called when gradients are about to be taken, the forward graph complete.

        Returns:
          Tensors whose gradients this compressor wants to see, too.
        """
        return []

    def observe(self, tensors, gradients):
        """Gets the gradients of the tensors that this and other compressors gave from
        `watch`; None for no gradient."""
        return None

    def watch_finished(self, graph, gradients_of):
        """The counterpart of `watch` and `observe` in a graph that has its gradients.

        Args:
          gradients_of: callable(layer op, index of an input) -> gradients of the input.
        """
        return None

    @property
    def step_ops(self):
        """Ops to run with every training step."""
        return []

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
