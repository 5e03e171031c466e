# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask dpkg, which answers in milliseconds, and start apt, which takes more than a second, only for what is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

QUERY = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\\n"]
# What dpkg knows by that name. A version, a pattern or a virtual package is for apt to understand.
PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")

# apt refuses to work after a dpkg that was killed. Where nothing is pending this does nothing; where it fails, so will
# apt, and say why.
FINISH = ["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--configure", "--pending"]


def are_installed(names: Iterable[str], said: str) -> bool:
    """Whether the output of QUERY says that each package is there, unpacked and configured.

    Example: are_installed(["nginx"], "installed nginx\\n") is true, with "half-configured nginx\\n" it is false.
    """
    return {f"installed {name}" for name in names} <= set(said.splitlines())


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        names = self._task.args.get("name")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise AnsibleActionFail(
                f"packages: name must be a list of packages such as [nginx, logrotate], not {names!r}"
            )
        if all(PLAIN_NAME.fullmatch(name) for name in names):
            said = self._low_level_execute_command(shlex.join([*QUERY, *names]))
            if are_installed(names, said["stdout"]):
                return {"changed": False}
        if not self._task.check_mode:
            self._low_level_execute_command(shlex.join(FINISH))
        arguments = self._task.args | {"state": "present"}
        return self._execute_module(module_name="ansible.builtin.apt", module_args=arguments, task_vars=task_vars)
