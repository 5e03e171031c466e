#!/usr/bin/python3 -B
"""Kills a HAProxy that hangs, so that systemd starts a new one.

The kernel goes on accepting connections for a process that is stopped or deadlocked, so clients wait until they time
out. After the kill they are reset at once. HAProxy's own watchdog sees only threads that use up CPU time, and HAProxy
sends nothing to systemd's (WatchdogSec).

Asked is the present worker, over its socket for statistics, which the limits of frontends do not concern. One that does
not answer is killed

- if it is stopped (state T) and has not answered for STOPPED_S;
- if all its threads sleep, none was scheduled and neither socket nor monitoring port answered for ASLEEP_S.

A worker that runs, waits for a CPU or for a disk, or is traced by a debugger is left alone, and so is all of HAProxy
while systemd has a start, stop, restart or reload of it under way.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SOCKET = "/run/haproxy/admin.sock"
SERVICE = "haproxy.service"
PROC = Path("/proc")
# Seconds between two questions, and without an answer until a worker is killed that is stopped or asleep.
INTERVAL_S = 0.2
STOPPED_S = 0.5
ASLEEP_S = 5.0
PROPERTIES = "MainPID,ActiveState,SubState,Job"


@dataclass(frozen=True)
class Process:
    """What the kernel tells of a process.

    Attributes:
        parent: its parent's id.
        started: when it started, in ticks since boot.
        states: one letter for each thread: R runs or waits for a CPU, S sleeps, D waits for a disk, T is stopped.
        switches: how often its threads were given a CPU or taken from one.
    """

    pid: int
    parent: int
    started: int
    states: str
    switches: int

    @property
    def stopped(self) -> bool:
        return set(self.states) == {"T"}

    @property
    def asleep(self) -> bool:
        return set(self.states) == {"S"}


def read_process(pid: int) -> Process | None:
    """Read how a process of the service is. None for one that is gone, or that systemd has not started for it."""
    home = PROC / str(pid)
    try:
        if not any(line.endswith(f"/{SERVICE}") for line in read_text(home / "cgroup").splitlines()):
            return None
        name, _, rest = read_text(home / "stat").rpartition(")")
        if not name.endswith("(haproxy"):
            return None
        fields = rest.split()
        threads = [read_status(thread) for thread in sorted((home / "task").iterdir())]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(
        pid,
        parent=int(fields[1]),
        started=int(fields[19]),
        states="".join(thread["State"][0] for thread in threads),
        switches=sum(int(thread[f"{kind}voluntary_ctxt_switches"]) for thread in threads for kind in ("", "non")),
    )


def read_text(path: Path) -> str:
    """Read what has names in it, of processes and of groups, that any user may choose: they need not be texts."""
    return path.read_text(encoding="utf-8", errors="replace")


def read_status(home: Path) -> dict[str, str]:
    lines = read_text(home / "status").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def find_main_process() -> int:
    """Return the id of HAProxy's master process; 0 unless the service is up and systemd does nothing with it."""
    command = ["systemctl", "show", SERVICE, f"--property={PROPERTIES}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    settled = (shown.get("ActiveState"), shown.get("SubState")) == ("active", "running")
    return int(shown.get("MainPID", 0)) if settled and shown.get("Job", "0") in ("", "0") else 0


def find_processes(main: int) -> list[Process]:
    """Return the master process and its workers, the present one last."""
    pids = [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]
    found = [process for process in map(read_process, pids) if process and main in (process.pid, process.parent)]
    return sorted(found, key=lambda process: (process.pid != main, process.started))


def answers(family: int, address: object, question: bytes, seconds: float) -> bool | None:
    """Whether somebody answers, with anything. None if nobody listens."""
    with socket.socket(family) as client:
        client.settimeout(seconds)
        try:
            client.connect(address)
            client.sendall(question)
            return bool(client.recv(1))
        except (BlockingIOError, TimeoutError):
            # The backlog is full, or nobody reads.
            return False
        except OSError:
            return None


def socket_answers(seconds: float) -> bool | None:
    return answers(socket.AF_UNIX, SOCKET, b"show version\n", seconds)


def port_answers(port: int) -> bool | None:
    return answers(socket.AF_INET, ("127.0.0.1", port), b"GET /health HTTP/1.0\r\n\r\n", STOPPED_S)


def kill(process: Process) -> bool:
    """Kill exactly this process: its number may belong to another one by now."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            now = read_process(process.pid)
            if now and now.started == process.started:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                return True
        finally:
            os.close(handle)
    return False


def log(text: str, level: int = 4) -> None:
    """Write a line for the journal: level 4 is a warning, 6 information."""
    print(f"<{level}>{text}", file=sys.stderr, flush=True)


@dataclass
class Silence:
    """What is known since the last answer.

    Attributes:
        since: when the question was sent that got no answer.
        still: the worker as it was when it last made progress, and when that was seen.
        told: whether the journal has a line about a worker that is silent and left alone.
    """

    since: float
    still: tuple[Process, float] | None = None
    told: bool = False


@dataclass
class Watchdog:
    """Decides what to kill. What it asks and does are fields, so that a test can replace them."""

    port: int
    ask_socket: Callable[[float], bool | None] = socket_answers
    ask_port: Callable[[int], bool | None] = port_answers
    find_main: Callable[[], int] = find_main_process
    find_processes: Callable[[int], list[Process]] = find_processes
    kill: Callable[[Process], bool] = kill
    clock: Callable[[], float] = time.monotonic
    silence: Silence | None = field(default=None, init=False)

    def check(self) -> None:
        """Ask once. Where nobody answers, read the processes and kill what hangs."""
        start = self.clock()
        if self.ask_socket(STOPPED_S) is not False:
            self.silence = None
            return
        self.silence = self.silence or Silence(start)
        main = self.find_main()
        processes = self.find_processes(main) if main else []
        if len(processes) < 2:
            self.silence = None
            return
        worker = processes[-1]
        if worker.stopped:
            self.end(main, processes, "is stopped")
        elif worker.asleep and self.sleeps_for_too_long(worker):
            self.end(main, processes, "does not wake up")
        elif not self.silence.told:
            self.silence.told = True
            log(f"HAProxy's worker {worker.pid} does not answer (threads: {worker.states}) and is left alone")

    def sleeps_for_too_long(self, worker: Process) -> bool:
        """Whether it was not scheduled for so long, and the port for monitoring does not answer either."""
        now = self.clock()
        if self.silence.still is None or self.silence.still[0] != worker:
            self.silence.still = (worker, now)
        slept = now - max(self.silence.still[1], self.silence.since)
        return slept >= ASLEEP_S and self.ask_port(self.port) is False

    def end(self, main: int, processes: list[Process], why: str) -> None:
        """Kill the worker and everything of HAProxy that is stopped, unless the worker or systemd goes on by now."""
        worker = processes[-1]
        now = {process.pid: process for process in self.find_processes(main)}
        if self.ask_socket(0.1) is not False or now.get(worker.pid) != worker or self.find_main() != main:
            return
        silent = self.clock() - self.silence.since
        log(f"HAProxy's worker {worker.pid} {why} and has not answered for {silent:.1f} s: killed")
        for process in reversed(processes):
            if process == worker or process.stopped:
                self.kill(process)
        self.silence = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8404, help="where HAProxy answers /health on 127.0.0.1")
    watchdog = Watchdog(parser.parse_args().port)
    while True:
        try:
            watchdog.check()
        except (OSError, subprocess.SubprocessError, ValueError) as problem:
            log(f"cannot check HAProxy: {problem}")
            time.sleep(1)
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    main()
