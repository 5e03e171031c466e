"""A change of the firewall stays only if a fresh connection says so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.foobar.web_infrastructure.plugins.action import firewall


class Action(firewall.ActionModule):
    """The plugin with a module that gives ``result``, and a fresh connection that ends so, one end after the other."""

    def __init__(self, result: dict, *ends, transport: str = "ssh", ssh_args: str | None = "-C") -> None:
        arguments = {"admin_networks": ["198.18.0.1"], "rescue_seconds": 20}
        self._task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, diff=False)
        self.options = {"ssh_args": ssh_args}
        self.resets = 0
        self._connection = SimpleNamespace(
            _shell=SimpleNamespace(tmpdir=None),
            transport=transport,
            set_option=self.options.__setitem__,
            get_option=self.options.get,
            reset=self.reset,
        )
        self.result, self.ends, self.asked = result, list(ends), []

    def reset(self) -> None:
        self.resets += 1

    def _execute_module(self, module_name, module_args, task_vars):
        return dict(self.result)

    def _low_level_execute_command(self, command):
        self.asked.append((command, self.options["ssh_args"]))
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


CHANGED = {"changed": True, "unconfirmed": "token"}
CONFIRMED = {"rc": 0, "stdout": "", "stderr": ""}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time that passes where somebody waits."""
    now = [0.0]
    monkeypatch.setattr(firewall.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(firewall.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 5 * seconds))


def test_without_a_change_there_is_one_execution():
    for result in ({"changed": False, "unconfirmed": ""}, {"failed": True, "msg": "no"}):
        action = Action(result)
        assert action.run(task_vars={}) == result
        assert action.asked == []


@pytest.mark.parametrize("ssh_args", ["-C -o ControlMaster=auto -o ControlPersist=60s", "", None])
def test_a_change_is_confirmed_by_a_connection_of_its_own(ssh_args):
    action = Action(CHANGED, CONFIRMED, ssh_args=ssh_args)
    result = action.run(task_vars={})
    assert (result["changed"], result["unconfirmed"], result.get("failed")) == (True, "", None)
    ((command, arguments),) = action.asked
    assert command == "/var/lib/ufw_firewall/rescue confirm token"
    # ssh takes the first value that it meets.
    assert arguments.split()[:4] == ["-o", "ControlMaster=no", "-o", "ControlPath=none"]
    assert arguments.endswith(ssh_args or "")


def test_other_connections_are_opened_anew():
    action = Action(CHANGED, CONFIRMED, transport="paramiko")
    action.run(task_vars={})
    assert (action.resets, action.options) == (1, {"ssh_args": "-C"})


def test_a_connection_may_fail_once():
    action = Action(CHANGED, AnsibleConnectionFailure("timed out"), CONFIRMED)
    assert action.run(task_vars={}).get("failed") is None


def test_who_is_shut_out_is_told_why_and_what_happens_now():
    action = Action(CHANGED, *[AnsibleConnectionFailure("timed out")] * 9)
    result = action.run(task_vars={})
    assert result["failed"] is True
    assert "the host takes them back within 20 s, and SSH is as before: timed out." in result["msg"]
    # For half of the time: the host has to be asked before it takes the change back.
    assert len(action.asked) == 3


def test_a_change_that_the_host_has_taken_back_is_no_success():
    said = {"rc": 1, "stdout": "", "stderr": "the host has taken the change back already\n"}
    result = Action(CHANGED, said).run(task_vars={})
    assert result["failed"] is True
    assert "the host has taken the change back already." in result["msg"]
