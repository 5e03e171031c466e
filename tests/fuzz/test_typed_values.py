"""A value is the same as a number and as its text, and converting it once more changes nothing."""

from __future__ import annotations

import math

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import OPTIONS, Site
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.specs import typed_variable
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.typed import typed
from hypothesis import given
from hypothesis import strategies as st

from . import values

DECLARED = {**OPTIONS, **{name: option for role in roles.RULES for name, option in roles.options(role).items()}}
NAMES = st.sampled_from(sorted(DECLARED))
TYPES = st.sampled_from(["int", "float", "bool", "str", "path", "list", "dict", "raw"])


@given(st.integers(-(2**70), 2**70))
def test_a_whole_number_and_its_text(number):
    assert typed(str(number), {"type": "int"}) == typed(number, {"type": "int"}) == number


@given(st.floats(allow_nan=False))
def test_a_number_and_its_text(number):
    assert typed(str(number), {"type": "float"}) == typed(number, {"type": "float"}) == number


@given(st.sampled_from([("yes", True), ("True", True), ("on", True), ("1", True), ("no", False), ("off", False)]))
def test_a_truth_and_its_text(pair):
    assert typed(pair[0], {"type": "bool"}) is pair[1] is typed(pair[1], {"type": "bool"})


@given(TYPES, TYPES, values.ANY)
def test_any_value_is_converted_or_stays_as_it_is(kind, elements, value):
    option = {"type": kind, "elements": elements}
    found = typed(value, option)
    assert same(typed(found, option), found)
    if kind == "raw":
        assert same(found, value)


@given(NAMES.flatmap(lambda name: st.tuples(st.just(name), st.one_of(values.of(DECLARED[name]), values.ANY))))
def test_any_variable_is_converted_once_for_all(pair):
    name, value = pair
    found = typed_variable(name, value)
    assert same(typed_variable(name, found), found)


@given(st.dictionaries(st.sampled_from(sorted(OPTIONS)), values.ANY, max_size=3))
def test_a_site_has_a_value_for_each_variable(variables):
    site = Site([variables, {}])
    for name in OPTIONS:
        assert same(site.get(name), site.get(name))


def same(one: object, other: object) -> bool:
    """Equal, of one type, and no number that is none differs from itself."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return len(one) == len(other) and all(map(same, one.values(), other.values()))
    return type(one) is type(other) and one == other
