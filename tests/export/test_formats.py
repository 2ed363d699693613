"""The table of formats."""
import pytest

from ec_estimator.export.format import Format
from ec_estimator.export.formats import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_made_by_its_name(name):
    made = FORMATS[name]()
    assert isinstance(made, Format)
    assert made.name == name
