"""The serving graph is built in a scratch graph, from the structure of the features."""
import tensorflow.compat.v1 as tf

from tests.graph.surveyed import EVAL, PREDICT, Spec, raises_in_predict, surveyed


def predict(features, labels, mode):
    return Spec(mode, predictions=tf.layers.dense(features["x"], 1))


def nested():
    return (
        {
            "dense": {"x": tf.placeholder(tf.float32, [None, 4])},
            "ids": tf.sparse_placeholder(tf.int64, [None, 7]),
            "pair": (tf.zeros([2, 3], tf.float16), tf.constant(["a", "b"])),
            "not_a_tensor": 5,
        },
        None,
    )


def test_nested_dicts_sparse_tensors_and_constants_keep_structure_types_and_shapes():
    seen = {}

    def model_fn(features, labels, mode):
        seen.update(features)
        return predict(features["dense"], labels, mode)

    found = surveyed(model_fn, nested)
    assert set(seen) == {"dense", "ids", "pair", "not_a_tensor"}
    assert seen["not_a_tensor"] == 5
    ids = seen["ids"]
    assert isinstance(ids, tf.SparseTensor)
    assert ids.values.dtype == tf.int64
    assert ids.indices.shape.as_list() == [None, 2]
    first, second = seen["pair"]
    assert (first.dtype, first.shape.as_list()) == (tf.float16, [2, 3])
    assert (second.dtype, second.shape.as_list()) == (tf.string, [2])
    x = seen["dense"]["x"]
    assert (x.dtype, x.shape.as_list()) == (tf.float32, [None, 4])
    tensors = [ids.indices, ids.values, ids.dense_shape, first, second, x]
    assert {tensor.op.type for tensor in tensors} == {"Placeholder"}
    assert {tensor.graph for tensor in tensors} == {found.graph}


def test_features_may_be_a_single_tensor():
    def model_fn(features, labels, mode):
        return predict({"x": features}, labels, mode)

    found = surveyed(model_fn, lambda: (tf.placeholder(tf.float32, [8, 4]), None))
    assert found.outputs[0].shape.as_list() == [8, 1]


def test_features_may_be_the_element_of_a_dataset():
    def make():
        data = tf.data.Dataset.from_tensors(({"x": tf.zeros([8, 4])}, tf.zeros([8])))
        return tf.data.make_one_shot_iterator(data).get_next()

    found = surveyed(predict, make)
    assert "Iterator" not in {op.type for op in found.graph.get_operations()}
    assert found.outputs[0].shape.as_list() == [8, 1]


def test_there_is_a_global_step_as_in_an_estimator():
    def model_fn(features, labels, mode):
        assert tf.train.get_global_step() is not None
        return predict(features, labels, mode)

    assert surveyed(model_fn).mode == PREDICT


def test_what_is_exported_but_not_predicted_is_an_output():
    def model_fn(features, labels, mode):
        y = tf.identity(tf.layers.dense(features["x"], 1), "y")
        exported = tf.identity(features["x"], "exported")
        outputs = {"other": tf.estimator.export.PredictOutput({"e": exported})}
        return Spec(mode, predictions={"y": y}, export_outputs=outputs)

    assert {t.op.name for t in surveyed(model_fn).outputs} == {"y", "exported"}


def test_scores_and_classes_of_a_classification_output_are_outputs():
    def model_fn(features, labels, mode):
        scores = tf.identity(tf.layers.dense(features["x"], 1), "scores")
        classes = tf.as_string(features["x"], name="classes")
        output = tf.estimator.export.ClassificationOutput(scores, classes)
        return Spec(mode, predictions=scores, export_outputs={"serve": output})

    assert {t.op.name for t in surveyed(model_fn).outputs} == {"scores", "classes"}


def test_an_eval_graph_without_predictions_ends_in_its_loss():
    found = surveyed(raises_in_predict)
    assert [output.op.type for output in found.outputs] == ["Mean"]


def test_an_eval_graph_with_predictions_ends_in_them():
    def model_fn(features, labels, mode):
        y = tf.identity(tf.layers.dense(features["x"], 1), "y")
        loss = tf.reduce_mean(tf.cast(labels, tf.float32) - y)
        return Spec(mode, predictions=y, loss=loss)

    found = surveyed(model_fn)
    assert (found.mode, [o.op.name for o in found.outputs]) == (EVAL, ["y"])
