"""Summary, report and TensorBoard of quantized runs, alone and with others."""
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator import extend
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.schedule import Schedule
from ec_estimator.report.page import html_page
from ec_estimator.report.run import compressor_reports, find_run, outcome
from ec_estimator.report.summary import Summary, after_report, next_command
from ec_estimator.report.text import format_report, format_summary
from tests.command_line import run_all
from tests.report.runs import estimator, model, pruner, quantizer, sparsifier, train
from tests.report.test_page import Parser

QUANTIZED = ["conv/Conv2D", "dense/MatMul"]
DROPPED = "its kernel is changed by dropout or noise, Mul 'dropout/mul_1', before"


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """(model_dir of a quantized run, what it evaluated to)."""
    folder = tmp_path_factory.mktemp("quantized")
    return folder, train(folder, quantizer())


@pytest.fixture(scope="module")
def folder(quantized):
    return quantized[0]


def summary(folder):
    return json.loads((folder / "compression" / "summary.json").read_text())


def trials(folder, name):
    lines = (folder / "compression" / "trials.jsonl").read_text().splitlines()
    return [t for t in map(json.loads, lines) if t["compressor"] == name]


def events(folder):
    """{tag: [(step, number)]} of the event files."""
    values = {}
    for path in sorted(folder.glob("events.*")):
        for event in tf.train.summary_iterator(str(path)):
            for value in event.summary.value:
                points = values.setdefault(value.tag, [])
                points.append((event.step, value.simple_value))
    return values


def test_the_summary_has_bits_ranges_and_bytes_of_each_layer(folder):
    made = summary(folder)["quantization"]
    assert (made["trial"], made["num_trials"]) == (3, 3)
    conv, dense = made["layers"]
    assert [conv["layer"], dense["layer"]] == QUANTIZED
    assert (conv["weight_bits"], conv["activation_bits"]) == (4, 8)
    # A step size each of 8 and of 10 channels, beside half a byte a weight.
    assert conv["weights"] == 216 and dense["weights"] == 720
    assert conv["bytes"] == {"before": 864, "after": 108 + 32}
    assert dense["bytes"] == {"before": 2880, "after": 360 + 40}
    assert made["totals"]["bytes"] == {"before": 3744, "after": 540}
    low, high = conv["weight_range"]
    assert low / high == pytest.approx(-8 / 7)
    low, high = conv["activation_range"]
    assert low / high == pytest.approx(-128 / 127)
    # Average of what a ReLU puts out: unsigned.
    low, high = dense["activation_range"]
    assert low == 0 < high


def test_ranges_are_those_that_the_last_trial_set(tmp_path):
    # The last trial comes just before step 6, so it sees the kernel of step 5.
    estimator(tmp_path, quantizer()).train(model()[1], max_steps=5)
    assert summary(tmp_path)["next"] == "train to step 6"
    before = tf.train.load_variable(str(tmp_path), "conv/kernel")
    train(tmp_path, quantizer(), 6)
    row = summary(tmp_path)["quantization"]["layers"][0]
    # The best range of a channel at 4 bits cuts little off its largest weight.
    assert 0.7 < row["weight_range"][1] / np.abs(before).max() < 1.1
    ranges = trials(tmp_path, "quantization")[-1]["ranges"]
    assert row["weight_range"] == ranges["conv/kernel"]


def test_each_trial_records_ranges_and_clipped_shares(folder):
    found = trials(folder, "quantization")
    assert [t["trial"] for t in found] == [1, 2, 3]
    for trial in found:
        assert sorted(trial["clipped"]) == ["conv/kernel/input", "dense/kernel/input"]
        assert sorted(trial["ranges"]) == [
            *("conv/kernel", "conv/kernel/input"),
            *("dense/kernel", "dense/kernel/input"),
        ]
    last = summary(folder)["quantization"]["layers"]
    assert [row["clipped"] for row in last] == list(found[-1]["clipped"].values())


def test_the_summary_has_the_evaluation_and_the_next_command(quantized):
    folder, metrics = quantized
    made = summary(folder)
    assert made["evaluation"]["accuracy"] == metrics["accuracy"]
    assert made["evaluation"]["global_step"] == 7
    assert made["next"] == (
        f"python -m ec_estimator report --run_folder={folder}/compression"
    )


def test_the_summary_is_announced(tmp_path, caplog):
    with caplog.at_level("INFO"):
        train(tmp_path, [sparsifier(), quantizer()])
    assert "quantization: trial 3 of 3" in caplog.text
    assert "sparsity: trial 3 of 3" in caplog.text
    assert "in all: bytes 3,744 -> 540" in caplog.text
    assert re.search(r"\nnext: python -m ec_estimator report --run_", caplog.text)
    assert caplog.text.count("evaluation at step 7: accuracy ") == 1


def test_the_report_ends_with_the_evaluation_and_what_is_next(quantized):
    folder, metrics = quantized
    ended = outcome(find_run(str(folder)))
    lines = format_report(None, compressor_reports(find_run(str(folder))), ended)
    said, command = lines.splitlines()[-2:]
    assert said.startswith(f"evaluation at step 7: accuracy {metrics['accuracy']:.6g},")
    assert command == (
        f"next: python -m ec_estimator export --model=MODULE --model_dir={folder} "
        "--format=FORMAT"
    )


@pytest.mark.parametrize(
    "command,path,then",
    [
        ("train to step 6", "m/compression", "train to step 6"),
        ("python -m ec_estimator report --run_folder=s", "s", "export the model"),
        (
            "python -m ec_estimator report --run_folder=compression",
            "compression",
            "python -m ec_estimator export --model=MODULE --model_dir=. "
            "--format=FORMAT",
        ),
        ("", "m/compression", ""),
    ],
)
def test_a_reader_of_the_report_is_not_sent_to_it_again(command, path, then):
    content = {"next": command} if command else {}
    assert after_report(RunFolder(path), content) == then


def test_tensorboard_has_a_curve_of_each_quantizer_and_nothing_before_a_fit(folder):
    curves = {
        tag: points
        for tag, points in events(folder).items()
        if tag.startswith("compression/")
    }
    names = ["conv/kernel", "conv/kernel/input", "dense/kernel", "dense/kernel/input"]
    assert set(curves) == {
        "compression/quantization/trial",
        *(f"compression/quantization/{name}/step_size" for name in names),
        *(f"compression/quantization/{name}/range" for name in names),
        *(f"compression/quantization/{name}/clipping_rate" for name in names[1::2]),
    }
    assert curves["compression/quantization/trial"] == [(1, 1), (3, 2), (5, 3)]
    recorded = trials(folder, "quantization")
    for tag, points in curves.items():
        assert [step for step, _ in points] == [1, 3, 5]
        if tag.endswith(("step_size", "range")):
            assert all(number > 0 for _, number in points)
    clipped = curves["compression/quantization/conv/kernel/input/clipping_rate"]
    np.testing.assert_allclose(
        [number for _, number in clipped],
        [t["clipped"]["conv/kernel/input"] for t in recorded],
    )


@pytest.fixture(scope="module")
def moved(folder, tmp_path_factory):
    """The run's folder alone, elsewhere: no checkpoint, no model_fn."""
    place = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(str(folder / "compression"), str(place))
    return place


def test_the_report_is_made_from_the_runs_folder_alone(moved):
    (made,) = compressor_reports(find_run(str(moved)))
    assert (made.compressor, made.trial, made.num_trials) == ("quantization", 3, 3)
    lines = format_report(None, [made]).splitlines()
    assert lines[0] == "quantization: trial 3 of 3"
    cells = [cell.strip() for cell in lines[4].split("  ") if cell.strip()]
    assert cells[:5] == ["conv/Conv2D", "conv/kernel", "216", "4", "8"]
    assert cells[-1] == "864 -> 140"
    assert any(line.startswith("in all: bytes 3,744 -> 540, clipped") for line in lines)
    assert lines[-1].startswith(f"left alone: out: {DROPPED}")


def test_curves_have_a_point_each_trial(moved):
    (made,) = compressor_reports(find_run(str(moved)))
    points = made.curves["clipped"]["conv/kernel/input"]
    assert [step for step, _ in points] == [2, 4, 6]
    upper = made.curves["ranges"]["conv/kernel"][-1][1]
    assert upper == made.layers[0]["weight_range"][1]


def test_the_page_has_the_table_the_curves_and_what_is_left_alone(moved):
    page = html_page(None, compressor_reports(find_run(str(moved))))
    parsed = Parser(page)
    assert parsed.tags.count("svg") == 1
    assert ["conv/Conv2D", "conv/kernel", "216", "4", "8"] in [
        row[:5] for row in parsed.rows
    ]
    assert "In all: bytes 3,744 -&gt; 540" in page
    for text in ("training step", "fraction of values", "upper end"):
        assert f"<!-- {text} -->" in page
    assert "<title>Quantization report</title>" in page
    assert "its kernel is changed by dropout or noise" in page
    assert not {"script", "link", "img", "iframe", "image"} & set(parsed.tags)


def test_a_sparsifier_reports_in_the_same_way(tmp_path):
    train(tmp_path, [sparsifier(), quantizer()])
    sparse, quantized = compressor_reports(find_run(str(tmp_path)))
    assert sparse.compressor == "sparsity"
    kernel = tf.train.load_variable(str(tmp_path), "conv/kernel")
    assert sparse.layers[0] == {
        "kernel": "conv/kernel",
        "weights": 216,
        "ratio": np.mean(kernel == 0),
    }
    assert sparse.totals == {"ratio": 0.5}
    page = html_page(None, [sparse])
    for text in ("ratio", "fraction removed", "training step"):
        assert f"<!-- {text} -->" in page
    ratios = [number for _, number in sparse.curves["ratio"][""]]
    assert ratios == [t["ratio"] for t in trials(tmp_path, "sparsity")]
    assert quantized.totals["bytes"] == {"before": 3744, "after": 540}
    assert "small_network" not in summary(tmp_path)


def test_a_pruned_and_quantized_run_has_the_small_network_too(tmp_path):
    train(tmp_path, [pruner(), quantizer()])
    made = summary(tmp_path)
    assert list(made)[1:] == ["pruning", "quantization", "small_network"] + (
        ["next", "evaluation"]
    )
    conv = made["small_network"]["layers"][0]
    assert conv["channels"]["before"] == 8 > conv["channels"]["after"]
    assert conv["parameters"]["before"] == 216
    assert "finetune --model=MODULE" in made["next"]


def test_a_run_that_goes_on_keeps_what_others_did_before(tmp_path):
    train(tmp_path, [sparsifier(), quantizer()], 6)
    first = summary(tmp_path)
    train(tmp_path, [sparsifier(), quantizer()], 8)
    second = summary(tmp_path)
    for name in ("sparsity", "quantization"):
        assert second[name] == first[name]
    assert second["evaluation"]["global_step"] == 8


@pytest.mark.parametrize(
    "name,text,error",
    [
        ("summary.json", '{"format_version": 3, "quantization": {}}', "KeyError"),
        ("summary.json", "{", "is damaged"),
        ("coverage.json", '{"format_version": 3, "layers": [{}]}', "KeyError"),
        ("trials.jsonl", "{}\n", "line 1 is damaged"),
    ],
)
def test_a_damaged_file_is_an_error(moved, tmp_path, name, text, error):
    place = tmp_path / "run"
    shutil.copytree(str(moved), str(place))
    (place / name).write_text(text)
    with pytest.raises(ec.RunFolderError, match=error):
        compressor_reports(find_run(str(place)))


class Unusual(extend.Report):
    """Of a compressor of a user's own, without layers."""

    def headline(self, target):
        return "done"

    def record(self):
        return {"done": True}


def test_a_compressor_without_rows_has_a_line(tmp_path):
    summary = Summary(RunFolder(str(tmp_path)).create())
    summary.add("own", 1, Schedule(0.5, 0, 1, 2, "linear"), Unusual(), [])
    summary.end(next_command(None, 2))
    assert (
        format_summary(summary.content) == "own: trial 1 of 2\n\nnext: train to step 2"
    )
    written = RunFolder(str(tmp_path)).read_json("summary.json")
    assert written["own"]["layers"] == []


def test_a_session_without_a_folder_has_a_summary_too(caplog):
    def model_fn():
        return tf.reduce_mean(tf.layers.dense(tf.ones([2, 4]), 3) ** 2)

    with tf.Graph().as_default(), caplog.at_level("INFO"):
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(model_fn())
        hook = ec.CompressionHook(sparsifier())
        with tf.train.MonitoredSession(hooks=[hook]) as session:
            for _ in range(6):
                session.run(train_op)
    assert "dense/kernel       12    0.5" in caplog.text
    assert "next: export the model" in caplog.text


def test_the_command_line_reports_a_quantized_run(folder, launcher, tmp_path):
    results = run_all(
        launcher,
        tmp_path,
        [
            ["report", f"--run_folder={folder}", "--output=out"],
            ["report", f"--run_folder={folder}", "--model=json"],
        ],
    )
    code, out, err = results[0]
    assert code == 0, err
    assert out.startswith("quantization: trial 3 of 3\n")
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    (made,) = content["compressors"]
    assert made["totals"]["bytes"] == {"before": 3744, "after": 540}
    assert "864 -&gt; 140" in (tmp_path / "out" / "report.html").read_text()
    code, _, err = results[1]
    assert code == 1
    assert "has left no small network to measure; leave it away" in err
