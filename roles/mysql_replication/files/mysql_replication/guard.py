"""The service that makes the source writable again after a restart, and read-only when it is cut off or replaced."""

from __future__ import annotations

import time

from mysql_replication.local import Busy, Failure, MySQLError, Report, log
from mysql_replication.mode import configured


def run() -> None:
    """Look once a second, for ever. A problem that lasts stands in the journal once."""
    since: float | None = None
    said = ""
    while True:
        try:
            since = configured().watch(Report(), since)
            said = ""
        except Busy:
            pass
        except (Failure, MySQLError, OSError) as problem:
            if str(problem) != said:
                said = str(problem)
                log(said)
            time.sleep(3)
        time.sleep(1)
