"""finetune and report, as a user calls them after a run with a Pruner."""
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.command_line import MODEL, run_all
from tests.report.networks import write_network

TINY = "--model=tiny_model"
PRUNE = [
    *["train", TINY, "--compressor=pruner", "--model_dir=run", "--train_steps=4"],
    *["--pruner_compression_ratio=0.5", "--pruner_step_interval=3"],
]
FINETUNE = ["finetune", TINY, "--pruned=run", "--save_checkpoints_steps=3"]
AUX = ["finetune", "--model=aux_model", "--pruned=aux_run", "--model_dir=aux_small"]
EXPORTS = ["--export=saved_model", "--export=best", "--export=clean_checkpoint"]
SPARSIFY = ["--compressor=sparsifier", "--sparsifier_step_interval=1"]
LINES = {
    "prune": PRUNE,
    "aux prune": [*PRUNE, "--model=aux_model", "--model_dir=aux_run"],
    "aux first": [*AUX, "--train_steps=1"],
    "aux second": [*AUX, "--train_steps=2"],
    "first part": [*FINETUNE, "--model_dir=small", "--train_steps=3"],
    "second part": [*FINETUNE, "--model_dir=small", "--train_steps=6", *EXPORTS],
    "complete": [*FINETUNE, "--model_dir=small", "--train_steps=6", *EXPORTS],
    "at once": [*FINETUNE, "--model_dir=once", "--train_steps=6"],
    "sparse": [*FINETUNE, "--model_dir=sparse", "--train_steps=10"]
    + [*SPARSIFY, "--sparsifier_target_sparse_ratio=0.5", *EXPORTS],
    "report": ["report", "--pruned=run"],
    "latency": ["report", "--pruned=run/compression", TINY]
    + ["--output=out/of it", "--batch_sizes=2", "--runs=3"],
}
ERRORS = [
    (["finetune", "--pruned=run"], "--model=pkg.module is needed"),
    (["finetune", TINY], "--pruned=FOLDER is needed: model_dir or save_dir of the"),
    (["report", TINY], "--pruned=FOLDER is needed: model_dir or save_dir of the"),
    ([*FINETUNE, "--train_steps=5"], "--model_dir is needed to train"),
    ([*FINETUNE, "--model_dir=never"], "--train_steps is needed to train"),
    (
        [*FINETUNE, "--model_dir=never", "--train_steps=5", "--warm_start_from=x"],
        "--warm_start_from: the small network starts from --pruned; leave it away",
    ),
    (
        [*FINETUNE, "--model_dir=run", "--train_steps=5"],
        "--model_dir: in checkpoint 'run/model.ckpt-4' variable 'head/kernel' has "
        "shape (8, 4), in the pruned network (4, 4); use a folder of its own",
    ),
    (
        ["finetune", TINY, "--pruned=no_such", "--model_dir=never", "--train_steps=5"],
        "there is no pruned model in 'no_such'; give the save_dir or model_dir",
    ),
    (
        [*FINETUNE, "--model_dir=never", "--train_steps=5", *SPARSIFY],
        "TrainSpec.max_steps=5 is too small for sparsity: 10 trials every 1 steps",
    ),
    (
        ["finetune", TINY, "--pruned=early", "--model_dir=never", "--train_steps=5"],
        "--pruned: 'early' has been through trial 2 of 3; train it to the last one",
    ),
    (["report", "--pruned=run", "--runs=9"], "--runs is for latency, which needs"),
    (["report", "--pruned=run", "--batch_sizes=9"], "--batch_sizes is for latency"),
    (
        ["report", "--pruned=no_such"],
        "there is no run in 'no_such'; give the model_dir",
    ),
    (["report", "--pruned=run", "--output=tiny_model.py"], "'tiny_model.py' is a file"),
    (
        ["report", "--pruned=run", TINY, "--batch_sizes=1,few"],
        "--batch_sizes: must be an integer greater than 0, got 'few'",
    ),
    (
        ["report", "--pruned=run", TINY, "--runs=0"],
        "--runs: must be an integer greater than 0, got 0",
    ),
    (
        ["report", "--pruned=run", "--model=empty_model"],
        "module 'empty_model' has no model_fn",
    ),
    (
        ["report", "--pruned=run", TINY, "--hidden=10"],
        "variable 'hidden/kernel' had shape (6, 8) when it was pruned",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("user")
    (path / "tiny_model.py").write_text(MODEL)
    (path / "aux_model.py").write_text(
        MODEL.replace(
            "    optimizer =",
            '    loss += tf.nn.l2_loss(tf.layers.dense(x, 3, name="aux"))\n'
            "    optimizer =",
        )
    )
    (path / "empty_model.py").write_text("")
    write_network(path / "early")
    return path


@pytest.fixture(scope="module")
def results(launcher, folder):
    """(exit code, stdout, stderr) by the name in LINES or the number in ERRORS."""
    keys = [*LINES, *range(len(ERRORS))]
    lines = [*LINES.values(), *(arguments for arguments, _ in ERRORS)]
    results = dict(zip(keys, run_all(launcher, folder, lines)))
    for name in LINES:
        assert results[name][0] == 0, (name, results[name][2])
    return results


@pytest.fixture(scope="module")
def outputs(results):
    """{name in LINES: stdout}."""
    return {name: results[name][1] for name in LINES}


def values(path):
    reader = tf.train.load_checkpoint(str(path))
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def shapes(path):
    return {name: value.shape for name, value in values(path).items()}


SMALL = {
    "global_step": (),
    "hidden/kernel": (6, 4),
    "hidden/bias": (4,),
    "head/kernel": (4, 4),
    "head/bias": (4,),
}


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_what_is_wrong_is_one_line_and_exit_code_1(results, number):
    code, _, err = results[number]
    _, message = ERRORS[number]
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("ec_estimator: ") and message in last
    assert "Traceback" not in err


def test_nothing_is_written_before_the_flags_are_checked(results, folder):
    assert not (folder / "never" / "checkpoint").exists()


def test_finetune_trains_the_small_network(outputs, folder):
    assert shapes(folder / "once") == SMALL
    printed = dict(line.split(": ") for line in outputs["at once"].splitlines())
    assert printed["global_step"] == "6"
    assert 0 < float(printed["loss"]) < 10


def test_finetune_goes_on_from_its_checkpoint(outputs, folder):
    assert "global_step: 3" in outputs["first part"].splitlines()
    once = values(folder / "once")
    for name, value in values(folder / "small").items():
        np.testing.assert_array_equal(value, once[name], name)


def test_finetune_goes_on_also_where_a_layer_only_trains(outputs, folder):
    assert "global_step: 2" in outputs["aux second"].splitlines()
    # Cut with what it reads, though the report counts what is served.
    assert shapes(folder / "aux_small") == {
        **SMALL,
        "aux/kernel": (4, 3),
        "aux/bias": (3,),
    }


def test_finetune_ends_in_the_exports_asked_for(outputs, folder):
    assert outputs["second part"].count("exported: ") == 3
    exports = folder / "small" / "export"
    assert shapes(exports / "clean_checkpoint") == SMALL
    (best,) = (path for path in (exports / "best").iterdir() if path.name.isdigit())
    saved = min((exports / "saved_model").iterdir())
    for path in (best, saved):
        assert shapes(path / "variables" / "variables") == SMALL


def test_a_finetune_that_is_complete_is_evaluated_and_exported_again(
    results, outputs, folder
):
    assert "already at step 6" in results["complete"][2].splitlines()
    evaluated = [
        [line for line in outputs[name].splitlines() if "exported" not in line]
        for name in ("second part", "complete")
    ]
    assert evaluated[0] == evaluated[1]
    assert len(list((folder / "small" / "export" / "saved_model").iterdir())) == 2


def test_the_small_network_trains_with_another_compressor(outputs, folder):
    saved = min((folder / "sparse" / "export" / "saved_model").iterdir())
    for path in (
        saved / "variables" / "variables",
        folder / "sparse" / "export" / "clean_checkpoint",
    ):
        assert shapes(path) == SMALL
        # Half of 6 x 4 and of 4 x 4 weights.
        assert np.count_nonzero(values(path)["hidden/kernel"] == 0) == 12
        assert np.count_nonzero(values(path)["head/kernel"] == 0) == 8


def test_report_counts_from_the_folder_alone(outputs, folder):
    lines = outputs["report"].splitlines()
    assert lines[0].startswith("pruned at step 4, after trial 1 of 1: ")
    cells = {line[:15].strip(): line[15:].split("  ") for line in lines[4:]}
    cells = {name: [c.strip() for c in row if c] for name, row in cells.items()}
    # 6 x 8 and 8 x 4 weights, 8 and 4 biases; half of the hidden units go.
    assert cells["hidden/MatMul"] == (
        ["MatMul", "8 -> 4", "48 -> 24", "48 -> 24", "192 -> 96", "compressed"]
    )
    assert cells["head/MatMul"][:5] == (
        ["MatMul", "4", "32 -> 16", "32 -> 16", "128 -> 64"]
    )
    assert cells["other variables"] == ["12 -> 8", "0", "48 -> 32"]
    assert cells["total"] == ["92 -> 48", "80 -> 40", "368 -> 192"]
    assert cells["left"] == ["52.2%", "50.0%", "52.2%"]
    manifest = json.loads((folder / "run/compression/pruned/manifest.json").read_text())
    assert (manifest["params"], manifest["macs"]) == ([92, 48], [80, 40])
    assert "latency" not in outputs["report"]


def test_report_measures_latency_and_says_how(outputs):
    lines = outputs["latency"].splitlines()
    assert any(
        line.startswith("latency of a batch, median of 3 runs") for line in lines
    )
    measured, ending = lines[:-3], lines[-3:]
    assert ending[0] == "" and ending[1].startswith("evaluation at step 4: loss ")
    assert ending[2].startswith("next: python -m ec_estimator finetune --model=MODULE")
    assert measured[-3].split()[0] == "2"
    assert measured[-1] == (
        "measured by: python -m ec_estimator report --pruned=run/compression "
        "--model=tiny_model '--output=out/of it' --batch_sizes=2 --runs=3"
    )


def test_report_writes_json_and_html(outputs, folder):
    output = folder / "out" / "of it"
    assert sorted(p.name for p in output.iterdir()) == ["report.html", "report.json"]
    content = json.loads((output / "report.json").read_text())
    assert content["total"]["macs"] == {"before": 80, "after": 40}
    assert content["layers"][0]["channels"] == {"before": 8, "after": 4}
    assert content["measurement"]["latencies"][0]["batch_size"] == 2
    assert "8 -&gt; 4" in (output / "report.html").read_text()
