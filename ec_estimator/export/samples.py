"""Examples of the eval input, as the inputs of what is served."""
from typing import Any, Dict, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.input_fn import call_input_fn


class Samples(NamedTuple):
    """Examples in the order of the eval input.

    inputs: {input key: array [n, ...]} of a signature; {} if there are none.
    labels: int array `[n]` where each example has one, else None.
    reason: why there are none; "" if there are.
    """

    inputs: Dict[str, Any]
    labels: Any
    reason: str


def take_samples(estimator, input_fn, signature, count):
    """Takes the first examples of the eval input.

    Features are a signature's inputs by key; a single tensor is the only input. They
    are not where a receiver parses or decodes what it is sent. They end where a batch
    has another shape than the first; what fills no batch of a fixed size is left away.

    Args:
      estimator: tf.estimator.Estimator, whose params and config input_fn may ask for.
      input_fn: the eval input, or None.
      signature: frozen_model.Signature.
      count: how many, if there are as many.

    Returns:
      Samples.
    """
    if input_fn is None:
        return _none("no input_fn was given")
    with tf.Graph().as_default():
        config = estimator.config
        tf.set_random_seed(config.tf_random_seed or 0)
        data = call_input_fn(
            input_fn, tf.estimator.ModeKeys.EVAL, estimator.params, config
        )
        fetches = _by_key(data.features, signature)
        for key, port in signature.inputs.items():
            reason = _mismatch(key, fetches.get(key), port)
            if reason:
                return _none(reason)
        fetches = {key: fetches[key] for key in signature.inputs}
        labels = _single(data.labels)
        batches = _batches((fetches, labels), data.hooks, count)
    if not batches:
        return _none("the eval input is empty")
    inputs, labels = tf.nest.map_structure(
        lambda *parts: np.concatenate(parts)[:count], *batches
    )
    size = batch_size(signature)
    whole = len(next(iter(inputs.values()))) // (size or 1) * (size or 1)
    if not whole:
        return _none(f"the eval input has not the {size} examples of one batch")
    inputs = {key: array[:whole] for key, array in inputs.items()}
    labels = labels[0].reshape(-1)[:whole] if labels else None
    return Samples(inputs, labels, "")


def batch_size(signature):
    """The number of examples that a signature is fixed to, or None."""
    sizes = [port.size[0] for port in signature.inputs.values() if port.size]
    return next((size for size in sizes if size is not None), None)


def _none(reason):
    return Samples({}, None, reason)


def _by_key(features, signature):
    if isinstance(features, dict):
        return features
    return {key: features for key in signature.inputs if len(signature.inputs) == 1}


def _mismatch(key, feature, port):
    """Why a feature cannot be sent to an input; "" if it can."""
    if feature is None:
        return f"the eval input has no feature {key!r}, an input of what is served"
    if not isinstance(feature, tf.Tensor):
        return f"feature {key!r} of the eval input is not a dense tensor"
    if feature.dtype != port.dtype:
        return (
            f"feature {key!r} of the eval input is {feature.dtype.name}, the input of "
            f"what is served is {port.dtype.name}"
        )
    size = tf.TensorShape(port.size)
    # A batch of the eval input may be of another size than one that is served.
    if feature.shape.rank == 0 or size.rank == 0:
        return f"feature {key!r} of the eval input has no axis of examples"
    if not feature.shape[1:].is_compatible_with(size[1:]):
        return (
            f"feature {key!r} of the eval input has shape {feature.shape}, the input "
            f"of what is served {size}"
        )
    return ""


def _single(labels):
    """The labels in a list, if there is an integer an example, else []."""
    if not isinstance(labels, tf.Tensor) or not labels.dtype.is_integer:
        return []
    is_single = labels.shape.rank and labels.shape.as_list()[1:] in ([], [1])
    return [labels] if is_single else []


def _batches(fetches, hooks, count):
    batches, found = [], 0
    # It ends quietly when the data does.
    with tf.train.MonitoredSession(hooks=hooks) as session:
        while found < count and not session.should_stop():
            batch = session.run(fetches)
            if batches and _shapes(batch) != _shapes(batches[0]):
                break
            batches.append(batch)
            found += len(tf.nest.flatten(batch)[0])
    return batches


def _shapes(batch):
    return [array.shape[1:] for array in tf.nest.flatten(batch)]
