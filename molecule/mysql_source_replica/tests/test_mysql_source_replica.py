"""What an operator and an application notice of a source with two replicas: what was acknowledged stays.

FOOBAR_SOAK=1 kills twenty switchovers instead of four. FOOBAR_SEED repeats the moments of a report.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pymysql
import pytest
import requests
from conftest import note_figure

ROLE = "mysql_replication"
PROJECT = Path(__file__).resolve().parents[3]
KILLS = 20 if os.environ.get("FOOBAR_SOAK") == "1" else 4
SEED = os.environ.get("FOOBAR_SEED") or datetime.now(UTC).strftime("%Y-%m-%d")
ONE, TWO, THREE = NAMES = ["foobar-mysql2", "foobar-mysql3", "foobar-mysql4"]


def secret(name: str) -> str:
    return (PROJECT / ".local" / name).read_text().strip()


@pytest.fixture(scope="module")
def root(docker):
    """Return a function that runs a statement as root on one member: ``root(ONE, "SELECT 1")``."""

    def run(name: str, statement: str) -> str:
        return docker("exec", name, "timeout", "30", "mysql", "--skip-column-names", "--batch", "--execute", statement)

    return run


@pytest.fixture(scope="module")
def check(addresses):
    """Return a function that asks the role check of a member: status and line."""

    def ask(name: str, path: str, seconds: float = 1) -> tuple[int, str]:
        answer = requests.get(f"http://{addresses[name]}:9200/{path}", timeout=seconds)
        return answer.status_code, answer.text

    return ask


@pytest.fixture(scope="module")
def source(check):
    """Return a function that names the one member that says it is the source."""

    def find() -> str:
        found = []
        for name in NAMES:
            with contextlib.suppress(requests.RequestException):
                found += [name] if check(name, "source")[0] == 200 else []
        assert len(found) == 1, found
        return found[0]

    return find


@pytest.fixture(scope="module")
def operate(playbook):
    """Return a function that runs one of the operator's playbooks: ``operate("switchover", ...)``."""
    return lambda name, *arguments, **variables: playbook(
        PROJECT / f"playbooks/mysql_{name}.yml", *arguments, **variables
    )


@pytest.fixture(scope="module")
def table(root, source):
    """A table that counts an entry as often as it was written."""
    columns = "n INT AUTO_INCREMENT PRIMARY KEY, id CHAR(36) NOT NULL, KEY (id)"
    root(source(), f"CREATE TABLE IF NOT EXISTS guestbook.writes ({columns})")


class Writer:
    """An application that writes to whoever is the source, each entry once, and keeps what was acknowledged."""

    def __init__(self, check, addresses) -> None:
        self.check, self.addresses = check, addresses
        self.acknowledged: list[str] = []
        self.times: list[float] = []
        self.hosts: list[str] = []
        self.connection, self.name = None, ""
        self.stop = threading.Event()

    def __enter__(self) -> Writer:
        self.stop.clear()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.wait_for(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(timeout=30)

    def run(self) -> None:
        while not self.stop.is_set():
            entry = str(uuid.uuid4())
            try:
                self.write(entry)
            except (pymysql.MySQLError, OSError):
                self.connection = None
                self.stop.wait(0.02)
            else:
                self.acknowledged.append(entry)
                self.times.append(time.monotonic())
                self.hosts.append(self.name)
                self.stop.wait(0.005)

    def write(self, entry: str) -> None:
        if self.connection is None:
            self.name = self.find()
            self.connection = pymysql.connect(
                host=self.addresses[self.name],
                user="guestbook",
                password=secret("mysql_replication"),
                ssl={"check_hostname": False},
                autocommit=True,
                connect_timeout=1,
                read_timeout=2,
            )
        with self.connection.cursor() as cursor:
            cursor.execute("INSERT INTO guestbook.writes (id) VALUES (%s)", [entry])

    def find(self) -> str:
        for name in NAMES:
            with contextlib.suppress(requests.RequestException):
                if self.check(name, "source", 0.5)[0] == 200:
                    return name
        raise OSError("no source")

    def wait_for(self, number: int, seconds: float = 90) -> None:
        wanted, end = len(self.acknowledged) + number, time.monotonic() + seconds
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < end, f"no {number} writes within {seconds} s"
            time.sleep(0.02)

    @property
    def gap(self) -> float:
        return max(b - a for a, b in zip(self.times, self.times[1:], strict=False))


def killed_after(seconds: float, victims: list[str], names: list[str], *command: str) -> None:
    """Have the program of all those members at work, and kill it on some of them at that moment."""
    program = "/etc/mysql/mysql_replication/replication.py"
    running = {name: subprocess.Popen(["docker", "exec", name, program, *command]) for name in names}
    time.sleep(seconds)
    for name in victims:
        # The brackets keep it from finding the shell that it is in.
        kill = f"pkill --signal KILL --full '[r]eplication.py {command[0]}' || true"
        subprocess.run(["docker", "exec", name, "sh", "-c", kill], check=True)
    codes = {name: process.wait(timeout=120) for name, process in running.items()}
    note_figure(f"{command[0]} killed on {', '.join(victims)} after {seconds:.2f} s; it ended with {codes}")


@pytest.fixture
def writer(check, addresses, table):
    return Writer(check, addresses)


@pytest.fixture
def nothing_lost(root, eventually):
    """Return a function that compares what was acknowledged with what is on every member, entry by entry."""

    def compare(writer: Writer, names: list[str]) -> None:
        def rows(name: str) -> list[str]:
            return root(name, "SELECT id FROM guestbook.writes").split()

        for name in names:
            eventually(lambda name=name: not set(writer.acknowledged) - set(rows(name)), 15)
            held = rows(name)
            assert len(held) == len(set(held)), f"{name} has entries twice"

    return compare


@pytest.fixture
def applied(role):
    """Return a function that applies the role and expects so many changed tasks on a member, then none any more."""

    def run(*names: str, **variables):
        done = role(ROLE, **variables)
        assert done.code == 0, done.output
        touched = {name for name, number in done.recap("changed").items() if number}
        assert touched == set(names), done.output
        return done

    return run


# --- a group that works


def test_what_is_written_to_the_source_is_on_its_replicas(root, eventually, source):
    assert source() == ONE
    root(ONE, "CREATE TABLE guestbook.first (id INT PRIMARY KEY); INSERT INTO guestbook.first VALUES (42)")
    for name in (TWO, THREE):
        eventually(lambda name=name: root(name, "SELECT id FROM guestbook.first") == "42", 5)
        assert root(name, "SELECT state FROM performance_schema.clone_status") == "Completed"
        assert root(name, "SELECT @@super_read_only, @@server_id <> 0") == "1\t1"
    ids = {root(name, "SELECT @@server_id, @@server_uuid") for name in NAMES}
    assert len({one.split()[0] for one in ids}) == len({one.split()[1] for one in ids}) == 3


def test_writes_wait_for_a_replica_before_anybody_sees_them(root):
    variables = "@@rpl_semi_sync_source_enabled, @@rpl_semi_sync_source_wait_point, @@rpl_semi_sync_source_timeout"
    assert root(ONE, f"SELECT {variables}") == "1\tAFTER_SYNC\t4294967295"
    # A replica would wait for one of its own.
    assert root(TWO, f"SELECT {variables}") == "0\tAFTER_SYNC\t4294967295"
    assert root(ONE, "SHOW STATUS LIKE 'Rpl_semi_sync_source_clients'").split()[1] == "2"


def test_the_account_of_replication_needs_tls_and_the_network(root, addresses, docker):
    login = {"host": addresses[ONE], "user": "replication", "password": secret("mysql_source_replica")}
    with pytest.raises(pymysql.MySQLError, match="Access denied"):
        pymysql.connect(**login, ssl_disabled=True)
    with pymysql.connect(**login, ssl={"check_hostname": False}) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GRANTS")
        grants = " ".join(row[0] for row in cursor.fetchall())
    assert "SELECT" not in grants and "REPLICATION SLAVE" in grants
    assert root(ONE, "SELECT host FROM mysql.user WHERE user = 'replication'") == "198.18.0.0/24"
    # Nowhere where another user of the host could read it.
    word = secret("mysql_source_replica")
    readable = f"runuser --user=nobody -- grep --recursive --files-with-matches {word} /etc /var/log /var/lib || true"
    assert docker("exec", ONE, "sh", "-c", readable) == ""
    assert (
        docker("exec", TWO, "sh", "-c", f"grep --text {word} /var/log/mysql/* /var/lib/mysql/binlog.0* || true") == ""
    )


@pytest.mark.parametrize(
    ("path", "answers"),
    [
        ("source", [200, 503, 503]),
        ("replica", [503, 200, 200]),
        ("readable", [200, 200, 200]),
        ("any", [200, 200, 200]),
        ("else", [404, 404, 404]),
    ],
)
def test_each_member_says_what_it_is(check, path, answers):
    assert [check(name, path)[0] for name in NAMES] == answers


def test_the_role_check_answers_within_a_second_when_mysql_hangs(check, docker, eventually):
    docker("exec", TWO, "systemctl", "kill", "--signal=STOP", "mysql")
    try:
        times = []
        for path in ("source", "replica", "readable"):
            begin = time.monotonic()
            status, line = check(TWO, path)
            times.append(time.monotonic() - begin)
            assert status == 503 and "does not answer" in line, line
    finally:
        docker("exec", TWO, "systemctl", "kill", "--signal=CONT", "mysql")
    note_figure(f"role check while mysqld hangs: {max(times) * 1000:.0f} ms (n=3)")
    eventually(lambda: check(TWO, "replica")[0] == 200)


# --- what mistakes lead to


@pytest.mark.parametrize(
    ("mistakes", "words"),
    [
        (
            {
                "mysql_replication_password": "",
                "mysql_replication_server_id": 7,
                "mysql_replication_bind_address": "127.0.0.1",
                "mysql_replication_members": {
                    ONE: "198.18.0.122",
                    TWO: "198.18.0.123",
                    THREE: "198.18.0.124",
                    "somebody": "198.18.0.124",
                    "else": "db.example",
                },
            },
            [
                "mysql_replication_password: give the account",
                f"{ONE} and {TWO} and {THREE} have the same, 7",
                "the other members cannot reach 127.0.0.1",
                "somebody is no host of the inventory",
                "198.18.0.124 is listed twice",
                "'db.example' is a name",
            ],
        ),
        (
            {"mysql_replication_members": {"foobar-mysql9": "198.18.0.129"}, "mysql_replication_network": "198.18.0.1"},
            [
                "a source and a replica are needed",
                f"{ONE} has to be in it with the address 198.18.0.122",
                "'198.18.0.1' is no network",
            ],
        ),
        ({"mysql_replication_network": "10.0.0.0/8"}, ["10.0.0.0/8 does not contain"]),
    ],
)
def test_mistakes_are_named_before_anything_changes(role, source, mistakes, words):
    done = role(ROLE, **mistakes)
    assert done.code != 0 and done.changed == 0, done.output
    said = " ".join(done.output.split()).replace("''", "'")
    assert [word for word in words if word not in said] == [], done.output
    assert source() == ONE


def test_a_replica_with_errant_transactions_is_refused_and_copied_only_when_named(
    role, root, operate, eventually, check
):
    root(THREE, "SET GLOBAL read_only = OFF; CREATE DATABASE errant; SET GLOBAL super_read_only = ON")
    done = role(ROLE)
    assert done.code != 0 and done.changed == 0, done.output
    said = " ".join(done.output.split())
    assert f"{THREE} holds transactions" in said and f"mysql_rejoin_reseed={THREE}" in said
    assert "errant" in root(THREE, "SHOW DATABASES")
    done = operate("rejoin", mysql_rejoin_reseed=THREE)
    assert done.code == 0, done.output
    assert "errant" not in root(THREE, "SHOW DATABASES")
    eventually(lambda: check(THREE, "replica")[0] == 200)


def test_a_server_with_data_of_its_own_is_refused_untouched_and_cloned_when_it_is_empty(role, root, docker, applied):
    forget = "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL read_only = OFF; DROP USER replication@'198.18.0.0/24'"
    root(THREE, f"SET sql_log_bin = 0; {forget}; RENAME TABLE guestbook.first TO guestbook.theirs")
    docker("exec", THREE, "rm", "-r", "/var/lib/mysql_replication", "/etc/mysql/mysql_replication/members.json")
    done = role(ROLE)
    assert done.code != 0 and done.changed == 0, done.output
    assert f"{THREE} holds data of its own" in " ".join(done.output.split())
    assert root(THREE, "SELECT * FROM guestbook.theirs") == "42"
    assert root(THREE, "SELECT COUNT(*) FROM mysql.user WHERE user = 'replication'") == "0"
    root(THREE, "DROP DATABASE guestbook")
    assert f"cloned from {ONE}" in applied(THREE).output
    assert root(THREE, "SELECT * FROM guestbook.first") == "42"


# --- healing


def test_replicas_that_are_stopped_misled_or_writable_are_healed(root, applied, role, eventually, check):
    root(TWO, "STOP REPLICA; SET GLOBAL read_only = OFF")
    root(THREE, "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_PORT = 1; START REPLICA")
    assert check(TWO, "replica")[0] == check(THREE, "replica")[0] == 503
    predicted = role(ROLE, "--check")
    assert predicted.code == 0 and predicted.changed == 2, predicted.output
    applied(TWO, THREE)
    assert root(TWO, "SELECT @@super_read_only") == "1"
    for name in (TWO, THREE):
        assert check(name, "replica")[0] == 200
    applied()


def test_a_replica_with_damaged_relay_logs_fetches_them_anew(root, docker, applied, check):
    root(TWO, "STOP REPLICA SQL_THREAD")
    root(ONE, "INSERT INTO guestbook.first VALUES (43)")
    time.sleep(0.5)
    damage = (
        "for log in /var/lib/mysql/relay-bin.0*; do dd if=/dev/zero of=$log bs=1 seek=200 count=300 conv=notrunc; done"
    )
    docker("exec", TWO, "sh", "-c", damage)
    root(TWO, "STOP REPLICA")
    applied(TWO)
    assert check(TWO, "replica")[0] == 200
    assert root(TWO, "SELECT COUNT(*) FROM guestbook.first WHERE id = 43") == "1"


def test_a_changed_password_reaches_everybody_and_is_never_shown(role, root, check, addresses):
    new = "planted-canary '\"\\$%#"
    done = role(ROLE, "-vvv", "--diff", mysql_replication_password=new)
    assert done.code == 0 and "planted-canary" not in done.output, done.output
    with pymysql.connect(
        host=addresses[TWO], user="replication", password=new, ssl={"check_hostname": False}
    ) as connection:
        assert connection.open
    for name in (TWO, THREE):
        root(name, "STOP REPLICA; START REPLICA")
    again = role(ROLE, mysql_replication_password=new)
    assert again.code == 0 and again.changed == 0, again.output
    back = role(ROLE)
    assert back.code == 0, back.output
    assert [check(name, "readable")[0] for name in NAMES] == [200, 200, 200]


def test_a_restarted_source_is_opened_when_the_others_have_been_asked(docker, source, eventually, root):
    docker("exec", ONE, "systemctl", "restart", "mysql")
    begin = time.monotonic()
    assert eventually(source, 15) == ONE
    root(ONE, "INSERT INTO guestbook.first VALUES (44)")
    note_figure(f"a restarted source is open again after {time.monotonic() - begin:.1f} s")


def test_a_replica_does_not_go_on_waiting_for_replicas_of_its_own(root, eventually, source):
    """As one is left by a hand-over that is interrupted: the guard sees to it."""
    root(TWO, "SET GLOBAL rpl_semi_sync_source_enabled = ON")
    eventually(lambda: root(TWO, "SELECT @@rpl_semi_sync_source_enabled") == "0")
    assert source() == ONE


# --- switchover, failover, rejoin


def test_a_switchover_loses_nothing_and_is_hardly_noticed(operate, writer, nothing_lost, source):
    with writer:
        predicted = operate("switchover", "--check", mysql_switchover_to=TWO)
        assert predicted.code == 0 and f"{TWO} takes over" in predicted.output, predicted.output
        assert source() == ONE
        done = operate("switchover", mysql_switchover_to=TWO)
        assert done.code == 0, done.output
        writer.wait_for(50)
    assert source() == TWO and set(writer.hosts) == {ONE, TWO}
    note_figure(f"switchover: longest gap {writer.gap * 1000:.0f} ms, {len(writer.acknowledged)} writes, none lost")
    assert writer.gap <= 1
    nothing_lost(writer, NAMES)


def test_neither_a_run_of_the_role_nor_the_same_switchover_changes_what_was_switched(operate, applied, source):
    applied()
    again = operate("switchover", mysql_switchover_to=TWO)
    assert again.code == 0 and again.changed == 0, again.output
    assert source() == TWO


def test_a_switchover_to_somebody_who_cannot_is_refused(operate, root, source, eventually, applied):
    done = operate("switchover", mysql_switchover_to="nobody")
    assert done.code != 0 and "is no member" in done.output
    root(THREE, "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = 'wrong'; START REPLICA")
    eventually(lambda: "Access denied" in root(THREE, "SHOW REPLICA STATUS"))
    done = operate("switchover", mysql_switchover_to=THREE)
    assert done.code != 0 and f"{THREE} does not replicate from {TWO}: Error" in " ".join(done.output.split())
    assert source() == TWO
    applied(THREE)


def test_a_switchover_that_is_killed_loses_nothing_and_is_finished_by_the_next(
    docker, writer, nothing_lost, source, eventually, operate
):
    """Killed at any moment, on one member or on all: there is one source again before anybody does anything."""
    dice = random.Random(SEED)  # noqa: S311 - moments, not secrets
    note_figure(f"{KILLS} killed switchovers, FOOBAR_SEED={SEED}")
    with writer:
        for _ in range(KILLS):
            old = source()
            new = next(name for name in NAMES if name != old)
            killed_after(dice.uniform(0.2, 0.8), dice.choice([[old], [new], NAMES]), NAMES, "switchover", f"--to={new}")
            eventually(source, 60)
            writer.wait_for(20)
            done = operate("switchover", mysql_switchover_to=new)
            assert done.code == 0, done.output
            assert source() == new
    nothing_lost(writer, NAMES)


def test_a_failover_after_kill_loses_nothing_and_the_old_source_comes_back(
    operate, writer, nothing_lost, docker, source, eventually, check, rejoin
):
    with writer:
        docker("exec", TWO, "sh", "-c", "systemctl mask --quiet mysql && systemctl kill --signal=KILL mysql")
        predicted = operate("failover", "--check")
        assert predicted.code == 0 and "is promoted" in predicted.output, predicted.output
        begin = time.monotonic()
        done = operate("failover")
        assert done.code == 0, done.output
        seconds = time.monotonic() - begin
        writer.wait_for(50)
    new = source()
    assert new != TWO
    note_figure(f"failover after kill -9: playbook {seconds:.1f} s, {len(writer.acknowledged)} writes, none lost")
    nothing_lost(writer, [name for name in NAMES if name != TWO])
    rejoin(TWO)
    eventually(lambda: check(TWO, "replica")[0] == 200)
    nothing_lost(writer, NAMES)


def test_a_failover_that_is_killed_loses_nothing_and_is_finished_by_the_next(
    docker, writer, nothing_lost, source, eventually, operate, rejoin
):
    """On one member that is left or on both. Whoever was promoted stays so."""
    dice = random.Random(SEED)  # noqa: S311 - moments, not secrets
    note_figure(f"{KILLS // 4} killed failovers, FOOBAR_SEED={SEED}")
    for _ in range(KILLS // 4):
        old = source()
        left = [name for name in NAMES if name != old]
        with writer:
            docker("exec", old, "sh", "-c", "systemctl mask --quiet mysql && systemctl kill --signal=KILL mysql")
            killed_after(
                dice.uniform(0.15, 0.35), dice.choice([left[:1], left[1:], left]), left, "failover", f"--fenced={old}"
            )
            done = operate("failover")
            assert done.code == 0, done.output
            writer.wait_for(20)
        assert source() != old
        nothing_lost(writer, left)
        rejoin(old)
    nothing_lost(writer, NAMES)


def test_a_failover_after_a_cut_loses_nothing_and_never_has_two_sources(
    operate, writer, nothing_lost, docker, root, source, eventually, check, addresses, rejoin
):
    old = source()
    with writer:
        docker("network", "disconnect", "foobar", old)
        try:
            begin = time.monotonic()
            done = operate("failover")
            assert done.code == 0, done.output
            seconds = time.monotonic() - begin
            assert root(old, "SELECT @@super_read_only, @@read_only") == "1\t1"
            writer.wait_for(50)
        finally:
            last = addresses[old].rpartition(".")[2]
            where = ["--ip", addresses[old], "--ip6", f"fd5a:f00b:a5::{last}"]
            docker("network", "connect", *where, "foobar", old)
    note_figure(f"failover after a cut: playbook {seconds:.1f} s, {len(writer.acknowledged)} writes, none lost")
    new = source()
    assert new != old
    nothing_lost(writer, [name for name in NAMES if name != old])
    eventually(lambda: check(old, "source")[0] == 503)
    rejoin(old)
    eventually(lambda: check(old, "replica")[0] == 200)
    nothing_lost(writer, NAMES)


def test_a_failover_that_could_lose_data_is_refused_until_it_is_accepted_by_name(
    operate, docker, source, eventually, root, check
):
    old = source()
    left, other = (name for name in NAMES if name != old)
    for name in (old, other):
        docker("exec", name, "sh", "-c", "systemctl mask --quiet mysql && systemctl kill --signal=KILL mysql")
    refused = operate("failover")
    said = " ".join(refused.output.split())
    assert refused.code != 0 and f"mysql_failover_accept_loss={other}" in said, refused.output
    assert check(left, "source")[0] == 503
    done = operate("failover", mysql_failover_accept_loss=other)
    assert done.code == 0, done.output
    assert source() == left
    # Nobody is left to wait for: until there is, writes do not wait for ever.
    root(left, "CREATE TABLE IF NOT EXISTS guestbook.alone (id INT)")
    back = operate("rejoin")
    assert back.code == 0, back.output
    eventually(lambda: root(left, "SELECT @@rpl_semi_sync_source_timeout") == "4294967295")
    assert [check(name, "readable")[0] for name in NAMES] == [200, 200, 200]


def test_at_the_end_nothing_is_left_to_do(role):
    for arguments in ([], ["--check"]):
        done = role(ROLE, *arguments)
        assert done.code == 0 and done.changed == 0, done.output
