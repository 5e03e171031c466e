"""Renders everything that a role makes of its variables, in a process of its own with Ansible's loader of collections.

Reads JSON, the name of the role and what it is given, many times over; prints one text for each of these.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import action_loader, init_plugin_loader
from ansible.template import Templar

PROJECT = Path(__file__).resolve().parents[3]
LOADER = DataLoader()
INSPECTED = {
    "server_id": 1,
    "auth_socket": 0,
    "drift": ["x"],
    "databases": [],
    "accounts": [{"user": "root", "host": "localhost", "plugin": "x", "salt": "", "hash": "", "has_two": False}],
}
CONVERGED = {"role": "source", "changed": False, "plan": [], "done": []}
#: What earlier tasks have registered, and what Ansible knows of a host.
KNOWN = {
    "inventory_hostname": "one",
    "ansible_check_mode": False,
    "ansible_managed": "managed",
    "ansible_play_hosts_all": [],
    "hostvars": {},
    "ansible_facts": {
        "memtotal_mb": 4096,
        "distribution": "Debian",
        "distribution_release": "trixie",
        "interfaces": [],
    },
    "__mysql_replication_package": {"changed": False},
    "__mysql_replication_repository": {"changed": False},
    "__mysql_replication_tree": {"changed": False, "started_units": [], "added": [], "apply_output": '{"done": []}'},
    "__mysql_replication_inspected": {"stdout": json.dumps(INSPECTED)},
    "__mysql_replication_begun": {"changed": False, "stdout": json.dumps(CONVERGED)},
    "__mysql_replication_converged": {"stdout": json.dumps(CONVERGED)},
    "__mysql_replication_planned": {"stdout": json.dumps(CONVERGED)},
    "gunicorn_flask_look": {
        **{"path": "/srv/shop/releases/1", "name": "1", "id": "1", "changes": False, "undone": False, "first": False},
        **{"user_is_sound": False, "group_exists": False},
    },
}


def converted(arguments: Any, key: str = "") -> Any:
    """Arguments as a module sees them, which converts numbers itself; config_tree wants words and contents."""
    if isinstance(arguments, dict):
        # A salt is drawn anew each time.
        return {name: converted(value, name) for name, value in arguments.items() if name != "salt"}
    if isinstance(arguments, list) and key not in ("check", "apply"):
        return [converted(value) for value in arguments]
    is_number = isinstance(arguments, int | float) and not isinstance(arguments, bool)
    return str(arguments) if is_number and key != "content" else arguments


class Rendered:
    """What a role makes of its variables: the trees of config_tree, and arguments and conditions of tasks."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.place = PROJECT / "roles" / role
        self.base = dict(LOADER.load_from_file(str(self.place / "defaults/main.yml"), trusted_as_template=True))
        self.base |= LOADER.load_from_file(str(self.place / "vars/main.yml"), trusted_as_template=True)
        self.base |= KNOWN | {
            "ansible_role_name": f"foobar.web_infrastructure.{role}",
            "role_path": str(self.place),
            "ansible_search_path": [str(self.place)],
        }
        self.tasks = [
            task
            for file in sorted((self.place / "tasks").glob("*.yml"))
            for task in LOADER.load_from_file(str(file), trusted_as_template=True)
        ]

    def __call__(self, given: dict[str, Any]) -> str:
        # As it is at the end of a command line or in an INI inventory.
        variables = self.base | _trusted(given)
        return json.dumps([self._task(task, variables) for task in self.tasks], default=str, indent=1)

    def _task(self, task: dict[str, Any], variables: dict[str, Any]) -> Any:
        variables = variables | dict(task.get("vars") or {})
        templar = Templar(LOADER, variables)
        loop = self._value(templar, task.get("loop", [None]))
        name = (task.get("loop_control") or {}).get("loop_var", "item")
        found = [task.get("name")]
        for item in loop if isinstance(loop, list) else [loop]:
            templar = Templar(LOADER, variables | {name: item})
            found.append([self._condition(templar, one) for one in _listed(task.get("when"))])
            for key, value in task.items():
                if "." in key or key == "args":
                    found.append(converted(self._value(templar, value)))
                if key == "foobar.web_infrastructure.config_tree":
                    found.append(self._tree(templar, value, variables))
        return found

    def _value(self, templar: Templar, value: Any) -> Any:
        try:
            return templar.template(value)
        except AnsibleError as error:
            return f"failed: {error}"

    def _condition(self, templar: Templar, expression: Any) -> Any:
        try:
            return templar.evaluate_conditional(expression) if isinstance(expression, str) else expression
        except AnsibleError as error:
            return f"failed: {error}"

    def _tree(self, templar: Templar, arguments: dict[str, Any], variables: dict[str, Any]) -> Any:
        try:
            arguments = templar.template(arguments)
        except AnsibleError as error:
            return f"failed: {error}"
        task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, diff=False)
        task.get_search_path = lambda: [str(self.place)]
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        action = action_loader.get(
            "foobar.web_infrastructure.config_tree",
            **{"task": task, "connection": connection, "play_context": None},
            **{"loader": LOADER, "templar": templar, "shared_loader_obj": None},
        )
        variables = sys.modules[type(action).__module__].typed_variables(variables)
        default = {
            "owner": None,
            "group": None,
            "mode": None,
            "secret": False,
            "content": None,
            "copy": None,
            "vars": {},
        }
        found = []
        for entry in arguments["files"]:
            # What is copied has no variables in it.
            if entry.get("copy") is None:
                found.append(self._file(action, default | dict(entry), variables))
        return found

    def _file(self, action: Any, entry: dict[str, Any], variables: dict[str, Any]) -> str:
        if entry.get("src") is not None and not str(entry["src"]).endswith(".j2"):
            # A number in the place of a file's name.
            return f"template {entry['src']}"
        try:
            ((_path, content, _time),) = action._contents(entry, "/root", variables)
        except AnsibleError as error:
            return f"failed: {error}"
        return content.decode()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _trusted(given: dict[str, Any]) -> dict[str, Any]:
    return dict(LOADER.load(json.dumps(given)))


def main() -> None:
    init_plugin_loader([str(PROJECT / ".ansible/collections")])
    asked = json.load(sys.stdin)
    rendered = Rendered(asked["role"])
    json.dump([rendered(given) for given in asked["given"]], sys.stdout)


main()
