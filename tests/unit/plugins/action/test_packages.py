"""When dpkg's answer is enough, and when apt has to be asked."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.foobar.web_infrastructure.plugins.action import packages

from .conftest import Answered


class Action(Answered, packages.ActionModule):
    pass


def test_packages_that_are_there_cost_one_question():
    action = Action("installed nginx\ninstalled logrotate\n", name=["nginx", "logrotate"], update_cache=True)
    assert action.run(task_vars={}) == {"changed": False}
    assert action.asked == [r"dpkg-query --show '--showformat=${db:Status-Status} ${Package}\n' nginx logrotate"]
    assert action.handed_over == []


@pytest.mark.parametrize(
    "said",
    [
        "",
        "installed logrotate\n",
        "config-files nginx\ninstalled logrotate\n",
        "half-configured nginx\ninstalled logrotate\n",
        "installed nginx-light\ninstalled logrotate\n",
    ],
)
def test_what_is_missing_is_handed_over_whole(said):
    action = Action(said, name=["nginx", "logrotate"], update_cache=True)
    assert action.run(task_vars={}) == {"changed": True}
    wish = {"name": ["nginx", "logrotate"], "update_cache": True, "state": "present"}
    assert action.handed_over == [("ansible.builtin.apt", wish)]
    assert action.asked[1:] == ["env DEBIAN_FRONTEND=noninteractive dpkg --configure --pending"]


def test_check_mode_finishes_nothing():
    action = Action("", name=["nginx"])
    action._task.check_mode = True
    action.run(task_vars={})
    assert len(action.asked) == 1


@pytest.mark.parametrize("name", ["nginx=1.26*", "nginx*", "Nginx", "--purge"])
def test_what_dpkg_does_not_understand_is_left_to_apt(name):
    action = Action(f"installed {name}\n", name=[name])
    assert action.run(task_vars={}) == {"changed": True}
    assert not any("dpkg-query" in command for command in action.asked)


@pytest.mark.parametrize("name", [None, [], "nginx", [None]])
def test_a_list_of_packages_is_asked_for(name):
    with pytest.raises(AnsibleActionFail, match=r"such as \[nginx, logrotate\]"):
        Action("", name=name).run(task_vars={})
