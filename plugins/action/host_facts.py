# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read memory and distribution of a host with one command, for which no Python has to start there."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

COMMAND = ["cat", "/proc/meminfo", "/etc/os-release"]


def facts(said: str) -> dict[str, Any]:
    """Return the facts by the names that ansible.builtin.setup gives them.

    Args:
        said: output of COMMAND.

    Raises:
        ValueError: the output is another one.
    """
    words = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    memory = [line.split() for line in said.splitlines() if line.startswith("MemTotal:")]
    if not memory or "ID" not in words:
        raise ValueError("neither memory nor distribution can be read from /proc/meminfo and /etc/os-release")
    name, release = ("".join(shlex.split(words.get(key, ""))) for key in ("ID", "VERSION_CODENAME"))
    return {
        "ansible_memtotal_mb": int(memory[0][1]) // 1024,
        "ansible_distribution": name.capitalize(),
        "ansible_distribution_release": release,
    }


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        self.validate_argument_spec({})
        said = self._low_level_execute_command(shlex.join(COMMAND))
        try:
            return {"changed": False, "ansible_facts": facts(said["stdout"])}
        except ValueError as error:
            raise AnsibleActionFail(f"host_facts: {error}: {said.get('stderr', '').strip()}") from error
