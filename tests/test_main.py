"""python -m ec_estimator, as a user calls it."""
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.command_line import MODEL, run, run_all

SPARSIFIER = "--compressor=sparsifier"
TINY = "--model=tiny_model"
TRAIN = ["train", TINY, SPARSIFIER, "--model_dir=never_made"]
NO_MODEL = "ec_estimator: --model=pkg.module is needed: where model_fn is defined"


def no_module(name):
    return f"ec_estimator: --model: there is no module {name!r} here or in PYTHONPATH"


ERRORS = [
    (["train"], NO_MODEL),
    (["plan", SPARSIFIER], NO_MODEL),
    (["plan", "--model=", SPARSIFIER], NO_MODEL),
    (["plan", "--model=no_such", SPARSIFIER], no_module("no_such")),
    (["plan", "--model=examples.no_such", SPARSIFIER], no_module("examples.no_such")),
    (["plan", "--model=no_such.at_all", SPARSIFIER], no_module("no_such.at_all")),
    (
        ["plan", "--model=./tiny_model.py", SPARSIFIER],
        "ec_estimator: --model: './tiny_model.py' is a file's name; give the module's, "
        "--model=tiny_model",
    ),
    (
        ["plan", TINY, "--sparsifier_num_trial=3"],
        "ec_estimator: Unknown command line flag 'sparsifier_num_trial'.",
    ),
    (
        ["plan", TINY, SPARSIFIER, "--sparsifier_ramp=steep"],
        "ec_estimator: flag --sparsifier_ramp=steep: value should be one of",
    ),
    (
        ["plan", TINY, SPARSIFIER, "--flagfile=no_such_file"],
        "ec_estimator: ERROR:: Unable to open flagfile: [Errno 2] No such file",
    ),
    (
        ["plan", TINY, SPARSIFIER, "num_trials=3"],
        "ec_estimator: 'num_trials=3' is not understood; flags start with --",
    ),
    (["plan", TINY], "ec_estimator: --compressor is needed: pruner, sparsifier"),
    (
        ["plan", TINY, "--compressor=distiller"],
        "ec_estimator: --compressor: 'distiller' is unknown; there is pruner, "
        "sparsifier",
    ),
    (
        ["plan", TINY, SPARSIFIER, "--sparsifier_num_trials=0"],
        "ec_estimator: SparsifierConfig.num_trials: must be an integer greater than 0, "
        "got 0",
    ),
    (
        ["plan", TINY, SPARSIFIER, "--sparsifier_include_scopes=hiden"],
        "ec_estimator: SparsifierConfig.include_scopes: 'hiden' matches no layer; "
        "nearest: hidden",
    ),
    (
        ["plan", "--model=empty_model", SPARSIFIER],
        "ec_estimator: module 'empty_model' has no model_fn",
    ),
    (
        ["train", TINY, SPARSIFIER, "--train_steps=5"],
        "ec_estimator: --model_dir is needed to train",
    ),
    (TRAIN, "ec_estimator: --train_steps is needed to train"),
    (
        [*TRAIN, "--train_steps=0"],
        "ec_estimator: --train_steps: must be an integer greater than 0, got 0",
    ),
    (
        [*TRAIN, "--train_steps=9999"],
        "ec_estimator: TrainSpec.max_steps=9999 is too small for sparsity: 10 trials "
        "every 1000 steps, the first at step 1000, need 10000; step_interval=699 fits "
        "them into 9999 steps",
    ),
    (
        [
            "train",
            "--model=no_serving",
            SPARSIFIER,
            "--model_dir=m",
            "--train_steps=10000",
        ]
        + ["--export=saved_model"],
        "ec_estimator: module 'no_serving' has no serving_input_receiver_fn",
    ),
    (
        [*TRAIN, "--train_steps=10000", "--warm_start_from=no_such_checkpoint"],
        "ec_estimator: warm_start_from: checkpoint 'no_such_checkpoint' cannot be ",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with the user's modules in it."""
    path = tmp_path_factory.mktemp("user")
    (path / "tiny_model.py").write_text(MODEL)
    (path / "empty_model.py").write_text("")
    (path / "no_serving.py").write_text(MODEL.replace("serving_input", "other_input"))
    (path / "broken_model.py").write_text("import broken\n")
    return path


OTHERS = [
    [],
    ["prune"],
    ["--help"],
    ["train", "--helpfull"],
    ["train", TINY, "--help"],
    ["report", "--help"],
    ["export", "-h"],
    ["plan", "--model=broken_model", SPARSIFIER],
]


@pytest.fixture(scope="module")
def results(launcher, folder):
    """{arguments: (exit code, stdout, stderr)} of ERRORS and OTHERS."""
    lines = [arguments for arguments, _ in ERRORS] + OTHERS
    done = run_all(launcher, folder, lines)
    return {tuple(line): each for line, each in zip(lines, done)}


@pytest.mark.parametrize("arguments,message", ERRORS)
def test_what_is_wrong_is_one_line_and_exit_code_1(results, arguments, message):
    code, out, err = results[tuple(arguments)]
    assert code == 1
    assert out == ""
    # TensorFlow may have logged before; the error is the last line and starts it.
    assert err.splitlines()[-1].startswith(message)
    assert err.count("ec_estimator: ") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments,expected", [([], 2), (["prune"], 2), (["--help"], 0)]
)
def test_without_a_command_the_usage_is_shown(results, arguments, expected):
    code, _, err = results[tuple(arguments)]
    assert code == expected
    assert err.startswith("usage: python -m ec_estimator COMMAND --model=pkg.module")


def test_an_unknown_command_is_named_in_the_last_line(results):
    _, _, err = results[("prune",)]
    assert err.splitlines()[-1] == (
        "ec_estimator: 'prune' is no command; the first argument is one of train, "
        "plan, finetune, export, report"
    )


def test_helpfull_lists_every_flag(results):
    _, out, _ = results[("train", "--helpfull")]
    for flag in (
        "compressor",
        "train_steps",
        "export",
        "sparsifier_sparse_block_shape",
    ):
        assert f"--{flag}" in out


def flags_of(text):
    return re.findall(r"^  --(\w+)", text, re.MULTILINE)


def test_help_of_train_has_its_flags_by_compressor_and_no_others(results):
    code, out, _ = results[("train", TINY, "--help")]
    assert code == 0
    groups = {
        part.split(":\n")[0]: flags_of(part) for part in out.strip().split("\n\n")[2:]
    }
    assert list(groups) == ["train", "tiny_model", "pruner", "sparsifier", "quantizer"]
    assert {"model", "compressor", "model_dir", "train_steps"} < set(groups["train"])
    assert not {"pruned", "format", "runs"} & set(groups["train"])
    assert groups["tiny_model"] == ["hidden"]
    for compressor in ("pruner", "sparsifier", "quantizer"):
        fields = {name.split("_", 1)[0] for name in groups[compressor]}
        assert fields == {compressor} and len(groups[compressor]) > 8
    assert "--sparsifier_step_interval=1000 (default)\n      training steps" in out
    assert "zero at the end; a float in [0, 1]" in out
    # Neither TensorFlow's nor absl's.
    assert "verbosity" not in out and "pdb" not in out
    assert max(map(len, out.splitlines())) <= 88


@pytest.mark.parametrize(
    "arguments,flags",
    [
        (
            ("report", "--help"),
            ["model", "pruned", "run_folder", "output", "batch_sizes", "runs"],
        ),
        (
            ("export", "-h"),
            ["model", "model_dir", "format", "checkpoint", "output", "signature"]
            + ["samples", "pruned"],
        ),
    ],
)
def test_help_of_a_command_has_all_of_its_flags(results, arguments, flags):
    code, out, _ = results[arguments]
    assert code == 0
    assert sorted(flags_of(out)) == sorted(flags)


def test_a_fault_in_the_users_module_keeps_its_traceback(results):
    # Not taken for a wrong --model: 'broken' is not the module that was asked for.
    code, _, err = results[("plan", "--model=broken_model", SPARSIFIER)]
    assert code == 1
    assert err.splitlines()[-1] == "ModuleNotFoundError: No module named 'broken'"
    assert "broken_model.py" in err


def test_nothing_is_written_before_the_flags_are_checked(results, folder):
    assert not (folder / "never_made").exists()


def test_plan_prints_the_coverage(folder):
    (folder / "recipe.flags").write_text(
        "--model=tiny_model\n--compressor=sparsifier\n--hidden=16\n--model_dir=planned\n"
        "--sparsifier_exclude_scopes=head\n"
    )
    process = run(folder, "plan", "--flagfile=recipe.flags")
    assert process.returncode == 0, process.stderr
    lines = [line.split(maxsplit=4) for line in process.stdout.splitlines()]
    assert lines[0] == ["layer", "op", "kernel", "weights", "sparsity"]
    assert lines[2:4] == [
        ["hidden/MatMul", "MatMul", "hidden/kernel", "96", "compressed"],
        ["head/MatMul", "MatMul", "head/kernel", "64", "is in exclude_scopes 'head'"],
    ]
    assert process.stdout.splitlines()[5:] == [
        "sparsity: 1 of 2 layers; kernels with 96 of the model's 180 weights (53.3%)",
        "  left alone: 1 layer with 64 weights: is in exclude_scopes 'head'",
        "  left alone: 20 weights of biases, norms and the like",
    ]
    assert not (folder / "planned").exists()


RUN = [
    *["train", TINY, SPARSIFIER, "--model_dir=run", "--train_steps=6"],
    *["--sparsifier_step_interval=2", "--sparsifier_num_trials=3", "--hidden=10"],
    *["--sparsifier_target_sparse_ratio=0.5", "--export=saved_model"],
    *["--export=best", "--export=clean_checkpoint"],
]


@pytest.fixture(scope="module")
def trained(folder):
    process = run(folder, *RUN)
    assert process.returncode == 0, process.stderr
    return process


def test_train_ends_in_the_exports_asked_for(folder, trained):
    printed = dict(line.split(": ") for line in trained.stdout.splitlines())
    assert printed["global_step"] == "6"
    assert 0 < float(printed["loss"]) < 10
    exports = sorted(folder.glob("run/export/*"))
    assert [path.name for path in exports] == [
        "best",
        "clean_checkpoint",
        "saved_model",
    ]
    clean = tf.train.load_checkpoint(str(exports[1]))
    saved = next(path for path in exports[2].iterdir() if path.name.isdigit())
    served = tf.train.load_checkpoint(str(saved / "variables" / "variables"))
    for reader in (clean, served):
        # 6 x 10 and 10 x 4 weights, half of each.
        for name, zeros in (("hidden/kernel", 30), ("head/kernel", 20)):
            assert np.count_nonzero(reader.get_tensor(name) == 0) == zeros


def test_a_run_that_is_complete_is_evaluated_and_exported_again(folder, trained):
    before = set(folder.glob("run/export/saved_model/*"))
    again = run(folder, *RUN)
    assert again.returncode == 0, again.stderr
    assert "already at step 6" in again.stderr.splitlines()
    evaluated = [
        [line for line in process.stdout.splitlines() if "exported" not in line]
        for process in (trained, again)
    ]
    assert evaluated[0] == evaluated[1]
    assert len(set(folder.glob("run/export/saved_model/*")) - before) == 1
