"""What quantize_graph() and its hook refuse in Session mode."""
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests.quantization.sessions import config, dense_checkpoint, minimize, model


def test_another_mode_is_refused():
    with tf.Graph().as_default():
        model()
        message = "quantize_graph: mode must be 'train' or 'eval', got 'test'"
        with pytest.raises(ec.ConfigError, match=f"^{message}$"):
            ec.quantize_graph("test", None, config())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_graph_that_has_gradients_is_refused(mode):
    with tf.Graph().as_default():
        minimize(model()[1])
        with pytest.raises(ec.PlanError, match="gradients have been taken .* before"):
            ec.quantize_graph(mode, None, config())


@pytest.mark.parametrize("first", ["train", "eval"])
@pytest.mark.parametrize("second", ["train", "eval"])
def test_a_graph_is_quantized_once(first, second):
    with tf.Graph().as_default():
        model()
        ec.quantize_graph(first, None, config())
        with pytest.raises(ec.PlanError, match="this graph is quantized already"):
            ec.quantize_graph(second, None, config())


def test_a_graph_without_layers_is_refused():
    with tf.Graph().as_default():
        tf.nn.relu(tf.placeholder(tf.float32, [2]))
        with pytest.raises(ec.PlanError):
            ec.quantize_graph("train", None, config())


def test_a_hook_on_a_graph_that_is_not_quantized_says_what_to_call():
    with tf.Graph().as_default():
        minimize(model()[1])
        hook = ec.CompressionHook(ec.LSQQuantizer(config()))
        with pytest.raises(ec.PlanError, match=r"call quantize_graph\(mode='train'"):
            hook.begin()


@pytest.mark.parametrize(
    "field,value", [("bits", 4), ("num_trials", 7), ("fp32_layers", ("MatMul",))]
)
def test_a_hook_with_another_config_names_the_field(field, value):
    with tf.Graph().as_default():
        _, loss = model()
        ec.quantize_graph("train", None, config())
        minimize(loss)
        hook = ec.CompressionHook(ec.LSQQuantizer(config(**{field: value})))
        with pytest.raises(
            ec.ConfigError, match=f"QuantizerConfig.{field}: .*give both the same"
        ):
            hook.begin()


def test_fp32_layers_that_match_nothing_name_the_nearest():
    with tf.Graph().as_default():
        model()
        with pytest.raises(ec.ConfigError, match="'MatMull' is no layer; .*MatMul"):
            ec.quantize_graph("train", None, config(fp32_layers=("MatMull",)))


def test_a_model_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("kept")
    with tf.Graph().as_default():
        model()
        with pytest.raises(ec.RunFolderError, match="is a file"):
            ec.quantize_graph("train", str(tmp_path / "file"), config())
    assert (tmp_path / "file").read_text() == "kept"


def test_step_sizes_that_no_checkpoint_gave_are_an_error_and_no_range(tmp_path):
    path, _ = dense_checkpoint(str(tmp_path))
    with tf.Graph().as_default(), tf.Session() as session:
        logits, _ = model(training=False)
        own = tf.train.Saver(tf.trainable_variables())
        ec.quantize_graph("eval", None, config())
        session.run(tf.global_variables_initializer())
        own.restore(session, path)
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match="the step size of .* was never fitted; restore a checkpoint that a",
        ):
            session.run(logits)
