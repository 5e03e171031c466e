"""How servers work together: what every mode can do. The role's variable mysql_replication_mode chooses one."""

from __future__ import annotations

from typing import Protocol

from mysql_replication.local import Report
from mysql_replication.members import Members
from mysql_replication.source_replica import SourceReplica


class Mode(Protocol):
    """What the role, the operator and the guard ask of a mode on one member. A refusal is a Failure with its reason."""

    def check_joinable(self, report: Report) -> None:
        """Refuse a server that cannot become a member, before anything of it changes."""

    def begin(self, report: Report) -> None:
        """As converge, without waiting for another member: its fact `undecided` says what is not clear yet."""

    def converge(self, report: Report, reseed: str = "") -> None:
        """Make the server what it has to be. Its fact `role` is source or replica, `source` the source's name."""

    def switchover(self, report: Report, to: str) -> None:
        """Hand the writing over to a member, on all members at a time."""

    def fence(self, report: Report) -> None:
        """Stop a source that is dead or cut off. Its fact `fenced` says whether that is so."""

    def failover(self, report: Report, fenced: list[str], accept_loss: list[str]) -> None:
        """Promote a member in place of a source that is gone, on all members that are left at a time."""

    def rejoin(self, report: Report, reseed: str) -> None:
        """Bring this server back as a replica; `reseed` names the one that may lose what only it has."""

    def watch(self, report: Report, since: float | None) -> float | None:
        """What cannot wait for the role, once a second. Takes and returns since when it has seen no other member."""


MODES: dict[str, type[Mode]] = {"source_replica": SourceReplica}


def configured() -> Mode:
    """The mode that the settings name."""
    members = Members()
    return MODES[members.mode](members)
