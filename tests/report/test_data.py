"""Counts of a network that is small enough to count by hand."""
import json

import pytest

import ec_estimator as ec
from ec_estimator.report.data import Change, Cost, pruning_report
from tests.report.networks import layer, write_network


@pytest.fixture
def report(tmp_path):
    write_network(tmp_path)
    return pruning_report(str(tmp_path))


def test_a_layer_counts_channels_entries_pixels_and_bytes(report):
    conv = report.layers[0]
    assert (conv.op, conv.op_type, conv.kernel, conv.decision) == (
        "conv/Conv2D",
        "Conv2D",
        "conv/kernel",
        "compressed",
    )
    assert conv.channels == Change(4, 3)
    # 3 * 3 * 2 * 4 weights on 4 * 4 pixels, four bytes each.
    assert conv.cost == Cost(Change(72, 54), Change(1152, 864), Change(288, 216))


def test_a_layer_that_keeps_its_channels_reads_fewer(report):
    head = report.layers[1]
    assert head.channels == Change(5, 5)
    assert head.cost == Cost(Change(20, 15), Change(20, 15), Change(80, 60))


def test_a_shared_kernel_is_held_once_and_used_twice(report):
    again = report.layers[2]
    assert again.cost == Cost(macs=Change(20, 15))
    assert again.channels is None


def test_other_variables_are_those_that_are_served(report):
    # Two biases, of 4-byte and of 8-byte numbers; not the auxiliary kernel.
    assert report.others == Cost(Change(9, 8), Change(0, 0), Change(56, 52))


def test_the_total_is_of_layers_and_other_variables(report):
    total = Cost(Change(101, 77), Change(1192, 894), Change(424, 328))
    assert report.total == total
    assert report.total.params.left == pytest.approx(77 / 101)


def test_of_nothing_all_is_left():
    assert Change(0, 0).left == 1.0


def test_the_report_says_which_checkpoint_it_is_of(report, tmp_path):
    assert report.checkpoint == str(tmp_path / "model.ckpt-70")
    assert (report.step, report.trials, report.num_trials) == (70, 2, 3)


@pytest.mark.parametrize(
    "facts",
    [
        {"layers": None},
        {"layers": [{"op": "conv/Conv2D"}]},
        {"layers": [layer("conv/Conv2D", "no_such/kernel", [3], 16)]},
        {"layers": [layer("conv/Conv2D", "conv/kernel", [9], 16)]},
        {"layers": [layer("conv/Conv2D", "conv/kernel", [3], "many")]},
        {"served": ["no_such"]},
        {"trials": None},
    ],
)
def test_a_damaged_manifest_is_an_error(tmp_path, facts):
    write_network(tmp_path, **facts)
    with pytest.raises(ec.RunFolderError, match=r"model.ckpt-70' is damaged \("):
        pruning_report(str(tmp_path))


def test_a_manifest_without_layers_is_an_error(tmp_path):
    write_network(tmp_path)
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    del content["layers"]
    path.write_text(json.dumps(content))
    with pytest.raises(ec.RunFolderError, match=r"KeyError\('layers'"):
        pruning_report(str(tmp_path))
