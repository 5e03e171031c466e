"""Scheduled events run on the source and nowhere else.

The scheduler is off at the start of a member and on a replica. A replica marks what it gets as disabled on replicas,
whether it runs on the source or was disabled there: so a source notes which ones it has disabled, the others copy
that note, and whoever is promoted enables the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from mysql_replication.local import MySQLError, quote

if TYPE_CHECKING:
    from mysql_replication.server import Server


def to_alter(rows: Iterable[dict], idle: Collection[str]) -> list[tuple[str, tuple[str, str], bool]]:
    """Events that are marked as a replica's: name, definer, and whether it is to run.

    Args:
        rows: the events of a server.
        idle: names of those that the source had disabled.
    """
    return [
        (row["name"], tuple(row["definer"].rsplit("@", 1)), row["name"] not in idle)
        for row in rows
        if row["status"] not in ("ENABLED", "DISABLED")
    ]


def run_here(server: Server) -> None:
    """Of a source."""
    noted = server.view().idle_events
    rows = server.query(
        "SELECT CONCAT(event_schema, '.', event_name) AS name, event_schema AS place, event_name AS event,"
        " definer AS definer, status AS status FROM information_schema.events"
    )
    # A percent sign would be one of the statement's.
    places = {row["name"]: f"{quote(row['place'])}.{quote(row['event'])}".replace("%", "%%") for row in rows}
    wanted = to_alter(rows, noted)
    if wanted:
        names = ", ".join(name for name, _, runs in wanted if runs) or "none"
        server.report.change(f"{server.me}: events that run here now: {names}")
        with server.unlogged():
            for name, definer, runs in [] if server.check else wanted:
                # Without its definer it would become root's. One whose time has passed cannot be enabled.
                with contextlib.suppress(MySQLError):
                    alter = f"ALTER DEFINER = %s@%s EVENT {places[name]} {'ENABLE' if runs else 'DISABLE'}"
                    server.query(alter, *definer)
    idle = {row["name"] for row in rows if row["status"] == "DISABLED"} | {name for name, _, runs in wanted if not runs}
    if idle != noted:
        server.record(idle_events=idle)
    runs, wish = has_scheduler(server), server.members.runs_events
    if runs != wish:
        what = "events are run, as on a source" if wish else "events are not run, as mysql_replication_options says"
        server.change(what, f"SET GLOBAL event_scheduler = {'ON' if wish else 'OFF'}")


def end_here(server: Server) -> None:
    """Of a replica."""
    if has_scheduler(server):
        server.change("events are not run, as on a replica", "SET GLOBAL event_scheduler = OFF")


def has_scheduler(server: Server) -> bool:
    return server.query("SELECT @@global.event_scheduler = 'ON' AS active")[0]["active"] == 1
