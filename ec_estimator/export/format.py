"""What a format that engines read consists of; one module of export/ each."""
import abc

from ec_estimator.core.errors import CompressionError


class EngineMissing(CompressionError):
    """The engine of a format is not installed; the message says how to get it."""


class Format(abc.ABC):
    """Writes a model for an engine, and asks the engine what it makes of it.

    name: of the exporter, of `--format` and `--export`, and of the folder it writes.
    float_limits: parity.Limits of float models, where the format rounds what was
      trained in float; None where it does not.
    """

    name: str
    float_limits = None

    def refuse_training(self, config):
        """Why a model that trains with a QuantizerConfig could not be written, with the
        field to change; "" if it could. Asked before training.

        Args:
          config: config.QuantizerConfig.
        """
        return ""

    @abc.abstractmethod
    def write(self, model, signature, folder, samples):
        """Writes the files.

        Args:
          model: frozen_model.FrozenModel.
          signature: key of model.signatures, the one to be served.
          folder: an empty folder.
          samples: {input key: array [n, ...]} of the eval input, n >= 1; {} where it
            does not have these inputs.

        Returns:
          Tuple of the names of the files that were written.

        Raises:
          ExportError: the format cannot hold the model; the message says what of it.
        """

    @abc.abstractmethod
    def run(self, folder, inputs):
        """The engine's answers.

        Args:
          folder: what `write` wrote.
          inputs: {input key: array [n, ...]}.

        Returns:
          {output key: array [n, ...]}.

        Raises:
          EngineMissing: it is not installed.
        """

    def run_all(self, folder, batches):
        """The engine's answers to batches, a list of them; `run` has the rest.

        For engines that take long to start.
        """
        return [self.run(folder, batch) for batch in batches]


class ExportError(CompressionError):
    """A model cannot be written in a format, or the engine answers otherwise."""
