"""Scheduled events run on the source, and those that were disabled there stay so."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from mysql_replication import events
from mysql_replication.local import Report
from mysql_replication.plans import View


class Server:
    """One with the events of a test."""

    def __init__(self, *rows: tuple[str, str], noted: tuple[str, ...] = (), scheduler: int = 0, wish: bool = True):
        self.me, self.check, self.report = "a", False, Report()
        self.members = SimpleNamespace(runs_events=wish)
        self.rows = [
            {"name": f"shop.{name}", "place": "shop", "event": name, "definer": "app@10.0.0.%", "status": status}
            for name, status in rows
        ]
        self.noted, self.scheduler = frozenset(noted), scheduler
        self.said: list[tuple] = []

    def view(self) -> View:
        return View(uuid="x", read_only=False, executed={}, idle_events=self.noted)

    def query(self, statement: str, *values: object) -> list[dict]:
        if "information_schema.events" in statement:
            return self.rows
        if "AS active" in statement:
            return [{"active": self.scheduler}]
        self.said.append((statement, *values))
        return []

    def change(self, _text: str, *statements: str) -> None:
        self.said += [(statement,) for statement in statements]

    def record(self, *, idle_events) -> None:
        self.noted = frozenset(idle_events)

    def unlogged(self):
        return contextlib.nullcontext()


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr("mysql_replication.local.log", lambda *_: None)


@pytest.mark.parametrize("status", ["SLAVESIDE_DISABLED", "REPLICA_SIDE_DISABLED"])
def test_a_promoted_server_runs_what_ran_on_the_source_and_only_that(status):
    server = Server(("nightly", status), ("retired", status), ("local", "ENABLED"), noted=("shop.retired",))
    events.run_here(server)
    assert server.said == [
        ("ALTER DEFINER = %s@%s EVENT `shop`.`nightly` ENABLE", "app", "10.0.0.%"),
        ("ALTER DEFINER = %s@%s EVENT `shop`.`retired` DISABLE", "app", "10.0.0.%"),
        ("SET GLOBAL event_scheduler = ON",),
    ]
    assert server.noted == {"shop.retired"}


def test_a_source_notes_what_is_disabled_on_it():
    server = Server(("nightly", "ENABLED"), ("retired", "DISABLED"), noted=("shop.gone",), scheduler=1)
    events.run_here(server)
    assert server.noted == {"shop.retired"} and server.said == []


def test_a_name_is_a_name_in_a_statement():
    server = Server(("50%`off", "REPLICA_SIDE_DISABLED"), scheduler=1)
    events.run_here(server)
    assert server.said[0][0] == "ALTER DEFINER = %s@%s EVENT `shop`.`50%%``off` ENABLE"


def test_a_replica_runs_none_and_neither_does_a_source_that_is_told_so():
    for server, turn in ((Server(scheduler=1), events.end_here), (Server(scheduler=1, wish=False), events.run_here)):
        turn(server)
        assert server.said == [("SET GLOBAL event_scheduler = OFF",)]
        server.said, server.scheduler = [], 0
        turn(server)
        assert server.said == []
