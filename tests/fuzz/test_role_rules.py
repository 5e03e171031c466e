"""The rules of the roles pass over what they cannot read: they raise nothing, and find nothing but mistakes."""

from __future__ import annotations

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Mistake, RoleValues, lines
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import shape_mistakes
from hypothesis import given, settings
from hypothesis import strategies as st

from . import values

DEFAULTS = {
    role: {name: option["default"] for name, option in roles.options(role).items() if "default" in option}
    for role in roles.RULES
}
FACTS = st.one_of(
    st.none(),
    st.just({"memtotal_mb": 4096, "distribution_release": "bookworm", "interfaces": ["eth0"], "eth0": {}}),
    st.dictionaries(st.sampled_from(["memtotal_mb", "distribution_release", "interfaces", "eth0"]), values.ANY),
)
OPTIONS = {role: {name: values.of(option) for name, option in roles.options(role).items()} for role in roles.RULES}
# One example has hundreds of values.
FEWER = settings(max_examples=settings.default.max_examples // 4)


def some_of(role: str) -> st.SearchStrategy[dict[str, object]]:
    """A few of the variables of a role."""
    options = OPTIONS[role]
    names = st.lists(st.sampled_from(sorted(options)), max_size=6, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: options[name] for name in chosen}))


@FEWER
@pytest.mark.parametrize("role", roles.RULES)
@given(st.data(), FACTS, st.booleans())
def test_rules_find_mistakes_and_raise_nothing(role, data, facts, with_defaults):
    given_values = data.draw(some_of(role))
    variables = {**(DEFAULTS[role] if with_defaults else {}), **given_values}
    hosts = {"s1": given_values, "lb1": {}}
    found = roles.find_mistakes(role, RoleValues("s1", variables, facts, hosts))
    assert all(isinstance(mistake, Mistake) for mistake in found)
    for line in lines(found):
        place, _, rest = line.partition(": ")
        assert place and "; " in rest


@FEWER
@pytest.mark.parametrize("role", roles.RULES)
@given(st.data())
def test_values_of_another_shape_are_told_without_being_shown(role, data):
    for name, value in data.draw(some_of(role)).items():
        for mistake in shape_mistakes(name, roles.options(role)[name], value, "s1"):
            assert mistake.place.startswith(name)
            assert mistake.wrong.startswith("is ")
