# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role mysql_replication computes of a server's variables and of the rights of accounts."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping


def server_id(address: str, given: int = 0) -> int:
    """Return the server id: the given one, or 32 bits of a hash, the same for as long as the address is.

    Args:
        address: under which the other servers reach this one, as ``198.18.0.41``.
        given: the variable mysql_replication_server_id; 0 where it is not set.
    """
    return int(given) or max(int(hashlib.sha256(str(address).encode()).hexdigest()[:8], 16), 1)


def rights(privileges: Mapping[str, Iterable[str]], literal: bool = False) -> dict[str, str]:
    """Return the rights of an account as GRANT takes them; a name of a database means that one alone.

    Args:
        privileges: rights by database and table, as ``{"web_shop.*": ["SELECT"]}``.
        literal: whether the server takes names as they are (``partial_revokes``).
    """
    # For all tables of a database MySQL takes its name as a pattern, in which an underscore is any character.
    return {
        re.sub(r"(?<!\\)_", r"\\_", place) if place.endswith(".*") and not literal else place: ",".join(names)
        for place, names in privileges.items()
    } or {"*.*": "USAGE"}


def option(value: object) -> str:
    """Return a value as it stands in an option file: nothing in it is a comment, an escape or a quote."""
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    text = str(value)
    escaped = text.replace("\\", "\\\\")
    if "#" not in text and text == text.strip() and text[:1] not in ("'", '"'):
        return escaped
    return '"' + escaped.replace('"', '\\"') + '"'


def account_host(host: str) -> str:
    """Return how an account of MySQL names the hosts that it may come from.

    MySQL knows networks of IPv4. An address of IPv6 it compares as text, so a network becomes what all of its addresses
    begin with; between two colons that may be more of them than the network has.

    Args:
        host: a network as ``fd5a:f00b:a5::/64``, which becomes ``fd5a:f00b:a5:%``; anything else stays as it is.

    Raises:
        ValueError: the addresses of the network have no beginning in common.
    """
    if ":" not in host or "/" not in host:
        return host
    network = ipaddress.IPv6Network(host)
    groups = network.network_address.exploded.split(":")[: network.prefixlen // 16]
    # Zeros may be written as two colons: those at the end, and elsewhere two and more in a row.
    text = re.sub(r"(?::0000)+$|(?::0000){2,}.*$", "", ":".join(groups))
    if not text or text.startswith("0000"):
        raise ValueError(f"the addresses of {host} have no beginning in common, by which MySQL could know them")
    return ":".join(f"{int(group, 16):x}" for group in text.split(":")) + ":%"
