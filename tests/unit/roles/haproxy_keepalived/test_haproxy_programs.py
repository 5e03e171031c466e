"""The programs beside the configuration of HAProxy: what they read in its answers, and what they do with it."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import socket
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[4] / "roles/haproxy_keepalived/files"

PROCESSES = """\
#<PID>          <type>          <reloads>       <uptime>        <version>
514             master          3 [failed: 0]   0d00h01m17s     3.0.11
# workers
1342            worker          0               0d00h00m15s     3.0.11
# old workers
1186            worker          1               0d00h00m35s     3.0.11
568             worker          2               0d00h00m55s     3.0.11
# programs
"""
STAT = """\
# pxname,svname,qcur,scur,status,check_status,check_code,
web,web1,1,2,UP,L7OK,200,
web,web2,0,0,DOWN,* L7STS,500,
db,db1,0,3,no check,,,
"""
STATES = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state and so on
3 web 1 web1 198.18.0.21 2 0 1 1 99 15 3 4 6 0 0 0 - 80 - 0 0 - - 0
3 web 2 web2 198.18.0.22 0 8 1 1 99 15 3 4 6 0 0 0 - 80 - 1 0 - - 0
4 gone 1 web1 198.18.0.21 2 0 1 1 99 15 3 4 6 0 0 0 - 80 - 0 0 - - 0
5 db 1 db1 198.18.0.41 2 0 1 1 99 1 0 0 0 0 0 0 - 3306 - 0 0 - - 0
"""
# The first one is held.
HELD = STATES.replace("web1 198.18.0.21 2 0 1 1 99 15 3 4 6", "web1 198.18.0.21 2 0 1 1 99 15 3 4 2", 1)


@pytest.fixture(scope="module")
def programs():
    """The three files, which find each other where they lie."""
    sys.path.insert(0, str(FILES))
    names = ("runtime", "server", "reload")
    yield [importlib.import_module(name) for name in names]
    sys.path.remove(str(FILES))
    for name in names:
        del sys.modules[name]


class FakeHaproxy:
    """Answers commands, and remembers which it got."""

    def __init__(self, stats: list[str], refusal: str = "", states: str = STATES) -> None:
        self.asked: list[str] = []
        self.states = states
        self.stats = itertools.chain(stats, itertools.repeat(stats[-1]))
        self.refusal = refusal

    def __call__(self, command: str) -> str:
        self.asked.append(command)
        if command == "show proc":
            return PROCESSES
        if command == "@!1342 show stat -1 4 -1":
            return next(self.stats)
        if "show stat" in command:
            return STAT if "1186" in command else ""
        if "show servers state" in command:
            return self.states
        return self.refusal if "@!1342" in command else "No such server.\n"


@pytest.fixture
def haproxy(programs, monkeypatch, tmp_path):
    runtime, server, _ = programs
    monkeypatch.setattr(runtime, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(server, "POLL_INTERVAL_S", 0.001)
    monkeypatch.setattr(server, "RETRY_S", 0.01)

    def start(*stats: str, refusal: str = "\n", states: str = STATES) -> FakeHaproxy:
        fake = FakeHaproxy(list(stats) or [STAT], refusal, states)
        monkeypatch.setattr(runtime, "send", fake)
        return fake

    return start


IDLE = STAT.replace("web,web1,1,2,", "web,web1,0,0,")


@pytest.fixture
def master(programs, monkeypatch, tmp_path):
    """Return a function that lets one connection to the master process be answered by a function of the test."""
    runtime = programs[0]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "master.sock"))
    listener.listen()
    monkeypatch.setattr(runtime, "MASTER", str(tmp_path / "master.sock"))

    def answer_with(act) -> None:
        def serve() -> None:
            connection, _ = listener.accept()
            # The reader may have had enough.
            with connection, contextlib.suppress(OSError):
                act(connection)

        threading.Thread(target=serve, daemon=True).start()

    yield answer_with
    listener.close()


def test_an_answer_in_parts_is_read_whole(programs, master):
    def act(connection) -> None:
        assert connection.makefile().read() == "show info\n"
        for part in (b"a\n", b"b\xff\n", b"c"):
            connection.sendall(part)

    master(act)
    assert programs[0].send("show info") == "a\nb\N{REPLACEMENT CHARACTER}\nc"


def test_an_answer_without_an_end_is_given_up(programs, master, monkeypatch):
    def act(connection) -> None:
        while True:
            connection.sendall(b"x" * 65536)

    monkeypatch.setattr(programs[0], "ANSWER_BYTES", 10**6)
    master(act)
    with pytest.raises(OSError, match="more than 1000000 bytes"):
        programs[0].send("show info")


def test_an_answer_that_drips_is_given_up(programs, master, monkeypatch):
    def act(connection) -> None:
        while True:
            connection.sendall(b"x")
            time.sleep(0.01)

    monkeypatch.setattr(programs[0], "ANSWER_S", 0.2)
    master(act)
    with pytest.raises(TimeoutError):
        programs[0].send("show info")


def test_the_lock_is_out_of_reach_of_others_and_is_not_waited_for_for_ever(programs, haproxy, monkeypatch, tmp_path):
    runtime, server, _ = programs
    haproxy(IDLE)
    monkeypatch.setattr(runtime, "LOCK", tmp_path / "own/lock")
    monkeypatch.setattr(runtime, "LOCK_S", 0.05)
    monkeypatch.setattr(runtime, "LOCK_RETRY_S", 0.01)
    with runtime.locked():
        assert stat.S_IMODE(runtime.LOCK.parent.stat().st_mode) == 0o700
        with pytest.raises(SystemExit, match="another program has been changing this HAProxy's servers"):
            server.main(["drain", "web/web1", "--timeout", "1"])
    with runtime.locked():
        pass


def test_workers_are_told_apart(programs):
    assert programs[0].find_workers(PROCESSES) == ([1342], [1186, 568])
    assert programs[0].find_workers("") == ([], [])
    assert programs[0].find_workers("# workers\n1\n2x worker 0\n\u00b2 worker 0\n3 worker 0\n") == ([3], [])


@pytest.mark.parametrize(
    ("stat", "states"),
    [
        (STAT + "web,web3,x,0,UP,,,\n", STATES),
        (STAT + "web,web3,0,0\n", STATES),
        (STAT + f'web,web3,0,0,"{"x" * 200_000}",,\n', STATES),
        ("# other\n1\n", STATES),
        (STAT, STATES + "3 web 3 web3 198.18.0.23 2 x 1 1 99 15 3 4 6\n"),
        (STAT, STATES + "3 web 3 web3 198.18.0.23 2 0 1 1 99 15 3 4 -\n"),
    ],
)
def test_a_worker_that_answers_anything_gets_a_sentence(programs, haproxy, stat, states):
    haproxy(stat, states=states)
    for command in (["status"], ["ready", "web/web1"]):
        with pytest.raises(SystemExit, match="HAProxy's worker answers what is no list of servers; a restart"):
            programs[1].main(command)


def test_the_state_is_set_in_replaced_workers_too(programs, haproxy):
    fake = haproxy(IDLE)
    programs[1].drain("web/web1", 0)
    told = [command for command in fake.asked if "set server" in command]
    assert told == [f"@!{pid} set server web/web1 state drain" for pid in (1342, 1186, 568)]


def test_sessions_of_all_workers_are_waited_for(programs, haproxy):
    haproxy()
    assert programs[1].count_sessions("web/web1") == 6
    haproxy(IDLE)
    assert programs[1].count_sessions("web/web1") == 3
    haproxy()
    assert programs[1].drain("web/web1", 0.02).done.startswith("web/web1: drained, 6 sessions left after 0.0")
    assert programs[1].drain("web/web2", 9).done.startswith("web/web2: drained after 0.0")


def test_ready_waits_and_fails_if_the_server_stays_down(programs, haproxy):
    rising = STAT.replace("DOWN,* L7STS,500", "DOWN 1/2,L7OK,200")
    haproxy(STAT, STAT, STAT, rising, STAT.replace("DOWN,* L7STS,500", "UP,,"))
    outcome = programs[1].ready("web/web2", 9)
    assert outcome.done.startswith("web/web2: back in, UP after") and outcome.changed
    haproxy()
    with pytest.raises(programs[1].Failure, match=r"web/web2: is DOWN \(L7STS 500\) after 0.02 s"):
        programs[1].ready("web/web2", 0.02)
    outcome = programs[1].ready("db/db1", 9)
    assert outcome.done.startswith("db/db1: no check after") and not outcome.changed


def test_a_server_is_held_until_it_is_ready(programs, haproxy):
    fake = haproxy()
    outcome = programs[1].hold("web/web1")
    assert (outcome.changed, outcome.done) == (True, "web/web1: held")
    told = [command for command in fake.asked if "health" in command]
    assert told == [f"@!{pid} disable health web/web1" for pid in (1342, 1186, 568)]
    fake = haproxy(states=HELD)
    assert programs[1].hold("web/web1").changed is False
    outcome = programs[1].ready("web/web1", 9)
    assert outcome.changed and outcome.done.startswith("web/web1: back in, UP (L7OK 200) after")
    told = [command.partition(" ")[2] for command in fake.asked if command.startswith("@!1342 ") and "web1" in command]
    assert told == ["enable health web/web1", "set server web/web1 state ready"]
    with pytest.raises(programs[1].Failure, match="there is no server 'web/web3'"):
        programs[1].hold("web/web3")


def test_a_server_without_a_check_needs_not_be_held(programs, haproxy):
    fake = haproxy()
    outcome = programs[1].hold("db/db1")
    assert (outcome.changed, outcome.done) == (False, "db/db1: has no check")
    assert not programs[1].ready("db/db1", 9).changed
    assert not [command for command in fake.asked if "health" in command]


def test_a_backend_without_a_server_is_refused_with_the_reason_of_each(programs, haproxy):
    haproxy()
    assert programs[1].available("web", 9).done.startswith("web/web1: UP")
    haproxy(STAT.replace("web,web1,1,2,UP", "web,web1,1,2,DOWN"))
    reasons = r"web: no server is up after 0.02 s: web/web1 is DOWN.*, web/web2 is DOWN \(L7STS 500\)"
    with pytest.raises(programs[1].Failure, match=reasons):
        programs[1].available("web", 0.02)
    with pytest.raises(programs[1].Failure, match="there is no backend 'nowhere'"):
        programs[1].available("nowhere", 0.02)


def test_a_drain_keeps_as_many_as_it_is_told(programs, haproxy, capsys):
    """web2 is down, so web1 is the last one."""
    fake = haproxy(IDLE)
    programs[1].main(["drain", "web/web2", "--keep=1", "--timeout=0"])
    assert "web/web2: drained" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="web/web1: stays as it is; 0 other servers are up, and 1 have to be"):
        programs[1].main(["drain", "web/web1", "--keep=1"])
    assert not [command for command in fake.asked if "web/web1" in command]
    programs[1].main(["drain", "web/web1", "--timeout=0"])
    assert [command for command in fake.asked if "web/web1" in command]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("web", "'web' names no server; write BACKEND/SERVER, one of: web/web1, web/web2, db/db1"),
        ("/web1", "'/web1' names no server"),
        ("app/web1", "there is no backend 'app' with servers; there are: web, db"),
        ("web/web3", "there is no server 'web/web3'; there are: web/web1, web/web2"),
    ],
)
def test_unknown_names_are_answered_with_those_that_exist(name, complaint, programs, haproxy):
    fake = haproxy()
    with pytest.raises(SystemExit, match=complaint):
        programs[1].main(["drain", name])
    assert not [command for command in fake.asked if "set server" in command]


def test_a_refusal_of_haproxy_is_passed_on(programs, haproxy):
    haproxy(refusal="Permission denied\n")
    with pytest.raises(SystemExit, match="web/web1: HAProxy refuses: Permission denied"):
        programs[1].main(["ready", "web/web1"])


def test_no_answer_is_one_sentence(programs, haproxy, monkeypatch):
    haproxy("")
    with pytest.raises(SystemExit, match="HAProxy tells of no servers"):
        programs[1].main(["status"])
    monkeypatch.undo()
    monkeypatch.setattr(programs[0], "MASTER", "/nonexistent/socket")
    with pytest.raises(SystemExit, match=r"/nonexistent/socket does not answer \(No such file or directory\)"):
        programs[1].main(["status"])


def test_the_status_names_who_was_drained(programs, haproxy, capsys):
    haproxy()
    programs[1].main(["status"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["SERVER", "STATE", "DRAINED", "SESSIONS", "QUEUE"],
        ["web/web1", "UP", "(L7OK", "200)", "no", "2", "1"],
        ["web/web2", "DOWN", "(L7STS", "500)", "yes", "0", "0"],
        ["db/db1", "no", "check", "no", "3", "0"],
    ]


CONFIG = """\
backend web
    # server web9 198.18.0.29:80
    server web1 198.18.0.21:8080 check
    server web2 [fd00::22]:8081 check

peers others
    server web2 198.18.0.22:1024
listen raw
    server sock /run/socket
    server db1 198.18.0.41:3306
"""


def test_ports_come_from_the_new_configuration(programs):
    found = programs[2].find_ports(CONFIG)
    assert found == {("web", "web1"): "8080", ("web", "web2"): "8081", ("raw", "db1"): "3306"}


def test_states_are_kept_without_ports_addresses_and_tls(programs):
    version, *lines = programs[2].translate_states(STATES, programs[2].find_ports(CONFIG)).splitlines()
    assert version == "1"
    assert lines == [
        "3 web 1 web1 - 2 0 1 1 99 15 3 4 6 0 0 0 - 8080 -",
        "3 web 2 web2 - 0 8 1 1 99 15 3 4 6 0 0 0 - 8081 -",
    ]


def test_states_are_written_for_the_next_process_only_if_one_tells_them(programs, haproxy, monkeypatch, tmp_path):
    _, _, reload = programs
    config, states = tmp_path / "haproxy.cfg", tmp_path / "states"
    config.write_text(CONFIG)
    states.write_text("stale")
    monkeypatch.setattr(reload, "CONFIG", config)
    monkeypatch.setattr(reload, "STATES", states)
    haproxy()
    reload.save_states(reload.read_master())
    assert states.read_text().startswith("1\n3 web 1 web1 - ")
    monkeypatch.setattr(programs[0], "send", lambda _: "")
    reload.save_states(reload.Master(1, 0, 42))
    assert not states.exists()
    states.write_text("stale")
    reload.save_states(None)
    assert not states.exists()


def test_a_reload_is_over_when_a_new_worker_answers(programs, haproxy, monkeypatch):
    _, _, reload = programs
    assert reload.is_ready(None) is False
    listing = PROCESSES.replace("1342 ", "1343 ").replace("3 [", "4 [")
    ready = iter(["", "Pid: 1343\n"])
    monkeypatch.setattr(programs[0], "send", lambda command: listing if command == "show proc" else next(ready))
    monkeypatch.setattr(reload.subprocess, "run", lambda _: reload.subprocess.CompletedProcess([], 0))
    assert reload.reload_service(reload.Master(3, 0, 1342)) is True
    assert next(ready, "none left") == "none left"
    failed = listing.replace("[failed: 0]", "[failed: 1]")
    monkeypatch.setattr(programs[0], "send", lambda _: failed)
    assert reload.reload_service(reload.Master(3, 0, 1342)) is False


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("for i in $(seq 9); do echo line $i; done", [f"line {number}" for number in range(1, 10)]),
        ("echo one; echo '[ALERT] wrong'; echo two", ["[ALERT] wrong"]),
        ("head --bytes=100000 /dev/zero | tr '\\0' x", [1000 * "x"]),
        ("for i in $(seq 99); do echo '[ALERT]'; done", 50 * ["[ALERT]"]),
        ("sleep 60", ["HAProxy did not take its configuration, and its journal is not read within 1 s"]),
    ],
)
def test_of_a_journal_that_a_worker_can_fill_a_bounded_part_is_shown(programs, tmp_path, monkeypatch, said, shown):
    _, _, reload = programs
    monkeypatch.setattr(reload, "JOURNAL_S", 1)
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\ncase $* in *--lines=1000*) {said} ;; esac\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert reload.why(0).splitlines() == shown
