"""What of a binary log is laid before the applier, and when it has taken it."""

from __future__ import annotations

import pytest
from mysql_replication import replay
from mysql_replication.binlog import Range
from mysql_replication.local import Failure


class Cursor:
    """A server whose applier reports these states, one after the other."""

    def __init__(self, *states: dict) -> None:
        self.states, self.said, self.rows = list(states), [], []

    def execute(self, statement: str, _values: object) -> None:
        self.said.append(statement)
        if statement == "SHOW REPLICA STATUS":
            self.rows = [self.states.pop(0) if len(self.states) > 1 else self.states[0]]
        else:
            self.rows = []

    def fetchall(self) -> list:
        return self.rows


def state(place: int, running: str = "Yes", error: str = "") -> dict:
    return {
        "Relay_Log_File": replay.LOG,
        "Relay_Log_Pos": place,
        "Replica_SQL_Running": running,
        "Replica_SQL_Running_State": "Replica has read all relay log; waiting for more updates",
        "Last_SQL_Error": error,
    }


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(replay.time, "sleep", lambda _seconds: None)


def test_the_parts_are_laid_behind_the_head_of_their_file(tmp_path, monkeypatch):
    path = tmp_path / "binlog.000007"
    path.write_bytes(b"0123456789")
    monkeypatch.setattr(replay, "end_of_head", lambda _path: 3)
    assert replay.write(tmp_path, path, [Range(path, 0, 5), Range(path, 7, 9)]) == 7
    assert (tmp_path / replay.LOG).read_bytes() == b"0123478"
    assert (tmp_path / replay.INDEX).read_text() == f"{tmp_path / replay.LOG}\n"


def test_it_is_done_when_the_applier_has_counted_the_last_transaction(tmp_path):
    cursor = Cursor(state(4), state(90), state(100))
    replay.apply(cursor, tmp_path, 100)
    assert cursor.said.count("SHOW REPLICA STATUS") == 3
    assert cursor.said[-2:] == ["STOP REPLICA", "RESET REPLICA ALL"]


def test_half_a_transaction_is_not_waited_for(tmp_path):
    with pytest.raises(Failure, match="ends within a transaction"):
        replay.apply(Cursor(state(90)), tmp_path, 100)


def test_a_statement_that_fails_is_told_in_the_servers_words(tmp_path):
    with pytest.raises(Failure, match="cannot be replayed: no such table"):
        replay.apply(Cursor(state(90, "No", "no such table")), tmp_path, 100)
