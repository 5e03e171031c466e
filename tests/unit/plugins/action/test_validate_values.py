"""validate_values: a role's rules see its final values on one host, and all that they find is reported together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.foobar.web_infrastructure.plugins.action import validate_values
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Mistake


@pytest.fixture
def seen(monkeypatch) -> list:
    """Values that the rules of nginx were given. One rule wants a port, one refuses a name."""
    seen = []

    def port(values):
        seen.append(values)
        if values["nginx_port"] > 65535:
            yield Mistake("nginx_port", f"{values['nginx_port']} is no port", "write 1 to 65535")

    def name(values):
        if values.values.get("nginx_name") == "bad":
            yield Mistake("nginx_name", "'bad' is taken", "write another")

    monkeypatch.setattr(roles, "options", lambda role: {"nginx_port": {}, "nginx_name": {}, "nginx_unset": {}})
    monkeypatch.setattr(roles, "RULES", {"nginx": (port, name)})
    return seen


def validate(role: str = "nginx", **variables) -> dict:
    task = SimpleNamespace(args={"role": role}, async_val=0, check_mode=False, diff=False)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    action = validate_values.ActionModule(task, connection, None, DataLoader(), Templar(DataLoader()), None)
    host = {"inventory_hostname": "web1", "hostvars": {"web1": {}, "web2": {}}, "ansible_facts": {"os": "Debian"}}
    return action.run(task_vars={"nginx_port": 80, **host, **variables})


def test_good_values_change_nothing(seen):
    result = validate(nginx_name="good")
    assert result["changed"] is False
    assert "failed" not in result


def test_rules_see_rendered_values_facts_and_all_hosts_and_only_variables_of_the_role(seen):
    validate(nginx_port=trust_as_template("{{ base + 1 }}"), base=8000, other_variable="x")
    assert dict(seen[0].values) == {"nginx_port": 8001}
    assert seen[0].host == "web1"
    assert seen[0].facts == {"os": "Debian"}
    assert list(seen[0].hostvars) == ["web1", "web2"]


def test_all_mistakes_are_reported_together(seen):
    result = validate(nginx_port=70000, nginx_name="bad")
    assert result["failed"] is True
    assert result["msg"].splitlines() == [
        "The variables of nginx do not fit together:",
        "nginx_port: 70000 is no port; write 1 to 65535",
        "nginx_name: 'bad' is taken; write another",
    ]


def test_a_list_for_a_text_is_refused_where_no_preflight_has_run(seen):
    result = validate(nginx_name=["planted"])
    assert result["failed"] is True
    assert result["msg"].splitlines() == [
        "The variables of nginx do not fit together:",
        "nginx_name (on web1): is no text; it must be a str as its README says",
    ]


def test_a_value_that_cannot_be_rendered_is_an_error(seen):
    with pytest.raises(AnsibleError, match="'nowhere' is undefined"):
        validate(nginx_name=trust_as_template("{{ nowhere }}"))


def test_a_role_without_rules_is_refused(seen):
    with pytest.raises(AnsibleError, match="value of role must be one of: nginx"):
        validate("apache")
