"""What an operator and an application notice of a source with two replicas: what was acknowledged stays.

FOOBAR_SOAK=1 kills twenty switchovers, five failovers and five first runs; otherwise one of a kind, which changes with
the day. FOOBAR_SEED repeats the choice and the moments of a report.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import time

import pymysql
import pytest
import requests
import yaml
from helpers.load import within
from helpers.run import PROJECT, SEED, SOAK, note_figure, run_at_a_terminal
from helpers.writer import DatabaseWriter, Growing

ROLE = "mysql_replication"
PUBLISHED = yaml.safe_load((PROJECT / "roles/mysql_replication/vars/published.yml").read_text())[
    "mysql_replication_published"
]
PROGRAM = PUBLISHED["program"]
KILLS = 20 if SOAK else 1
# Of failovers and first runs, which take longer.
LONG_KILLS = max(1, KILLS // 4)
KILLED = random.Random(SEED).choice(["switchover", "failover", "first run"])  # noqa: S311 - a choice, no secret
ONE, TWO, THREE = NAMES = ["foobar-mysql2", "foobar-mysql3", "foobar-mysql4"]


# How a balancer asks, and how often tens of them do.
REQUEST = b"GET /source HTTP/1.1\r\nHost: db\r\nConnection: close\r\n\r\n"
POLLERS, POLL_S = 40, 0.1


def only_today(what: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not SOAK and what != KILLED, reason=f"make soak; with FOOBAR_SEED={SEED} a {KILLED}")


def secret(name: str) -> str:
    return (PROJECT / ".local" / name).read_text().strip()


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


def killed_after(seconds: float, victims: list[str], names: list[str], *command: str) -> None:
    """Have the program of all those members at work, and kill it on some of them at that moment."""
    running = {name: subprocess.Popen(["docker", "exec", name, PROGRAM, *command]) for name in names}
    time.sleep(seconds)
    for name in victims:
        # The brackets keep it from finding the shell that it is in.
        kill = f"pkill --signal KILL --full '[m]ysql-replication {command[0]}' || true"
        subprocess.run(["docker", "exec", name, "sh", "-c", kill], check=True)
    codes = {name: process.wait(timeout=120) for name, process in running.items()}
    note_figure(f"{command[0]} killed on {', '.join(victims)} after {seconds:.2f} s; it ended with {codes}")


@pytest.fixture
def writer(check, addresses, table):
    """An application that writes to the source, each entry once, and keeps what was acknowledged."""

    def find() -> str:
        for name in NAMES:
            with contextlib.suppress(requests.RequestException):
                if check(name, "source", 0.5)[0] == 200:
                    return name
        raise OSError("no source")

    login = {"user": "guestbook", "password": secret("mysql_replication"), "ssl": {"check_hostname": False}}
    return DatabaseWriter(find, {name: {"host": addresses[name], **login} for name in NAMES})


@pytest.fixture
def nothing_lost(root, eventually):
    """Return a function that compares what was acknowledged with what is on every member, entry by entry."""

    def compare(writer: DatabaseWriter, names: list[str]) -> None:
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


@pytest.fixture
def run_events(root, eventually):
    """Return a function that waits until the event of the tests runs on that member, and that it runs on no other."""

    def wait(name: str) -> None:
        newest = "SELECT GROUP_CONCAT(DISTINCT host) FROM (SELECT host FROM guestbook.ticks ORDER BY n DESC LIMIT 3) t"
        eventually(lambda: root(name, newest) == name)
        statuses = "SELECT event_name, status FROM information_schema.events ORDER BY event_name"
        assert root(name, statuses).split() == ["retired", "DISABLED", "tick", "ENABLED"]
        definers = "SELECT DISTINCT definer FROM information_schema.events"
        assert root(name, definers) == "guestbook@198.18.0.0/24"
        assert [other for other in NAMES if root(other, "SELECT @@event_scheduler") == "ON"] == [name]

    return wait


# --- a group that works


def test_a_server_that_got_replicas_went_on_writing_and_lost_nothing(docker, root, eventually, source):
    assert source() == ONE
    grown = Growing(docker, ONE)
    note_figure(f"growing under a writer, block: longest gap {grown.gap:.1f} s, {len(grown.acknowledged)} writes")
    for name in NAMES:
        eventually(lambda name=name: not grown.missing(root, name), 10)
    # One restart, and no wait for a replica that is still to come.
    assert grown.gap < 30


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


def test_the_role_check_answers_at_once_when_mysql_hangs(check, docker, eventually, addresses):
    docker("exec", TWO, "systemctl", "kill", "--signal=STOP", "mysql")
    try:
        # As old as an answer from memory may be.
        time.sleep(0.1)
        begin = time.monotonic()
        status, line = check(TWO, "readable")
        first = time.monotonic() - begin
        assert status == 503 and "does not answer" in line, line
        times = asyncio.run(asked(addresses[TWO], 5, POLLERS, POLL_S))
        for path in ("source", "replica", "readable", "any"):
            status, line = check(TWO, path)
            assert status == 503 and "does not answer" in line, line
    finally:
        docker("exec", TWO, "systemctl", "kill", "--signal=CONT", "mysql")
    note_figure(
        f"role check while mysqld hangs: first answer {first * 1000:.0f} ms, then p50 {milliseconds(times, 0.5)}, "
        f"p99 {milliseconds(times, 0.99)} (n={len(times)})"
    )
    assert first < 1
    eventually(lambda: check(TWO, "replica")[0] == 200)


def test_published_units_run_and_published_paths_are_answered(docker, check):
    for unit in PUBLISHED["units"].values():
        assert docker("exec", ONE, "systemctl", "is-active", unit) == "active"
    for name in ("source", "readable", "any"):
        assert check(ONE, PUBLISHED["check"][name].removeprefix("/"))[0] == 200


async def asked(address: str, seconds: float, clients: int, pause: float) -> list[float]:
    """Ask the role check for so long from so many clients, each over a new connection; how long each answer took."""
    end, times = time.monotonic() + seconds, []

    async def poll(offset: float) -> None:
        await asyncio.sleep(offset)
        while time.monotonic() < end:
            begin = time.monotonic()
            reader, writer = await asyncio.open_connection(address, 9200)
            writer.write(REQUEST)
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 "), answer
            times.append(time.monotonic() - begin)
            await asyncio.sleep(pause)

    await asyncio.gather(*(poll(pause * number / clients) for number in range(clients)))
    return sorted(times)


def cpu_seconds(docker, name: str) -> float:
    """What the role check of a member has used of a core."""
    pid = docker("exec", name, "systemctl", "show", "--property=MainPID", "--value", "mysql_replication_check")
    fields = docker("exec", name, "cat", f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def milliseconds(times: list[float], share: float) -> str:
    return f"{times[int(len(times) * share)] * 1000:.1f} ms"


def test_the_role_check_bears_tens_of_balancers(addresses, docker):
    for what, clients, pause in (
        (f"{POLLERS} pollers every {POLL_S} s", POLLERS, POLL_S),
        ("as fast as 16 can", 16, 0),
    ):
        before = cpu_seconds(docker, ONE)
        times = asyncio.run(asked(addresses[ONE], 5, clients, pause))
        rate = len(times) / (cpu_seconds(docker, ONE) - before)
        note_figure(
            f"role check, {what}: {len(times) / 5:.0f} answers/s, {rate:.0f} for each second of one core, "
            f"p50 {milliseconds(times, 0.5)}, p99 {milliseconds(times, 0.99)} (n={len(times)})"
        )
    assert rate > 500, "far from the 2,000 that were measured"
    connections = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'mysql_replication_check'"
    assert docker("exec", ONE, "mysql", "--skip-column-names", "--execute", connections) == "2"


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
                "give the account of replication a password of 1 to 32 characters",
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
    # Or it takes the server for a source, which waits for a replica with every write.
    docker("exec", THREE, "systemctl", "stop", "mysql_replication_guard")
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


# --- semi-sync while there is no replica


@pytest.fixture
def without_replicas(docker, eventually, check):
    """The source alone; afterwards as before."""
    for name in (TWO, THREE):
        docker("exec", name, "systemctl", "stop", "mysql")
    yield
    for name in (TWO, THREE):
        docker("exec", name, "systemctl", "start", "mysql")
    eventually(lambda: [check(name, "readable")[0] for name in NAMES] == [200, 200, 200])


def written(name: str, number: int) -> subprocess.Popen:
    """A client that writes, and waits for its answer."""
    statement = f"INSERT INTO guestbook.first VALUES ({number})"  # noqa: S608 - a number
    return subprocess.Popen(["docker", "exec", name, "mysql", "--execute", statement])


def test_a_changed_policy_counts_for_writes_that_wait_already(docker, root, eventually, without_replicas):
    waiting = written(ONE, 101)
    eventually(lambda: root(ONE, "SHOW STATUS LIKE 'Rpl_semi_sync_source_wait_sessions'").split()[1] == "1")
    settings = "/etc/mysql/mysql_replication/members.json"
    docker("exec", ONE, "sed", "-i.kept", 's/"block"/"degrade"/; s/4294967295/1000/', settings)
    try:
        assert waiting.wait(10) == 0
    finally:
        docker("exec", ONE, "mv", f"{settings}.kept", settings)


def test_the_only_replica_is_copied_anew_under_a_writer(docker, root, eventually, without_replicas):
    docker("exec", TWO, "systemctl", "start", "mysql")
    root(TWO, "STOP REPLICA; SET GLOBAL read_only = OFF; CREATE DATABASE errant; SET GLOBAL super_read_only = ON")
    waiting = written(ONE, 102)
    docker("exec", TWO, PROGRAM, "rejoin", f"--reseed={TWO}")
    assert waiting.wait(1) == 0
    eventually(lambda: root(TWO, "SELECT COUNT(*) FROM guestbook.first WHERE id = 102") == "1")
    # From now on writes wait again.
    assert root(ONE, "SELECT @@rpl_semi_sync_source_enabled, @@rpl_semi_sync_source_timeout") == "1\t4294967295"
    note = "attribute->>'$.mysql_replication_alone' = 'true'"
    notes = f"SELECT COUNT(*) FROM information_schema.user_attributes WHERE {note}"  # noqa: S608 - ours
    for name in (ONE, TWO):
        eventually(lambda name=name: root(name, notes) == "0")


# --- healing


def test_replicas_that_are_stopped_misled_or_writable_are_healed(root, applied, role, eventually, check):
    root(TWO, "STOP REPLICA; SET GLOBAL read_only = OFF")
    root(THREE, "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_PORT = 1; START REPLICA")
    # An answer may be as old as the check lets it be.
    eventually(lambda: check(TWO, "replica")[0] == check(THREE, "replica")[0] == 503)
    predicted = role(ROLE, "--check")
    assert predicted.code == 0 and predicted.changed == 2, predicted.output
    applied(TWO, THREE)
    assert root(TWO, "SELECT @@super_read_only") == "1"
    for name in (TWO, THREE):
        eventually(lambda name=name: check(name, "replica")[0] == 200)
    applied()


def test_a_replica_with_damaged_relay_logs_fetches_them_anew(root, docker, applied, check, eventually):
    root(TWO, "STOP REPLICA SQL_THREAD")
    root(ONE, "INSERT INTO guestbook.first VALUES (43)")
    time.sleep(0.5)
    damage = (
        "for log in /var/lib/mysql/relay-bin.0*; do dd if=/dev/zero of=$log bs=1 seek=200 count=300 conv=notrunc; done"
    )
    docker("exec", TWO, "sh", "-c", damage)
    root(TWO, "STOP REPLICA")
    applied(TWO)
    eventually(lambda: check(TWO, "replica")[0] == 200)
    eventually(lambda: root(TWO, "SELECT COUNT(*) FROM guestbook.first WHERE id = 43") == "1")


def test_a_changed_password_reaches_everybody_and_is_never_shown(role, root, check, addresses, eventually):
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
    eventually(lambda: [check(name, "readable")[0] for name in NAMES] == [200, 200, 200])


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


def test_events_run_on_the_source(root, run_events):
    root(ONE, "CREATE TABLE guestbook.ticks (n INT AUTO_INCREMENT PRIMARY KEY, host VARCHAR(60))")
    event = "CREATE DEFINER = guestbook@'198.18.0.0/24' EVENT guestbook.{} ON SCHEDULE EVERY 1 SECOND DO {}"
    root(ONE, event.format("tick", "INSERT INTO guestbook.ticks (host) VALUES (@@hostname)"))
    root(ONE, event.format("retired", "DELETE FROM guestbook.ticks"))
    root(ONE, "ALTER DEFINER = guestbook@'198.18.0.0/24' EVENT guestbook.retired DISABLE")
    run_events(ONE)


@pytest.fixture(scope="module")
def journal(docker):
    """Return a function that returns what the programs of a member have logged."""
    return lambda name: docker("exec", name, "journalctl", "--identifier=mysql_replication", "--output=cat")


def test_a_switchover_loses_nothing_and_is_hardly_noticed(operate, writer, nothing_lost, source, journal):
    with writer:
        predicted = operate("switchover", "--check", mysql_switchover_to=TWO)
        assert predicted.code == 0 and f"{TWO} takes over" in predicted.output, predicted.output
        assert source() == ONE
        done = operate("switchover", mysql_switchover_to=TWO)
        assert done.code == 0, done.output
        writer.wait_for(50)
    assert source() == TWO and set(writer.hosts) == {ONE, TWO}
    assert f"{TWO}: promoted: switchover from {ONE}" in journal(TWO)
    assert f"{ONE}: closed for writing: switchover to {TWO}" in journal(ONE)
    note_figure(f"switchover: longest gap {writer.gap * 1000:.0f} ms, {len(writer.acknowledged)} writes, none lost")
    assert writer.gap <= within(1)
    nothing_lost(writer, NAMES)


def test_neither_a_run_of_the_role_nor_the_same_switchover_changes_what_was_switched(
    operate, applied, source, run_events
):
    run_events(TWO)
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


@only_today("switchover")
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
    operate, writer, nothing_lost, docker, source, eventually, check, rejoin, root, run_events
):
    old = source()
    with writer:
        docker("exec", old, "sh", "-c", "systemctl mask --quiet mysql && systemctl kill --signal=KILL mysql")
        predicted = operate("failover", "--check")
        assert predicted.code == 0 and "is promoted: " in predicted.output, predicted.output
        begin = time.monotonic()
        done = operate("failover")
        assert done.code == 0, done.output
        seconds = time.monotonic() - begin
        writer.wait_for(50)
    new = source()
    assert new != old
    note_figure(f"failover after kill -9: playbook {seconds:.1f} s, {len(writer.acknowledged)} writes, none lost")
    nothing_lost(writer, [name for name in NAMES if name != old])
    rejoin(old)
    eventually(lambda: check(old, "replica")[0] == 200)
    nothing_lost(writer, NAMES)
    run_events(new)
    root(new, "DROP EVENT guestbook.tick; DROP EVENT guestbook.retired")


@only_today("failover")
def test_a_failover_that_is_killed_loses_nothing_and_is_finished_by_the_next(
    docker, writer, nothing_lost, source, eventually, operate, rejoin
):
    """On one member that is left or on both. Whoever was promoted stays so."""
    dice = random.Random(SEED)  # noqa: S311 - moments, not secrets
    note_figure(f"{LONG_KILLS} killed failovers, FOOBAR_SEED={SEED}")
    for _ in range(LONG_KILLS):
        old = source()
        left = [name for name in NAMES if name != old]
        with writer:
            docker("exec", old, "sh", "-c", "systemctl mask --quiet mysql && systemctl kill --signal=KILL mysql")
            victims = dice.choice([left[:1], left[1:], left])
            options = [f"--fenced={old}", "--accept-loss="]
            killed_after(dice.uniform(0.15, 0.35), victims, left, "failover", *options)
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
    # Who is asked answers in the same run.
    done = run_at_a_terminal(PROJECT / "playbooks/mysql_failover.yml", f"Type {other} to accept that now", other)
    assert done.code == 0, done.output
    note_figure(f"failover that could lose data, accepted when asked: {done.seconds:.1f} s")
    assert source() == left
    # Nobody is left to wait for: until there is, writes do not wait for ever.
    root(left, "CREATE TABLE IF NOT EXISTS guestbook.alone (id INT)")
    back = operate("rejoin")
    assert back.code == 0, back.output
    eventually(lambda: root(left, "SELECT @@rpl_semi_sync_source_timeout") == "4294967295")
    eventually(lambda: [check(name, "readable")[0] for name in NAMES] == [200, 200, 200])


def test_a_failover_that_reaches_nobody_says_so_once(operate, source):
    before = source()
    done = operate("failover", ansible_port=1)
    assert done.code != 0
    assert f"none of {', '.join(NAMES)} can be reached over SSH" in " ".join(done.output.split()), done.output
    # One host speaks for all.
    assert done.output.count("FAILED! =>") == 1, done.output
    assert source() == before


def test_a_refusal_stands_in_the_journal_with_its_reason(docker, journal):
    refused = subprocess.run(
        ["docker", "exec", ONE, PROGRAM, "switchover", "--to=nobody"], capture_output=True, text=True
    )
    assert refused.returncode != 0 and "is no member" in refused.stderr
    assert "switchover refused or failed: mysql_switchover_to: 'nobody' is no member" in journal(ONE)


# --- a first run that breaks off


@pytest.fixture
def emptied(docker):
    """Return a function that makes all members what they were before their first run had asked what they are."""
    units = "mysql_replication_guard mysql_replication_check mysql"
    initialize = "mysqld --no-defaults --user=mysql --datadir=/var/lib/mysql --initialize-insecure"
    steps = [
        f"systemctl stop {units}",
        "rm -rf /var/lib/mysql_replication /var/lib/mysql/*",
        f"{initialize} && systemctl start mysql",
    ]

    def forget() -> None:
        for name in NAMES:
            docker("exec", name, "sh", "-c", " && ".join(steps))

    return forget


@only_today("first run")
def test_a_first_run_that_is_killed_is_finished_by_the_next_one_host_after_the_other(
    emptied, role, source, check, eventually
):
    dice = random.Random(SEED)  # noqa: S311 - moments, not secrets
    for _ in range(LONG_KILLS):
        emptied()
        killed_after(dice.uniform(0.2, 4), dice.choice([[ONE], [TWO], NAMES]), NAMES, "converge")
        done = role(ROLE, "--forks=1")
        assert done.code == 0, done.output
        assert source() == ONE
        eventually(lambda: [check(name, "readable")[0] for name in NAMES] == [200, 200, 200])


def test_at_the_end_nothing_is_left_to_do(role):
    for arguments in ([], ["--check"]):
        done = role(ROLE, *arguments)
        assert done.code == 0 and done.changed == 0, done.output
