"""How many examples a property is tried on, as the chosen profile has it.

`make test` runs the profile "ci": the same examples every time, and few. `make
test-all` runs "free": other examples every time, and many. A test says how dear one
example of it is, never how many it wants.
"""
from hypothesis import HealthCheck, settings


def register_profiles():
    # Also in "free" there is no deadline and no check of speed: a busy machine is no
    # failure. The database would bring back what failed on this machine alone.
    common = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile(
        "ci", max_examples=100, derandomize=True, database=None, **common
    )
    settings.register_profile("free", max_examples=1000, **common)
    settings.load_profile("ci")


def dear(cost, **kwargs):
    """A decorator: tries a property on fewer examples, as one costs as much as `cost`.

    Args:
      cost: int; the profile's number of examples is divided by it.
      **kwargs: more of hypothesis.settings.
    """
    return settings(
        max_examples=max(1, settings.default.max_examples // cost), **kwargs
    )
