"""Accounts that nobody needs any more, as those by which an application of an earlier stage came through the socket."""

from __future__ import annotations

from mysql_replication.local import Failure, Report, connect_as_root, query

# Without them MySQL, or Debian's care for it, does not work; the rules of the role have the same.
SYSTEM_USERS = ("", "root", "debian-sys-maint", "mysql.infoschema", "mysql.session", "mysql.sys")


def remove_accounts(report: Report, accounts: list[str]) -> None:
    """Remove accounts that are there, on the server that takes writes; the others get that from it.

    Args:
        report: what is done.
        accounts: each as ``user@host``.

    Raises:
        Failure: one is the server's own, or somebody is connected by it. None has been removed then.
    """
    for account in accounts:
        if account.rpartition("@")[0] in SYSTEM_USERS:
            raise Failure(f"{account} is an account of the server's own; no account has been removed")
    with connect_as_root() as connection, connection.cursor() as cursor:
        [server] = query(cursor, "SELECT @@global.super_read_only AS closed")
        if server["closed"]:
            return
        found = [account for account in accounts if _is_there(cursor, account)]
        for account in found:
            if number := _sessions(cursor, account):
                sessions = "1 session" if number == 1 else f"{number} sessions"
                raise Failure(f"{account} is in use by {sessions}; no account has been removed; end them and run again")
        for account in found:
            report.change(f"removed the account {account}")
            if not report.check:
                cursor.execute("DROP USER %s@%s", tuple(account.rsplit("@", 1)))


def _is_there(cursor, account: str) -> bool:
    return bool(query(cursor, "SELECT 1 FROM mysql.user WHERE user = %s AND host = %s", *account.rsplit("@", 1)))


def _sessions(cursor, account: str) -> int:
    [row] = query(
        cursor,
        "SELECT COUNT(*) AS number FROM performance_schema.processlist"
        " WHERE user = %s AND SUBSTRING_INDEX(host, ':', 1) = %s",
        *account.rsplit("@", 1),
    )
    return row["number"]
