"""Which accounts of an earlier stage go, and which stay."""

from __future__ import annotations

import re

import pytest
from mysql_replication import accounts
from mysql_replication.local import Failure, Report


class Server:
    """As much of a server as is asked here: accounts, sessions by account, and whether it takes writes."""

    def __init__(self, known: set[str], sessions: dict[str, int] | None = None, closed: bool = False) -> None:
        self.known, self.sessions, self.closed = known, sessions or {}, closed
        self.rows: list[dict] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def cursor(self):
        return self

    def execute(self, statement: str, values=None) -> None:
        account = "@".join(values or ())
        if "super_read_only" in statement:
            self.rows = [{"closed": int(self.closed)}]
        elif "mysql.user" in statement:
            self.rows = [{"1": 1}] if account in self.known else []
        elif "processlist" in statement:
            self.rows = [{"number": self.sessions.get(account, 0)}]
        else:
            assert re.fullmatch(r"DROP USER %s@%s", statement)
            self.known.remove(account)

    def fetchall(self) -> list[dict]:
        return self.rows


@pytest.fixture
def remove(monkeypatch):
    monkeypatch.setattr("mysql_replication.local.log", lambda *_: None)

    def run(server: Server, *names: str, check: bool = False) -> Report:
        monkeypatch.setattr(accounts, "connect_as_root", lambda: server)
        report = Report(check)
        accounts.remove_accounts(report, list(names))
        return report

    return run


def test_an_account_that_is_there_goes_and_another_stays(remove):
    server = Server({"shop@localhost", "shop@192.0.2.0/24"})
    report = remove(server, "shop@localhost", "blog@localhost")
    assert (report.changed, report.done) == (True, ["removed the account shop@localhost"])
    assert server.known == {"shop@192.0.2.0/24"}
    assert not remove(server, "shop@localhost").changed


def test_check_mode_names_it_and_leaves_it(remove):
    server = Server({"shop@localhost"})
    report = remove(server, "shop@localhost", check=True)
    assert (report.changed, report.plan) == (True, ["removed the account shop@localhost"])
    assert server.known == {"shop@localhost"}


def test_a_replica_gets_it_from_the_source(remove):
    server = Server({"shop@localhost"}, closed=True)
    assert not remove(server, "shop@localhost").changed
    assert server.known == {"shop@localhost"}


def test_one_that_is_in_use_keeps_all(remove):
    server = Server({"blog@localhost", "shop@localhost"}, {"shop@localhost": 2})
    with pytest.raises(Failure, match="shop@localhost is in use by 2 sessions; no account has been removed"):
        remove(server, "blog@localhost", "shop@localhost")
    assert server.known == {"blog@localhost", "shop@localhost"}
