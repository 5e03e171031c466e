# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What argument_specs and meta/site.yml say of the variables of this collection."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import OPTIONS
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.typed import typed

DIRECTORY = Path(__file__).resolve().parents[2] / "roles"
ROLES = tuple(sorted(path.parent.parent.name for path in DIRECTORY.glob("*/meta/argument_specs.yml")))


@cache
def _entry_points(role: str) -> Mapping[str, Any]:
    path = DIRECTORY / role / "meta" / "argument_specs.yml"
    return yaml_load(path.read_text(encoding="utf-8"))["argument_specs"]


def options(role: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the options of a role's entry point main, as its argument_specs have them."""
    return _entry_points(role)["main"]["options"]


@cache
def all_options(role: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the options of all entry points of a role: main, and the commands of operators."""
    entry_points = _entry_points(role).values()
    return {name: option for entry in entry_points for name, option in entry.get("options", {}).items()}


def option(name: str) -> Mapping[str, Any] | None:
    """Return what is said of a variable; None if it is none of this collection.

    Args:
        name: what the variable is called.
    """
    if name in OPTIONS:
        return OPTIONS[name]
    role = next((role for role in ROLES if name.startswith(f"{role}_")), None)
    return all_options(role).get(name) if role else None


def typed_variable(name: str, value: Any) -> Any:
    """Return the value of a variable of this collection as its type; that of another variable as it is.

    Args:
        name: what the variable is called.
        value: what it holds.
    """
    said = option(name)
    return value if said is None else typed(value, said)
