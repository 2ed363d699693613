"""Step -> trial -> ratio, in plain Python."""
import dataclasses

RAMPS = ("cubic", "linear")
# Every trial goes all the way.
CONSTANT = "constant"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When trials happen and how far each one goes.

    Trial t of n (t = 1..n) happens just before training step number
    `start_step + t * step_interval`, so the last step of training always sees its
    masks and the checkpoint written after that step always holds them, in whatever
    order the hooks of a session run.

    Steps are numbered from 1: step s is the one that raises the global step to s.
    """

    target: float
    start_step: int
    step_interval: int
    num_trials: int
    ramp: str

    @property
    def is_gradual(self):
        """Whether trials build on each other, so that training has to start before the
        first one."""
        return self.ramp != CONSTANT

    def step_of(self, trial):
        """The training step just before which `trial` happens."""
        return self.start_step + trial * self.step_interval

    @property
    def last_step(self):
        """The fewest training steps that contain every trial."""
        return self.step_of(self.num_trials)

    def interval_within(self, max_steps):
        """The largest step_interval with which a training of `max_steps` has all
        trials: in its first 70 % where it can be, so that the model recovers after the
        last one; None if even 1 is too long.

        Gradual trials are counted from start_step, others from the first one.
        """
        first, gaps = self.start_step, self.num_trials
        if not self.is_gradual:
            first, gaps = self.step_of(1), self.num_trials - 1
        for last_step in (7 * max_steps // 10, max_steps):
            if gaps and last_step - first >= gaps:
                return (last_step - first) // gaps
        return None

    def next_due(self, trials_done):
        """The global step (steps done) from which the next trial is due, or None."""
        if trials_done >= self.num_trials:
            return None
        return self.step_of(trials_done + 1) - 1

    def ratio(self, trial):
        """The ratio that trial `trial` brings the model to, in [0, target].

        cubic: r (1 - (1 - t/n)^3), Zhu & Gupta 2017, arXiv 1710.01878, equation 1
        with an initial sparsity of 0; linear: r t/n; constant: r.
        """
        if not self.is_gradual:
            return self.target
        done = trial / self.num_trials
        if self.ramp == "cubic":
            return self.target * (1.0 - (1.0 - done) ** 3)
        return self.target * done
