"""When trials happen and how far they go, by hand."""
import pytest

from ec_estimator.core.schedule import Schedule


def schedule(**kwargs):
    values = dict(
        target=0.8, start_step=0, step_interval=100, num_trials=4, ramp="cubic"
    )
    return Schedule(**{**values, **kwargs})


def test_the_cubic_ramp_by_hand():
    # 0.8 (1 - (3/4)^3) = 0.8 * 37/64, 0.8 (1 - (1/2)^3) = 0.8 * 7/8, ...
    ratios = [schedule().ratio(trial) for trial in range(5)]
    assert ratios == pytest.approx([0.0, 0.4625, 0.7, 0.7875, 0.8], abs=1e-12)


def test_the_linear_ramp_by_hand():
    ratios = [schedule(ramp="linear").ratio(trial) for trial in range(5)]
    assert ratios == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8], abs=1e-12)


@pytest.mark.parametrize("ramp", ["cubic", "linear"])
@pytest.mark.parametrize("target", [0.0, 0.1, 0.6, 0.7, 1 / 3, 1.0])
@pytest.mark.parametrize("num_trials", [1, 3, 7, 10, 49])
def test_the_last_trial_reaches_exactly_the_target(ramp, target, num_trials):
    last = schedule(target=target, num_trials=num_trials, ramp=ramp)
    assert last.ratio(num_trials) == target


@pytest.mark.parametrize("ramp", ["cubic", "linear"])
def test_every_trial_goes_further_than_the_one_before(ramp):
    ratios = [schedule(num_trials=50, ramp=ramp).ratio(t) for t in range(51)]
    assert all(before < after for before, after in zip(ratios, ratios[1:]))


def test_trials_are_an_interval_apart_from_the_start_step():
    assert [schedule().step_of(t) for t in (1, 2, 3, 4)] == [100, 200, 300, 400]
    late = schedule(start_step=7, step_interval=10)
    assert [late.step_of(t) for t in (1, 2, 3, 4)] == [17, 27, 37, 47]


def test_the_last_step_holds_the_last_trial():
    assert schedule().last_step == 400
    assert schedule(start_step=7, step_interval=10, num_trials=1).last_step == 17


def test_a_trial_is_due_when_one_step_less_than_its_own_is_done():
    late = schedule(start_step=7, step_interval=10, num_trials=3)
    assert [late.next_due(done) for done in (0, 1, 2)] == [16, 26, 36]


def test_the_first_trial_can_be_due_before_any_step():
    assert schedule(step_interval=1).next_due(0) == 0


@pytest.mark.parametrize("done", [3, 4, 100])
def test_nothing_is_due_after_the_last_trial(done):
    assert schedule(num_trials=3).next_due(done) is None


@pytest.mark.parametrize(
    "max_steps,fields,interval",
    [
        # 70 of 100 steps hold 7 trials, 10 steps apart.
        (100, {"num_trials": 7}, 10),
        (100, {"num_trials": 7, "start_step": 14}, 8),
        # Nothing of 70 % is left, but 5 trials fit after step 90.
        (100, {"num_trials": 5, "start_step": 90}, 2),
        (100, {"num_trials": 11, "start_step": 90}, None),
        (3, {"num_trials": 4}, None),
        # A fit before step 2, and nine more up to step 700.
        (1000, {"num_trials": 10, "start_step": -998, "ramp": "constant"}, 77),
        (1000, {"num_trials": 1, "start_step": 4000, "ramp": "constant"}, None),
    ],
)
def test_the_interval_that_fits_leaves_time_to_recover(max_steps, fields, interval):
    long = schedule(**{"step_interval": 1000, **fields})
    assert long.interval_within(max_steps) == interval
