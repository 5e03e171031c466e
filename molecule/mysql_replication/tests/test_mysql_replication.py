"""What an application and an operator notice of MySQL: who gets in, what stays, and what a mistake leads to."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import pytest

ROLE = "mysql_replication"
NAME = "foobar-mysql1"
RIGHTS = {"guestbook.*": ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX", "REFERENCES"]}


@pytest.fixture(scope="module")
def host(hosts):
    return hosts[NAME]


@pytest.fixture(scope="module")
def address(addresses):
    return addresses[NAME]


@pytest.fixture(scope="module")
def password():
    return (Path(__file__).parents[3] / ".local/mysql_replication").read_text().strip()


@pytest.fixture(scope="module")
def root(host):
    """Return a function that runs a statement as root through the socket and returns what it prints."""

    def run(statement: str, login: str = "root") -> str:
        done = host.run(f"mysql --user={login} --skip-column-names --batch --execute {shlex.quote(statement)}")
        assert done.rc == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def login(host, address):
    """Return a function that runs a statement over TCP as a user with a password: the result of the client."""

    def run(statement: str, user: str, password: str, tls: str = "REQUIRED"):
        client = f"mysql --host={address} --user={user} --ssl-mode={tls} --skip-column-names --batch"
        return host.run(f"MYSQL_PWD={shlex.quote(password)} {client} --execute {shlex.quote(statement)}")

    return run


@pytest.fixture(scope="module")
def starts(host):
    """Return a function that counts how often MySQL has been started."""
    return lambda: int(host.check_output("journalctl --unit=mysql --output=cat | grep --count '^Started '"))


@pytest.fixture(scope="module")
def row(login, password):
    """A row that the application has written. Whatever the tests do, it stays."""
    for statement in (
        "CREATE TABLE IF NOT EXISTS guestbook.entries (id INT PRIMARY KEY, message TEXT)",
        "REPLACE INTO guestbook.entries VALUES (1, 'still here')",
    ):
        done = login(statement, "guestbook", password)
        assert done.rc == 0, done.stderr
    return "still here"


@pytest.fixture
def fails(role, starts, login, password, row):
    """Return a function that applies the role with a mistake: one clear error, nothing changed, the server goes on."""

    def run(*words: str, changed: int = 0, restarted: bool = False, **variables) -> str:
        before = starts()
        done = role(ROLE, **variables)
        assert done.code != 0, done.output
        assert done.output.count("[ERROR]: Task failed") == 1, done.output
        for word in words:
            assert word in done.output
        assert done.changed == changed
        assert restarted or starts() == before
        assert login("SELECT message FROM guestbook.entries", "guestbook", password).stdout.strip() == row
        return done.output

    return run


def user(password: str, **changes) -> list[dict]:
    return [{"name": "guestbook", "host": "198.18.0.0/24", "password": password, "privileges": RIGHTS} | changes]


# --- who gets in


def test_the_server_answers_on_its_port_only(address, host):
    with socket.create_connection((address, 3306), timeout=5) as connection:
        assert b"9.7." in connection.recv(200)
    assert not host.socket("tcp://33060").is_listening
    assert not host.socket("tcp://127.0.0.1:33060").is_listening


def test_the_application_works_in_its_own_database_only(login, password, row, root):
    assert login("SELECT message FROM guestbook.entries", "guestbook", password).stdout.strip() == row
    assert "TLS" in login("SHOW SESSION STATUS LIKE 'Ssl_version'", "guestbook", password).stdout
    root("CREATE DATABASE IF NOT EXISTS other")
    for statement in ("DROP DATABASE other", "CREATE TABLE other.t (id INT)", "SELECT * FROM mysql.user"):
        refused = login(statement, "guestbook", password)
        assert refused.rc != 0
        assert "denied" in refused.stderr


def test_the_application_is_refused_without_tls_or_with_a_wrong_password(login, password):
    for refused in (login("SELECT 1", "guestbook", password, "DISABLED"), login("SELECT 1", "guestbook", "wrong")):
        assert refused.rc != 0
        assert "Access denied" in refused.stderr


def test_root_logs_in_through_the_socket_only(host, login, root):
    assert root("SELECT CURRENT_USER()") == "root@localhost"
    assert login("SELECT 1", "root", "").rc != 0
    assert host.run("runuser --user=nobody -- mysql --user=root --execute 'SELECT 1'").rc != 0
    assert root("SELECT user FROM mysql.user WHERE user = ''") == ""
    assert not host.file("/root/.my.cnf").exists


def test_the_server_runs_with_what_was_asked(root, host):
    values = dict(line.split("\t") for line in root("SHOW GLOBAL VARIABLES").splitlines() if line.count("\t") == 1)
    wanted = {
        "binlog_format": "ROW",
        "enforce_gtid_consistency": "ON",
        "gtid_mode": "ON",
        "innodb_buffer_pool_size": str(256 * 1024 * 1024),
        "innodb_flush_log_at_trx_commit": "1",
        "log_bin": "ON",
        "max_connections": "200",
        "skip_name_resolve": "ON",
        "sync_binlog": "1",
    }
    assert {name: values[name] for name in wanted} == wanted
    assert int(values["server_id"]) > 1
    assert host.service("mysql").is_enabled


# --- what mistakes lead to


def test_a_refused_option_is_named_and_changes_nothing(fails):
    fails("no_such_option", "the running one is untouched", mysql_replication_options={"no_such_option": 1})


def test_a_server_that_does_not_start_gets_its_old_options_back(fails):
    # The check cannot see this one: the address is well-formed, but not of this host.
    output = fails(
        "Can't start server", "old one is back in place", restarted=True, mysql_replication_bind_address="203.0.113.9"
    )
    assert "Cannot assign requested address" in output


def test_all_contradictions_are_reported_before_anything_is_changed(fails):
    fails(
        "guestbook@198.18.0.0/24 is listed twice",
        "the password of guestbook is empty",
        "the host 'app1.example' of reader is a name",
        "'root' is an account of the server's own",
        "'mysql' belongs to the server",
        "90000000 MB do not fit",
        mysql_replication_users=[
            *user(""),
            *user("x"),
            {"name": "reader", "host": "app1.example", "password": "x"},
            {"name": "root", "password": "x"},
        ],
        mysql_replication_databases=[{"name": "mysql"}],
        mysql_replication_buffer_pool_mb=90000000,
    )


def test_a_missing_password_is_named_before_anything_is_changed(fails):
    fails(
        "missing required arguments: password found in mysql_replication_users",
        mysql_replication_users=[{"name": "guestbook"}],
    )


def test_a_right_that_does_not_exist_is_named_without_the_password(fails):
    wrong = user("planted-canary-1", name="other", privileges={"guestbook.*": ["SELEKT"]})
    output = fails("mysql_replication_users, other:", "SELEKT", changed=0, mysql_replication_users=wrong)
    assert "planted-canary-1" not in output


def test_a_root_password_of_somebody_else_is_refused_and_an_empty_one_replaced(fails, role, root):
    def by_password(value: str) -> str:
        return f"ALTER USER root@localhost IDENTIFIED WITH caching_sha2_password BY '{value}'"

    root(by_password("theirs"))
    fails("root cannot log in to MySQL on foobar-mysql1", "IDENTIFIED WITH auth_socket")
    root(by_password(""), login="debian-sys-maint")
    healed = role(ROLE)
    assert (healed.code, healed.changed) == (0, 1), healed.output
    assert root("SELECT plugin FROM mysql.user WHERE user = 'root' AND host = 'localhost'") == "auth_socket"


# --- what changes lead to


def test_a_changed_option_and_password_are_applied_once_and_never_shown(role, root, login, password, row, starts):
    before = starts()
    new, wish = "planted-canary-2 '\"\\$%#", {"mysql_replication_max_connections": 150}
    wish["mysql_replication_users"] = user(new)
    predicted = role(ROLE, "--check", "-vvv", "--diff", **wish)
    assert (predicted.code, predicted.changed) == (0, 2), predicted.output
    assert starts() == before
    done = role(ROLE, "-vvv", "--diff", **wish)
    assert (done.code, done.changed) == (0, 2), done.output
    assert "+max_connections = 150" in done.output
    for run in (predicted, done):
        assert "planted-canary" not in run.output
        assert password not in run.output
    assert starts() == before + 1
    assert root("SELECT @@max_connections") == "150"
    assert login("SELECT message FROM guestbook.entries", "guestbook", new).stdout.strip() == row
    assert login("SELECT 1", "guestbook", password).rc != 0
    again = role(ROLE, **wish)
    assert (again.code, again.changed) == (0, 0), again.output


def test_a_good_run_heals_a_stopped_server_and_lost_rights(role, root, host, login, password, row):
    root("REVOKE INSERT ON guestbook.* FROM guestbook@'198.18.0.0/24'; CREATE USER ''@localhost")
    host.check_output("systemctl disable --now mysql")
    predicted = role(ROLE, "--check")
    assert predicted.code == 0, predicted.output
    assert not host.service("mysql").is_running
    done = role(ROLE)
    assert done.code == 0, done.output
    assert host.service("mysql").is_enabled
    assert root("SELECT @@max_connections") == "200"
    assert root("SELECT COUNT(*) FROM mysql.user WHERE user = ''") == "0"
    assert root("SHOW DATABASES LIKE 'other'") == "other"
    written = login("REPLACE INTO guestbook.entries VALUES (2, 'again')", "guestbook", password)
    assert written.rc == 0, written.stderr
    assert row in root("SELECT message FROM guestbook.entries")
    again = role(ROLE, "--check")
    assert (again.code, again.changed) == (0, 0), again.output
