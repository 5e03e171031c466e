# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reports every mistake of an inventory at once, on the controller, before any host is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as core_version
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import preflight as rules

ROLES = Path(__file__).resolve().parents[2] / "roles"
# Only set by Ansible itself; reading some of them is slow, and none is an operator's.
MAGIC = re.compile(
    r"^(ansible_(?!host$).*|inventory_.*|group_names|groups|hostvars|omit|playbook_dir|play_hosts|role_.*|environment)$"
)


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {"stage": {"type": "str", "required": True}, "roles": {"type": "dict", "default": {}}}
        )
        task_vars = task_vars or {}
        mistakes = rules.judge_version(core_version) or rules.judge(self._inventory(args, task_vars))
        result["changed"] = False
        if mistakes:
            numbered = [f"{number}. {line}" for number, line in enumerate(mistakes, 1)]
            count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
            result["failed"] = True
            result["msg"] = "\n".join([f"The inventory has {count}; no host has been touched.", *numbered])
        return result

    def _inventory(self, args: dict[str, Any], task_vars: Mapping[str, Any]) -> rules.Inventory:
        specs = {path.parents[1].name: _options(path) for path in sorted(ROLES.glob("*/meta/argument_specs.yml"))}
        groups = {name: list(hosts) for name, hosts in task_vars["groups"].items()}
        names = {name for hosts in groups.values() for name in hosts}
        hostvars = {name: dict(_readable(task_vars["hostvars"][name])) for name in names}
        playbook = Path(task_vars.get("playbook_dir", "."))
        return rules.Inventory(
            stage=args["stage"],
            groups=groups,
            hostvars=hostvars,
            roles=args["roles"],
            specs=specs,
            is_directory=lambda path: (playbook / path).is_dir(),
        )


def _options(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]


def _readable(variables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The operator's variables with their values; a template that fails becomes a finding instead of an end."""
    for name in variables:
        if MAGIC.match(name):
            continue
        try:
            yield name, _plain(variables[name])
        except AnsibleError as error:
            # Facts are gathered later: what needs them is judged by the role.
            if "ansible_facts" not in str(error):
                yield name, rules.Unreadable(" ".join(str(error.message).split()))


def _plain(value: Any) -> Any:
    """A value of templates as ordinary data: all of it is read now, so that all of its mistakes are seen."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
