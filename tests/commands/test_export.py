"""export, and --export of train and finetune, as a user calls them."""
import json

import pytest
import tensorflow.compat.v1 as tf

from tests.command_line import MODEL, run_all

TINY = "--model=tiny_model"
FROZEN = ["export", TINY, "--format=frozen_graph"]
QUANTIZE = [
    *["--compressor=quantizer", "--quantizer_step_interval=1"],
    *["--quantizer_num_trials=2", "--save_checkpoints_steps=3"],
]
SPARSE = [
    *["train", TINY, "--compressor=sparsifier", "--model_dir=sparse"],
    *["--sparsifier_step_interval=1", "--sparsifier_num_trials=2"],
    *["--train_steps=4", "--save_checkpoints_steps=1", "--export=frozen_graph"],
]
LINES = {
    "train": SPARSE,
    "newest": [*FROZEN, "--model_dir=sparse", "--output=out", "--samples=3"],
    "older": [*FROZEN, "--model_dir=sparse", "--checkpoint=sparse/model.ckpt-3"]
    + ["--output=out"],
    "again": SPARSE,
    "prune": ["train", TINY, "--compressor=pruner", "--model_dir=pruned"]
    + ["--pruner_compression_ratio=0.5", "--pruner_step_interval=1"]
    + ["--pruner_num_trials=2", "--train_steps=2"],
    "finetune": ["finetune", TINY, "--pruned=pruned", "--model_dir=small", *QUANTIZE]
    + ["--train_steps=3", "--export=frozen_graph"],
    "small": [*FROZEN, "--pruned=pruned", "--model_dir=small", "--output=small_out"],
}
ERRORS = {
    ("export", TINY, "--model_dir=sparse"): "--format is needed: frozen_graph",
    ("export", TINY, "--format=frozen_graph"): "--model_dir=FOLDER is needed: where",
    ("export", "--format=frozen_graph"): "--model=pkg.module is needed",
    ("export", TINY, "--format=froze"): "flag --format=froze: value should be one of",
    ("train", TINY, "--export=froze"): "flag --export=froze: value should be one of",
    (*FROZEN, "--model_dir=empty"): "--model_dir: 'empty' holds no checkpoint; train",
    (*FROZEN, "--model_dir=m", "--samples=0"): "--samples: must be an integer greater",
    (*FROZEN, "--model_dir=sparse", "--checkpoint=no"): "checkpoint 'no' cannot be",
    (*FROZEN, "--model_dir=sparse"): "--output: 'sparse/export/frozen_graph/4' is "
    "there already; move it away, or name another folder",
    (
        *FROZEN,
        "--model_dir=sparse",
        "--output=o",
        "--signature=s",
    ): "exporter 'frozen_graph': the "
    "model has no signature 's'; there is serving_default",
    (
        *FROZEN,
        *["--model_dir=sparse", "--checkpoint=sparse/model.ckpt-1"],
    ): "exporter 'frozen_graph': sparsity: checkpoint 'sparse/model.ckpt-1' has been",
    (*FROZEN, "--model_dir=foreign"): "--model_dir: 'foreign' was compressed with "
    "'distillation', which is unknown",
    (*FROZEN, "--model_dir=small", "--output=o"): "--model_dir: in "
    "checkpoint 'small/model.ckpt-3' variable 'hidden/kernel' has shape [6, 4], "
    "the module's model_fn makes it [6, 8]; a run of finetune needs the --pruned that",
    ("export", "--model=no_serving", *FROZEN[2:], "--model_dir=sparse"): "module "
    "'no_serving' has no serving_input_receiver_fn",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("user")
    (path / "tiny_model.py").write_text(MODEL)
    (path / "no_serving.py").write_text(MODEL.replace("serving_input", "other_input"))
    (path / "foreign" / "compression").mkdir(parents=True)
    (path / "foreign" / "compression" / "manifest.json").write_text(
        json.dumps({"format_version": 3, "compressors": {"distillation": {}}})
    )
    return path


@pytest.fixture(scope="module")
def results(launcher, folder):
    """{name of LINES, or arguments of ERRORS: (exit code, stdout, stderr)}."""
    lines = [*LINES.values(), *map(list, ERRORS)]
    return dict(zip([*LINES, *ERRORS], run_all(launcher, folder, lines)))


def exported(results, name):
    """The path that a command says it has exported."""
    code, out, err = results[name]
    assert code == 0, err
    return out.splitlines()[-1].split("exported: ")[1]


def manifest(path):
    return json.loads((path / "manifest.json").read_text())


def constants(path):
    """{name: shape} of a frozen graph's constants."""
    graph_def = tf.GraphDef.FromString(path.read_bytes())
    return {
        node.name: tuple(d.size for d in node.attr["value"].tensor.tensor_shape.dim)
        for node in graph_def.node
        if node.op == "Const"
    }


def test_train_hands_over_each_finished_checkpoint(folder, results):
    path = exported(results, "train")
    assert path == "sparse/export/frozen_graph/4"
    assert {p.name for p in (folder / path).parent.iterdir()} == {"2", "3", "4"}
    assert manifest(folder / path)["parity"]["samples"] == 4


def test_export_takes_the_newest_checkpoint_or_the_one_named(folder, results):
    for name, step, samples in (("newest", 4, 3), ("older", 3, 4)):
        path = exported(results, name)
        made = manifest(folder / path)
        assert path == f"out/{step}"
        assert made["checkpoint"].endswith(f"sparse/model.ckpt-{step}")
        assert made["parity"]["samples"] == samples
        assert made["parity"]["outputs"]["logits"]["top_1"] == 1.0
        assert set(made["compressors"]) == {"sparsity"}


def test_a_run_that_is_complete_finds_what_it_has_handed_over(results):
    assert exported(results, "again") == exported(results, "train")


@pytest.mark.parametrize("name", ["finetune", "small"])
def test_a_pruned_and_quantized_network_is_the_small_one(folder, results, name):
    path = folder / exported(results, name)
    made = manifest(path)
    assert set(made["files"]) == {
        "model.pb",
        "io.json",
        "fake_quant.pb",
        "fake_quant_io.json",
    }
    assert set(made["compressors"]) == {"quantization"}
    assert made["parity"]["failed"] == []
    assert constants(path / "model.pb")["hidden/kernel"] == (6, 4)


@pytest.mark.parametrize("arguments", ERRORS)
def test_what_is_wrong_is_one_line_and_exit_code_1(results, arguments):
    code, out, err = results[arguments]
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith(f"ec_estimator: {ERRORS[arguments]}"), last
    assert "Traceback" not in err


def test_no_error_leaves_a_folder(folder, results):
    assert not (folder / "empty" / "export").exists()
    assert not (folder / "o").exists()
