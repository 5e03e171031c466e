"""One source and its replicas.

Never two writable servers: every member starts read-only (super_read_only in its option file). One that is to become
writable announces it (a user lock that the others can see), then looks at all the others, and does it only if none of
them is writable or about to be. A member that does not answer may have been promoted: then nobody becomes writable.

The members see each other through the account of replication, over TLS. Everything else goes through the local socket.
"""

from __future__ import annotations

import functools
import subprocess
import time
from pathlib import Path

from mysql_replication import events
from mysql_replication.local import SYSTEM_SCHEMAS, Failure, Loss, MySQLError, Report, Undecided, host_lock, query
from mysql_replication.members import Members, lock_name, read_view
from mysql_replication.plans import choose_source, plan_failover, plan_switchover
from mysql_replication.server import Server, local_view, main_pid, wait_until

STATE = Path("/var/lib/mysql_replication")
# User locks of a switchover, seen by the other side: the new source is ready, the old one is read-only.
READY = "mysql_replication_handover"
HANDED_OVER = "mysql_replication_closed"
# Seconds that the old source waits for its successor before it is the source again.
LEASE_S = 10
# Seconds without another member after which a source whose writes wait for a replica makes itself read-only.
CUT_OFF_S = 10
# Seconds that a failover waits for a member on which no program is at work. Longer than that
# program may wait for the lock of its host.
PROMOTER_GRACE_S = 40
LOCK_TIMEOUT = 1205


def has_joined() -> bool:
    return (STATE / "joined").exists()


class SourceReplica:
    """The mode source_replica, on one member."""

    def __init__(self, members: Members) -> None:
        self.members, self.me = members, members.me

    # --- the role

    def check_joinable(self, report: Report) -> None:
        """Nothing of this host has changed yet."""
        members = self.members
        try:
            server = Server(members, report)
        except MySQLError:
            return  # There is none yet, or root has to be let in: the role says that later.
        own = server.first_view()
        if own.databases and not (has_joined() or own.source or server.has_account() or members.is_first):
            names = [str(next(iter(row.values()))) for row in server.query("SHOW DATABASES")]
            raise Failure(
                f"{self.me} holds data of its own and was never a replica (databases: "
                f"{', '.join(name for name in names if name not in SYSTEM_SCHEMAS)}); a replica becomes a copy of its "
                f"source. Save and drop them, or list {self.me} first in mysql_replication_members"
            )

    def begin(self, report: Report) -> None:
        """As converge, for members that may not all be on their way at a time: none waits for another one."""
        with host_lock(120):
            try:
                self.converge_locked(Server(self.members, report), patience=0)
            except Undecided as problem:
                report.facts["undecided"] = str(problem)

    def converge(self, report: Report, reseed: str = "") -> None:
        with host_lock(120):
            self.converge_locked(Server(self.members, report), reseed)

    def converge_locked(
        self, server: Server, reseed: str = "", patience: float = 60, *, needs_replica: bool = True
    ) -> None:
        members, report = self.members, server.report
        new = not has_joined()
        own = server.view()
        # A new member is no source, whatever it was before; the first one may be.
        if own.source or (new and not own.databases and not members.is_first):
            server.ensure_read_only("it is a replica")
        # Others can only ask a server that has the account. One with data of its own gets it when it is accepted.
        if own.is_source or server.has_account() or not own.databases or members.is_first:
            server.ensure_accounts()
        end = time.monotonic() + patience
        while True:
            try:
                source = self.find_source(server, new)
                if source == self.me:
                    # Who starts with its data does not need those who are still to come.
                    absent = members.others if new and own.databases else []
                    server.become_source(absent, alone=not self.has_replica() if new else None)
                else:
                    self.become_replica_of_source(server, source, end if patience else None, reseed == self.me)
                break
            except Undecided as problem:
                if report.check or (patience and time.monotonic() > end):
                    raise Failure(str(problem)) from None
                if not patience:
                    raise
                time.sleep(0.5)
        if new and not report.check:
            STATE.mkdir(mode=0o700, exist_ok=True)
            (STATE / "joined").touch()
        server.ensure_services()
        if source == self.me:
            server.restore_semi_sync_timeout()
            if reseed and reseed != self.me and server.waits_without_end() and not server.semi_sync_replicas():
                server.stand_alone(f"{reseed} is to be copied from here")
        if source == self.me and needs_replica and not report.check:
            try:
                server.wait_for_replica(patience)
            except Undecided as problem:
                if patience:
                    raise Failure(str(problem)) from None
                raise
        report.facts |= {"role": "source" if source == self.me else "replica", "source": source}

    def find_source(self, server: Server, new: bool) -> str:
        """Undecided while that is not clear: the others may be on their way."""
        members, views = self.members, server.all_views()
        own = views[self.me]
        has_source = any(view and view.is_source for view in views.values())
        # The first server of members that are about to be: without the others it is what it was before.
        if new and members.is_first and own.databases and not own.source and not has_source:
            return self.me
        return choose_source(members.addresses, views)

    def has_replica(self) -> bool:
        here = self.members.addresses[self.me]
        return any(view and view.source == here and view.running for view in self.members.views_of_others().values())

    def become_replica_of_source(self, server: Server, source: str, end: float | None, reseed: bool) -> None:
        """The source may not be writable yet; from `end` on a replica of a read-only one is a replica all the same."""
        waits = end is None or time.monotonic() < end
        if not server.check and waits and not self.members.is_source(source):
            raise Undecided(f"{source} has to be the source and is not opened")
        server.become_replica(source, reseed)

    # --- the guard

    def watch(self, report: Report, since: float | None) -> float | None:
        with host_lock(0):
            server = Server(self.members, report)
            with server.connection:
                return self.watch_server(server, since)

    def watch_server(self, server: Server, since: float | None) -> float | None:
        own = server.view()
        if own.source:
            # Who made it a replica may have been interrupted.
            server.end_semi_sync()
            events.end_here(server)
            self.watch_source(server, own.source)
        if own.source or not has_joined():
            return None
        if not own.is_source:
            if self.find_source(server, False) == self.me:
                server.make_writable("all other members have been asked, and none of them is the source")
            return None
        views = self.members.views_of_others()
        newer = [name for name, view in views.items() if view and view.is_source and view.term > own.term]
        if newer:
            server.force_read_only(f"{newer[0]} has been promoted")
            return None
        server.restore_semi_sync_timeout()
        server.tend_semi_sync(own, views)
        events.run_here(server)
        if any(views.values()) or not server.waits_without_end():
            return None
        if since is not None and time.monotonic() - since > CUT_OFF_S:
            server.force_read_only(
                f"no other member has answered for {CUT_OFF_S} s, so every write waits, and another may be promoted"
            )
        else:
            return since or time.monotonic()
        return None

    def watch_source(self, server: Server, address: str) -> None:
        """Of a replica."""
        for name, known in self.members.addresses.items():
            if known == address:
                server.learn_from(name)

    # --- switchover

    def switchover(self, report: Report, to: str) -> None:
        members = self.members
        with host_lock(30):
            server = Server(members, report)
            views = server.all_views()
            old = plan_switchover(members.addresses, views, to)
            if old == to:
                report.announce(f"{to} is the source already; the others replicate from it")
                return None if report.check else self.converge_locked(server)
            others = [name for name in members.addresses if name not in (old, to)]
            report.announce(f"{old} is the source, {to} takes over")
            if views[to].source != members.addresses[old] or not views[to].running:
                # An interrupted switchover leaves it so.
                report.announce(f"{to} replicates from {old} again")
            report.announce(f"{to} catches up; {old} is closed for writing; {to} gets the rest and is opened")
            report.announce(
                f"{', '.join([old, *others])} replicate from {to}; if {to} is not open in {LEASE_S} s, {old} is again"
            )
            if report.check:
                report.changed = True
                return None
            if self.me == to:
                server.become_replica(old)
                return self.take_over(server, old)
            if self.me == old:
                return self.hand_over(server, to)
            self.turn_to(server, to, 120)
        return None

    def take_over(self, server: Server, old: str) -> None:
        members, me = self.members, self.me
        seen = members.view(old)
        if not seen or not server.wait_for_gtids(seen.executed, 60):
            raise Failure(f"{me} has not caught up with {old} within 60 s; nothing was changed")
        with members.connect(old) as line, line.cursor() as cursor:
            # That the old source sees: now it may be made read-only.
            ask = functools.partial(query, cursor)
            if ask("SELECT GET_LOCK(%s, 2) AS got", lock_name(ask, READY))[0]["got"] != 1:
                raise Failure(f"another switchover is under way on {old}")
            # Not super_read_only, which looks as if it were on already while the last writes end.
            closed = "SELECT IS_USED_LOCK(%s) IS NOT NULL AS closed"
            problem = f"{old} has not been closed within 30 s; nothing was changed"
            handed_over = lock_name(ask, HANDED_OVER)
            wait_until(lambda: ask(closed, handed_over)[0]["closed"], 30, problem, pause=0.01)
            begin = time.monotonic()
            closed_view = read_view(cursor)
            if not server.wait_for_gtids(closed_view.executed, LEASE_S - 3):
                raise Failure(f"{me} did not have everything within {LEASE_S - 3} s, so {old} is opened again")
            server.forget_source()
            if closed_view.idle_events != server.view().idle_events:
                server.record(idle_events=closed_view.idle_events)
            while not server.promote(f"switchover from {old}"):
                if time.monotonic() - begin > LEASE_S - 2:
                    server.replicate_from(old)
                    raise Failure(f"{me} could not be opened, so {old} is opened again")
                time.sleep(0.05)
            seconds = time.monotonic() - begin
        server.report.note(f"{me} is the source, {seconds * 1000:.0f} ms after {old} was closed")

    def hand_over(self, server: Server, to: str) -> None:
        me = self.me
        events.run_here(server)
        ready = "SELECT IS_USED_LOCK(%s) IS NOT NULL AS ready"
        problem = f"{to} was not ready within 80 s; nothing was changed"
        ready_name, handed_over = lock_name(server.query, READY), lock_name(server.query, HANDED_OVER)
        wait_until(lambda: server.query(ready, ready_name)[0]["ready"], 80, problem, pause=0.02)
        server.query("SET SESSION lock_wait_timeout = 5")
        try:
            server.make_read_only(f"switchover to {to}")
        except MySQLError as error:
            if error.args[0] != LOCK_TIMEOUT:
                raise
            server.query("SET GLOBAL read_only = OFF")
            raise Failure(f"a statement on {me} did not end within 5 s, so it is still the source") from None
        server.query("SET SESSION lock_wait_timeout = 120")
        server.query("SELECT GET_LOCK(%s, 2)", handed_over)
        end = time.monotonic() + LEASE_S
        while True:
            # Those whose statement was under way the last time, too.
            server.kill_idle_clients()
            if self.members.is_source(to):
                server.become_replica(to)
                return server.report.note(f"{me} replicates from {to}")
            if time.monotonic() > end + 30:
                raise Failure(f"{to} cannot be asked whether it is open, so {me} stays closed; run this again")
            if time.monotonic() > end:
                server.query("SELECT RELEASE_LOCK(%s)", handed_over)
            if time.monotonic() > end and server.make_writable(f"{to} did not take over within {LEASE_S} s"):
                raise Failure(f"{to} was not opened within {LEASE_S} s, so {me} is the source again")
            time.sleep(0.02)

    def turn_to(self, server: Server, source: str, seconds: float, grace: float | None = None) -> None:
        """Replicate from a member as soon as it is the source.

        Args:
            server: this one.
            source: the member that is being promoted.
            seconds: how long that may take at most.
            grace: how long it may go on without a program at work there; without it that is not looked at.
        """
        begin = at_work = time.monotonic()
        while True:
            view, now = self.members.view(source), time.monotonic()
            if view and view.is_source:
                break
            if grace is None or (view and view.promoting):
                at_work = now
            if now - begin > seconds or now - at_work > (grace or seconds):
                raise Failure(f"{source} was not opened, so {self.me} is as it was")
            time.sleep(0.1)
        server.become_replica(source)
        server.report.note(f"{self.me} replicates from {source}")

    # --- failover

    def fence(self, report: Report) -> None:
        """Stop a source that is dead, hangs or reaches no other member. One that reaches others is left alone."""
        own = local_view()
        report.facts["fenced"] = not (own and (own.source or any(self.members.views_of_others().values())))
        if not report.facts["fenced"]:
            return
        state = "does not answer" if not own else "sees no other member" + ("" if own.is_source else " and is closed")
        report.change(f"{self.me} is fenced: MySQL {state}")
        if report.check:
            return
        if own:
            with host_lock(30):
                Server(self.members, report).force_read_only("it is fenced")
            return
        subprocess.run(["systemctl", "stop", "--no-block", "mysql"], check=False)
        end = time.monotonic() + 10
        while main_pid("mysql.service") != "0" and time.monotonic() < end:
            time.sleep(0.2)
        # A process that the kernel holds cannot be killed either: then this ends with what systemd could not do.
        for words in (["kill", "--signal=KILL"], ["stop"]):
            subprocess.run(["systemctl", *words, "mysql"], check=False, capture_output=True, timeout=60)

    def failover(self, report: Report, fenced: list[str], accept_loss: list[str]) -> None:
        members = self.members
        with host_lock(30):
            if not local_view():
                return report.announce(f"{self.me}: MySQL does not answer here")
            server = Server(members, report)
            views = server.all_views()
            try:
                new = plan_failover(members.addresses, views, fenced, accept_loss, members.blocks)
            except Loss as problem:
                if not report.check:
                    raise
                # Who only plans is asked.
                report.facts["loss"] = {"text": str(problem), "names": problem.names}
                return report.announce(str(problem))
            if views[new].is_source:
                report.announce(f"{new} is the source, so nothing is promoted; to replace it: mysql_switchover")
                follows = views[self.me].source == members.addresses[new]
                return None if report.check or new == self.me or follows else self.turn_to(server, new, 10)
            silent = [name for name in members.addresses if not views[name]]
            reason = f"it has everything that the others have; without {', '.join(silent) or 'nobody'}"
            report.announce(f"{new} is promoted: {reason}")
            unsure = [name for name in silent if name not in fenced and name not in accept_loss]
            if unsure:
                report.announce(
                    f"{', '.join(unsure)} cannot be fenced: {CUT_OFF_S + 5} s pass first, in which it closes by itself"
                )
            if report.check:
                report.changed = True
                return None
            if new != self.me:
                return self.turn_to(server, new, 700, PROMOTER_GRACE_S)
            server.announce_promotion()
            self.wait_for_cut_off(unsure)
            self.promote_instead(server, reason, silent)
        return None

    def wait_for_cut_off(self, unsure: list[str]) -> None:
        """Until those that cannot be fenced have made themselves read-only."""
        end = time.monotonic() + (CUT_OFF_S + 5 if unsure else 0)
        while time.monotonic() < end:
            if any(self.members.view(name) for name in unsure):
                raise Failure(f"{', '.join(unsure)} answers again; nothing was changed")
            time.sleep(1)

    def promote_instead(self, server: Server, reason: str, silent: list[str]) -> None:
        me = self.me
        if server.view().source:
            if not server.wait_for_gtids(server.view().has, 600):
                raise Failure(f"{me} has not applied what it has received within 600 s")
            server.forget_source()
        # If no other member is left, writes wait for nobody until one has everything.
        if not server.promote(f"failover: {reason}", absent=silent):
            raise Failure(f"{me} could not be opened: another member is open, or has more; run this again")
        server.report.note(f"{me} is the source")

    def rejoin(self, report: Report, reseed: str) -> None:
        """As the role does it, with MySQL started first. What only this server has is given up if it is named."""
        if reseed and reseed not in self.members.addresses:
            names = ", ".join(self.members.addresses)
            raise Failure(f"mysql_rejoin_reseed: '{reseed}' is no member; there are {names}")
        if not local_view():
            report.change(f"{self.me}: MySQL is started")
            if report.check:
                return
            for words in ("unmask", "unmask --runtime", "enable", "start"):
                subprocess.run(["systemctl", *words.split(), "--quiet", "mysql"], check=True)
        # A source has done its part, whether or not the replica that comes back is at work at the same time.
        with host_lock(120):
            self.converge_locked(Server(self.members, report), reseed, needs_replica=False)
