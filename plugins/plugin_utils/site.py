# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The variables that all hosts of a site share: what meta/site.yml says of them, and their values. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.typed import typed

PATH = Path(__file__).resolve().parents[2] / "meta" / "site.yml"
#: Options by name, as argument_specs have them; ``stages`` lists the numbers of the stages that use a variable.
OPTIONS: Mapping[str, Mapping[str, Any]] = yaml_load(PATH.read_text(encoding="utf-8"))["argument_specs"]["site"][
    "options"
]
PORTS = tuple(name for name in OPTIONS if name.endswith("_port"))
#: An inventory may name in it what a playbook publishes, so it is read in that play alone.
OF_A_PLAY = "site_application_environment"
#: The further applications. Of an entry only this much is read outside of the plays that run it, for the same reason.
APPLICATIONS = "site_applications"
OUTLINE = ("name", "domains", "port", "database", "static")
OUTLINE_OF_THE_ROLE = ("health_path",)
SECRETS = tuple(name for name in OPTIONS if name.endswith("_password"))


class Site:
    """Values of a site, as their types: those of the first host that has them, else the defaults.

    Each is looked for once.

    Args:
        variables: variables of each host, in the order in which they are asked.
    """

    def __init__(self, variables: Iterable[Mapping[str, Any]]) -> None:
        self._variables = list(variables)
        self._found: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Return the value of a variable; None if it has neither a value nor a default."""
        if name not in self._found:
            values = (variables.get(name) for variables in self._variables)
            default = OPTIONS[name].get("default")
            value = next((value for value in values if value is not None), default)
            value = outlines(value) if name == APPLICATIONS else value
            self._found[name] = typed(value, OPTIONS[name])
        return self._found[name]


def outlines(listed: Any, read: Callable[[Any], Any] = lambda value: value) -> Any:
    """Return the entries of site_applications without what is read in a play alone.

    Args:
        listed: what the variable holds; all of it is read if it is no list.
        read: makes a value of what stands there, as by rendering its templates.
    """
    if not isinstance(listed, list):
        return read(listed)
    return [_outline(entry, read) if isinstance(entry, Mapping) else read(entry) for entry in listed]


def _outline(entry: Mapping[str, Any], read: Callable[[Any], Any]) -> dict[str, Any]:
    found = {key: read(entry[key]) for key in OUTLINE if key in entry}
    role = entry.get("gunicorn_flask")
    if isinstance(role, Mapping):
        found["gunicorn_flask"] = {key: read(role[key]) for key in OUTLINE_OF_THE_ROLE if key in role}
    return found


def used_in(stage: str) -> list[str]:
    """Return the names of the variables that a stage uses, in the order of meta/site.yml.

    Args:
        stage: name of a stage, which begins with its number.
    """
    return [name for name, option in OPTIONS.items() if int(stage[0]) in option["stages"]]


def values(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a host, without the prefix ``site_``; those without value and default are left out, and so
    is OF_A_PLAY.

    Args:
        variables: variables of the host.
    """
    site = Site([variables])
    found = {name.removeprefix("site_"): site.get(name) for name in OPTIONS if name != OF_A_PLAY}
    return {name: value for name, value in found.items() if value is not None}
