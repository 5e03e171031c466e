"""Replays binary logs into a scratch server.

Its applier reads them as that of a replica does, event by event. Nothing of them becomes text for a client on the way:
there a statement or a name of an application could end, and what follows would be a statement of root's.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from mysql_replication.binlog import MAGIC, Range, end_of_head
from mysql_replication.local import Cursor, Failure, connect_as_root, query

LOG = "replay.000001"
INDEX = "replay.index"
# What the applier says when it waits for more, in the words of all versions.
AT_THE_END = "has read all relay log"
WORKING = (
    "SELECT 1 FROM performance_schema.threads WHERE name LIKE 'thread/sql/%worker'"
    " AND processlist_state NOT LIKE 'Waiting for an event from %'"
)
IDLE_CHECKS = 50


def options(work: Path) -> list[str]:
    """What a server needs that replays what lies in this directory of its own."""
    return [
        f"--relay-log={work}/replay",
        "--skip-replica-start",
        "--replicate-same-server-id",
        "--replica-parallel-workers=1",
        "--gtid-mode=ON_PERMISSIVE",
        "--enforce-gtid-consistency=WARN",
    ]


def replay(socket: str, work: Path, ranges: Sequence[Range]) -> None:
    """File by file: a copy of one at a time needs room."""
    with connect_as_root(socket) as connection, connection.cursor() as cursor:
        # A copy of a replica knows a source, and relay logs.
        query(cursor, "RESET REPLICA ALL")
        for path, group in itertools.groupby(ranges, key=lambda one: one.path):
            parts = list(group)
            if parts[-1].end > end_of_head(path):
                apply(cursor, path, write(work, path, parts))


def write(work: Path, path: Path, ranges: Sequence[Range]) -> int:
    """Lay these parts of a binary log, with the head that it begins with, where the server has its relay logs.

    Returns: how many bytes that are.
    """
    log, index = work / LOG, work / INDEX
    begin = end_of_head(path)
    with path.open("rb") as source, log.open("wb") as target:
        for first, last in [(0, begin), *((max(one.begin, begin), one.end) for one in ranges)]:
            source.seek(first)
            copy(source, target, last - first)
    index.write_text(f"{log}\n")
    owner = work.stat()
    for file in (log, index):
        os.chown(file, owner.st_uid, owner.st_gid)
    return log.stat().st_size


def copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length > 0 and (block := source.read(min(length, 1 << 20))):
        target.write(block)
        length -= len(block)


def apply(cursor: Cursor, path: Path, size: int) -> None:
    place = f"RELAY_LOG_FILE = '{LOG}', RELAY_LOG_POS = {len(MAGIC)}"
    query(cursor, f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'none', {place}")
    query(cursor, "START REPLICA SQL_THREAD")
    idle = 0
    while idle < IDLE_CHECKS:
        state = query(cursor, "SHOW REPLICA STATUS")[0]
        if state["Replica_SQL_Running"] != "Yes":
            raise Failure(f"{path} cannot be replayed: {state['Last_SQL_Error']}")
        # It counts whole transactions, three times a second.
        if (state["Relay_Log_File"], state["Relay_Log_Pos"]) == (LOG, size):
            break
        is_idle = AT_THE_END in state["Replica_SQL_Running_State"] and not query(cursor, WORKING)
        idle = idle + 1 if is_idle else 0
        time.sleep(0.1)
    else:
        raise Failure(f"{path} ends within a transaction, which the server may be writing; run again")
    query(cursor, "STOP REPLICA")
    query(cursor, "RESET REPLICA ALL")
