"""What the role says of itself, its variables and its module are the same thing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import host, model, rescue
from ansible_collections.foobar.web_infrastructure.plugins.modules import firewall
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import specs

PROJECT = Path(__file__).resolve().parents[4]
#: What only messages need is no variable of the role.
OPTIONS = {name: option for name, option in model.ARGUMENT_SPEC.items() if name != "variables"}


def test_what_is_published_is_what_is_done():
    text = (PROJECT / "roles/ufw_firewall/vars/published.yml").read_text()
    published = yaml.safe_load(text)["ufw_firewall_published"]
    assert published["units"] == [host.UNIT]
    assert published["rescue_unit"] == rescue.UNIT
    assert published["comment_prefix"] == model.TAG


@pytest.mark.parametrize("name", OPTIONS)
def test_a_variable_is_an_option_of_the_module(name):
    variable, option = specs.options("ufw_firewall")[f"ufw_firewall_{name}"], OPTIONS[name]
    for key in ("type", "elements", "default", "choices", "required"):
        assert variable.get(key) == option.get(key), key
    for key, part in option.get("options", {}).items():
        for what in ("type", "elements", "default", "choices", "required"):
            assert variable["options"][key].get(what) == part.get(what), (key, what)
    assert variable.get("options", {}).keys() == option.get("options", {}).keys()


@pytest.mark.parametrize("name", model.ARGUMENT_SPEC)
def test_an_option_of_the_module_is_documented_as_it_is(name):
    documented, option = yaml.safe_load(firewall.DOCUMENTATION)["options"][name], model.ARGUMENT_SPEC[name]
    for key in ("type", "elements", "default", "choices", "required"):
        assert documented.get(key) == option.get(key), key
    for key, part in option.get("options", {}).items():
        for what in ("type", "elements", "default", "choices", "required"):
            assert documented["suboptions"][key].get(what) == part.get(what), (key, what)


def test_the_role_passes_every_variable():
    (task,) = yaml.safe_load((PROJECT / "roles/ufw_firewall/tasks/rules.yml").read_text())
    assert task["foobar.web_infrastructure.firewall"].keys() == model.ARGUMENT_SPEC.keys()
