"""The CIFAR-10 example on a few images of noise."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from examples import cifar10_model
from examples import make_cifar10_tfrecords as make

SPARSE = [
    "--compressor=sparsifier",
    "--sparsifier_target_sparse_ratio=0.6",
    "--sparsifier_sparse_block_shape=1,4",
    "--sparsifier_step_interval=1",
    "--sparsifier_num_trials=3",
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Folder with 40 images to train and 24 to test with."""
    random = np.random.RandomState(0)
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 40), ("test", 24)):
        images = random.randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        path = str(folder / f"{split}-00000-of-00001.tfrecord")
        make.write_shard(path, images, np.arange(count) % 10)
    return str(folder)


@pytest.fixture
def run(launcher):
    """(module, *arguments) -> subprocess.CompletedProcess."""
    return launcher.run


def zeros(checkpoint):
    """{kernel: fraction of zeros} of a checkpoint."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    names = [n for n in reader.get_variable_to_shape_map() if n.endswith("/kernel")]
    return {name: np.mean(reader.get_tensor(name) == 0) for name in names}


# tests/test_main.py trains and exports with a smaller model.
@pytest.mark.slow
def test_dense_then_sparse_then_exported(run, tmp_path, data_dir):
    common = [f"--data_dir={data_dir}", "--batch_size=8", "--save_checkpoints_steps=4"]
    dense = run(
        "examples.cifar10",
        *common,
        f"--model_dir={tmp_path / 'dense'}",
        "--train_steps=1",
    )
    assert dense.returncode == 0, dense.stderr
    assert "test accuracy: 0." in dense.stdout

    sparse = run(
        "examples.cifar10",
        *common,
        *SPARSE,
        f"--model_dir={tmp_path / 'sparse'}",
        "--train_steps=4",
        f"--warm_start_from={tmp_path / 'dense'}",
        "--learning_rate=0.001",
        "--export=saved_model",
    )
    assert sparse.returncode == 0, sparse.stderr
    assert "test accuracy: 0." in sparse.stdout
    export = sparse.stdout.split("exported: ")[1].strip()
    ratios = zeros(os.path.join(export, "variables", "variables"))
    assert len(ratios) == 22
    # Each target to within a block of 4 weights, never above; the first convolution has
    # 432 weights: 259.2 of them are 0.6, and 256 fit in blocks.
    assert all(0.6 - 4 / 432 < ratio <= 0.6 for ratio in ratios.values())
    assert ratios["conv2d/kernel"] == pytest.approx(256 / 432)


# tests/commands/test_small_network.py does the same with a smaller model.
@pytest.mark.slow
def test_pruned_then_finetuned_then_exported(run, tmp_path, data_dir):
    common = [f"--data_dir={data_dir}", "--batch_size=8", "--learning_rate=0.001"]
    pruned = run(
        "examples.cifar10",
        *common,
        "--compressor=pruner",
        "--pruner_compression_ratio=0.5",
        "--pruner_prune_sort_range=local",
        f"--model_dir={tmp_path / 'pruned'}",
        "--train_steps=2",
    )
    assert pruned.returncode == 0, pruned.stderr

    small = run(
        "examples.cifar10",
        *common,
        f"--finetune_from={tmp_path / 'pruned'}",
        f"--model_dir={tmp_path / 'small'}",
        "--train_steps=2",
        "--export=saved_model",
    )
    assert small.returncode == 0, small.stderr
    export = small.stdout.split("exported: ")[1].strip()
    reader = tf.train.load_checkpoint(os.path.join(export, "variables", "variables"))
    shapes = reader.get_variable_to_shape_map()
    # Each stage loses half of its 16, 32 or 64 channels.
    assert shapes["conv2d/kernel"] == [3, 3, 3, 8]
    assert shapes["conv2d_7/kernel"] == [1, 1, 8, 16]
    assert shapes["batch_normalization_20/moving_mean"] == [32]
    assert shapes["dense/kernel"] == [32, 10]


def test_a_small_network_does_not_start_from_elsewhere(run, data_dir):
    result = run(
        "examples.cifar10",
        f"--data_dir={data_dir}",
        "--model_dir=m",
        "--finetune_from=pruned",
        "--warm_start_from=dense",
    )
    assert result.returncode == 1
    assert "starts from --finetune_from: leave --warm_start_from away" in result.stderr


def test_it_is_a_module_for_the_command_line_too(run, data_dir):
    result = run(
        "ec_estimator",
        "plan",
        "--model=examples.cifar10",
        f"--data_dir={data_dir}",
        "--batch_size=8",
        "--train_steps=3",
        *SPARSE,
    )
    assert result.returncode == 0, result.stderr
    # 9*3*16 + 6*9*16*16 + 9*16*32 + 16*32 + 5*9*32*32 + 9*32*64 + 32*64 + 5*9*64*64
    # + 64*10, by hand.
    assert (
        "22 of 22 layers; kernels with 270,896 of the model's 272,474" in result.stdout
    )


@pytest.mark.parametrize("command", [["examples.cifar10"], ["ec_estimator", "train"]])
def test_a_folder_without_data_is_named(run, tmp_path, command):
    arguments = [f"--data_dir={tmp_path}", "--model_dir=m", *SPARSE]
    if command[0] != "examples.cifar10":
        arguments.append("--model=examples.cifar10")
    result = run(*command, *arguments)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert (
        f"there is no train-*.tfrecord in {str(tmp_path)!r}; make them with python -m "
        "examples.make_cifar10_tfrecords"
    ) in result.stderr + result.stdout


def test_an_unknown_compressor_is_one_line(run, tmp_path, data_dir):
    result = run(
        "examples.cifar10",
        f"--data_dir={data_dir}",
        f"--model_dir={tmp_path / 'model'}",
        "--compressor=prunner",
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("examples.cifar10: --compressor: 'prunner' is unknown")


def test_the_variables_are_named_as_in_resnet_20_of_tf_layers():
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [None, 32, 32, 3])
        logits = cifar10_model.network(images, training=False)
        shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    assert logits.shape.as_list() == [None, 10]
    # 21 convolutions with a batch norm of 4 variables each, and the dense layer.
    assert len(shapes) == 21 * 5 + 2
    assert shapes["conv2d/kernel"] == [3, 3, 3, 16]
    assert shapes["conv2d_7/kernel"] == [1, 1, 16, 32]
    assert shapes["conv2d_14/kernel"] == [1, 1, 32, 64]
    assert shapes["conv2d_20/kernel"] == [3, 3, 64, 64]
    assert shapes["batch_normalization_20/moving_variance"] == [64]
    assert shapes["dense/kernel"] == [64, 10]


def test_the_learning_rate_rises_and_falls_to_zero():
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        rate = cifar10_model.learning_rate(0.2, step, 1000)
        at = {s: session.run(rate, {step: s}) for s in (0, 50, 500, 1000, 2000)}
    assert at[0] == 0 and at[50] == pytest.approx(0.1)
    assert at[500] == pytest.approx(0.1)
    assert at[1000] == pytest.approx(0, abs=1e-7) == at[2000]
