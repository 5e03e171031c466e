# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values as the type that argument_specs declare: what comes with ``-e`` or from an INI inventory is text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ansible.module_utils.common.validation import check_type_bool, check_type_float, check_type_int

TEXT = ("str", "path")


def _whole(value: Any) -> int:
    # A bool is an int for Python, and 1.5 is none at all.
    return value if isinstance(value, bool) else check_type_int(value)


CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "int": _whole,
    "float": lambda value: value if isinstance(value, bool) else check_type_float(value),
    "bool": check_type_bool,
}


def typed(value: Any, option: Mapping[str, Any]) -> Any:
    """Return a value as its type; as it is where it cannot be converted, which argument_specs refuse.

    Args:
        value: what a variable holds, as text or as what it is.
        option: what argument_specs say of it; the options inside of lists and dictionaries are followed.
    """
    kind = option.get("type", "str")
    if isinstance(value, list | tuple) and kind == "list":
        element = {"type": option.get("elements", "raw"), "options": option.get("options")}
        return [typed(part, element) for part in value]
    if isinstance(value, Mapping) and kind == "dict":
        options = option.get("options") or {}
        return {name: typed(part, options.get(name, {"type": "raw"})) for name, part in value.items()}
    if value is None or isinstance(value, list | tuple | Mapping):
        return value
    if kind in TEXT:
        return value if isinstance(value, str) else str(value)
    if kind in CONVERTERS:
        # A number without an end is none of the three.
        with suppress(TypeError, ValueError, ArithmeticError):
            return CONVERTERS[kind](value)
    return value
