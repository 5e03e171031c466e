"""What is no number of its declared type stays as it is, for argument_specs to refuse."""

from __future__ import annotations

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.typed import typed


@pytest.mark.parametrize("value", [float("inf"), "inf", "-Infinity", "sNaN", "1.5", "x", ""])
def test_a_number_that_is_no_whole_one_stays(value):
    assert typed(value, {"type": "int"}) == value


def test_a_number_and_its_text_are_one():
    assert typed("80", {"type": "int"}) == typed(80, {"type": "int"}) == typed(80.0, {"type": "int"}) == 80
