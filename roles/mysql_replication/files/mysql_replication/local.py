"""What every program of this role needs of its host: errors, MySQL, one lock, the journal, a report in JSON."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import syslog
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor, DictCursor

SOCKET = "/run/mysqld/mysqld.sock"
SYSTEM_SCHEMAS = ("information_schema", "mysql", "performance_schema", "sys")
CHECK_USER = "mysql_replication_check"
# In a directory of root's: in /run itself any user could open the file and hold the lock.
LOCK = Path("/run/mysql_replication/lock")
# How long a connection with this waits for the locks of others; without it, a year.
LOCK_S = 60
PATIENCE = f"SET SESSION lock_wait_timeout = {LOCK_S}"
MySQLError = pymysql.MySQLError


class Failure(Exception):
    """What is wrong and what is right, for the user."""


class Loss(Failure):
    """Data could be lost.

    Attributes:
        names: members whose loss has to be accepted, with commas between them.
    """

    def __init__(self, text: str, names: str) -> None:
        super().__init__(text)
        self.names = names


class Busy(Failure):
    """Another program holds the lock."""


class Undecided(Failure):
    """Not known yet; asking again may help."""


# --- MySQL ------------------------------------------------------------------------------------------------------------


def connect(*, tuples: bool = False, **where: object) -> Connection:
    """A connection whose rows are dictionaries, or tuples."""
    return pymysql.connect(autocommit=True, cursorclass=Cursor if tuples else DictCursor, **where)


def connect_as_root(socket: str = SOCKET, **options: object) -> Connection:
    return connect(unix_socket=socket, user="root", **options)


def query(cursor: Cursor, statement: str, *values: object) -> list:
    """The rows of a statement."""
    cursor.execute(statement, values or None)
    return list(cursor.fetchall())


def quote(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


# --- one program at a time --------------------------------------------------------------------------------------------


@contextmanager
def host_lock(
    seconds: float,
    path: Path = LOCK,
    problem: str = "another run changes the replication of this host; wait for its end",
) -> Iterator[None]:
    """Hold the lock of this host; Busy if another program has it for all these seconds. It dies with its process."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a") as lock:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Busy(problem) from None
                time.sleep(0.3)
        yield


# --- what is said -----------------------------------------------------------------------------------------------------


def log(text: str, priority: int = syslog.LOG_NOTICE) -> None:
    """A line in the journal: journalctl --identifier=mysql_replication."""
    syslog.openlog("mysql_replication", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(priority, " ".join(text.split()))


class Report:
    """What a program says at its end, as one JSON object. What it does stands in the journal at once.

    Attributes:
        check: nothing may be changed; what would be is planned.
        changed: whether something was changed, or would be.
        plan: what is going to be done.
        done: what was done.
        facts: what else the role asks for.
    """

    def __init__(self, check: bool = False) -> None:
        self.check = check
        self.changed = False
        self.plan: list[str] = []
        self.done: list[str] = []
        self.facts: dict[str, object] = {}

    def announce(self, text: str) -> None:
        """A part of the plan."""
        self.plan.append(text)

    def change(self, text: str) -> None:
        """A change, before it is made: what was begun can be seen even if it does not end."""
        self.changed = True
        if self.check:
            self.plan.append(text)
        else:
            self.note(text)

    def note(self, text: str) -> None:
        """What was found, decided or reached."""
        self.done.append(text)
        if not self.check:
            log(text)

    @property
    def is_empty(self) -> bool:
        return not (self.plan or self.done)

    def write(self) -> None:
        """Print it. That the reader is gone, as after a lost SSH connection, is no error."""
        document = {"changed": self.changed, "plan": self.plan, "done": self.done, **self.facts}
        try:
            print(json.dumps(document), flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
