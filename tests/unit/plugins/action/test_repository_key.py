"""When a look at the key is enough, and when the module has to work."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.action import repository_key
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import openpgp

from .conftest import Answered

# A key of six octets, and its fingerprint.
KEY = bytes([0xC6, 6]) + b"\4abcde"
ARGUMENTS = {
    "url": "https://mirror.example/key",
    "path": "/etc/apt/keyrings/key.asc",
    "fingerprints": openpgp.fingerprints(KEY),
}


class Action(Answered, repository_key.ActionModule):
    pass


def test_a_key_that_is_there_costs_one_question():
    action = Action(base64.b64encode(openpgp.armored(KEY)).decode() + "\n", **ARGUMENTS)
    assert action.run(task_vars={}) == {"changed": False}
    assert action.asked == ["base64 --wrap=0 /etc/apt/keyrings/key.asc"]
    assert action.handed_over == []


@pytest.mark.parametrize(
    "said", ["", "no Base64", base64.b64encode(KEY).decode(), base64.b64encode(openpgp.armored(KEY * 2)[:-5]).decode()]
)
def test_whatever_else_is_there_is_for_the_module(said):
    action = Action(said, **ARGUMENTS)
    assert action.run(task_vars={}) == {"changed": True}
    assert action.handed_over == [(repository_key.MODULE, ARGUMENTS)]
