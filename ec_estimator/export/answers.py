"""What a model answers, batch by batch."""
import numpy as np
import tensorflow.compat.v1 as tf

# Where the model leaves it open. Large ones fill the memory with activations.
_BATCH = 32


def in_batches(run, inputs, size):
    """Runs a model on all inputs.

    Args:
      run: callable([{input key: array}]) -> [{output key: array}], a batch each.
      inputs: {input key: array [n, ...]}, n >= 1.
      size: examples a batch; None: any number.

    Returns:
      {output key: array [n, ...]}.
    """
    step = size or _BATCH
    count = len(next(iter(inputs.values())))
    batches = [
        {key: array[start : start + step] for key, array in inputs.items()}
        for start in range(0, count, step)
    ]
    parts = run(batches)
    # A scalar has no axis to be joined on.
    return {
        key: np.concatenate([np.atleast_1d(part[key]) for part in parts])
        for key in parts[0]
    }


def saved_model_answers(path, signature, inputs, size):
    """TensorFlow's answers, of a signature of a SavedModel; see `in_batches`."""
    with tf.Graph().as_default(), tf.Session() as session:
        loaded = tf.saved_model.load(session, [tf.saved_model.SERVING], path)
        ends = loaded.signature_def[signature]
        outputs = {key: info.name for key, info in ends.outputs.items()}

        def run(batches):
            names = {key: ends.inputs[key].name for key in inputs}
            return [
                session.run(outputs, {names[k]: array for k, array in batch.items()})
                for batch in batches
            ]

        return in_batches(run, inputs, size)
