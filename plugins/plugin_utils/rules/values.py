# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values of variables as rules read them: one of the wrong type is passed over, it is refused by its shape."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.joined import joined
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import (
    Mistake,
    RoleValues,
    Unreadable,
)

#: Browsers send some hundred bytes without any cookie, and servers keep buffers of this size for each connection.
SMALLEST_HEADER_KB, LARGEST_HEADER_KB = 4, 256
SHORTEST_SECRET = 12
PLACEHOLDER = re.compile(r"(?i)^(change[-_ ]?me|password|secret|example|default|test|todo|xxx)[-_!.0-9]*$")
#: What a value of a declared type has to be, and how that is called.
SHAPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "list": (list, "list"),
    "dict": (Mapping, "dictionary"),
    # A number is one, too, as are yes and no.
    **dict.fromkeys(("str", "path"), ((str, int, float), "text")),
}
#: What clients send alike: PyMySQL has another character set for the rest than MySQL's own client.
PLAIN_PASSWORD = re.compile(r"[ -~]*")


def text(value: Any) -> str | None:
    """Return a text, or a number as one; None for anything else."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def number(value: Any) -> int | None:
    """Return a whole number, or digits as one; None for anything else."""
    try:
        return int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except ValueError:
        return None


def texts(value: Any) -> list[str]:
    """Return the texts and numbers of a list; none if it is no list."""
    return [found for found in map(text, value) if found is not None] if isinstance(value, list) else []


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return the dictionaries of a list; none if it is no list."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def names(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the name of each entry that has one."""
    return [found for found in (text(entry.get("name")) for entry in entries) if found is not None]


def repeated(items: Iterable[Any]) -> list[Any]:
    """Return the items that stand more than once."""
    return [item for item, times in Counter(items).items() if times > 1]


def meant(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the known name that is likely meant; "" if none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, cutoff)), "")


def shape_mistakes(
    place: str, option: Mapping[str, Any], value: Any, host: str = "", sign: str = "."
) -> Iterator[Mistake]:
    """Find what is a text, a list or a dictionary where another of the three is declared, at every level.

    Ansible would make one of the other for the check alone, and a template would see the value as it is: of a text
    for a list, each letter. No value is shown.

    Args:
        place: the variable, or where the value stands in it, as "nginx_sites, 'www', server_names".
        option: what argument_specs say of it; a required value may not be empty.
        value: what it holds.
        host: whose it is.
        sign: what parts the place from a key of the value.
    """
    if isinstance(value, Unreadable):
        return
    if value is None:
        if option.get("required"):
            yield Mistake(place, "is empty", "set it as its README says", host)
        return
    kind = option.get("type", "str")
    wanted, noun = SHAPES.get(kind, (object, ""))
    if not isinstance(value, wanted):
        yield Mistake(place, f"is no {noun}", f"it must be a {kind} as its README says", host)
    elif kind == "list":
        element = {"type": option.get("elements", "raw"), "options": option.get("options"), "required": True}
        for number, part in enumerate(value, 1):
            yield from shape_mistakes(f"{place}, {_called(part, number)}", element, part, host, ", ")
    elif kind == "dict":
        options = option.get("options") or {}
        for key in (key for key in options if key in value):
            yield from shape_mistakes(f"{place}{sign}{key}", options[key], value[key], host)


def _called(entry: Any, number: int) -> str:
    """How a sentence calls an entry of a list."""
    names = (text(entry.get(key)) for key in ("name", "path")) if isinstance(entry, Mapping) else ()
    name = next((name for name in names if name), None)
    return f"entry {number}" if name is None else f"'{name}'"


def secret_mistakes(name: str, value: Any, host: str = "", longest: int = 0) -> Iterator[Mistake]:
    """Find what is wrong with a password.

    Args:
        name: the variable.
        value: what it holds. Its type is refused elsewhere.
        host: whose it is.
        longest: how many characters it may have; 0 for any number.
    """
    if isinstance(value, list | Mapping):
        return
    secret = str(value)
    if PLACEHOLDER.match(secret):
        yield Mistake(name, "is a placeholder", "make a random one, for example: openssl rand -base64 24", host)
    elif longest and len(secret) > longest:
        yield Mistake(
            name, f"has {len(secret)} characters", f"MySQL takes {longest} at most: openssl rand -base64 21", host
        )
    elif 0 < len(secret) < SHORTEST_SECRET:
        yield Mistake(name, f"has only {len(secret)} characters", f"{SHORTEST_SECRET} or more are needed", host)
    elif not PLAIN_PASSWORD.fullmatch(secret):
        wrong = "has characters that the driver sends in another way than MySQL stores them"
        yield Mistake(name, wrong, "take letters, digits and signs of ASCII: openssl rand -base64 24", host)


def header_mistakes(name: str, value: Any, host: str = "") -> Iterator[Mistake]:
    """Find what is wrong with a size of headers in kilobytes.

    Args:
        name: the variable.
        value: what it holds. Its type is refused elsewhere.
        host: whose it is.
    """
    size = number(value)
    if size is not None and not SMALLEST_HEADER_KB <= size <= LARGEST_HEADER_KB:
        right = f"choose {SMALLEST_HEADER_KB} to {LARGEST_HEADER_KB} kilobytes"
        yield Mistake(name, f"{size} is no size for headers", right, host)


def joined_entries(values: RoleValues, role: str, noun: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the entries that a role uses, each with the variable that it is from.

    Args:
        values: variables of the role.
        role: its name.
        noun: what the entries are, as ``sites`` for ``nginx_service_sites`` and ``nginx_sites``.
    """
    listed = mappings(values.values.get(f"{role}_{noun}"))
    own = {id(entry) for entry in listed}
    entries = joined(mappings(values.values.get(f"{role}_service_{noun}")), listed)
    return [(f"{role}_{noun}" if id(entry) in own else f"{role}_service_{noun}", entry) for entry in entries]
