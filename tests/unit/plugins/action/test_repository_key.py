"""When a look at the key is enough, and when the module has to work."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.action import repository_key
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import openpgp

# A key of six octets, and its fingerprint.
KEY = bytes([0xC6, 6]) + b"\4abcde"
ARGUMENTS = {
    "url": "https://mirror.example/key",
    "path": "/etc/apt/keyrings/key.asc",
    "fingerprints": openpgp.fingerprints(KEY),
}


class Action(repository_key.ActionModule):
    """The plugin with a host that answers ``said``; what it hands over to the module is kept."""

    def __init__(self, said: str) -> None:
        self._task = SimpleNamespace(args=ARGUMENTS, async_val=0, check_mode=False, diff=False)
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        self.said, self.asked, self.handed_over = said, [], []

    def _low_level_execute_command(self, command):
        self.asked.append(command)
        return {"stdout": self.said, "rc": 0}

    def _execute_module(self, module_name, module_args, task_vars):
        self.handed_over.append((module_name, module_args))
        return {"changed": True}


def test_a_key_that_is_there_costs_one_question():
    action = Action(base64.b64encode(openpgp.armored(KEY)).decode() + "\n")
    assert action.run(task_vars={}) == {"changed": False}
    assert action.asked == ["base64 --wrap=0 /etc/apt/keyrings/key.asc"]
    assert action.handed_over == []


@pytest.mark.parametrize(
    "said", ["", "no Base64", base64.b64encode(KEY).decode(), base64.b64encode(openpgp.armored(KEY * 2)[:-5]).decode()]
)
def test_whatever_else_is_there_is_for_the_module(said):
    action = Action(said)
    assert action.run(task_vars={}) == {"changed": True}
    assert action.handed_over == [(repository_key.MODULE, ARGUMENTS)]
