"""HandoffExporter with models of all kinds, and within train_and_evaluate."""
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib.estimator import add_metrics

import ec_estimator as ec
from ec_estimator.export.format import ExportError
from ec_estimator.export.frozen_format import FrozenGraphFormat
from ec_estimator.export.handoff import HandoffExporter
from tests import models
from tests.export import handoffs
from tests.export.handoffs import LAST, export, exporter, input_fn

IMAGE, NUMBERS = "in/image:0", "in/numbers"


def manifest(path):
    with open(f"{path}/manifest.json") as file:
        return json.load(file)


def specs(steps, made):
    return (
        tf.estimator.TrainSpec(input_fn, steps),
        tf.estimator.EvalSpec(
            input_fn, 2, exporters=[made], start_delay_secs=0, throttle_secs=0
        ),
    )


def two_ends_fn(features, labels, mode):
    """Two inputs, and signatures with a score, a number, an integer and a string."""
    x = tf.layers.conv2d(features[IMAGE], 4, 3, activation=tf.nn.relu, name="a/conv")
    x = tf.reduce_mean(x, [1, 2])
    x = tf.concat([x, tf.cast(features[NUMBERS], tf.float32)], 1)
    scores = tf.layers.dense(x, 3, name="b/scores")
    best = tf.argmax(scores, 1)
    if mode == tf.estimator.ModeKeys.PREDICT:
        output = tf.estimator.export.PredictOutput
        return tf.estimator.EstimatorSpec(
            mode,
            predictions={"scores": scores},
            export_outputs={
                "serving_default": output({"out/scores:0": scores}),
                "best/one": output(
                    {
                        "number": tf.reduce_max(scores, 1),
                        "index": best,
                        "name": tf.as_string(best),
                    }
                ),
            },
        )
    loss = tf.losses.sparse_softmax_cross_entropy(labels, scores)
    train_op = tf.train.AdamOptimizer().minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def two_ends_data():
    random = np.random.RandomState(1)
    features = {
        IMAGE: random.standard_normal((8, 6, 6, 2)).astype(np.float32),
        NUMBERS: random.randint(0, 3, (8, 2)).astype(np.int32),
    }
    data = tf.data.Dataset.from_tensor_slices((features, random.randint(0, 3, 8)))
    return data.repeat().batch(4)


def two_ends_receiver():
    inputs = {
        IMAGE: tf.placeholder(tf.float32, [None, 6, 6, 2], "in/image"),
        NUMBERS: tf.placeholder(tf.int32, [None, 2], "in/numbers"),
    }
    return tf.estimator.export.ServingInputReceiver(inputs, inputs)


@pytest.fixture(scope="module", params=[None, "quantized"])
def two_ends(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_ends")
    trained = handoffs.estimator(folder, request.param, two_ends_fn)
    return trained.train(two_ends_data, max_steps=LAST)


def two_ends_exporter(signature):
    return HandoffExporter(
        FrozenGraphFormat(),
        two_ends_receiver,
        two_ends_data,
        signature=signature,
        samples=8,
    )


@pytest.mark.parametrize(
    "signature,outputs",
    [
        (None, {"out/scores:0": "top_1"}),
        ("serving_default", {"out/scores:0": "top_1"}),
        (
            "best/one",
            {"number": "relative_difference", "index": "equal", "name": "equal"},
        ),
    ],
)
def test_several_inputs_outputs_and_signatures(two_ends, signature, outputs, tmp_path):
    made = manifest(export(two_ends_exporter(signature), two_ends, tmp_path))
    assert made["signature"] == (signature or "serving_default")
    assert set(made["inputs"]) == {IMAGE, NUMBERS}
    assert made["inputs"][NUMBERS]["dtype"] == "int32"
    assert set(made["outputs"]) == set(outputs)
    assert made["parity"]["samples"] == 8
    for key, figure in outputs.items():
        exact = 0.0 if figure == "relative_difference" else 1.0
        assert made["parity"]["outputs"][key][figure] == pytest.approx(exact, abs=1e-6)


def test_a_signature_that_is_not_there_is_an_error(two_ends, tmp_path):
    with pytest.raises(
        ExportError, match="no signature 'bes'; there is best/one, serving_default"
    ):
        export(two_ends_exporter("bes"), two_ends, tmp_path)


def test_one_signature_is_not_the_other(two_ends, tmp_path):
    export(two_ends_exporter("best/one"), two_ends, tmp_path)
    with pytest.raises(ExportError, match="with signature 'best/one' instead of 'serv"):
        export(two_ends_exporter("serving_default"), two_ends, tmp_path)


def odd_ends_fn(features, labels, mode):
    """An input that no output reads, and an output that is a single number."""
    scores = tf.layers.dense(features["x"], 3, name="scores")
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"scores": scores, "largest": tf.reduce_max(scores)}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, scores)
    train_op = tf.train.AdamOptimizer().minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def odd_ends_data():
    random = np.random.RandomState(1)
    features = {
        "x": random.standard_normal((40, 4)).astype(np.float32),
        "unread": np.arange(40, dtype=np.int32),
    }
    data = tf.data.Dataset.from_tensor_slices((features, random.randint(0, 3, 40)))
    return data.repeat().batch(40)


def odd_ends_receiver():
    inputs = {
        "x": tf.placeholder(tf.float32, [None, 4], "x"),
        "unread": tf.placeholder(tf.int32, [None], "unread"),
    }
    return tf.estimator.export.ServingInputReceiver(inputs, inputs)


@pytest.fixture(scope="module")
def odd_ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd_ends")
    trained = handoffs.estimator(folder, wrapped=odd_ends_fn)
    return trained.train(odd_ends_data, max_steps=1)


@pytest.mark.parametrize("name", ["frozen_graph", "onnx_onnxruntime"])
def test_unread_inputs_stay_and_single_numbers_are_compared(name, odd_ends, tmp_path):
    made = HandoffExporter(
        ec.FORMATS[name](), odd_ends_receiver, odd_ends_data, samples=40
    )
    path = export(made, odd_ends, tmp_path)
    written = manifest(path)
    assert set(written["inputs"]) == {"x", "unread"}
    assert written["outputs"]["largest"]["shape"] == []
    # One number of each of two batches.
    assert written["parity"]["checked"] and written["parity"]["samples"] == 40
    assert set(written["parity"]["outputs"]["largest"]) == {
        "max_abs_difference",
        "largest_answer",
        "relative_difference",
        "rms_difference",
        "not_finite",
    }


def parsing_receiver():
    return tf.estimator.export.build_parsing_serving_input_receiver_fn(
        {"x": tf.FixedLenFeature([8, 8, 3], tf.float32)}
    )()


def test_strings_that_are_parsed_are_handed_over_and_a_warning_says_so(
    tmp_path, caplog
):
    trained = handoffs.estimator(tmp_path / "run").train(input_fn, max_steps=1)
    made = HandoffExporter(FrozenGraphFormat(), parsing_receiver, input_fn)
    parity = manifest(export(made, trained, tmp_path / "out"))["parity"]
    assert parity["checked"] is False
    assert "no feature 'examples', an input of what is served" in parity["reason"]
    assert parity["reason"] in caplog.text


def test_an_estimator_that_hides_what_was_quantized_is_an_error(tmp_path):
    trained = handoffs.estimator(tmp_path / "run", "quantized")
    trained.train(input_fn, max_steps=LAST)
    hidden = add_metrics(trained, lambda predictions: {})
    plain = handoffs.estimator(tmp_path / "run")
    for other in (hidden, plain):
        with pytest.raises(ExportError, match="does not show the model_fn that comp"):
            export(exporter(), other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def fixed_receiver():
    x = tf.placeholder(tf.float32, [2, 8, 8, 3])
    return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})


@pytest.mark.parametrize(
    "receiver,samples,sizes",
    [
        (fixed_receiver, 5, [2, 2]),
        (handoffs.receiver, 5, [5]),
        (handoffs.receiver, 40, [32, 8]),
    ],
)
def test_an_engine_gets_batches_that_it_can_take(receiver, samples, sizes, tmp_path):
    trained = handoffs.estimator(tmp_path / "run").train(input_fn, max_steps=1)
    batches = handoffs.Batches()
    made = HandoffExporter(batches, receiver, input_fn, samples=samples)
    path = export(made, trained, tmp_path / "out")
    assert batches.sizes == sizes
    assert manifest(path)["parity"]["samples"] == sum(sizes)


def test_a_lookup_table_is_an_error(tmp_path):
    def receiver():
        words = tf.placeholder(tf.string, [None])
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a"], [1.0]), 0.0
        )
        tf.add_to_collection(tf.GraphKeys.TABLE_INITIALIZERS, table.initializer)
        x = tf.ones([1, 8, 8, 3]) * table.lookup(words)[:, None, None, None]
        return tf.estimator.export.ServingInputReceiver({"x": x}, {"words": words})

    trained = handoffs.estimator(tmp_path / "run").train(input_fn, max_steps=1)
    made = HandoffExporter(FrozenGraphFormat(), receiver, input_fn)
    with pytest.raises(ExportError, match="'hash_table' is a lookup table, which"):
        export(made, trained, tmp_path / "out")


def test_train_and_evaluate_hands_over_each_finished_checkpoint(tmp_path):
    trained = tf.estimator.Estimator(
        ec.compress(handoffs.model_fn(), handoffs.COMPRESSORS["sparse"]()),
        config=models.run_config(str(tmp_path), save_checkpoints_steps=2),
    )
    _, exports = ec.train_and_evaluate(trained, *specs(8, exporter(name="engine")))
    assert exports == [str(tmp_path / "export" / "engine" / "8")]
    folders = (tmp_path / "export" / "engine").iterdir()
    assert sorted(path.name for path in folders) == ["4", "6", "8"]


@pytest.mark.parametrize("given_at_once", [True, False])
def test_what_could_not_be_handed_over_is_not_trained(given_at_once, tmp_path):
    kind = "outputs quantized"
    trained = handoffs.estimator(tmp_path, kind if given_at_once else None)
    late = None if given_at_once else handoffs.COMPRESSORS[kind]()
    with pytest.raises(
        ec.ConfigError, match="exporter 'engine': .*; set QuantizerConfig.signed=True"
    ):
        ec.train_and_evaluate(
            trained, *specs(LAST, exporter(handoffs.NoUnsigned(), name="engine")), late
        )
    assert trained.latest_checkpoint() is None


@pytest.mark.parametrize("made", [handoffs.NoUnsigned(), FrozenGraphFormat()])
def test_what_a_hidden_quantizer_trains_is_refused_before(made, tmp_path):
    hidden = add_metrics(
        handoffs.estimator(tmp_path, "outputs quantized"), lambda predictions: {}
    )
    with pytest.raises(
        ec.ConfigError, match="'engine': the run is quantized, but .* does not show the"
    ):
        ec.train_and_evaluate(hidden, *specs(LAST, exporter(made, name="engine")))
    assert hidden.latest_checkpoint() is None


def test_what_a_hidden_sparsifier_trains_is_handed_over(tmp_path):
    hidden = add_metrics(handoffs.estimator(tmp_path, "sparse"), lambda predictions: {})
    _, exports = ec.train_and_evaluate(hidden, *specs(LAST, exporter()))
    assert exports == [str(tmp_path / "export" / "frozen_graph" / str(LAST))]


def test_what_can_be_handed_over_is_trained(tmp_path):
    trained = handoffs.estimator(tmp_path, "quantized")
    _, exports = ec.train_and_evaluate(
        trained, *specs(LAST, exporter(handoffs.NoUnsigned()))
    )
    assert exports == [str(tmp_path / "export" / "frozen_graph" / str(LAST))]


def test_a_remote_folder_is_as_good_as_a_local_one(tmp_path, monkeypatch):
    # To Python's own file functions file:// is as strange as gs://.
    monkeypatch.chdir(tmp_path)
    trained = handoffs.estimator(f"file://{tmp_path}/run").train(input_fn, max_steps=1)
    target = f"file://{tmp_path}/out"
    made = exporter(handoffs.Nested())
    path = made.export(trained, target, trained.latest_checkpoint(), None, True)
    assert path == f"{target}/1"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "run"]
    assert (tmp_path / "out" / "1" / "a" / "b" / "samples.npy").exists()
