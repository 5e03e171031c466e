# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's half of firewall: a change stays only if a fresh connection reaches the host and says so."""

from __future__ import annotations

import shlex
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall.rescue import PROGRAM

MODULE = "foobar.web_infrastructure.firewall"
# Of several values ssh takes the first: neither its own connection that is kept, nor one of the user's configuration.
FRESH = "-o ControlMaster=no -o ControlPath=none"


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        result = self._execute_module(module_name=MODULE, module_args=self._task.args, task_vars=task_vars or {})
        token = result.get("unconfirmed")
        if token and not result.get("failed"):
            seconds = int(self._task.args.get("rescue_seconds", 60))
            result["unconfirmed"] = ""
            problem = self._confirm(token, time.monotonic() + seconds / 2)
            if problem:
                result["failed"] = True
                result["msg"] = (
                    "firewall: no fresh connection reaches the host through the new rules, so the host takes them back "
                    f"within {seconds} s, and SSH is as before: {problem}. Look for what refuses it: the rules, those "
                    "of others (foreign), /etc/ufw/before.rules, or a firewall on the way"
                )
        return result

    def _confirm(self, token: str, end: float) -> str:
        """Ask by a connection that nothing of the old one is in; returns why that has failed, or nothing."""
        connection = self._connection
        if connection.transport == "ssh":
            connection.set_option("ssh_args", f"{FRESH} {connection.get_option('ssh_args') or ''}")
        else:
            connection.reset()
        command = shlex.join([str(PROGRAM), "confirm", token])
        while True:
            try:
                said: dict[str, Any] = self._low_level_execute_command(command)
            except AnsibleConnectionFailure as error:
                problem = " ".join(str(error).split())
            else:
                return "" if said["rc"] == 0 else said.get("stderr", "").strip() or said["stdout"].strip()
            if time.monotonic() >= end:
                return problem
            time.sleep(1)
