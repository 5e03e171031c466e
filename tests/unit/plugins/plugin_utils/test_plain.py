"""plain: values of templates become ordinary data, and every mistake in them is seen."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.plain import plain


class Text(str):
    """A string with a tag, as templates return it."""


class Lazy(Mapping):
    """A mapping whose values are made when they are read."""

    def __init__(self, values: dict) -> None:
        self.values_ = values

    def __getitem__(self, key):
        return self.values_[key]()

    def __iter__(self):
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


@pytest.mark.parametrize(
    "value", [None, True, False, 0, 1, 1.5, "", "text", [], {}, [1, [2, {"a": None}]], {"a": {"b": [True]}}]
)
def test_ordinary_data_stays_equal(value):
    assert plain(value) == value
    assert type(plain(value)) is type(value)


def test_nothing_tagged_or_lazy_is_left():
    found = plain(Lazy({Text("a"): lambda: (Text("b"), True), "c": lambda: Lazy({"d": lambda: 1})}))
    assert found == {"a": ["b", True], "c": {"d": 1}}
    assert [type(part) for part in (found, *found, found["a"], found["a"][0], found["c"])] == [
        dict,
        str,
        str,
        list,
        str,
        dict,
    ]


def test_keys_are_strings():
    assert plain({1: "a"}) == {"1": "a"}


def test_a_template_that_cannot_be_rendered_is_an_error_however_deep_it_lies():
    value = [{"sites": [{"name": trust_as_template("{{ nowhere }}")}]}]
    templar = Templar(DataLoader(), {"found": 1})
    assert plain(templar.template([trust_as_template("{{ found }}")])) == [1]
    with pytest.raises(AnsibleError, match="'nowhere' is undefined"):
        plain(templar.template(value))
