"""Which accounts of an earlier stage go, and which stay."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import mysql_replication as rules
from mysql_replication import accounts
from mysql_replication.local import Failure, Report

PROJECT = Path(__file__).resolve().parents[4]


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


@pytest.mark.parametrize("name", accounts.SYSTEM_USERS)
def test_the_servers_own_are_never_removed(remove, name):
    server = Server({f"{name}@localhost", "shop@localhost"})
    with pytest.raises(Failure, match=f"{name}@localhost is an account of the server's own; no account has been"):
        remove(server, "shop@localhost", f"{name}@localhost")
    assert server.known == {f"{name}@localhost", "shop@localhost"}


def test_the_servers_own_are_those_of_the_rules():
    assert accounts.SYSTEM_USERS == rules.SYSTEM_USERS


def test_one_that_is_in_use_keeps_all(remove):
    server = Server({"blog@localhost", "shop@localhost"}, {"shop@localhost": 2})
    with pytest.raises(Failure, match="shop@localhost is in use by 2 sessions; no account has been removed"):
        remove(server, "blog@localhost", "shop@localhost")
    assert server.known == {"blog@localhost", "shop@localhost"}


def test_what_the_inventory_lists_stays_and_no_name_is_split(tmp_path):
    program = tmp_path / "mysql-replication"
    said = '{"changed": false, "plan": [], "done": []}'
    program.write_text(f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'asked')!r}, 'w').write(sys.argv[2])\n")
    with program.open("a") as file:
        file.write(f"print({said!r})\n")
    program.chmod(0o700)
    wanted = ["guestbook@localhost", "shop@localhost", "blog@localhost", "a,mysql.sys@localhost"]
    users = [
        {"name": "guestbook", "password": "x"},
        {"name": "shop", "host": "192.0.2.0/24", "password": "x"},
        {"name": "blog", "host": "localhost", "password": "x"},
    ]
    role = {"name": "foobar.web_infrastructure.mysql_replication", "tasks_from": "remove_accounts"}
    variables = {
        "mysql_replication_removed_accounts": wanted,
        "mysql_replication_users": users,
        "__mysql_replication_program": str(program),
        "ansible_python_interpreter": sys.executable,
    }
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": role}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", tmp_path / "play.yml", "--check"]
    done = subprocess.run([*command, "-e", json.dumps(variables)], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    option, _sign, asked = (tmp_path / "asked").read_text().partition("=")
    assert (option, json.loads(asked)) == ("--accounts", ["shop@localhost", "a,mysql.sys@localhost"])
