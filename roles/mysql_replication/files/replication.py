#!/usr/bin/python3
"""Make this server the source or a replica of its group, and keep it that way. One execution does the whole of it.

    replication.py judge                may this server become a member? Asked before its options change
    replication.py converge [--check]   accounts, role, seeding, healing
    replication.py guard                the service that opens the source again after a restart
    replication.py switchover --to NAME [--check]       on all members at a time: they hand over by themselves
    replication.py fence [--check]                      stops a source that is dead or cut off
    replication.py failover [--fenced NAMES] [--accept-loss NAMES] [--check]        on all members that are left
    replication.py rejoin [--reseed NAME] [--check]     on all members

Never two writable servers: every member starts closed (super_read_only in its option file). Who opens one says so first
(a user lock that the others can see), then looks at all the others, and opens it only if none of them is open or about
to be. Whom nobody can ask may have been promoted, so without an answer nothing is opened.

The members see each other through the replication account, over TLS. Everything else goes through the local socket.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path(__file__).resolve().parent
SOCKET = "/run/mysqld/mysqld.sock"
STATE = Path("/var/lib/mysql_replication")
LOCK = Path("/run/mysql_replication.lock")
SYSTEM = ("information_schema", "mysql", "performance_schema", "sys")
INTENT = "mysql_replication_opening"
HANDOVER = "mysql_replication_handover"
CLOSED = "mysql_replication_closed"
# How long a closed source waits for its successor before it opens again.
LEASE = 10
# In which balancers ask more than once whether it is open.
SEEN = 1
# A source whose writes wait for a replica is closed when it has seen none for so long.
CUT_OFF = 10
ENDLESS = 86_400_000
LOCK_TIMEOUT = 1205
NO_SUCH_TABLE = 1146
CHECK_USER = "mysql_replication_check"
SERVICES = ("mysql_replication_guard.service", "mysql_replication_check.service")
# What the account may do: send its binary log, say how it is, be cloned from.
RIGHTS = {"REPLICATION SLAVE", "REPLICATION CLIENT", "SHOW DATABASES", "BACKUP_ADMIN"}


class Failure(Exception):
    """What is wrong, for the user."""


class Busy(Failure):
    """Somebody else is at work."""


class Undecided(Failure):
    """Nobody can tell yet; it is worth asking again."""


# --- sets of transactions ---------------------------------------------------------------------------------------------

Gtids = dict[str, list[tuple[int, int]]]


def parse_gtids(text: str) -> Gtids:
    """``uuid:1-5:7,uuid:tag:1`` as intervals by ``uuid`` or ``uuid:tag``."""
    found: Gtids = {}
    for part in "".join((text or "").split()).split(","):
        uuid, *pieces = part.lower().split(":")
        key = uuid
        for piece in pieces:
            if piece[0].isdigit():
                first, _, last = piece.partition("-")
                found.setdefault(key, []).append((int(first), int(last or first)))
            else:
                key = f"{uuid}:{piece}"
    return {key: merge(intervals) for key, intervals in found.items()}


def merge(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged


def union(one: Gtids, other: Gtids) -> Gtids:
    return {key: merge([*one.get(key, []), *other.get(key, [])]) for key in one.keys() | other.keys()}


def subtract(one: Gtids, other: Gtids) -> Gtids:
    """What is in one and not in the other."""
    rest: Gtids = {}
    for key, intervals in one.items():
        for first, last in intervals:
            for start, end in other.get(key, []):
                if end < first or start > last:
                    continue
                if start > first:
                    rest.setdefault(key, []).append((first, start - 1))
                first = end + 1
            if first <= last:
                rest.setdefault(key, []).append((first, last))
    return rest


def count(gtids: Gtids) -> int:
    return sum(last - first + 1 for intervals in gtids.values() for first, last in intervals)


def show_gtids(gtids: Gtids) -> str:
    def ranges(intervals: list[tuple[int, int]]) -> str:
        return ":".join(f"{first}-{last}" if last > first else str(first) for first, last in intervals)

    return ",".join(f"{key}:{ranges(intervals)}" for key, intervals in sorted(gtids.items()))


# --- what a member is, and who is the source --------------------------------------------------------------------------


@dataclass
class View:
    """A member as it says it is."""

    uuid: str
    read_only: bool
    executed: Gtids
    purged: Gtids = field(default_factory=dict)
    received: Gtids = field(default_factory=dict)
    # Address that it replicates from.
    source: str = ""
    opening: bool = False
    databases: int = 0
    # Number of the promotion that made it the source.
    epoch: int = 0
    running: bool = False
    error: str = ""
    errno: int = 0

    @property
    def open(self) -> bool:
        """A replica that somebody has made writable is still none that others follow."""
        return not self.read_only and not self.source

    @property
    def has(self) -> Gtids:
        return union(self.executed, self.received)


def choose_source(members: dict[str, str], views: dict[str, View | None]) -> str:
    """Name of the member that is the source or has to be it. The living topology decides; the list, the first time."""
    seen = {name: view for name, view in views.items() if view}
    opened = [name for name in members if name in seen and seen[name].open]
    newest = [name for name in opened if seen[name].epoch == max(seen[other].epoch for other in opened)]
    if len(newest) > 1:
        raise Failure(
            f"{' and '.join(newest)} are writable, each without replicating from the other, so nothing is changed. "
            f"Close the one that is not the source (SET GLOBAL super_read_only = ON), then run again"
        )
    if newest:
        return newest[0]
    silent = [name for name in members if name not in seen]
    if silent:
        raise Undecided(
            f"no member is writable, and {', '.join(silent)} cannot be asked, so nobody knows whether another one has "
            f"been promoted. Bring {', '.join(silent)} back, or run mysql_failover"
        )
    followed = {view.source for view in seen.values()}

    def counts(name: str) -> Gtids:
        """Transactions of an empty server, its first accounts for example, are nothing that others lack."""
        view = seen[name]
        return view.executed if view.databases or view.source or members[name] in followed else {}

    whole = [name for name in members if not any(subtract(counts(other), counts(name)) for other in members)]
    if not whole:
        raise Failure(
            "no member is writable, and each has transactions that another one lacks: "
            + "; ".join(f"{name} has {show_gtids(seen[name].executed)}" for name in members)
            + ". Choose the one to keep: mysql_failover with mysql_failover_accept_loss"
        )
    return min(whole, key=lambda name: (bool(seen[name].source), members[name] not in followed))


def foreign(view: View, source: View) -> Gtids:
    """What it has and the source lacks, without what the source may have written between the two views."""
    rest = subtract(view.executed, source.executed)
    return {key: intervals for key, intervals in rest.items() if not key.startswith(source.uuid)}


def plan_switchover(members: dict[str, str], views: dict[str, View | None], to: str) -> str:
    """Name of the member that hands over; everything that stands in the way is said before anything is done."""
    if to not in members:
        raise Failure(f"mysql_switchover_to: '{to}' is no member; there are {', '.join(members)}")
    silent = [name for name in members if not views.get(name)]
    if silent:
        raise Failure(f"{', '.join(silent)} cannot be asked. Without a dead source: mysql_failover")
    old = choose_source(members, views)
    if old != to:
        new, source = views[to], views[old]
        if new.error and not new.running:
            raise Failure(f"{to} does not replicate from {old}: {new.error}; apply the role first")
        if foreign(new, source):
            raise Failure(f"{to} has transactions that {old} does not have: {show_gtids(foreign(new, source))}")
    return old


def plan_failover(
    members: dict[str, str], views: dict[str, View | None], fenced: list[str], accepted: list[str], blocks: bool
) -> str:
    """Name of the member to promote, or of the one that is open already."""
    unknown = [name for name in accepted if name not in members]
    if unknown:
        raise Failure(
            f"mysql_failover_accept_loss: '{', '.join(unknown)}' is no member; there are {', '.join(members)}"
        )
    seen = {name: views[name] for name in members if views.get(name)}
    if any(view.open for view in seen.values()):
        return choose_source(members, views)
    silent = [name for name in members if name not in seen]
    if not silent:
        raise Failure(
            f"all members answer, so {choose_source(members, views)} is opened without a failover; wait for it"
        )
    sources = {view.source for view in seen.values() if view.source}
    problems = []
    for name in silent:
        if name in accepted:
            continue
        if members[name] not in sources:
            problems.append(f"{name} cannot be asked; it may have been promoted, or alone have what was acknowledged")
        elif not blocks:
            problems.append(
                f"{name} may have acknowledged writes that no replica has (mysql_replication_semi_sync_policy is "
                f"'degrade')" + ("" if name in fenced else ", and may still be writable")
            )
    # Of equal ones the one that needs no promotion.
    best = max(seen, key=lambda name: (count(seen[name].has), not seen[name].source))
    for name in seen:
        lost = subtract(seen[name].has, seen[best].has)
        if lost and name not in accepted:
            problems.append(f"{name} has transactions that {best} does not have: {show_gtids(lost)}")
    if problems:
        names = ",".join(name for name in members if any(text.startswith(f"{name} ") for text in problems))
        raise Failure(
            "data could be lost, so nothing is changed: " + "; ".join(problems) + ". If that is accepted, and what "
            f"cannot be asked is switched off, say so by name: -e mysql_failover_accept_loss={names}"
        )
    return best


# --- servers ----------------------------------------------------------------------------------------------------------


class Group:
    """The settings that the role has put beside this program, and connections by them."""

    def __init__(self, home: Path = HOME) -> None:
        settings = json.loads((home / "members.json").read_text())
        self.me: str = settings["me"]
        self.members: dict[str, str] = settings["members"]
        self.user: str = settings["user"]
        self.password: str = (home / "password").read_text().rstrip("\n")
        self.network: str = settings["network"]
        self.port: int = settings["port"]
        self.blocks: bool = settings["policy"] == "block"
        self.timeout: int = settings["timeout_ms"]
        self.versions: dict[str, str] = settings["versions"]

    @property
    def others(self) -> list[str]:
        return [name for name in self.members if name != self.me]

    def local(self, seconds: float | None = None):
        """Through the socket, as root."""
        import pymysql  # not at the top: the tests of the rest do without

        return pymysql.connect(
            unix_socket=SOCKET,
            user="root",
            autocommit=True,
            cursorclass=pymysql.cursors.DictCursor,
            read_timeout=seconds,
        )

    def remote(self, name: str):
        """Over TLS, with the account of replication."""
        import pymysql

        return pymysql.connect(
            host=self.members[name],
            port=self.port,
            user=self.user,
            password=self.password,
            ssl=encrypted(),
            autocommit=True,
            cursorclass=pymysql.cursors.DictCursor,
            connect_timeout=2,
            read_timeout=3,
            write_timeout=3,
        )

    def look(self, name: str) -> View | None:
        """None when it does not answer, whatever the reason."""
        import pymysql

        try:
            with self.remote(name) as connection, connection.cursor() as cursor:
                return view(cursor)
        except (pymysql.MySQLError, OSError):
            return None

    def look_at_others(self) -> dict[str, View | None]:
        return {name: self.look(name) for name in self.others}


@functools.cache
def encrypted() -> ssl.SSLContext:
    """The certificates are the servers' own, made at their first start: encrypted, not verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(cursor, query: str, *values: object) -> list[dict]:
    cursor.execute(query, values or None)
    return list(cursor.fetchall())


def view(cursor) -> View:
    row = ask(
        cursor,
        "SELECT @@server_uuid AS uuid, @@global.read_only AS read_only, @@global.gtid_executed AS executed,"
        " @@global.gtid_purged AS purged, IS_USED_LOCK(%s) IS NOT NULL AS opening,"
        " (SELECT MAX(CAST(attribute->>'$.mysql_replication_epoch' AS UNSIGNED))"
        " FROM information_schema.user_attributes) AS epoch,"
        " (SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name NOT IN %s) AS number",
        INTENT,
        SYSTEM,
    )[0]
    found = View(
        uuid=row["uuid"],
        read_only=bool(row["read_only"]),
        executed=parse_gtids(row["executed"]),
        purged=parse_gtids(row["purged"]),
        opening=bool(row["opening"]),
        databases=row["number"],
        epoch=row["epoch"] or 0,
    )
    for channel in ask(cursor, "SHOW REPLICA STATUS"):
        found.source = channel["Source_Host"]
        found.received = parse_gtids(channel["Retrieved_Gtid_Set"])
        threads = channel["Replica_IO_Running"], channel["Replica_SQL_Running"]
        found.running = threads == ("Yes", "Yes")
        found.error = channel["Last_IO_Error"] or channel["Last_SQL_Error"]
        found.errno = channel["Last_IO_Errno"] or channel["Last_SQL_Errno"]
    return found


def wait_until(question: Callable[[], object], seconds: float, problem: str, pause: float = 0.3) -> object:
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failure(problem)
        time.sleep(pause)


def main_pid(unit: str) -> str:
    command = ["systemctl", "show", "--property=MainPID", "--value", unit]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def say(text: str) -> None:
    """Whoever reads it may be gone: the work goes on."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def alone(seconds: float) -> Iterator[None]:
    """Two of these programs on one host would undo each other's work."""
    with LOCK.open("w") as lock:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Busy("another run changes the replication of this host; wait for its end") from None
                time.sleep(0.3)
        yield


# --- this server ------------------------------------------------------------------------------------------------------


class Server:
    """This host's server, and what can be done to it. In check mode it is only said."""

    def __init__(self, group: Group, check: bool = False) -> None:
        self.group, self.check = group, check
        self.connect()

    def connect(self) -> None:
        self.connection = self.group.local()
        self.cursor = self.connection.cursor()

    def ask(self, query: str, *values: object) -> list[dict]:
        return ask(self.cursor, query, *values)

    def view(self) -> View:
        return view(self.cursor)

    def act(self, text: str, *statements: str | tuple) -> None:
        say(f"CHANGED {text}")
        for statement in [] if self.check else statements:
            self.ask(*((statement,) if isinstance(statement, str) else statement))

    def close(self) -> None:
        if not self.is_closed():
            self.act("closed for writing", "SET GLOBAL super_read_only = ON")

    def stay_closed(self) -> None:
        """Of one that is no source, or no longer."""
        if self.is_closed():
            return
        if self.check:
            self.close()
        else:
            self.close_by_force()

    def close_by_force(self) -> None:
        """Writes that wait for a replica hold it up. Their clients get no answer, so nothing acknowledged is lost."""
        say("CHANGED closed for writing")
        closer = self.group.local()

        def close() -> None:
            # While it waits no other write begins.
            with closer, closer.cursor() as cursor:
                ask(cursor, "SET SESSION lock_wait_timeout = 60")
                ask(cursor, "SET GLOBAL super_read_only = ON")

        thread = threading.Thread(target=close, daemon=True)
        thread.start()
        thread.join(2)
        if thread.is_alive():
            self.kill_clients(closer.thread_id())
            # What waits ends now, and its client is gone. MySQL does not end the wait of a killed one by itself.
            self.ask("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
            thread.join(30)
        if not self.is_closed():
            raise Failure("it cannot be closed for writing")

    def number(self, epoch: int) -> None:
        """Note the promotion that counts. A replica knows that of its source, to have a higher one after it."""
        with self.unlogged():
            note = json.dumps({"mysql_replication_epoch": epoch})
            self.ask("ALTER USER %s@%s ATTRIBUTE %s", self.group.user, self.group.network, note)

    def kill_clients(self, own: int) -> None:
        self.kill(
            "command NOT LIKE 'Binlog Dump%%' AND command <> 'Daemon' AND user <> 'system user' AND id <> %s", own
        )
        time.sleep(0.5)

    def send_clients_away(self) -> None:
        """Pools would go on asking a closed server. Balancers send their connections away, but not those that a worker
        keeps which was replaced by a reload. Who has a statement under way gets its answer.
        """
        self.kill("command = 'Sleep' AND user NOT IN ('root', %s, %s)", self.group.user, CHECK_USER)

    def kill(self, condition: str, *values: object) -> None:
        """End the connections of this server that meet it, but for this one."""
        import pymysql

        query = "SELECT id AS id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND "
        for row in self.ask(query + condition, *values):
            with contextlib.suppress(pymysql.MySQLError):
                self.ask("KILL %s", row["id"])

    def is_closed(self) -> bool:
        """Already while SET waits, super_read_only looks as if it were on."""
        return bool(self.ask("SELECT @@global.super_read_only AND @@global.read_only AS closed")[0]["closed"])

    def open(self, absent: Iterable[str] = (), promoted: bool = False) -> bool:
        """Announce it, look at the others, do it. Two that try at a time see each other, and both leave it."""
        self.ask("SELECT GET_LOCK(%s, 10)", INTENT)
        try:
            own, views = self.view(), self.group.look_at_others()
            for name, seen in views.items():
                if seen is None and name not in absent:
                    return False
                if seen and (seen.open or seen.opening):
                    return False
                if seen and seen.databases and name not in absent and subtract(seen.executed, own.executed):
                    return False
            if promoted and not self.check:
                self.number(1 + max([own.epoch, *(seen.epoch for seen in views.values() if seen)]))
            # In this order: not one write is acknowledged by the source alone.
            self.act(
                "opened for writing",
                "SET GLOBAL rpl_semi_sync_source_enabled = ON",
                "SET GLOBAL read_only = OFF",
            )
            return True
        finally:
            self.ask("SELECT RELEASE_LOCK(%s)", INTENT)

    @contextmanager
    def unlogged(self) -> Iterator[None]:
        """For statements of this server alone. Only super_read_only stands in their way; read_only stays."""
        if self.check:
            yield
            return
        closed = self.ask("SELECT @@global.super_read_only AS closed")[0]["closed"]
        self.ask("SET SESSION sql_log_bin = 0")
        if closed:
            self.ask("SET GLOBAL super_read_only = OFF")
        try:
            yield
        finally:
            if closed:
                self.ask("SET GLOBAL super_read_only = ON")
            self.ask("SET SESSION sql_log_bin = 1")

    # --- accounts: each member has its own, so that none of them depends on another one for them

    def has_account(self) -> bool:
        return bool(self.ask("SELECT 1 FROM mysql.user WHERE user = %s", self.group.user))

    def knows_password(self) -> bool:
        import pymysql

        try:
            self.group.remote(self.group.me).close()
        except pymysql.MySQLError:
            return False
        return True

    def rights(self, user: str, host: str) -> set[str]:
        """Global rights, static and dynamic."""
        who = f"'{user}'@'{host}'"
        rows = self.ask("SELECT privilege_type FROM information_schema.user_privileges WHERE grantee = %s", who)
        return {str(next(iter(row.values()))) for row in rows} - {"USAGE"}

    def have_accounts(self) -> None:
        group = self.group
        me, rows = (group.user, group.network), {}
        for row in self.ask("SELECT user AS u, host AS h, plugin, ssl_type, account_locked FROM mysql.user"):
            rows[row["u"], row["h"]] = row["plugin"], row["ssl_type"], row["account_locked"]
        stale = sorted(host for user, host in rows if user == group.user and host != group.network)
        ready = rows.get(me) == ("caching_sha2_password", "ANY", "N") and self.knows_password()
        rights = rows.get(me) and self.rights(*me)
        check = CHECK_USER, "localhost"
        check_ready = rows.get(check, ("",))[0] == "auth_socket" and self.rights(*check) == {"REPLICATION CLIENT"}
        if not ready or rights != RIGHTS or stale:
            words = "IDENTIFIED WITH caching_sha2_password BY %s REQUIRE SSL ACCOUNT UNLOCK"
            with self.unlogged():
                self.act(
                    f"account {group.user}@{group.network}",
                    *[("DROP USER %s@%s", group.user, host) for host in stale],
                    (f"CREATE USER IF NOT EXISTS %s@%s {words}", *me, group.password),
                    (f"ALTER USER %s@%s {words}", *me, group.password),
                    ("REVOKE ALL PRIVILEGES, GRANT OPTION FROM %s@%s", *me),
                    (f"GRANT {', '.join(sorted(RIGHTS))} ON *.* TO %s@%s", *me),
                )
        if not check_ready:
            with self.unlogged():
                self.act(
                    f"account {CHECK_USER}@localhost",
                    ("DROP USER IF EXISTS %s@%s", *check),
                    ("CREATE USER %s@%s IDENTIFIED WITH auth_socket", *check),
                    ("GRANT REPLICATION CLIENT ON *.* TO %s@%s", *check),
                )

    # --- replication

    def channel(self) -> tuple | None:
        rows = self.ask(
            "SELECT Host, Port, User_name, User_password, Enabled_ssl, Enabled_auto_position, Connect_retry"
            " FROM mysql.slave_master_info WHERE Channel_name = ''"
        )
        return tuple(rows[0].values()) if rows else None

    def follow(self, source: str) -> None:
        """Replicate from that member. CHANGE REPLICATION SOURCE only when something differs."""
        group = self.group
        wanted = group.members[source], group.port, group.user, group.password, 1, 1, 1
        if self.channel() != wanted:
            self.act(
                f"replicates from {source}",
                "STOP REPLICA",
                (
                    "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, SOURCE_USER = %s,"
                    " SOURCE_PASSWORD = %s, SOURCE_SSL = %s, SOURCE_AUTO_POSITION = %s, SOURCE_CONNECT_RETRY = %s,"
                    " SOURCE_RETRY_COUNT = 4294967295",
                    *wanted,
                ),
                "START REPLICA",
            )

    def seed(self, source: str, reason: str) -> None:
        """Copy the whole source over what is here. MySQL restarts for it."""
        group = self.group
        self.act(f"cloned from {source}, because {reason}")
        if self.check:
            return
        import pymysql

        before = main_pid("mysql.service")
        if self.view().source:
            self.ask("STOP REPLICA")
        self.ask("SET GLOBAL clone_valid_donor_list = %s", f"{group.members[source]}:{group.port}")
        # It drops what is here, and super_read_only forbids that; read_only goes on keeping clients away.
        self.ask("SET GLOBAL super_read_only = OFF")
        clone = "CLONE INSTANCE FROM %s@%s:%s IDENTIFIED BY %s REQUIRE SSL"
        while True:
            try:
                self.ask(clone, group.user, group.members[source], group.port, group.password)
            except pymysql.MySQLError as problem:
                # A donor serves one at a time.
                if "concurrent clone" in str(problem):
                    time.sleep(1)
                    continue
                # It goes down by itself: the connection is lost, or it says that nobody restarts it.
                if problem.args[0] not in (2006, 2013, 3707):
                    self.ask("SET GLOBAL super_read_only = ON")
                    raise Failure(f"{group.me} cannot be cloned from {source}: {problem.args[1]}") from None
            break
        wait_until(
            lambda: main_pid("mysql.service") != before and self.is_back(),
            600,
            "MySQL has not come back after it was cloned; see /var/log/mysql/error.log",
        )
        done = self.ask("SELECT state AS state, error_message AS message FROM performance_schema.clone_status")
        if not done or done[0]["state"] != "Completed":
            raise Failure(f"{group.me} was not cloned from {source}: {done[0]['message'] if done else 'unknown'}")

    def is_back(self) -> bool:
        import pymysql

        if main_pid("mysql.service") == "0":
            subprocess.run(["systemctl", "start", "mysql"], check=False)
        try:
            self.connect()
        except pymysql.MySQLError:
            return False
        return True

    def become_replica(self, source: str, reseed: bool = False) -> None:
        """Closed before anything else. What is here and not at the source is never overwritten."""
        group = self.group
        self.stay_closed()
        # In this order: the source may go on between the two.
        own = self.view()
        theirs = group.look(source)
        if theirs is None:
            raise Failure(f"{source} does not answer any more; run again")
        errant = subtract(own.executed, theirs.executed)
        if not own.databases and not own.source:
            self.seed(source, "it was empty")
        elif reseed:
            self.seed(source, "that was wanted")
        elif errant or not own.executed:
            what = f"transactions {show_gtids(errant)}" if errant else "data without a history"
            raise Failure(
                f"{group.me} holds {what}, which the source {source} does not have; nothing was changed. "
                f"Look at them (mysqlbinlog); to give them up: mysql_rejoin -e mysql_rejoin_reseed={group.me}"
            )
        elif subtract(theirs.purged, own.executed):
            self.seed(source, "the source no longer keeps what it lacks")
        self.have_accounts()
        if self.view().epoch != theirs.epoch:
            say(f"CHANGED knows promotion {theirs.epoch}")
            if not self.check:
                self.number(theirs.epoch)
        self.follow(source)
        self.end_semi_sync()
        self.heal()

    def end_semi_sync(self) -> None:
        """What a replica applies would wait for a replica of its own.

        MySQL needs up to a second for it, in which nobody can connect or look at a variable. So this comes when the
        source has a replica to wait for (the receipt is what is acknowledged) and balancers know that it is none.
        """
        if self.ask("SELECT @@global.rpl_semi_sync_source_enabled AS active")[0]["active"]:
            time.sleep(0 if self.check else SEEN)
            self.act("semi-sync off, as on a replica", "SET GLOBAL rpl_semi_sync_source_enabled = OFF")

    def heal(self) -> None:
        """Started where it is stopped; with fresh relay logs where that is not enough."""
        state = self.view()
        if self.check and not state.running:
            return
        if not state.running:
            if not self.is_starting():
                self.act("replication started", "START REPLICA")
            try:
                self.wait_for_threads()
            except Failure:
                # With GTIDs whatever was received and not applied is asked for again.
                self.act("relay logs fetched anew", "STOP REPLICA", "RESET REPLICA", "START REPLICA")
                self.wait_for_threads()

    def is_starting(self) -> bool:
        row = self.ask("SHOW REPLICA STATUS")[0]
        return row["Replica_SQL_Running"] == "Yes" and row["Replica_IO_Running"] == "Connecting"

    def wait_for_threads(self) -> None:
        end, seen = time.monotonic() + 30, self.view()
        while not seen.running:
            stopped = not self.is_starting()
            if time.monotonic() > end or (seen.error and stopped):
                raise Failure(
                    f"{self.group.me} does not replicate: {seen.error or 'no connection to its source'}. To copy the "
                    f"whole source over it: mysql_rejoin -e mysql_rejoin_reseed={self.group.me}"
                )
            time.sleep(0.2)
            seen = self.view()

    def become_source(self, absent: Iterable[str]) -> None:
        if self.view().open:
            if not self.ask("SELECT @@global.rpl_semi_sync_source_enabled AS active")[0]["active"]:
                self.act("semi-sync on", "SET GLOBAL rpl_semi_sync_source_enabled = ON")
            return
        if not self.check and self.view().source:
            self.act("replicates no more", "STOP REPLICA", "RESET REPLICA ALL")
        if not self.open(absent):
            raise Undecided("another member is about to be opened")

    def have_semi_sync(self) -> None:
        """A failover that leaves nobody to wait for makes the waiting short, until there is somebody."""
        running = self.ask("SELECT @@global.rpl_semi_sync_source_timeout AS ms")[0]["ms"]
        if running != self.group.timeout and (not self.group.blocks or self.semi_sync_replicas()):
            self.act("semi-sync as configured", ("SET GLOBAL rpl_semi_sync_source_timeout = %s", self.group.timeout))

    def waits_for_ever(self) -> bool:
        return self.ask("SELECT @@global.rpl_semi_sync_source_timeout AS ms")[0]["ms"] >= ENDLESS

    def wait_for(self, executed: Gtids, seconds: int) -> bool:
        query = "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s) AS late"
        return self.ask(query, show_gtids(executed), seconds)[0]["late"] == 0

    def stop_replicating(self) -> None:
        self.ask("STOP REPLICA")
        self.ask("RESET REPLICA ALL")

    def semi_sync_replicas(self) -> int:
        row = self.ask("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_clients'")
        return int(row[0]["Value"]) if row else 0


# --- commands ---------------------------------------------------------------------------------------------------------


def joined() -> bool:
    return (STATE / "joined").exists()


def judge(group: Group) -> None:
    """Nothing of this host has changed yet."""
    outside = [
        f"{name} ({address})"
        for name, address in group.members.items()
        if ipaddress.ip_address(address) not in ipaddress.ip_network(group.network, strict=False)
    ]
    if outside:
        raise Failure(f"mysql_replication_network: {group.network} does not contain {', '.join(outside)}")
    import pymysql

    try:
        server = Server(group)
    except pymysql.MySQLError:
        return  # There is none yet, or root has to be let in: the role says that later.
    own = first_view(server)
    if own.databases and not (joined() or own.source or server.has_account() or group.me == next(iter(group.members))):
        names = [str(next(iter(row.values()))) for row in server.ask("SHOW DATABASES")]
        raise Failure(
            f"{group.me} holds data of its own and was never a replica (databases: "
            f"{', '.join(name for name in names if name not in SYSTEM)}); a replica becomes a copy of its source. "
            f"Save and drop them, or list {group.me} first in mysql_replication_members"
        )


def first_view(server: Server) -> View:
    """At its very first start MySQL answers before its own tables are all there."""
    import pymysql

    end = time.monotonic() + 30
    while True:
        try:
            return server.view()
        except pymysql.MySQLError as problem:
            if problem.args[0] != NO_SUCH_TABLE or time.monotonic() > end:
                raise
        time.sleep(0.5)


def find_source(server: Server, new: bool, seconds: float) -> str:
    """Ask until it is clear: the others may be on their way."""
    group = server.group
    first = group.me == next(iter(group.members))
    end = time.monotonic() + seconds
    while True:
        views = {**group.look_at_others(), group.me: server.view()}
        own = views[group.me]
        try:
            # The first server of a group that is about to be: without the others it is what it was before.
            if new and first and own.databases and not own.source and not any(v and v.open for v in views.values()):
                return group.me
            return choose_source(group.members, views)
        except Undecided as problem:
            if server.check or time.monotonic() > end:
                raise Failure(str(problem)) from None
            time.sleep(0.5)


def converge(group: Group, check: bool, reseed: bool = False) -> None:
    with alone(120):
        converge_locked(Server(group, check), check, reseed)


def converge_locked(server: Server, check: bool, reseed: bool) -> None:
    group = server.group
    new = not joined()
    own = server.view()
    first = group.me == next(iter(group.members))
    # A new member is no source, whatever it was before; the first one may be.
    if own.source or (new and not own.databases and not first):
        server.stay_closed()
    # Others can only ask a server that has the account. One with data of its own gets it when it is accepted.
    if own.open or server.has_account() or not own.databases or first:
        server.have_accounts()
    end = time.monotonic() + 60
    while True:
        source = find_source(server, new, 60)
        try:
            if source == group.me:
                # Who starts a group with its data does not need those who are still to come.
                server.become_source(group.others if new and own.databases else [])
            else:
                become_replica_of_open(server, source, end, reseed)
            break
        except Undecided as problem:
            if check or time.monotonic() > end:
                raise Failure(str(problem)) from None
            time.sleep(0.5)
    if new and not check:
        STATE.mkdir(mode=0o700, exist_ok=True)
        (STATE / "joined").touch()
    have_services(server)
    if source == group.me and server.waits_for_ever() and not check:
        wait_for_replica(server)
    if source == group.me:
        server.have_semi_sync()
    say(f"ROLE {'source' if source == group.me else f'replica of {source}'}")


def become_replica_of_open(server: Server, source: str, end: float, reseed: bool) -> None:
    """The source may not be open yet; a replica of a closed one is a replica all the same."""
    seen = server.group.look(source)
    if not server.check and not (seen and seen.open) and time.monotonic() < end:
        raise Undecided(f"{source} has to be the source and is not opened")
    server.become_replica(source, reseed)


def wait_for_replica(server: Server) -> None:
    """Without one every write would wait, those of the role too. A clone may take hours, and is seen here."""
    end = time.monotonic() + 60
    while not server.semi_sync_replicas():
        cloning = server.ask("SELECT 1 FROM information_schema.processlist WHERE command LIKE '%%lone%%'")
        if cloning:
            end = time.monotonic() + 60
        if time.monotonic() > end:
            raise Failure(
                f"{server.group.me} is the source, and no replica acknowledges what it writes. With "
                f"mysql_replication_semi_sync_policy 'block' every write waits for one: mend a replica "
                f"(its own error says what is wrong), or choose 'degrade'"
            )
        time.sleep(0.3)


def have_services(server: Server) -> None:
    """The guard and the check run, with what the role has put there."""
    if subprocess.run(["id", CHECK_USER], check=False, capture_output=True).returncode != 0:
        server.act(f"user {CHECK_USER}")
        if not server.check:
            shell = ["--system", "--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin"]
            subprocess.run(["useradd", *shell, CHECK_USER], check=True)
    for name in SERVICES:
        shown = subprocess.run(
            ["systemctl", "show", "--property=UnitFileState,ActiveState,MainPID,NeedDaemonReload", name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        state = dict(line.split("=", 1) for line in shown.splitlines())
        path = Path(f"/proc/{state['MainPID']}/environ")
        known = f"VERSION={server.group.versions[name]}".encode()
        fresh = path.exists() and known in path.read_bytes().split(b"\0")
        if state["UnitFileState"] == "enabled" and state["ActiveState"] == "active" and fresh:
            continue
        server.act(f"service {name}")
        if not server.check:
            if state["UnitFileState"].startswith("masked"):
                subprocess.run(["systemctl", "unmask", "--quiet", name], check=True)
            subprocess.run(["systemctl", "daemon-reload"], check=True)
            subprocess.run(["systemctl", "enable", "--quiet", str(HOME / name)], check=True)
            subprocess.run(["systemctl", "restart", name], check=True)


def guard() -> None:
    """What cannot wait for the role: open the source again after a restart, close one that is cut off or replaced."""
    import pymysql

    alone_since: float | None = None
    while True:
        try:
            with alone(0):
                alone_since = watch(Server(Group()), alone_since)
        except Busy:
            pass
        except (Failure, pymysql.MySQLError, OSError) as problem:
            say(str(problem))
            time.sleep(3)
        time.sleep(1)


def watch(server: Server, alone_since: float | None) -> float | None:
    """One look. Returns since when this source has seen nobody."""
    with server.connection:
        own = server.view()
        if own.source:
            # Who made it a replica may have been interrupted.
            server.end_semi_sync()
        if own.source or not joined():
            return None
        if not own.open:
            if find_source(server, False, 0) == server.group.me:
                server.open()
            return None
        server.have_semi_sync()
        views = server.group.look_at_others()
        if any(seen and seen.open and seen.epoch > own.epoch for seen in views.values()):
            say("another member has been promoted")
            server.close_by_force()
        elif any(views.values()) or not server.waits_for_ever():
            return None
        elif alone_since is not None and time.monotonic() - alone_since > CUT_OFF:
            say(f"no other member has been seen for {CUT_OFF} s, so every write waits, and another may be promoted")
            server.close_by_force()
        else:
            return alone_since or time.monotonic()
    return None


def all_views(server: Server) -> dict[str, View | None]:
    return {**server.group.look_at_others(), server.group.me: server.view()}


def switchover(group: Group, to: str, check: bool) -> None:
    with alone(30):
        server = Server(group, check)
        views = all_views(server)
        old = plan_switchover(group.members, views, to)
        if old == to:
            say(f"PLAN {to} is the source already; the others replicate from it")
            return None if check else converge_locked(server, False, False)
        others = [name for name in group.members if name not in (old, to)]
        say(f"PLAN {old} is the source, {to} takes over")
        if views[to].source != group.members[old] or not views[to].running:
            # An interrupted switchover leaves it so.
            say(f"PLAN {to} replicates from {old} again")
        say(f"PLAN {to} catches up; {old} is closed for writing; {to} gets the rest and is opened")
        say(f"PLAN {', '.join([old, *others])} replicate from {to}; if {to} is not open in {LEASE} s, {old} is again")
        if check:
            return None
        if group.me == to:
            server.become_replica(old)
            return take_over(server, old)
        if group.me == old:
            return hand_over(server, to)
        turn_to(server, to, 120)
    return None


def take_over(server: Server, old: str) -> None:
    group, me = server.group, server.group.me
    seen = group.look(old)
    if not seen or not server.wait_for(seen.executed, 60):
        raise Failure(f"{me} has not caught up with {old} within 60 s; nothing was changed")
    with group.remote(old) as line, line.cursor() as cursor:
        # That the old source sees: now it may be closed.
        if ask(cursor, "SELECT GET_LOCK(%s, 2) AS got", HANDOVER)[0]["got"] != 1:
            raise Failure(f"another switchover is under way on {old}")
        # Not super_read_only, which looks as if it were on already while the last writes end.
        closed = "SELECT IS_USED_LOCK(%s) IS NOT NULL AS closed"
        problem = f"{old} has not been closed within 30 s; nothing was changed"
        wait_until(lambda: ask(cursor, closed, CLOSED)[0]["closed"], 30, problem, pause=0.01)
        begin = time.monotonic()
        rest = parse_gtids(ask(cursor, "SELECT @@global.gtid_executed AS executed")[0]["executed"])
        if not server.wait_for(rest, LEASE - 3):
            raise Failure(f"{me} did not have everything within {LEASE - 3} s, so {old} is opened again")
        server.stop_replicating()
        while not server.open(promoted=True):
            if time.monotonic() - begin > LEASE - 2:
                server.follow(old)
                raise Failure(f"{me} could not be opened, so {old} is opened again")
            time.sleep(0.05)
        seconds = time.monotonic() - begin
    say(f"DONE {me} is the source, {seconds * 1000:.0f} ms after {old} was closed")


def hand_over(server: Server, to: str) -> None:
    import pymysql

    me = server.group.me
    ready = "SELECT IS_USED_LOCK(%s) IS NOT NULL AS ready"
    problem = f"{to} was not ready within 80 s; nothing was changed"
    wait_until(lambda: server.ask(ready, HANDOVER)[0]["ready"], 80, problem, pause=0.02)
    server.ask("SET SESSION lock_wait_timeout = 5")
    try:
        server.close()
    except pymysql.MySQLError as error:
        if error.args[0] != LOCK_TIMEOUT:
            raise
        server.ask("SET GLOBAL read_only = OFF")
        raise Failure(f"a statement on {me} did not end within 5 s, so it is still the source") from None
    server.ask("SET SESSION lock_wait_timeout = 120")
    server.ask("SELECT GET_LOCK(%s, 2)", CLOSED)
    end = time.monotonic() + LEASE
    while True:
        # Whoever had a statement under way the last time, too.
        server.send_clients_away()
        seen = server.group.look(to)
        if seen and seen.open:
            server.become_replica(to)
            return say(f"DONE {me} replicates from {to}")
        if time.monotonic() > end + 30:
            raise Failure(f"{to} cannot be asked whether it is open, so {me} stays closed; run this again")
        if time.monotonic() > end:
            server.ask("SELECT RELEASE_LOCK(%s)", CLOSED)
        if time.monotonic() > end and server.open():
            raise Failure(f"{to} was not opened within {LEASE} s, so {me} is the source again")
        time.sleep(0.02)


def turn_to(server: Server, source: str, seconds: float) -> None:
    def is_open() -> bool:
        seen = server.group.look(source)
        return bool(seen and seen.open)

    wait_until(is_open, seconds, f"{source} was not opened, so {server.group.me} is as it was", pause=0.1)
    server.become_replica(source)
    say(f"DONE {server.group.me} replicates from {source}")


def local_view(group: Group) -> View | None:
    """None when MySQL on this host does not answer."""
    import pymysql

    try:
        with group.local(5) as connection, connection.cursor() as cursor:
            return view(cursor)
    except (pymysql.MySQLError, OSError):
        return None


def fence(group: Group, check: bool) -> None:
    """A source that is dead, hangs or sees nobody writes no more. One that sees others is left alone."""
    own = local_view(group)
    if own and (own.source or any(group.look_at_others().values())):
        return
    state = "does not answer" if not own else "sees no other member" + ("" if own.open else " and is closed")
    say(f"FENCED {group.me}: MySQL {state}")
    if check:
        return
    if own:
        with alone(30):
            Server(group).close_by_force()
        return
    subprocess.run(["systemctl", "stop", "--no-block", "mysql"], check=False)
    end = time.monotonic() + 10
    while main_pid("mysql.service") != "0" and time.monotonic() < end:
        time.sleep(0.2)
    subprocess.run(["systemctl", "kill", "--signal=KILL", "mysql"], check=False, capture_output=True)
    subprocess.run(["systemctl", "stop", "mysql"], check=False, capture_output=True)


def failover(group: Group, fenced: list[str], accept_loss: list[str], check: bool) -> None:
    with alone(30):
        if not local_view(group):
            return say(f"PLAN {group.me}: MySQL does not answer here")
        server = Server(group, check)
        views = all_views(server)
        new = plan_failover(group.members, views, fenced, accept_loss, group.blocks)
        silent = [name for name in group.members if not views[name]]
        if views[new].open:
            say(f"PLAN {new} is open, so nothing is promoted; to replace it: mysql_switchover")
            follows = views[group.me].source == group.members[new]
            return None if check or new == group.me or follows else turn_to(server, new, 10)
        say(
            f"PLAN {new} has everything that the others have, and is promoted; without: {', '.join(silent) or 'nobody'}"
        )
        unsure = [name for name in silent if name not in fenced and name not in accept_loss]
        if unsure:
            say(f"PLAN {', '.join(unsure)} cannot be fenced: {CUT_OFF + 5} s pass first, in which it closes by itself")
        if check:
            return None
        if new != group.me:
            return turn_to(server, new, 700)
        end = time.monotonic() + (CUT_OFF + 5 if unsure else 0)
        while time.monotonic() < end:
            if any(group.look(name) for name in unsure):
                raise Failure(f"{', '.join(unsure)} answers again; nothing was changed")
            time.sleep(1)
        if server.view().source:
            if not server.wait_for(server.view().has, 600):
                raise Failure(f"{new} has not applied what it has received within 600 s")
            server.stop_replicating()
        if all(name == new or not views[name] for name in group.members) and group.blocks:
            server.act(
                "semi-sync waits 1 s only, until a replica is back", "SET GLOBAL rpl_semi_sync_source_timeout = 1000"
            )
        if not server.open(absent=silent, promoted=True):
            raise Failure(f"{new} could not be opened: another member is open, or has more; run this again")
        return say(f"DONE {new} is the source")


def rejoin(group: Group, reseed: str, check: bool) -> None:
    """As the role does it, with MySQL started first and with the permission to give up what only this server has."""
    if reseed and reseed not in group.members:
        raise Failure(f"mysql_rejoin_reseed: '{reseed}' is no member; there are {', '.join(group.members)}")
    if not local_view(group):
        say("CHANGED MySQL is started")
        if check:
            return
        for words in ("unmask", "unmask --runtime", "enable", "start"):
            subprocess.run(["systemctl", *words.split(), "--quiet", "mysql"], check=True)
    converge(group, check, reseed == group.me)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)

    def command(name: str, function: Callable, *options: str) -> None:
        """Options that begin with a plus are lists of names, separated by commas."""
        one = commands.add_parser(name)
        one.set_defaults(function=function)
        if name not in ("judge", "guard"):
            one.add_argument("--check", action="store_true", help="say what would change")
        for option in options:
            kind = (lambda text: [word for word in text.split(",") if word]) if option[0] == "+" else str
            one.add_argument(f"--{option.lstrip('+')}", type=kind, default="")

    command("judge", judge)
    command("guard", lambda _: guard())
    command("converge", converge)
    command("switchover", switchover, "to")
    command("fence", fence)
    command("failover", failover, "+fenced", "+accept-loss")
    command("rejoin", rejoin, "reseed")
    arguments = vars(parser.parse_args())
    function = arguments.pop("function")
    try:
        function(Group(), **arguments)
    except (Failure, OSError, subprocess.CalledProcessError) as failure:
        sys.exit(f"{failure}")
    except Exception as failure:
        # PyMySQL may be missing, so its errors cannot be named above.
        if not type(failure).__module__.startswith("pymysql"):
            raise
        sys.exit(f"MySQL on this host says: {failure}")


if __name__ == "__main__":
    main()
