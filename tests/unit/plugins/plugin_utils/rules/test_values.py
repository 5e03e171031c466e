"""A text for a list, a list for a text: refused wherever argument_specs declare another one, with the whole path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Unreadable
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import shape_mistakes
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import OPTIONS

DECLARED = {**OPTIONS, **{name: option for role in roles.RULES for name, option in roles.options(role).items()}}
WRONG = {"list": ("planted", "list"), "dict": ("planted", "dictionary"), "str": (["planted"], "text")}
WRONG["path"] = WRONG["str"]


def spoiled(option: Mapping[str, Any], path: str) -> Iterator[tuple[Any, str, str]]:
    """A wrong value at each level of an option, with where it stands and what is said of it."""
    kind = option.get("type", "str")
    if kind in WRONG:
        wrong, noun = WRONG[kind]
        yield wrong, path, f"is no {noun}"
    if kind == "list":
        element = {"type": option.get("elements", "raw"), "options": option.get("options")}
        for value, place, said in spoiled(element, f"{path}, entry 1"):
            yield [value], place, said
    elif kind == "dict":
        for key, part in (option.get("options") or {}).items():
            sign = ", " if path.endswith("entry 1") else "."
            for value, place, said in spoiled(part, f"{path}{sign}{key}"):
                yield {key: value}, place, said


@pytest.mark.parametrize("name", DECLARED)
def test_a_wrong_shape_is_found_at_every_level(name):
    for value, place, said in spoiled(DECLARED[name], name):
        [mistake] = shape_mistakes(name, DECLARED[name], value, "web1")
        assert (mistake.place, mistake.wrong, mistake.host) == (place, said, "web1")
        assert "planted" not in f"{mistake.place}{mistake.wrong}{mistake.right}"


def test_there_are_levels():
    places = [place for name, option in DECLARED.items() for _value, place, _said in spoiled(option, name)]
    assert "site_applications, entry 1, database.password" in places
    assert "nginx_sites, entry 1, server_names, entry 1" in places


def test_an_entry_is_called_by_its_name_or_its_path():
    sites = [{"name": "www", "static": [{"path": "/a/", "directory": []}]}, {"name": [], "server_names": "x"}]
    found = [mistake.place for mistake in shape_mistakes("nginx_sites", DECLARED["nginx_sites"], sites)]
    assert found == [
        "nginx_sites, 'www', static, '/a/', directory",
        "nginx_sites, entry 2, name",
        "nginx_sites, entry 2, server_names",
    ]


def test_numbers_are_texts_and_what_cannot_be_read_is_not_judged():
    assert not list(shape_mistakes("site_domain", OPTIONS["site_domain"], 5))
    entry = {"name": "shop", "domains": Unreadable("'x' is undefined"), "database": None}
    assert not list(shape_mistakes("site_applications", OPTIONS["site_applications"], [entry]))
