# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is an address, a name or a port. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

HOST_NAME = re.compile(r"(?i)^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$")

# An IPv6 address ends in a colon and digits too, so it needs brackets for a port.
WITH_PORT = re.compile(r"(?P<address>\[[^\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})")


def ip_address(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a value is; None if it is none."""
    try:
        return ipaddress.ip_address(str(value))
    except ValueError:
        return None


def server_address(value: str, port: Any) -> tuple[str, Any]:
    """Return address and port of a server that may name its own port: "192.0.2.1", "192.0.2.1:81", "[fd00::1]:81".

    Args:
        value: what stands there.
        port: the port of a server that names none.
    """
    match = WITH_PORT.fullmatch(value)
    return (match["address"].strip("[]"), int(match["port"])) if match else (value.strip("[]"), port)


def port_number(value: Any) -> int | None:
    """Return the TCP port that a value is, a number or its digits; None if it is none."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535 else None
