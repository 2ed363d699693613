"""A user's model_fn, called with the arguments that it has."""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import CompressionError, PlanError

_UNCOMPRESSED = "ec_estimator_uncompressed"


def uncompressed(model_fn):
    """The model_fn that was compressed, or one that was not, itself."""
    return getattr(model_fn, _UNCOMPRESSED, model_fn)


def check_estimator(where, estimator):
    """Raises a CompressionError that begins with `where` for what is no Estimator."""
    if isinstance(estimator, tf.keras.Model):
        raise CompressionError(
            f"{where}: got the Keras model {estimator.name!r}; make an Estimator of it "
            "with tf.keras.estimator.model_to_estimator, and pass that"
        )
    if not isinstance(estimator, tf.estimator.Estimator):
        raise CompressionError(
            f"{where}: estimator must be a tf.estimator.Estimator, got {estimator!r}"
        )


def _check_model_fn(function):
    if isinstance(function, tf.estimator.Estimator):
        raise CompressionError(
            f"model_fn: got the {type(function).__name__} itself; pass its function, "
            "estimator.model_fn, or compress the Estimator as it is with "
            "train_and_evaluate(..., compressor=) or ec_estimator.compressed"
        )
    if isinstance(function, tf.keras.Model):
        raise CompressionError(
            f"model_fn: got the Keras model {function.name!r}; make an Estimator of it "
            "with tf.keras.estimator.model_to_estimator, and pass estimator.model_fn"
        )
    if not callable(function):
        raise CompressionError(
            "model_fn: must be a function as tf.estimator.Estimator takes it, got "
            f"{function!r}"
        )


def compressed_model(model_fn):
    """The CompressedModel behind what `compress` returned, or None."""
    return getattr(model_fn, "compressed_model", None)


class ModelFn:
    """Calls a model_fn as an Estimator would, and stands in for it.

    Raises:
      CompressionError: what is given is none.
    """

    def __init__(self, function):
        _check_model_fn(function)
        self._function = function
        self._arguments = set(tf_private.arguments_of(function))

    def __call__(self, features, labels, mode, params, config):
        if labels is not None and "labels" not in self._arguments:
            raise PlanError("model_fn does not take labels, but input_fn returns some")
        offered = {"labels": labels, "mode": mode, "params": params, "config": config}
        spec = self._function(
            features=features,
            **{k: v for k, v in offered.items() if k in self._arguments},
        )
        # A TPUEstimatorSpec, as BERT's scripts return it on CPU and GPU too.
        return spec.as_estimator_spec() if hasattr(spec, "as_estimator_spec") else spec

    def stand_in(self, build):
        """A function with the signature that Estimator inspects.

        Args:
          build: callable(features, labels, mode, params, config) -> EstimatorSpec.
        """
        if "params" in self._arguments:

            def model_fn(features, labels, mode, params, config):
                return build(features, labels, mode, params, config)

        else:

            def model_fn(features, labels, mode, config):
                return build(features, labels, mode, None, config)

        return model_fn

    def compressed(self, build):
        """`stand_in`, of which `uncompressed` knows what it stands for."""
        model_fn = self.stand_in(build)
        setattr(model_fn, _UNCOMPRESSED, self.stand_in(self))
        return model_fn
