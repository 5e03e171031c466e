"""What the mode does around its decisions, with servers that are told what to say."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from mysql_replication import source_replica
from mysql_replication.local import Failure, Report, Undecided
from mysql_replication.plans import View


class Server:
    """One that only remembers what is asked of it."""

    def __init__(self) -> None:
        self.report = Report()
        self.sources: list[str] = []

    def become_replica(self, source: str) -> None:
        self.sources.append(source)


class Members:
    """This server is b; a is what the test says, look by look."""

    me = "b"

    def __init__(self, looks: list[View | None]) -> None:
        self.looks = looks

    def view(self, _name: str) -> View | None:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


CLOSED = View(uuid="x", read_only=True, executed={})
AT_WORK = View(uuid="x", read_only=True, executed={}, promoting=True)
SOURCE = View(uuid="x", read_only=False, executed={})


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(source_replica.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(source_replica.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr("mysql_replication.local.log", lambda *_: None)
    return now


def test_the_others_wait_for_a_promotion_that_is_at_work(clock):
    server = Server()
    source_replica.SourceReplica(Members([AT_WORK] * 1000 + [SOURCE])).turn_to(server, "a", 700, 40)
    assert server.sources == ["a"]
    assert clock[0] > 40


def test_the_others_do_not_wait_for_a_program_that_was_killed(clock):
    server = Server()
    with pytest.raises(Failure, match="a was not opened, so b is as it was"):
        source_replica.SourceReplica(Members([AT_WORK] * 100 + [CLOSED])).turn_to(server, "a", 700, 40)
    assert server.sources == []
    assert 40 < clock[0] < 60


def test_in_a_switchover_the_others_wait_for_as_long_as_it_may_take(clock):
    with pytest.raises(Failure):
        source_replica.SourceReplica(Members([None])).turn_to(Server(), "a", 120)
    assert 120 < clock[0] < 122


# --- a first run, whatever number of members it is at work on at a time


class Second(Members):
    """Of two that are listed; the first one takes writes."""

    addresses = {"a": "192.0.2.1", "b": "192.0.2.2"}  # noqa: RUF012 - nobody changes it
    is_first = blocks = False

    def is_source(self, _name: str) -> bool:
        return True


class Joining(source_replica.SourceReplica):
    """One whose other members are still to come."""

    def __init__(self, undecided: bool) -> None:
        super().__init__(Second([None]))
        self.undecided, self.asked = undecided, 0

    def find_source(self, _server, _new):
        self.asked += 1
        if self.undecided:
            raise Undecided("a cannot be asked")
        return "a"


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A host of its own: no lock, no state, and a server with nothing in it."""
    monkeypatch.setattr(source_replica, "host_lock", lambda _seconds: contextlib.nullcontext())
    monkeypatch.setattr(source_replica, "STATE", tmp_path / "state")
    empty = SimpleNamespace(
        report=Report(),
        check=False,
        view=lambda: View(uuid="y", read_only=True, executed={}),
        ensure_read_only=lambda _reason: None,
        ensure_accounts=lambda: None,
        has_account=lambda: True,
        ensure_services=lambda: None,
        become_replica=lambda _source, _reseed: None,
    )
    monkeypatch.setattr(source_replica, "Server", lambda _members, report: setattr(empty, "report", report) or empty)
    return empty


def test_the_first_look_waits_for_nobody_and_the_second_one_does(host, clock):
    """The others may only be asked when the first look has given them their accounts."""
    mode, report = Joining(undecided=True), Report()
    mode.begin(report)
    assert report.facts == {"undecided": "a cannot be asked"} and mode.asked == 1 and clock[0] == 0
    assert not source_replica.has_joined()
    with pytest.raises(Failure, match="a cannot be asked"):
        mode.converge(Report())
    assert 60 <= clock[0] < 62


def test_what_is_clear_takes_one_look(host, clock):
    report = Report()
    Joining(undecided=False).begin(report)
    assert report.facts == {"role": "replica", "source": "a"} and source_replica.has_joined()
