"""What the watchdog of HAProxy decides, and how it reads processes."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[4] / "roles/haproxy_keepalived/files/watchdog.py"
MAIN, WORKER, OLD = 10, 20, 15


@pytest.fixture(scope="module")
def watchdog():
    spec = importlib.util.spec_from_file_location("watchdog", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Host:
    """A HAProxy that answers or not, and a clock that advances by the time that a question waits for its answer."""

    def __init__(self, module, **states: str) -> None:
        self.module = module
        self.now = 100.0
        self.main = MAIN
        self.answer: bool | None = False
        self.port_answer: bool | None = False
        self.states = {MAIN: "S", WORKER: "SS"} | {int(pid[1:]): state for pid, state in states.items()}
        self.switches = 0
        self.progress = 0
        self.killed: list[int] = []

    def ask(self, seconds: float) -> bool | None:
        self.now += seconds if self.answer is False else 0.001
        return self.answer

    def find(self, main: int) -> list:
        self.switches += self.progress
        return [
            self.module.Process(pid, 1 if pid == main else main, pid, self.states[pid], self.switches)
            for pid in sorted(self.states)
        ]

    def kill(self, process) -> bool:
        self.killed.append(process.pid)
        return True

    def watch(self, seconds: float) -> list[int]:
        """Run a watchdog for some time, and return what it has killed."""
        dog = self.module.Watchdog(
            8404,
            ask_socket=self.ask,
            ask_port=lambda _: self.port_answer,
            find_main=lambda: self.main,
            find_processes=self.find,
            kill=self.kill,
            clock=lambda: self.now,
        )
        end = self.now + seconds
        while self.now < end and not self.killed:
            dog.check()
            self.now += self.module.INTERVAL_S
        return self.killed


def test_a_stopped_worker_is_killed_within_a_second(watchdog, capsys):
    host = Host(watchdog, p20="TT")
    assert host.watch(1) == [WORKER]
    assert "HAProxy's worker 20 is stopped and has not answered for 0.6 s: killed" in capsys.readouterr().err


def test_everything_else_that_is_stopped_is_killed_with_it(watchdog):
    assert Host(watchdog, p10="T", p15="T", p20="TT").watch(1) == [WORKER, OLD, MAIN]
    assert Host(watchdog, p15="S", p20="TT").watch(1) == [WORKER]


def test_a_worker_that_never_wakes_up_is_killed_later(watchdog, capsys):
    assert Host(watchdog).watch(4.5) == []
    assert Host(watchdog).watch(7) == [WORKER]
    assert "does not wake up" in capsys.readouterr().err


@pytest.mark.parametrize("states", ["R", "RS", "D", "SD", "t", "tS", "TS", "Z"])
def test_a_worker_that_runs_waits_or_is_traced_is_left_alone(watchdog, states, capsys):
    assert Host(watchdog, p20=states).watch(60) == []
    said = capsys.readouterr().err.splitlines()
    assert said == [f"<4>HAProxy's worker 20 does not answer (threads: {states}) and is left alone"]


def test_a_worker_that_makes_progress_is_left_alone(watchdog):
    host = Host(watchdog)
    host.progress = 1
    assert host.watch(60) == []


@pytest.mark.parametrize("answer", [True, None])
def test_a_worker_whose_port_answers_or_is_closed_is_left_alone(watchdog, answer):
    host = Host(watchdog)
    host.port_answer = answer
    assert host.watch(60) == []


@pytest.mark.parametrize("answer", [True, None])
def test_nothing_is_looked_at_while_it_answers_or_is_not_there(watchdog, answer):
    host = Host(watchdog, p20="TT")
    host.answer = answer
    host.find = None
    assert host.watch(60) == []


def test_nothing_is_done_while_systemd_starts_stops_or_reloads_it(watchdog):
    host = Host(watchdog, p20="TT")
    host.main = 0
    assert host.watch(60) == []


def test_a_master_process_without_a_worker_is_left_alone(watchdog):
    host = Host(watchdog, p10="T")
    del host.states[WORKER]
    assert host.watch(60) == []


@pytest.mark.parametrize("event", ["it answers", "it goes on", "systemd acts"])
def test_nothing_is_killed_that_recovers_at_the_last_moment(watchdog, event):
    host = Host(watchdog, p20="TT")
    looked = []

    def find(main: int) -> list:
        found = Host.find(host, main)
        looked.append(found)
        if len(looked) == 2:
            host.answer = event == "it answers"
            host.main = 0 if event == "systemd acts" else host.main
            return [*found[:-1], watchdog.Process(WORKER, MAIN, WORKER, "RS", 7)] if event == "it goes on" else found
        if len(looked) > 2:
            host.states[WORKER] = "RS"
        return found

    host.find = find
    assert host.watch(5) == []


# --- processes


def make_process(
    root: Path, pid: int, *, parent: int = 1, name: str = "haproxy", unit: str = "haproxy.service", states="S"
):
    home = root / str(pid)
    home.mkdir(parents=True)
    (home / "cgroup").write_text(f"1:name=systemd:/x\n0::/system.slice/{unit}\n")
    (home / "stat").write_text(
        f"{pid} ({name}) {states[0]} {parent} " + " ".join(map(str, range(3, 20))) + f" {pid * 7} 0\n"
    )
    for number, state in enumerate(states):
        task = home / "task" / str(pid + number)
        task.mkdir(parents=True)
        lines = [f"Name:\t{name}", f"State:\t{state} (whatever)", "voluntary_ctxt_switches:\t5"]
        (task / "status").write_text("\n".join([*lines, "nonvoluntary_ctxt_switches:\t2", ""]))


@pytest.fixture
def proc(watchdog, monkeypatch, tmp_path):
    monkeypatch.setattr(watchdog, "PROC", tmp_path)
    (tmp_path / "self").mkdir()
    return tmp_path


def test_processes_are_those_of_the_service_and_the_newest_is_the_worker(watchdog, proc):
    make_process(proc, MAIN)
    make_process(proc, 40, parent=MAIN, states="ST")
    make_process(proc, 30, parent=MAIN)
    make_process(proc, 50, parent=MAIN, unit="other.service")
    make_process(proc, 51, parent=MAIN, name="sh")
    make_process(proc, 52, parent=99)
    make_process(proc, 53, parent=MAIN, name="x) (haproxy-like")
    found = watchdog.find_processes(MAIN)
    assert [process.pid for process in found] == [MAIN, 30, 40]
    assert (found[-1].states, found[-1].switches, found[-1].parent) == ("ST", 14, MAIN)
    assert watchdog.read_process(99) is None


def test_names_of_groups_and_threads_may_be_no_texts(watchdog, proc):
    """A user may make a group below those that systemd has given to him, and call it as he likes."""
    make_process(proc, MAIN)
    make_process(proc, 40, parent=MAIN)
    make_process(proc, 60, parent=1)
    (proc / "60/cgroup").write_bytes(b"0::/user.slice/\xff\n")
    status = proc / "40/task/40/status"
    status.write_bytes(status.read_bytes().replace(b"haproxy", b"\xff"))
    assert [process.pid for process in watchdog.find_processes(MAIN)] == [MAIN, 40]


SETTLED = "MainPID=10\nActiveState=active\nSubState=running\n"


@pytest.mark.parametrize(
    ("shown", "main"),
    [
        (SETTLED, 10),
        (SETTLED + "Job=0\n", 10),
        (SETTLED + "Job=\n", 10),
        (SETTLED + "Job=123\n", 0),
        (SETTLED.replace("active\n", "reloading\n"), 0),
        (SETTLED.replace("=active", "=deactivating").replace("running", "stop-sigterm"), 0),
        (SETTLED.replace("=active", "=activating").replace("running", "start"), 0),
        ("MainPID=0\nActiveState=inactive\nSubState=dead\n", 0),
        ("", 0),
    ],
)
def test_systemd_says_whether_the_service_is_settled(watchdog, monkeypatch, shown, main):
    done = subprocess.CompletedProcess([], 0, shown, "")
    monkeypatch.setattr(watchdog.subprocess, "run", lambda *_arguments, **_options: done)
    assert watchdog.find_main_process() == main


def test_only_the_process_that_was_judged_is_killed(watchdog, monkeypatch):
    child = subprocess.Popen(["sleep", "60"])
    judged = watchdog.Process(child.pid, os.getpid(), 1, "T", 0)
    try:
        monkeypatch.setattr(watchdog, "read_process", lambda pid: watchdog.Process(pid, 1, 2, "T", 0))
        assert watchdog.kill(judged) is False
        assert child.poll() is None
        monkeypatch.setattr(watchdog, "read_process", lambda pid: judged)
        assert watchdog.kill(judged) is True
        assert child.wait(5) == -9
        assert watchdog.kill(judged) is False
    finally:
        child.kill()


def test_answers_silence_and_absence_are_told_apart(watchdog, tmp_path):
    path = str(tmp_path / "socket")
    assert watchdog.answers(socket.AF_UNIX, path, b"x\n", 0.1) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert watchdog.answers(socket.AF_UNIX, path, b"x\n", 0.1) is None
        server.listen(1)
        assert watchdog.answers(socket.AF_UNIX, path, b"x\n", 0.1) is False

        server.accept()[0].close()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(9)
                connection.sendall(b"3.0\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert watchdog.answers(socket.AF_UNIX, path, b"x\n", 5) is True
        thread.join(5)
