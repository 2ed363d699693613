"""The errors a caller can act on."""


class CompressionError(Exception):
    """Base class: something about the compression, not about TensorFlow."""


class ConfigError(CompressionError, ValueError):
    """A configuration value, scope or flag that cannot work."""


class PlanError(CompressionError, ValueError):
    """The model and what is known of it do not fit together."""


class RunFolderError(CompressionError, ValueError):
    """What a run left on disk cannot be written, read or trusted."""


class UnfinishedError(CompressionError, RuntimeError):
    """A checkpoint from before the last trial was about to be handed over."""
