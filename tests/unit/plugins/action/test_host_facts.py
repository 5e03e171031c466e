"""What is read of memory and distribution of a host."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.foobar.web_infrastructure.plugins.action import host_facts

MEMORY = "MemTotal:        2097152 kB\nMemFree:           81000 kB\n"
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_CODENAME=trixie\nID=debian\nHOME_URL="https://a/?b=c"\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nVERSION_CODENAME="noble"\nID="ubuntu"\nID_LIKE=debian\n'


class Action(host_facts.ActionModule):
    """The plugin with a host that answers ``said``."""

    def __init__(self, said: str, **arguments) -> None:
        self._task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, diff=False)
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        self.said, self.asked = said, []

    def _low_level_execute_command(self, command):
        self.asked.append(command)
        return {"stdout": self.said, "stderr": "cat: /etc/os-release: No such file or directory", "rc": 0}


@pytest.mark.parametrize(
    ("release", "distribution", "code_name"), [(DEBIAN, "Debian", "trixie"), (UBUNTU, "Ubuntu", "noble")]
)
def test_facts_have_the_names_and_values_of_setup(release, distribution, code_name):
    action = Action(MEMORY + release)
    assert action.run(task_vars={}) == {
        "changed": False,
        "ansible_facts": {
            "ansible_memtotal_mb": 2048,
            "ansible_distribution": distribution,
            "ansible_distribution_release": code_name,
        },
    }
    assert action.asked == ["cat /proc/meminfo /etc/os-release"]


def test_a_release_without_code_name_has_none():
    assert host_facts.facts(MEMORY + "ID=debian\n")["ansible_distribution_release"] == ""


@pytest.mark.parametrize("said", ["", MEMORY, DEBIAN])
def test_a_host_that_cannot_be_read_fails_with_its_reason(said):
    with pytest.raises(AnsibleActionFail, match=r"neither memory nor distribution .*No such file"):
        Action(said).run(task_vars={})
