"""The MonitoredSession example, as a user runs it."""


def test_the_hook_leaves_its_files_and_sparse_weights_behind(launcher, tmp_path):
    save_dir = tmp_path / "output"
    result = launcher.run("examples.session", f"--save_dir={save_dir}")
    assert result.returncode == 0, result.stderr
    text = result.stdout
    for name in ("coverage.json", "manifest.json", "plan.json", "trials.jsonl"):
        assert str(save_dir / name) in text
    # 1,297 images, 6 times, 64 a step: 122 steps.
    assert str(save_dir / "clean" / "model.ckpt-122.index") in text
    assert len((save_dir / "trials.jsonl").read_text().splitlines()) == 10
    # 10 of the 18 blocks of 16 weights; 0.6 is 10.8 blocks.
    assert "conv2d/kernel: 0.556 zeros" in text
    assert "conv2d_2/kernel: 0.600 zeros" in text
