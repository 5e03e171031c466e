"""What a member does to its own server, with a MySQL that is told what to say."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from mysql_replication import server as server_module
from mysql_replication.gtids import parse
from mysql_replication.local import Report, Undecided
from mysql_replication.plans import View
from mysql_replication.server import Server, is_empty

ON, OFF = (f"SET GLOBAL rpl_semi_sync_source_enabled = {value}" for value in ("ON", "OFF"))
ADDRESSES = {"a": "192.0.2.1", "b": "192.0.2.2"}
ENDLESS = 4294967295


def source(executed: str = "x:1-9", *, alone: bool = False) -> View:
    return View(uuid="x", read_only=False, executed=parse(executed), alone=alone)


def replica(executed: str = "x:1-9", *, running: bool = True, **more) -> View:
    return View(
        uuid="y", read_only=True, executed=parse(executed), source=ADDRESSES["a"], running=running, databases=1, **more
    )


class Fake(Server):
    """Server a, with a MySQL of a few variables."""

    def __init__(self, *, blocks: bool = True, **variables: int) -> None:
        self.report, self.check, self.me = Report(), False, "a"
        self.members = SimpleNamespace(
            addresses=ADDRESSES, others=["b"], blocks=blocks, timeout=ENDLESS if blocks else 1000, user="r", network="n"
        )
        self.members.views_of_others = lambda: {"b": None}
        self.variables = {"semi_sync": 1, "timeout": self.members.timeout, "replicas": 0, "waiting": 0, "clones": 0}
        self.variables |= variables
        self.alone = False
        self.said: list[str] = []

    def query(self, statement: str, *values: object) -> list[dict]:
        answers = {
            "rpl_semi_sync_source_enabled AS": [{"active": self.variables["semi_sync"]}],
            "rpl_semi_sync_source_timeout AS": [{"ms": self.variables["timeout"]}],
            "Rpl_semi_sync_source_clients": [{"Value": str(self.variables["replicas"])}],
            "Rpl_semi_sync_source_wait_sessions": [{"Value": str(self.variables["waiting"])}],
            "lone%%": [{}] * self.variables["clones"],
            "super_read_only AS": [{"closed": 0}],
            "mysql_replication_lock": [{"name": f"{values[0] if values else ''}-secret"}],
        }
        for words, rows in answers.items():
            if words in statement:
                return rows
        if statement in (ON, OFF):
            self.variables["semi_sync"] = int(statement == ON)
        if "source_timeout = " in statement:
            self.variables["timeout"] = values[0]
        if "ATTRIBUTE" in statement:
            notes = json.loads(str(values[-1]))
            self.alone = bool(notes.get("mysql_replication_alone", self.alone))
        if "SESSION" not in statement:
            self.said.append(statement)
        return []

    def view(self) -> View:
        return source(alone=self.alone)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr("mysql_replication.local.log", lambda *_: None)
    now = [0.0]
    monkeypatch.setattr(server_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(server_module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


# --- semi-sync of a source


def test_a_source_that_is_alone_waits_for_nobody_until_a_replica_has_everything():
    server = Fake(semi_sync=0)
    server.alone = True
    for views in ({"b": None}, {"b": replica("x:1-8")}, {"b": replica(running=False)}):
        server.tend_semi_sync(source(alone=True), views)
        assert server.said == [] and server.alone
    # One that says it is there, and does not acknowledge.
    server.tend_semi_sync(source(alone=True), {"b": replica()})
    assert server.said == []
    server.variables["replicas"] = 1
    server.tend_semi_sync(source(alone=True), {"b": replica("x:1-7", received=parse("x:8-9"))})
    assert server.said[0] == ON and not server.alone
    assert "b has everything" in server.report.done[0]


@pytest.mark.parametrize("blocks", [True, False])
def test_writes_do_not_wait_for_the_only_replica_while_that_is_copied(blocks):
    server = Fake(blocks=blocks, clones=1)
    server.tend_semi_sync(source(), {"b": replica(running=False) if blocks else None})
    # First what waits is released: CLONE may wait for just that.
    assert server.said[0] == OFF and server.alone


@pytest.mark.parametrize(
    ("views", "variables"),
    [
        ({"b": None}, {"clones": 0}),
        ({"b": replica()}, {"clones": 1}),
        ({"b": None}, {"clones": 1, "replicas": 1}),
    ],
)
def test_writes_go_on_waiting_for_replicas_that_there_are(views, variables):
    server = Fake(**variables)
    server.tend_semi_sync(source(), views)
    assert server.said == [] and not server.alone


def test_a_source_that_lost_semi_sync_gets_it_back():
    server = Fake(semi_sync=0, replicas=1)
    server.tend_semi_sync(source(), {"b": replica()})
    assert server.said == [ON]


def test_a_source_with_nobody_to_wait_for_is_not_waited_with():
    server = Fake(semi_sync=0)
    server.alone = True
    server.wait_for_replica(60)
    assert server.said == []
    with pytest.raises(Undecided, match="no replica acknowledges what it writes"):
        Fake().wait_for_replica(60)


def test_a_copy_that_begins_while_the_source_waits_ends_the_waiting():
    server = Fake(clones=1)
    server.wait_for_replica(60)
    assert server.said[0] == OFF and server.alone


def test_a_shorter_wait_releases_those_who_wait():
    server = Fake(blocks=False, timeout=ENDLESS, waiting=3)
    server.restore_semi_sync_timeout()
    assert server.said == ["SET GLOBAL rpl_semi_sync_source_timeout = %s", OFF, ON]
    idle = Fake(blocks=False, timeout=ENDLESS)
    idle.restore_semi_sync_timeout()
    assert idle.said == ["SET GLOBAL rpl_semi_sync_source_timeout = %s"]


def test_a_longer_wait_needs_a_replica_to_wait_for():
    server = Fake(timeout=1000)
    server.restore_semi_sync_timeout()
    assert server.said == []
    server.variables["replicas"] = 1
    server.restore_semi_sync_timeout()
    assert server.variables["timeout"] == ENDLESS


# --- opening


@pytest.mark.parametrize(("alone", "semi_sync"), [(True, OFF), (False, ON), (None, ON)])
def test_a_source_opens_with_semi_sync_unless_there_is_nobody_to_wait_for(monkeypatch, alone, semi_sync):
    monkeypatch.setattr(server_module.events, "run_here", lambda server: server.said.append("events"))
    server = Fake()
    assert server.make_writable("first run", absent=["b"], alone=alone) is True
    assert [words for words in server.said if "LOCK" not in words][-3:] == [
        semi_sync,
        "SET GLOBAL read_only = OFF",
        "events",
    ]
    assert server.alone is bool(alone)
    # Somebody else may have been promoted.
    assert Fake().make_writable("restart") is False


def test_a_failover_that_leaves_nobody_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(server_module.events, "run_here", lambda _server: None)
    server = Fake()
    assert server.promote("failover", absent=["b"]) and server.alone and OFF in server.said


# --- what a replica knows


@pytest.mark.parametrize(
    ("own", "theirs", "learned"),
    [
        (replica(alone=True), source(), False),
        (replica(alone=True, running=False), source(), True),
        (replica(running=False), source(alone=True), True),
        # Of one that is not open nobody knows what it has acknowledged.
        (replica(alone=True), View("x", True, {}), True),
        (replica(alone=True), None, True),
    ],
)
def test_a_replica_knows_whether_its_source_waits_for_replicas(own, theirs, learned):
    server = Fake()
    server.alone = own.alone
    server.view = lambda: own
    server.members.view = lambda _name: theirs
    server.learn_from("b")
    assert server.alone is learned


# --- what a replica is made of


@pytest.mark.parametrize(
    ("own", "theirs", "clone", "empty"),
    [
        # Never anything but an empty server.
        (View("y", True, {}), source(), "", True),
        (View("y", True, parse("y:1")), source(), "", True),
        # It was made a replica of an empty source, or of another address, before anything could be copied.
        (View("y", True, {}, source="192.0.2.1"), View("x", True, {}), "", False),
        (View("y", True, {}, source="192.0.2.9"), View("x", True, {}), "", True),
        (View("y", True, {}, source="192.0.2.1"), source(), "", True),
        # It follows and has only not applied anything yet.
        (View("y", True, {}, source="192.0.2.1", running=True), source(), "Completed", False),
        # A copy that was broken off has dropped what was here.
        (View("y", True, parse("x:1-5"), source="192.0.2.1"), View("x", False, {}, databases=1), "Failed", True),
        (View("y", True, parse("x:1-5"), source="192.0.2.1"), View("x", False, {}, databases=1), "Completed", False),
        # What has data is never empty.
        (View("y", True, {}, databases=1), source(), "Failed", False),
    ],
)
def test_what_an_interrupted_run_has_left_counts_as_empty(own, theirs, clone, empty):
    assert is_empty(own, theirs, "192.0.2.1", clone) is empty
