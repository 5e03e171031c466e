"""The one server of the stage, and how two states of it are compared."""

from __future__ import annotations

SERVER = "foobar-server1"
UNITS = ("nginx", "mysql", "guestbook")


def rights(root) -> str:
    """Accounts of the database and what they may, without their passwords."""
    accounts = "SELECT user, host, plugin, ssl_type, account_locked FROM mysql.user ORDER BY user, host"
    databases = "SELECT grantee, table_schema, privilege_type FROM information_schema.schema_privileges"
    tables = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = 'guestbook'"
    return "\n".join("\n".join(sorted(root(SERVER, query).splitlines())) for query in (accounts, databases, tables))
