"""A user's model_fn, called with the arguments that it has."""
from ec_estimator.core import tf_private
from ec_estimator.core.errors import PlanError

_UNCOMPRESSED = "ec_estimator_uncompressed"


def uncompressed(model_fn):
    """The model_fn that was compressed, or one that was not, itself."""
    return getattr(model_fn, _UNCOMPRESSED, model_fn)


class ModelFn:
    """Calls a model_fn as an Estimator would, and stands in for it."""

    def __init__(self, function):
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
