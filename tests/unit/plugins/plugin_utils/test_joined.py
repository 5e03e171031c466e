"""joined: entries that a playbook wires and entries of an operator become one list."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.foobar.web_infrastructure.plugins.filter import joined as plugin
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.joined import joined

WIRED = [{"name": "application", "port": 8000}, {"name": "static"}]
HOSTS = {"keys": ("name", "host"), "defaults": {"host": "localhost"}}


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ([], WIRED),
        ([{"name": "shop"}], [*WIRED, {"name": "shop"}]),
        # In the place of the wired one: the order of an application's rules may matter.
        ([{"name": "application", "port": 1}], [{"name": "application", "port": 1}, {"name": "static"}]),
        ([{"name": "shop"}, {"name": "static", "a": 1}], [WIRED[0], {"name": "static", "a": 1}, {"name": "shop"}]),
        # Refusing them is the rules' work.
        ([{"name": "static"}, {"name": "static", "a": 1}], [WIRED[0], {"name": "static"}, {"name": "static", "a": 1}]),
        ([{"port": 1}], [*WIRED, {"port": 1}]),
    ],
)
def test_an_entry_of_the_operator_adds_to_the_wired_ones_or_replaces_its_namesake(listed, found):
    assert joined(WIRED, listed) == found


def test_entries_are_told_apart_by_several_keys_and_their_defaults():
    wired = [{"name": "web", "host": "localhost"}, {"name": "web", "host": "198.18.0.1"}]
    assert joined(wired, [{"name": "web", "password": "x"}], **HOSTS) == [{"name": "web", "password": "x"}, wired[1]]
    assert joined(wired, [{"name": "web", "host": "198.18.0.2"}], **HOSTS) == [
        *wired,
        {"name": "web", "host": "198.18.0.2"},
    ]


def test_what_is_given_stays_as_it_is():
    wired, listed = [{"name": "a"}], [{"name": "a", "b": 1}]
    joined(wired, listed).append({"name": "c"})
    assert (wired, listed) == ([{"name": "a"}], [{"name": "a", "b": 1}])


@pytest.mark.parametrize("wrong", [None, "text", {"name": "a"}, ["text"], [None]])
@pytest.mark.parametrize("side", [0, 1])
def test_the_filter_refuses_what_is_no_list_of_dictionaries(wrong, side):
    sides = [[], []]
    sides[side] = wrong
    filters = plugin.FilterModule().filters()
    with pytest.raises(AnsibleFilterError, match="lists of dictionaries are needed"):
        filters["joined"](*sides)
    assert filters["joined"](WIRED, [{"name": "shop"}]) == [*WIRED, {"name": "shop"}]
