"""The course of a run, over a host that keeps its rules as ufw does."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import host, model, rescue, run
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall.host import Connection, State
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall.model import FirewallError

PARAMS = {name: option.get("default") for name, option in model.ARGUMENT_SPEC.items()} | {
    "admin_networks": ["198.18.0.0/24"],
    "variables": "ufw_firewall_",
    "rules": [
        {
            **{"name": "www", "ports": ["80"], "protocol": "tcp", "interface": ""},
            **{"sources": ["any"], "action": "allow"},
        }
    ],
}
OFF = {
    **{"enabled": "no", "ipv6": "yes", "logging": "low"},
    **{"incoming": "deny", "outgoing": "allow", "routed": "deny"},
}
GOOD = SimpleNamespace(good=True)


class Host:
    """What ufw, systemd and the rescue are asked, and what becomes of it."""

    def __init__(self, monkeypatch) -> None:
        self.asked: list[str] = []
        self.state = State([], {4: 0, 6: 0}, dict(OFF), False, GOOD)
        #: What ufw takes and leaves out.
        self.left_out = ""
        self.installed, self.pending = True, False
        self.connection = Connection("198.18.0.1", 22)
        for name, value in {
            **{"read": lambda: replace(self.state, settings=dict(self.state.settings)), "said": self.said},
            **{"is_installed": lambda: self.installed, "connection": lambda: self.connection},
            **{"ssh_ports": lambda: {22} if self.connection else set(), "warnings": lambda: iter(["careful"])},
        }.items():
            monkeypatch.setattr(host, name, value)
        monkeypatch.setattr(rescue, "arm", lambda token, seconds: self.asked.append(f"arm {seconds}"))
        monkeypatch.setattr(rescue, "rearm", lambda token, seconds: self.asked.append(f"rearm {seconds}"))
        monkeypatch.setattr(rescue, "restore", self.restore)
        monkeypatch.setattr(rescue, "is_pending", lambda: self.pending)
        monkeypatch.setattr(run.units, "bring_up", lambda names, timeout: self.asked.append(f"up {names[0]}"))
        monkeypatch.setattr(run.host_lock, "exclusive", lambda root: nullcontext())

    def restore(self) -> str:
        self.asked.append("restore")
        return "it is as it was before"

    def said(self, *argv: str) -> str:
        words = argv[1:]
        self.asked.append(" ".join(words))
        rules, settings = list(self.state.rules), dict(self.state.settings)
        if words[0] == "default":
            settings[words[2]] = words[1]
        elif words[0] == "logging":
            settings["logging"] = words[1]
        elif words in (("--force", "enable"), ("disable",)):
            settings["enabled"] = "yes" if words[-1] == "enable" else "no"
        elif words[0] == "delete":
            rules.remove(model.Shown(words[1:]))
        elif words[0] == "prepend":
            rules.insert(0, model.Shown(words[1:]))
        elif words[0] != "reload" and self.left_out not in words[:1]:
            one = model.Shown(words)
            rules = [other for other in rules if other.content != one.content] + [one]
        ours = [one for one in rules if one.is_ours]
        counted = {
            4: sum(not one.only_version_6 for one in ours),
            6: sum(one.only_version_6 or "from" not in one.content for one in ours),
        }
        self.state = State(rules, counted, settings, settings["enabled"] == "yes", GOOD)
        return ""


@pytest.fixture
def target(monkeypatch):
    return Host(monkeypatch)


def execute(check_mode: bool = False, **params):
    return run.Run(PARAMS | params, check_mode).execute()


def test_rules_come_before_policy_and_policy_before_the_switch(target):
    result = execute(outgoing="reject", logging="off")
    assert result["changed"] is True and result["unconfirmed"]
    assert target.asked == [
        "arm 180",
        "prepend limit from 198.18.0.0/24 to any port 22 proto tcp comment foobar: ssh",
        "allow 80/tcp comment foobar: www",
        "default reject outgoing",
        "logging off",
        "--force enable",
        "up ufw.service",
        "rearm 60",
    ]
    assert "+" not in result["diff"]["before"] and "enabled: no" in result["diff"]["before"]
    assert "ufw allow 80/tcp comment 'foobar: www'" in result["diff"]["after"]


def test_a_second_run_changes_nothing(target):
    execute()
    target.asked.clear()
    result = execute()
    assert (result["changed"], result["unconfirmed"], target.asked) == (False, "", [])
    assert result["diff"]["before"] == result["diff"]["after"]


def test_check_mode_says_what_it_would_do_and_does_nothing(target):
    result = execute(check_mode=True)
    assert (result["changed"], result["unconfirmed"], target.asked) == (True, "", [])
    target.installed = False
    assert execute(check_mode=True)["changed"] is True
    with pytest.raises(FirewallError, match="there is no ufw on this host"):
        execute()


@pytest.mark.parametrize(
    ("name", "value"), [("enabled", "no"), ("ipv6", "no"), ("logging", ""), ("incoming", "allow"), ("routed", "")]
)
def test_a_setting_that_was_changed_by_hand_is_healed(target, monkeypatch, name, value):
    execute()
    monkeypatch.setattr(run, "_set_ipv6", lambda: target.state.settings.update(ipv6="yes"))
    target.state.settings[name] = value
    assert execute(check_mode=True)["changed"] is True
    assert execute()["changed"] is True
    assert execute()["changed"] is False


def test_a_kernel_without_the_rules_is_loaded_again(target):
    execute()
    target.state = replace(target.state, is_live=False)
    target.asked.clear()
    assert execute()["changed"] is True
    assert target.asked == ["arm 180", "reload", "up ufw.service", "rearm 60"]


def test_a_unit_that_would_not_load_them_at_boot_is_healed(target):
    execute()
    target.state = replace(target.state, unit=SimpleNamespace(good=False))
    assert execute(check_mode=True)["changed"] is True
    # It does not get well in this test, and that is said.
    with pytest.raises(FirewallError, match=r"could not be changed, it is as it was before: .*left out: ufw.service"):
        execute()


def test_a_rule_that_has_lost_its_half_for_ipv6_is_put_there_again(target):
    execute()
    target.state.counted[6] -= 1
    target.asked.clear()
    assert execute()["changed"] is True
    assert target.asked[1] == "allow 80/tcp comment foobar: www"


def test_a_change_that_nobody_has_confirmed_is_confirmed_by_the_next_run(target):
    execute()
    target.pending = True
    assert execute()["unconfirmed"]


def test_what_ufw_leaves_out_is_noticed_and_all_is_taken_back(target):
    """As a limit where the kernel has none."""
    target.left_out = "allow"
    with pytest.raises(FirewallError, match="it is as it was before: ufw has said nothing and left out: ufw allow 80"):
        execute()
    assert target.asked[-1] == "restore"


def test_a_firewall_that_is_not_wanted_is_switched_off_with_its_rules_ready(target):
    execute()
    target.asked.clear()
    assert execute(enabled=False)["changed"] is True
    assert target.asked == ["arm 180", "disable", "rearm 60"]
    assert execute(enabled=False)["changed"] is False


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"admin_networks": ["10.0.0.0/8"]},
            "^ufw_firewall_admin_networks: this connection comes from 198.18.0.1, which is in none of 10.0.0.0/8",
        ),
        ({"admin_networks": ["a.example"]}, "^ufw_firewall_admin_networks: 'a.example' is no address"),
        ({"ssh_ports": ["0"]}, "^ufw_firewall_ssh_ports: '0' is no port"),
    ],
)
def test_what_would_shut_the_administrator_out_is_refused_before_anything_changes(target, params, sentence):
    for check_mode in (True, False):
        with pytest.raises(FirewallError, match=sentence):
            execute(check_mode=check_mode, **params)
    assert target.asked == []


def test_a_host_without_an_ssh_server_has_to_be_told(target):
    target.connection = None
    with pytest.raises(FirewallError, match="no SSH server listens on this host"):
        execute()
    assert execute(ssh_ports=["22"])["changed"] is True


def test_a_rule_of_somebody_else_that_contradicts_is_said(target):
    target.state = replace(target.state, rules=model.shown("ufw deny 80/tcp"))
    with pytest.raises(FirewallError, match=r"'www' wants allow .*`ufw deny 80/tcp`.*`ufw delete deny 80/tcp`"):
        execute()
    assert target.asked == []
