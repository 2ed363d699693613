"""The MonitoredSession example of pruning, as a user runs it."""
import re


def test_the_small_network_is_trained_saved_and_as_good(launcher, tmp_path):
    result = launcher.run("examples.prune_session", f"--output_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    text = result.stdout
    assert len((tmp_path / "pruned" / "trials.jsonl").read_text().splitlines()) == 10
    assert float(re.search(r"test accuracy.*: ([01]\.\d+)", text).group(1)) > 0.9
    shapes = dict(re.findall(r"^(\w+)/kernel: \[(.*)\]$", text, re.MULTILINE))
    first, second, third, dense = (
        [int(size) for size in shapes[name].split(",")]
        for name in ("conv2d", "conv2d_1", "conv2d_2", "dense")
    )
    # Of 32 + 64 + 128 channels half are gone.
    assert first[3] + second[3] + third[3] == 112
    # Each reads what the one before has left; 4 x 4 pixels are flattened.
    assert (second[2], third[2], dense[0]) == (first[3], second[3], 16 * third[3])
    # What the loss is computed from: kernels, gamma and beta, the last layer's bias.
    size = 9 * (first[3] + second[2] * second[3] + third[2] * third[3])
    size += 10 * dense[0] + 2 * 112 + 10
    before, after = re.search(r"parameters: ([\d,]+) -> ([\d,]+)", text).groups()
    assert int(before.replace(",", "")) == 112928 + 2 * 224 + 10
    assert int(after.replace(",", "")) == size
