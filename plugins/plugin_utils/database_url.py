# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The address of a database as SQLAlchemy has it, with the options of the driver PyMySQL. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote


def database_url(database: Mapping[str, Any]) -> str:
    """Return the URL of a database.

    Args:
        database: ``user``, ``password``, ``name``, ``host`` and ``port``; ``socket`` if it is reached through one; and
            ``tls``, whether the connection is encrypted. The certificate is not verified: it is the server's own.
    """
    user, password = (quote(str(database[part]), safe="") for part in ("user", "password"))
    login, name = f"mysql+pymysql://{user}:{password}@", quote(str(database["name"]), safe="$")
    if database.get("socket"):
        return f"{login}localhost/{name}?unix_socket={quote(str(database['socket']))}"
    # Any option of the kind turns TLS on; this one asks for no name, because there is no certificate to trust.
    options = "?ssl_check_hostname=false" if database.get("tls") else ""
    host = f"[{database['host']}]" if ":" in str(database["host"]) else database["host"]
    return f"{login}{host}:{database['port']}/{name}{options}"
