"""The profiles of the property tests are what decides how much they try."""
from pathlib import Path

from hypothesis import settings

from tests.properties import dear

TESTS = Path(__file__).parent


def test_no_test_says_itself_how_many_examples_it_wants():
    fixed = "max_" + "examples="
    found = [path.name for path in TESTS.rglob("*.py") if fixed in path.read_text()]
    assert found == ["properties.py"]


def test_make_tests_profile_tries_the_same_examples_every_time():
    profile = settings.get_profile("ci")
    assert profile.derandomize and profile.database is None
    assert profile.deadline is None
    free = settings.get_profile("free")
    assert not free.derandomize and free.max_examples > profile.max_examples


def test_what_is_dear_is_tried_on_a_part_of_the_profiles_examples():
    assert dear(10).max_examples == settings.default.max_examples // 10
    assert dear(10**6).max_examples == 1
