"""What this role does to the MySQL server of this host. In check mode it is only planned."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mysql_replication import events, gtids, relay
from mysql_replication.gtids import Gtids
from mysql_replication.local import CHECK_USER, Failure, MySQLError, Report, Undecided, connect_as_root, query
from mysql_replication.members import HOME, PROMOTING, Members, lock_name, read_view
from mysql_replication.plans import View

SERVICES = ("mysql_replication_guard.service", "mysql_replication_check.service")
# What the account of replication may do: send the binary log, say how the server is, be cloned from.
PRIVILEGES = {"REPLICATION SLAVE", "REPLICATION CLIENT", "SHOW DATABASES", "BACKUP_ADMIN"}
# Longer than the interval of the balancers' checks, so that they know by then.
BALANCER_CHECK_INTERVAL_S = 1
# How long systemd may take to answer a question.
SYSTEMD_S = 30
# Semi-sync with this timeout, 24 days, is taken for one without end.
ENDLESS_MS = 86_400_000
NO_SUCH_TABLE = 1146
# How long a first start may take to make them, on a host that is busy with others.
FIRST_START_S = 120
# How a connection ends when its server goes down to be started again by a clone.
GOES_DOWN = (2006, 2013, 3707)


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
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SYSTEMD_S).stdout.strip()


def local_view() -> View | None:
    """None when MySQL on this host does not answer."""
    try:
        with connect_as_root(read_timeout=5) as connection, connection.cursor() as cursor:
            return read_view(cursor)
    except (MySQLError, OSError):
        return None


def is_empty(own: View, theirs: View, source: str, clone_state: str) -> bool:
    """Whether a server has nothing to lose and is no copy of its source yet, whatever an earlier run has left of it.

    Args:
        own: what it says about itself.
        theirs: what its source says.
        source: address of that.
        clone_state: how the last CLONE into it has ended.
    """
    if own.databases:
        return False
    if not own.source or (theirs.databases and clone_state in ("In Progress", "Failed")):
        return True
    # One that replicates from an empty source is a copy of it.
    is_copy = own.source == source and (own.running or not (theirs.executed or theirs.databases))
    return not own.executed and not is_copy


class Server:
    """This host's server."""

    def __init__(self, members: Members, report: Report) -> None:
        self.members, self.report = members, report
        self.me, self.check = members.me, report.check
        self.connect()

    def connect(self) -> None:
        self.connection = connect_as_root()
        self.cursor = self.connection.cursor()

    def query(self, statement: str, *values: object) -> list[dict]:
        return query(self.cursor, statement, *values)

    def view(self) -> View:
        return read_view(self.cursor)

    def first_view(self) -> View:
        """At its very first start MySQL answers before its own tables are all there."""
        end = time.monotonic() + FIRST_START_S
        while True:
            try:
                return self.view()
            except MySQLError as problem:
                if problem.args[0] != NO_SUCH_TABLE or time.monotonic() > end:
                    raise
            time.sleep(0.5)

    def all_views(self) -> dict[str, View | None]:
        return {**self.members.views_of_others(), self.me: self.view()}

    def change(self, text: str, *statements: str | tuple) -> None:
        self.report.change(f"{self.me}: {text}")
        for statement in [] if self.check else statements:
            self.query(*((statement,) if isinstance(statement, str) else statement))

    # --- writable or not

    def is_read_only(self) -> bool:
        """Already while SET waits, super_read_only looks as if it were on."""
        return bool(self.query("SELECT @@global.super_read_only AND @@global.read_only AS closed")[0]["closed"])

    def make_read_only(self, reason: str) -> None:
        """Writes that are under way end first."""
        if not self.is_read_only():
            self.change(f"closed for writing: {reason}", "SET GLOBAL super_read_only = ON")

    def ensure_read_only(self, reason: str) -> None:
        """Of one that is no source, or no longer."""
        if self.is_read_only():
            return
        if self.check:
            self.make_read_only(reason)
        else:
            self.force_read_only(reason)

    def force_read_only(self, reason: str) -> None:
        """Writes that wait for a replica hold it up. Their clients get no answer, so nothing acknowledged is lost."""
        self.report.change(f"{self.me}: closed for writing: {reason}")
        closer = connect_as_root()

        def close() -> None:
            # While it waits no other write begins.
            with closer, closer.cursor() as cursor:
                query(cursor, "SET SESSION lock_wait_timeout = 60")
                query(cursor, "SET GLOBAL super_read_only = ON")

        thread = threading.Thread(target=close, daemon=True)
        thread.start()
        thread.join(2)
        if thread.is_alive():
            self.kill_clients(closer.thread_id())
            # What waits ends now, and its client is gone. MySQL does not end the wait of a killed one by itself.
            self.query("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
            thread.join(30)
        if not self.is_read_only():
            raise Failure("it cannot be closed for writing")

    def announce_promotion(self) -> None:
        """Others can see, until this program ends, that it is at work; none of them becomes writable meanwhile."""
        self.query("SELECT GET_LOCK(%s, 10)", lock_name(self.query, PROMOTING))

    def promote(self, reason: str, absent: Iterable[str] = ()) -> bool:
        """Make it the source with a new term, by which the one before knows that it was replaced."""
        alone = set(absent) >= set(self.members.others)
        return self.make_writable(reason, absent, alone, new_term=True)

    def make_writable(
        self, reason: str, absent: Iterable[str] = (), alone: bool | None = None, new_term: bool = False
    ) -> bool:
        """Announce it, look at the others, do it. Two that try at a time see each other, and both leave it.

        Args:
            reason: for the journal.
            absent: members that need not answer.
            alone: whether it acknowledges alone until a replica has everything; as before if not given.
            new_term: whether that is a promotion.
        """
        self.query("SELECT GET_LOCK(%s, 10)", lock_name(self.query, PROMOTING))
        opened = False
        try:
            own, views = self.view(), self.members.views_of_others()
            for name, seen in views.items():
                if seen is None and name not in absent:
                    return False
                if seen and (seen.is_source or seen.promoting):
                    return False
                if seen and seen.databases and name not in absent and gtids.subtract(seen.executed, own.executed):
                    return False
            alone = own.alone if alone is None else alone
            if new_term:
                self.record(term=1 + max([own.term, *(seen.term for seen in views.values() if seen)]), alone=alone)
            elif alone != own.alone:
                self.record(alone=alone)
            # In this order: not one write is acknowledged by the source alone, unless there is nobody to wait for.
            self.change(
                f"{'promoted' if new_term else 'opened for writing'}: {reason}",
                f"SET GLOBAL rpl_semi_sync_source_enabled = {'OFF' if alone else 'ON'}",
                "SET GLOBAL read_only = OFF",
            )
            opened = True
        finally:
            self.query("SELECT RELEASE_LOCK(%s)", lock_name(self.query, PROMOTING))
        # Writes need not wait for that.
        if opened:
            events.run_here(self)
        return opened

    def record(
        self,
        *,
        term: int | None = None,
        alone: bool | None = None,
        idle_events: Iterable[str] | None = None,
        lock: str | None = None,
    ) -> None:
        """Note it where all members see it of each other, and where it survives a restart.

        Args:
            term: the promotion that counts. A replica knows that of its source, to have a higher one after it.
            alone: as View.alone.
            idle_events: as View.idle_events.
            lock: with what the names of this server's user locks end.
        """
        notes: dict[str, object] = {} if term is None else {"mysql_replication_epoch": term}
        if alone is not None:
            # What is null is removed.
            notes["mysql_replication_alone"] = True if alone else None
        if idle_events is not None:
            notes["mysql_replication_idle_events"] = sorted(idle_events) or None
        if lock is not None:
            notes["mysql_replication_lock"] = lock
        if self.check:
            return
        with self.unlogged():
            note = json.dumps(notes)
            self.query("ALTER USER %s@%s ATTRIBUTE %s", self.members.user, self.members.network, note)

    @contextmanager
    def unlogged(self) -> Iterator[None]:
        """For statements of this server alone. Only super_read_only stands in their way; read_only stays."""
        if self.check:
            yield
            return
        closed = self.query("SELECT @@global.super_read_only AS closed")[0]["closed"]
        self.query("SET SESSION sql_log_bin = 0")
        if closed:
            self.query("SET GLOBAL super_read_only = OFF")
        try:
            yield
        finally:
            if closed:
                self.query("SET GLOBAL super_read_only = ON")
            self.query("SET SESSION sql_log_bin = 1")

    # --- clients

    def kill_clients(self, own: int) -> None:
        self.kill(
            "command NOT LIKE 'Binlog Dump%%' AND command <> 'Daemon' AND user <> 'system user' AND id <> %s", own
        )
        time.sleep(0.5)

    def kill_idle_clients(self) -> None:
        """Pools would go on using connections to a read-only server. Balancers end theirs, but not those of a worker
        that a reload has replaced. A statement that is under way gets its answer.
        """
        self.kill("command = 'Sleep' AND user NOT IN ('root', %s, %s)", self.members.user, CHECK_USER)

    def kill(self, condition: str, *values: object) -> None:
        """End the connections of this server that meet it, but for this one."""
        statement = "SELECT id AS id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND "
        for row in self.query(statement + condition, *values):
            with contextlib.suppress(MySQLError):
                self.query("KILL %s", row["id"])

    # --- accounts: each member has its own, so that none of them depends on another one for them

    def has_account(self) -> bool:
        return bool(self.query("SELECT 1 FROM mysql.user WHERE user = %s", self.members.user))

    def accepts_password(self) -> bool:
        try:
            self.members.connect(self.me).close()
        except MySQLError:
            return False
        return True

    def privileges(self, user: str, host: str) -> set[str]:
        """Global ones, static and dynamic."""
        who = f"'{user}'@'{host}'"
        rows = self.query("SELECT privilege_type FROM information_schema.user_privileges WHERE grantee = %s", who)
        return {str(next(iter(row.values()))) for row in rows} - {"USAGE"}

    def ensure_accounts(self) -> None:
        members = self.members
        me, rows = (members.user, members.network), {}
        for row in self.query("SELECT user AS u, host AS h, plugin, ssl_type, account_locked FROM mysql.user"):
            rows[row["u"], row["h"]] = row["plugin"], row["ssl_type"], row["account_locked"]
        stale = sorted(host for user, host in rows if user == members.user and host != members.network)
        ready = rows.get(me) == ("caching_sha2_password", "ANY", "N") and self.accepts_password()
        privileges = rows.get(me) and self.privileges(*me)
        if not ready or privileges != PRIVILEGES or stale:
            noted = self.view()
            words = "IDENTIFIED WITH caching_sha2_password BY %s REQUIRE SSL ACCOUNT UNLOCK"
            with self.unlogged():
                self.change(
                    f"account {members.user}@{members.network}",
                    *[("DROP USER %s@%s", members.user, host) for host in stale],
                    (f"CREATE USER IF NOT EXISTS %s@%s {words}", *me, members.password),
                    (f"ALTER USER %s@%s {words}", *me, members.password),
                    ("REVOKE ALL PRIVILEGES, GRANT OPTION FROM %s@%s", *me),
                    (f"GRANT {', '.join(sorted(PRIVILEGES))} ON *.* TO %s@%s", *me),
                )
            if noted.term or noted.alone or noted.idle_events:
                # It may have stood beside an account that is gone.
                self.record(term=noted.term, alone=noted.alone, idle_events=noted.idle_events)
        if lock_name(self.query, "") == "":
            self.record(lock=secrets.token_hex(8))
        check = CHECK_USER, "localhost"
        # Packages load it; a data directory that was made by hand does not.
        install = [] if self.has_plugin("auth_socket") else ["INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'"]
        if rows.get(check, ("",))[0] != "auth_socket" or self.privileges(*check) != {"REPLICATION CLIENT"}:
            with self.unlogged():
                self.change(
                    f"account {CHECK_USER}@localhost",
                    *install,
                    ("DROP USER IF EXISTS %s@%s", *check),
                    ("CREATE USER %s@%s IDENTIFIED WITH auth_socket", *check),
                    ("GRANT REPLICATION CLIENT ON *.* TO %s@%s", *check),
                )

    # --- a replica

    def channel_settings(self) -> tuple | None:
        rows = self.query(
            "SELECT Host, Port, User_name, User_password, Enabled_ssl, Enabled_auto_position, Connect_retry"
            " FROM mysql.slave_master_info WHERE Channel_name = ''"
        )
        return tuple(rows[0].values()) if rows else None

    def replicate_from(self, source: str) -> None:
        """CHANGE REPLICATION SOURCE only when something differs."""
        members = self.members
        wanted = members.addresses[source], members.port, members.user, members.password, 1, 1, 1
        if self.channel_settings() != wanted:
            self.change(
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

    def clone_from(self, source: str, reason: str) -> None:
        """Copy the whole source over what is here. MySQL restarts for it."""
        members = self.members
        self.change(f"is being cloned from {source}, because {reason}")
        if self.check:
            return
        before = main_pid("mysql.service")
        if self.view().source:
            self.query("STOP REPLICA")
        # It drops what is here, and super_read_only forbids that; read_only goes on keeping clients away.
        self.query("SET GLOBAL super_read_only = OFF")
        # MySQL writes the password of a slow CLONE into the slow query log.
        self.query("SET SESSION long_query_time = 31536000")
        with relay.ipv4_way(members.addresses[source], members.port) as way:
            self.query("SET GLOBAL clone_valid_donor_list = %s", "{}:{}".format(*way))
            self.clone_by(way, source)
        wait_until(
            lambda: main_pid("mysql.service") != before and self.is_back(),
            600,
            "MySQL has not come back after it was cloned; see /var/log/mysql/error.log",
        )
        done = self.query("SELECT state AS state, error_message AS message FROM performance_schema.clone_status")
        if not done or done[0]["state"] != "Completed":
            raise Failure(f"{self.me} was not cloned from {source}: {done[0]['message'] if done else 'unknown'}")
        self.report.note(f"{self.me}: is a copy of {source}")

    def clone_by(self, way: tuple[str, int], source: str) -> None:
        """Ask for the copy. MySQL goes down at its end, which ends the connection."""
        statement = "CLONE INSTANCE FROM %s@%s:%s IDENTIFIED BY %s REQUIRE SSL"
        while True:
            try:
                self.query(statement, self.members.user, *way, self.members.password)
            except MySQLError as problem:
                # A donor serves one at a time.
                if "concurrent clone" in str(problem):
                    time.sleep(1)
                    continue
                if problem.args[0] not in GOES_DOWN:
                    self.query("SET GLOBAL super_read_only = ON")
                    raise Failure(f"{self.me} cannot be cloned from {source}: {problem.args[1]}") from None
            return

    def has_plugin(self, name: str) -> bool:
        return bool(self.query("SELECT 1 FROM information_schema.plugins WHERE plugin_name = %s", name))

    def clone_state(self) -> str:
        """How the last CLONE into this server has ended: Completed, Failed, In Progress if it was broken off, or ""."""
        if not self.has_plugin("clone"):
            return ""
        rows = self.query(
            "SELECT state AS state FROM performance_schema.clone_status WHERE destination = 'LOCAL INSTANCE'"
        )
        return rows[0]["state"] if rows else ""

    def is_back(self) -> bool:
        if main_pid("mysql.service") == "0":
            # Who asks has an end of its own; a start has none.
            subprocess.run(["systemctl", "start", "--no-block", "mysql"], check=False, timeout=SYSTEMD_S)
        try:
            self.connect()
        except MySQLError:
            return False
        return True

    def become_replica(self, source: str, reseed: bool = False) -> None:
        """Read-only before anything else. What is here and not at the source is never overwritten."""
        members = self.members
        self.ensure_read_only(f"{source} is the source")
        # In this order: the source may go on between the two.
        own = self.view()
        theirs = members.view(source)
        if theirs is None:
            raise Failure(f"{source} does not answer any more; run again")
        errant = gtids.subtract(own.executed, theirs.begun)
        if reseed:
            self.clone_from(source, "that was wanted")
        elif is_empty(own, theirs, members.addresses[source], self.clone_state()):
            self.clone_from(source, "it was empty")
        elif errant or (not own.executed and not own.source and self.clone_state() != "Completed"):
            what = f"transactions {gtids.show(errant)}" if errant else "data without a history"
            raise Failure(
                f"{self.me} holds {what}, which the source {source} does not have; nothing was changed. "
                f"Look at them (mysqlbinlog); to give them up: mysql_rejoin -e mysql_rejoin_reseed={self.me}"
            )
        elif gtids.subtract(theirs.purged, own.executed):
            self.clone_from(source, "the source no longer keeps what it lacks")
        self.ensure_accounts()
        # Copying may have taken hours.
        theirs, own = members.view(source) or theirs, self.view()
        if own.term != theirs.term:
            self.change(f"notes promotion {theirs.term}")
            self.record(term=theirs.term)
        if theirs.alone and not own.alone:
            self.record(alone=True)
        if theirs.idle_events != own.idle_events:
            self.record(idle_events=theirs.idle_events)
        self.replicate_from(source)
        events.end_here(self)
        self.end_semi_sync()
        self.start_replication()
        self.wait_until_source_waits(source)

    def wait_until_source_waits(self, source: str, seconds: float = 30) -> None:
        """Until what is acknowledged is here too. Where there is much to fetch that takes longer, and nothing waits."""
        end = time.monotonic() + seconds
        while self.view().alone and not self.check:
            self.learn_from(source)
            if not self.view().alone:
                return
            if time.monotonic() > end:
                self.report.note(f"{source} acknowledges without {self.me}, until that has fetched everything")
                return
            time.sleep(0.2)

    def learn_from(self, source: str) -> None:
        """Of a replica: what it has to know of its source when that is gone."""
        theirs, own = self.members.view(source), self.view()
        if theirs is None or not theirs.is_source:
            return
        if theirs.alone != own.alone and (theirs.alone or own.running):
            self.record(alone=theirs.alone)
        if theirs.idle_events != own.idle_events:
            self.record(idle_events=theirs.idle_events)

    def end_semi_sync(self) -> None:
        """What a replica applies would wait for a replica of its own.

        MySQL needs up to a second for it, in which no client can connect or read a variable. So this comes when the
        source has a replica to wait for (the receipt is what is acknowledged) and balancers know that it is none.
        """
        if self.has_semi_sync():
            time.sleep(0 if self.check else BALANCER_CHECK_INTERVAL_S)
            self.change("semi-sync off, as on a replica", "SET GLOBAL rpl_semi_sync_source_enabled = OFF")

    def start_replication(self) -> None:
        """Start what is stopped; with fresh relay logs where that is not enough."""
        if self.view().running or self.check:
            return
        if not self.is_starting():
            self.change("replication started", "START REPLICA")
        try:
            self.wait_for_threads()
        except Failure:
            # With GTIDs whatever was received and not applied is asked for again.
            self.change("relay logs fetched anew", "STOP REPLICA", "RESET REPLICA", "START REPLICA")
            self.wait_for_threads()

    def is_starting(self) -> bool:
        row = self.query("SHOW REPLICA STATUS")[0]
        return row["Replica_SQL_Running"] == "Yes" and row["Replica_IO_Running"] == "Connecting"

    def wait_for_threads(self) -> None:
        end, seen = time.monotonic() + 30, self.view()
        while not seen.running:
            stopped = not self.is_starting()
            if time.monotonic() > end or (seen.error and stopped):
                raise Failure(
                    f"{self.me} does not replicate: {seen.error or 'no connection to its source'}. To copy the whole "
                    f"source over it: mysql_rejoin -e mysql_rejoin_reseed={self.me}"
                )
            time.sleep(0.2)
            seen = self.view()

    def wait_for_gtids(self, executed: Gtids, seconds: int) -> bool:
        statement = "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s) AS late"
        return self.query(statement, gtids.show(executed), seconds)[0]["late"] == 0

    def forget_source(self) -> None:
        self.query("STOP REPLICA")
        self.query("RESET REPLICA ALL")

    # --- the source

    def become_source(self, absent: Iterable[str], alone: bool | None = None) -> None:
        view = self.view()
        if view.is_source:
            events.run_here(self)
            return self.tend_semi_sync(view, self.members.views_of_others())
        if not self.check and view.source:
            self.change("replicates no more", "STOP REPLICA", "RESET REPLICA ALL")
        if not self.make_writable("it is the source, and no other member is", absent, alone):
            raise Undecided("another member is about to be opened")
        return None

    def tend_semi_sync(self, own: View, views: dict[str, View | None]) -> None:
        """Semi-sync as on a source. While there is no replica to wait for, every write would wait without end, and so
        would the copy that is to become one: a CLONE waits for the writes of its source.

        Args:
            own: what this server has said before the others were asked: a replica that has that keeps up.
            views: what the others have said.
        """
        here = self.members.addresses[self.me]
        replicas = {name: view for name, view in views.items() if view and view.source == here}
        ready = [name for name, view in replicas.items() if view.running and not gtids.subtract(own.executed, view.has)]
        on = "SET GLOBAL rpl_semi_sync_source_enabled = ON"
        if own.alone and ready and self.semi_sync_replicas():
            self.change(f"writes wait for a replica: {ready[0]} has everything", on)
            self.record(alone=False)
        elif not own.alone and not self.has_semi_sync():
            self.change("semi-sync on, as on a source", on)
        elif not own.alone and not self.has_replicas(replicas) and self.is_being_cloned():
            self.stand_alone("the only replica is being copied from here")

    def has_replicas(self, replicas: dict[str, View]) -> bool:
        return any(view.running for view in replicas.values()) or self.semi_sync_replicas() > 0

    def stand_alone(self, reason: str) -> None:
        """Acknowledge alone until a replica has everything. What waits for one ends now: CLONE may wait for it."""
        self.change(f"writes wait for no replica: {reason}", "SET GLOBAL rpl_semi_sync_source_enabled = OFF")
        self.record(alone=True)

    def is_being_cloned(self) -> bool:
        return bool(self.query("SELECT 1 FROM information_schema.processlist WHERE command LIKE '%%lone%%'"))

    def has_semi_sync(self) -> bool:
        return bool(self.query("SELECT @@global.rpl_semi_sync_source_enabled AS active")[0]["active"])

    def restore_semi_sync_timeout(self) -> None:
        """Without a replica it does not become longer. A write that waits keeps its deadline: it is released."""
        before, wanted = self.semi_sync_timeout(), self.members.timeout
        if before == wanted or (before < wanted and not self.semi_sync_replicas()):
            return
        statements: list = [("SET GLOBAL rpl_semi_sync_source_timeout = %s", wanted)]
        if wanted < before and self.has_semi_sync() and self.waiting_writes():
            statements += [f"SET GLOBAL rpl_semi_sync_source_enabled = {value}" for value in ("OFF", "ON")]
        self.change("semi-sync waits as configured", *statements)

    def waiting_writes(self) -> int:
        row = self.query("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_wait_sessions'")
        return int(row[0]["Value"]) if row else 0

    def semi_sync_timeout(self) -> int:
        return self.query("SELECT @@global.rpl_semi_sync_source_timeout AS ms")[0]["ms"]

    def waits_without_end(self) -> bool:
        return self.has_semi_sync() and self.semi_sync_timeout() >= ENDLESS_MS

    def semi_sync_replicas(self) -> int:
        row = self.query("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_clients'")
        return int(row[0]["Value"]) if row else 0

    def wait_for_replica(self, patience: float) -> None:
        """Without one every write would wait, those of the role too."""
        end = time.monotonic() + patience
        while self.waits_without_end() and not self.semi_sync_replicas():
            self.tend_semi_sync(self.view(), self.members.views_of_others())
            if time.monotonic() > end:
                raise Undecided(
                    f"{self.me} is the source, and no replica acknowledges what it writes. With "
                    f"mysql_replication_semi_sync_policy 'block' every write waits for one: mend a replica "
                    f"(its own error says what is wrong), or choose 'degrade'"
                )
            time.sleep(0.3)

    # --- the services of this role

    def ensure_services(self) -> None:
        """The guard and the check run, with what the role has put there."""
        if subprocess.run(["id", CHECK_USER], check=False, capture_output=True).returncode != 0:
            self.change(f"user {CHECK_USER}")
            if not self.check:
                shell = ["--system", "--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin"]
                subprocess.run(["useradd", *shell, CHECK_USER], check=True)
        for name in SERVICES:
            state = service_state(name)
            if state["UnitFileState"] == "enabled" and runs_version(state, self.members.versions[name]):
                continue
            self.change(f"service {name}")
            if not self.check:
                if state["UnitFileState"].startswith("masked"):
                    subprocess.run(["systemctl", "unmask", "--quiet", name], check=True)
                subprocess.run(["systemctl", "daemon-reload"], check=True)
                subprocess.run(["systemctl", "enable", "--quiet", str(HOME / name)], check=True)
                subprocess.run(["systemctl", "restart", name], check=True)


def service_state(name: str) -> dict[str, str]:
    command = ["systemctl", "show", "--property=UnitFileState,ActiveState,MainPID", name]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=SYSTEMD_S).stdout
    return dict(line.split("=", 1) for line in shown.splitlines())


def runs_version(state: dict[str, str], version: str) -> bool:
    """Whether the process that runs was started from the files that are there now."""
    path = Path(f"/proc/{state['MainPID']}/environ")
    fresh = path.exists() and f"VERSION={version}".encode() in path.read_bytes().split(b"\0")
    return state["ActiveState"] == "active" and fresh
