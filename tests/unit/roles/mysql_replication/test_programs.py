"""Views, routines, triggers and events: each is one statement, whatever it contains."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from mysql_replication import local, programs
from mysql_replication.local import MySQLError
from mysql_replication.programs import Program
from pymysql.constants import CLIENT

EVIL = "CREATE PROCEDURE p() SELECT 1 --\x01;;CREATE DEFINER=root@localhost PROCEDURE evil() SELECT 2 ;;\n"
PROCEDURE = Program(
    **{"kind": "PROCEDURE", "schema": "shop", "name": "p", "definer": "app@localhost", "statement": EVIL},
    **{"sql_mode": "ANSI", "client": "gbk", "connection": "gbk_bin", "database": "utf8mb4_bin", "time_zone": ""},
)
VIEW = replace(PROCEDURE, kind="VIEW", name="a", statement="CREATE VIEW a", database="")


class Server:
    """It refuses what is listed, as often as it says."""

    def __init__(self, refused: dict[str, int]) -> None:
        self.refused, self.said, self.rows = refused, [], []

    def execute(self, statement: str, values: tuple | None) -> None:
        self.said.append((statement, *(values or ())))
        self.rows = [(b"utf8mb4_0900_ai_ci",)] if "@@collation_database" in statement else []
        if self.refused.get(statement, 0) > 0:
            self.refused[statement] -= 1
            raise MySQLError(1146, "no such table")

    def fetchall(self) -> list:
        return self.rows

    def cursor(self):
        return contextlib.nullcontext(self)


@pytest.fixture
def server(monkeypatch):
    def start(**refused: int) -> Server:
        one = Server({name.replace("_", " "): times for name, times in refused.items()})
        monkeypatch.setattr(programs, "connect", lambda _socket: contextlib.nullcontext(one))
        return one

    return start


def test_a_connection_takes_one_statement_at_a_time():
    """So the server itself refuses a second one, and knows the end of the first better than any client."""
    assert not local.connect(defer_connect=True).client_flag & CLIENT.MULTI_STATEMENTS


def test_a_program_is_one_statement_under_what_it_was_written_under(server):
    one = server()
    assert programs.make("socket", [PROCEDURE]) == {}
    said = [words for words in one.said if "@@" not in words[0]]
    assert said == [
        ("SET SESSION sql_mode = %s, collation_connection = %s", "ANSI", "gbk_bin"),
        ("USE `shop`",),
        ("ALTER DATABASE `shop` COLLATE utf8mb4_bin",),
        ("SET SESSION character_set_client = %s", "gbk"),
        (EVIL,),
        ("SET SESSION character_set_client = utf8mb4",),
        ("ALTER DATABASE `shop` COLLATE utf8mb4_0900_ai_ci",),
    ]


def test_a_view_waits_for_the_one_that_it_needs(server):
    one = server(CREATE_VIEW_a=1)
    assert programs.make("socket", [VIEW, replace(VIEW, name="b", statement="CREATE VIEW b")]) == {}
    assert [words for (words, *_) in one.said if words.startswith("CREATE")] == [
        "CREATE VIEW a",
        "CREATE VIEW b",
        "CREATE VIEW a",
    ]


def test_a_view_that_does_not_work_is_left_out_by_name_and_nothing_else_is(server):
    server(CREATE_VIEW_a=9)
    assert programs.make("socket", [VIEW, PROCEDURE]) == {"view shop.a of app@localhost": "no such table"}
    server(CREATE_EVENT_a=9)
    with pytest.raises(MySQLError, match="no such table"):
        programs.make("socket", [replace(VIEW, kind="EVENT", statement="CREATE EVENT a")])


def test_a_manifest_keeps_every_byte():
    gbk = replace(PROCEDURE, statement=programs.text(b"SELECT '\xbf\x5c'"))
    assert programs.from_list(programs.to_list([gbk])) == [gbk]
    assert gbk.statement.encode(errors="surrogateescape") == b"SELECT '\xbf\x5c'"
    assert replace(gbk, definer="a@b@%").account == ("a@b", "%")
