"""The compressor that docs/extending.md shows, as a user's own."""
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl import flags as absl_flags

import ec_estimator as ec
from examples.movement_pruning import MovementPruner
from tests import models
from tests.command_line import MODEL, run_all
from tests.examples.movement import (
    RATE,
    X,
    Y,
    adam,
    clipped,
    descent,
    estimator,
    initial_values,
    minimized,
    momentum,
    pruner,
    recurrent,
    same_batch,
    two_layers,
    values,
    values_after,
)


@pytest.mark.parametrize("make", [adam, momentum])
def test_the_target_is_reached_exactly_and_zeros_stay_zero(tmp_path, make):
    trained = estimator(tmp_path, pruner(), make=make)
    ec.train_and_evaluate(
        trained,
        tf.estimator.TrainSpec(same_batch, max_steps=12),
        tf.estimator.EvalSpec(same_batch, 1, start_delay_secs=0, throttle_secs=0),
    )
    found = values(tmp_path)
    # 0.6 of 6 * 5 and of 5 * 3 weights; the last trial was before step 6.
    for name, zeros in {"a/kernel": 18, "b/kernel": 9}.items():
        mask = found[f"ec_estimator/movement/{name}/mask"]
        assert np.count_nonzero(mask == 0) == zeros
        np.testing.assert_array_equal(found[name] == 0, mask == 0)
    with open(str(tmp_path / "compression" / "trials.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    # Cubic: 0.6 * (1 - (2/3)^3) = 0.4222, 0.6 * (1 - (1/3)^3) = 0.5778; of 30 and 15
    # weights that is 12 and 6, 17 and 8, and at last 18 and 9.
    assert [line["per_kernel"]["a/kernel"] for line in lines] == [12 / 30, 17 / 30, 0.6]
    assert [line["per_kernel"]["b/kernel"] for line in lines] == [6 / 15, 8 / 15, 0.6]
    assert [line["ratio"] for line in lines] == pytest.approx([0.4, 25 / 45, 0.6])


def test_at_target_0_training_is_bit_identical_with_dropout(tmp_path):
    def dropped(x):
        return two_layers(tf.nn.dropout(x, rate=0.3))

    plain = values_after(estimator(tmp_path / "plain", None, dropped), 5)
    zero = values_after(estimator(tmp_path / "zero", pruner(target=0.0), dropped), 5)
    assert not any(name.startswith("ec_estimator/") for name in plain)
    for name in plain:
        np.testing.assert_array_equal(zero[name], plain[name], name)


def test_scores_and_choice_are_those_of_numpy(tmp_path):
    def network(x):
        return tf.layers.dense(x, 3, use_bias=False, name="a")

    w = initial_values(tmp_path / "still", network)["a/kernel"]
    assert np.all(w != 0)
    trained = estimator(
        tmp_path / "run", pruner(num_trials=1, step_interval=4), network
    )
    scores, alive = np.zeros_like(w), np.ones_like(w)
    for step in range(1, 7):
        if step == 4:
            # 0.6 of 18 weights are 10.
            alive.flat[np.argsort(scores.ravel())[:10]] = 0
            w = w * alive
        gradient = X.T @ (X @ w - Y) * 2 / Y.size
        scores -= w * gradient
        w = w - RATE * gradient * alive
        found = values_after(trained, step)
        name = "ec_estimator/movement/a/kernel"
        np.testing.assert_allclose(found[f"{name}/scores"], scores, 1e-4, 1e-6)
        np.testing.assert_array_equal(found[f"{name}/mask"], alive)
        np.testing.assert_allclose(found["a/kernel"], w, 1e-4, 1e-6)


def test_a_kernel_that_is_read_in_a_loop_scores_by_all_its_turns(tmp_path):
    before = initial_values(tmp_path / "still", recurrent)
    after = values_after(estimator(tmp_path / "run", pruner(), recurrent), 1)
    for name in ("lstm/kernel", "lstm/recurrent_kernel", "b/kernel"):
        # A step of gradient descent tells the gradient.
        gradient = (before[name] - after[name]) / RATE
        scores = after[f"ec_estimator/movement/{name}/scores"]
        assert np.count_nonzero(scores) > scores.size / 2
        np.testing.assert_allclose(scores, -before[name] * gradient, 1e-3, 1e-5)


def test_a_gradient_that_is_clipped_afterwards_is_scored_once_and_unclipped(tmp_path):
    plain = values_after(estimator(tmp_path / "plain", pruner()), 1)
    found = values_after(estimator(tmp_path / "clipped", pruner(), train=clipped), 1)
    assert np.any(plain["a/kernel"] != found["a/kernel"])
    name = "ec_estimator/movement/a/kernel/scores"
    np.testing.assert_array_equal(plain[name], found[name])


def test_a_run_that_is_stopped_between_trials_ends_with_the_same_bits(tmp_path):
    whole = values_after(estimator(tmp_path / "whole", pruner(), make=adam), 9)
    for steps in (3, 5, 9):
        again = values_after(estimator(tmp_path / "again", pruner(), make=adam), steps)
    assert set(whole) == set(again)
    assert whole["ec_estimator/movement/trial"] == 3
    for name in whole:
        np.testing.assert_array_equal(whole[name], again[name], name)


def run_session(folder, compressor, first, make=descent, steps=5):
    """Trains the two layers in a session, from the given values."""
    with tf.Graph().as_default():
        tf.train.get_or_create_global_step()
        loss = tf.reduce_mean((two_layers(tf.constant(X)) - Y) ** 2)
        load = [v.assign(first[v.op.name]) for v in tf.trainable_variables()]
        train_op = minimized(make(), loss)
        hook = ec.CompressionHook(compressor, str(folder))
        ready = tf.train.Scaffold(init_fn=lambda _, session: session.run(load))
        creator = tf.train.ChiefSessionCreator(ready, config=models.ONE_THREAD)
        with tf.train.MonitoredSession(creator, [hook]) as session:
            for _ in range(steps):
                session.run(train_op)


def test_a_session_scores_and_prunes_as_an_estimator_does(tmp_path):
    first = initial_values(tmp_path / "still")
    run_session(tmp_path / "session", pruner(step_interval=1), first)
    expected = estimator(tmp_path / "estimator", pruner(step_interval=1))
    expected = values_after(expected, 5)
    found = values(tmp_path / "session" / "clean")
    assert np.count_nonzero(found["a/kernel"]) == 12
    for name in ("a/kernel", "b/kernel"):
        np.testing.assert_allclose(found[name], expected[name], 1e-4, 1e-6)


@pytest.mark.parametrize("order", [1, -1], ids=["pruner_first", "quantizer_first"])
def test_it_composes_with_a_quantizer_at_8_bits(tmp_path, caplog, order):
    quantizer = ec.LSQQuantizer(ec.QuantizerConfig(step_interval=3, num_trials=2))
    trained = estimator(tmp_path, [pruner(), quantizer][::order], make=adam)
    found = values_after(trained, 9)
    assert "No gradient of kernel" not in caplog.text
    for name, zeros in {"a/kernel": 18, "b/kernel": 9}.items():
        assert np.count_nonzero(found[name] == 0) == zeros
        assert np.any(found[f"ec_estimator/movement/{name}/scores"] != 0)
    assert found["ec_estimator/quantization/trial"] == 2
    predictions = trained.predict(lambda: same_batch().take(1))
    logits = np.array([row["logits"] for row in predictions])
    np.testing.assert_allclose(logits, quantized_by_hand(found), rtol=0, atol=1e-5)


def quantized_by_hand(found):
    """The logits, with every operand rounded to its 8 bits."""

    def rounded(tensor, name, low):
        step = found[f"ec_estimator/quantization/{name}/step"]
        return np.clip(np.floor(tensor / step + 0.5), low, 127) * step

    def layer(x, name):
        kernel = rounded(found[f"{name}/kernel"], f"{name}/kernel", -127)
        x = rounded(x, f"{name}/kernel/input", -128)
        return x @ kernel + found[f"{name}/bias"]

    return layer(np.tanh(layer(X, "a")), "b")


def test_with_a_sparsifier_it_is_an_error():
    sparsifier = ec.Sparsifier(ec.SparsifierConfig())
    with pytest.raises(ec.PlanError, match="movement: a Sparsifier removes weights"):
        ec.compress(lambda features, mode: None, [sparsifier, pruner()])


def test_without_gradients_to_score_by_it_is_an_error(tmp_path):
    def tape_network(x):
        tape = tf.GradientTape()
        tape.__enter__()
        tapes.append(tape)
        with tf.variable_scope("", use_resource=True):
            return two_layers(x)

    def from_tape(optimizer, loss):
        variables = tf.trainable_variables()
        gradients = tapes.pop().gradient(loss, variables)
        return optimizer.apply_gradients(
            zip(gradients, variables), tf.train.get_global_step()
        )

    tapes = []
    trained = estimator(tmp_path, pruner(), tape_network, train=from_tape)
    with pytest.raises(ec.PlanError, match="'a/kernel' has no gradient to score by"):
        trained.train(same_batch, max_steps=1)


def test_a_trial_of_a_model_that_has_diverged_is_an_error(tmp_path):
    first = initial_values(tmp_path / "still")
    with pytest.raises(ec.CompressionError, match="'a/kernel' has diverged"):
        run_session(
            tmp_path / "session",
            pruner(step_interval=3),
            first,
            lambda: tf.train.GradientDescentOptimizer(np.inf),
        )


def test_its_flags_are_those_of_its_config(monkeypatch):
    monkeypatch.setitem(ec.flags.COMPRESSORS, "movement", MovementPruner)
    parsed = absl_flags.FlagValues()
    ec.flags.define(parsed)
    original = pruner(target=0.25, ramp="linear", exclude_scopes=("b",))
    parsed(["program", *ec.flags.to_flags([original])])
    (made,) = ec.flags.compressor(parsed)
    assert type(made) is MovementPruner
    assert made.config == original.config


def test_plan_knows_it_when_the_users_module_brings_it(launcher, tmp_path):
    (tmp_path / "mine.py").write_text(
        MODEL + "\nfrom examples import movement_pruning  # noqa: E402\n"
    )
    plan = ["plan", "--model=mine", "--compressor=movement"]
    found, wrong = run_all(
        launcher,
        tmp_path,
        [
            [*plan, "--movement_exclude_scopes=head", "--movement_target=0.5"],
            [*plan, "--movement_target=1.5"],
        ],
    )
    code, out, err = found
    assert code == 0, err
    rows = {line.split()[0]: line for line in out.splitlines() if "MatMul" in line}
    assert "movement" in out.splitlines()[0]
    assert rows["hidden/MatMul"].endswith(" compressed")
    assert "is in exclude_scopes 'head'" in rows["head/MatMul"]
    code, _, err = wrong
    assert code == 1
    assert err.splitlines()[-1] == (
        "ec_estimator: MovementConfig.target: must be a float in [0, 1], got 1.5"
    )
