"""Which member is the source, and what a switchover and a failover refuse. Pure: views in, a name or a refusal out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from mysql_replication import gtids
from mysql_replication.gtids import Gtids
from mysql_replication.local import Failure, Loss, Undecided


@dataclass
class View:
    """A member as it says it is."""

    uuid: str
    read_only: bool
    executed: Gtids
    purged: Gtids = field(default_factory=dict)
    received: Gtids = field(default_factory=dict)
    # Transactions that it is at work on: in its binary log, and waiting for a replica to acknowledge them.
    owned: Gtids = field(default_factory=dict)
    # Address that it replicates from.
    source: str = ""
    promoting: bool = False
    databases: int = 0
    # Number of the promotion that made it the source.
    term: int = 0
    # A source that acknowledges alone until a replica has everything; a replica of it, until that has been seen.
    alone: bool = False
    # Names of the scheduled events that are disabled on the source.
    idle_events: frozenset[str] = frozenset()
    running: bool = False
    error: str = ""
    errno: int = 0

    @property
    def begun(self) -> Gtids:
        """What a replica may have of it: who acknowledges a transaction has it before the source has committed it."""
        return gtids.union(self.executed, self.owned)

    @property
    def is_source(self) -> bool:
        """A replica that was made writable by hand is no source."""
        return not self.read_only and not self.source

    @property
    def has(self) -> Gtids:
        return gtids.union(self.executed, self.received)


def choose_source(members: dict[str, str], views: dict[str, View | None]) -> str:
    """Name of the member that is the source or has to be it. What the servers say counts before the list does."""
    seen = {name: view for name, view in views.items() if view}
    writable = [name for name in members if name in seen and seen[name].is_source]
    newest = [name for name in writable if seen[name].term == max(seen[other].term for other in writable)]
    if len(newest) > 1:
        raise Failure(
            f"{' and '.join(newest)} are writable, each without replicating from the other, so nothing is changed. "
            f"Make the one read-only that is not the source (SET GLOBAL super_read_only = ON), then run again"
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

    whole = [name for name in members if not any(gtids.subtract(counts(other), counts(name)) for other in members)]
    if not whole:
        raise Failure(
            "no member is writable, and each has transactions that another one lacks: "
            + "; ".join(f"{name} has {gtids.show(seen[name].executed)}" for name in members)
            + ". Choose the one to keep: mysql_failover with mysql_failover_accept_loss"
        )
    return min(whole, key=lambda name: (bool(seen[name].source), members[name] not in followed))


def foreign(view: View, source: View) -> Gtids:
    """What it has and the source lacks, without what the source may have written between the two views."""
    rest = gtids.subtract(view.executed, source.executed)
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
            raise Failure(f"{to} has transactions that {old} does not have: {gtids.show(foreign(new, source))}")
    return old


def any_unfinished_copy(views: Collection[View]) -> bool:
    """Whether one has nothing of what the others have: while it is copied, a source may acknowledge alone."""
    return any(view.databases for view in views) and not all(view.databases for view in views)


def plan_failover(
    members: dict[str, str], views: dict[str, View | None], fenced: list[str], accepted: list[str], blocks: bool
) -> str:
    """Name of the member to promote, or of the one that is the source already."""
    unknown = [name for name in accepted if name not in members]
    if unknown:
        raise Failure(
            f"mysql_failover_accept_loss: '{', '.join(unknown)}' is no member; there are {', '.join(members)}"
        )
    seen = {name: views[name] for name in members if views.get(name)}
    if any(view.is_source for view in seen.values()):
        return choose_source(members, views)
    silent = [name for name in members if name not in seen]
    if not silent:
        raise Failure(
            f"all members answer, so {choose_source(members, views)} is opened without a failover; wait for it"
        )
    sources = {view.source for view in seen.values() if view.source}
    # One that was away has not learned that its source went on alone: it is enough that another one knows, or is the
    # copy that was being made meanwhile.
    unsafe = any(view.alone for view in seen.values() if view.source) or any_unfinished_copy(seen.values())
    problems = []
    for name in silent:
        if name in accepted:
            continue
        if members[name] not in sources:
            problems.append(f"{name} cannot be asked; it may have been promoted, or alone have what was acknowledged")
        elif not blocks or unsafe:
            reason = (
                "no replica was known to have everything"
                if blocks
                else ("mysql_replication_semi_sync_policy is 'degrade'")
            )
            problems.append(
                f"{name} may have acknowledged writes that no replica has ({reason})"
                + ("" if name in fenced else ", and may still be writable")
            )
    # Of equal ones the one that needs no promotion.
    best = max(seen, key=lambda name: (gtids.count(seen[name].has), not seen[name].source))
    for name in seen:
        lost = gtids.subtract(seen[name].has, seen[best].has)
        if lost and name not in accepted:
            problems.append(f"{name} has transactions that {best} does not have: {gtids.show(lost)}")
    if problems:
        names = ",".join(name for name in members if any(text.startswith(f"{name} ") for text in problems))
        raise Loss(
            "data could be lost, so nothing is changed: " + "; ".join(problems) + ". If that is accepted, and what "
            f"cannot be asked is switched off, say so by name: -e mysql_failover_accept_loss={names}",
            names,
        )
    return best
