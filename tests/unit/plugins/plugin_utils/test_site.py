"""Values of a site are what meta/site.yml says they are, however they arrive."""

from __future__ import annotations

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import site

NUMBERS = [name for name, option in site.OPTIONS.items() if option["type"] == "int"]
TEXTS = [name for name, option in site.OPTIONS.items() if option["type"] == "str" and "choices" not in option]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_text_is_the_number_that_it_says(name):
    assert site.values({name: "4711"})[name.removeprefix("site_")] == 4711


@pytest.mark.parametrize("name", TEXTS)
def test_a_number_is_its_text(name):
    """A password of digits only, for example."""
    assert site.values({name: 471100815})[name.removeprefix("site_")] == "471100815"


def test_what_cannot_be_converted_stays_for_the_preflight_to_refuse():
    assert site.values({"site_vip_prefix": "many"})["vip_prefix"] == "many"


def test_entries_of_lists_are_converted_as_well():
    assert site.values({"site_static": [{"path": 1, "directory": "/"}]})["static"] == [{"path": "1", "directory": "/"}]
