#!/usr/bin/python3 -B
"""Makes HAProxy take its configuration, and fails if it did not: systemd says only that HAProxy was asked to.

The new process learns from the old one which servers are down and which were drained. It is told nothing else: HAProxy
would take ports and TLS from there as well, past the new configuration.
"""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import runtime

CONFIG = Path("/etc/haproxy/haproxy.cfg")
STATES = Path("/run/haproxy-servers")
JOURNAL_S = 20
JOURNAL_LINES = 1000
LINE_LENGTH = 1000
ALERTS = 50
# Fields of a line of `show servers state`, counted from its start. Those from USE_SSL on may be missing.
NAMES, ADDRESS, PORT, USE_SSL = slice(1, 4, 2), 4, 18, 20


class Master(NamedTuple):
    """What the master process reports: how often it reloaded, how many of the last attempts failed, and its worker."""

    reloads: int
    failed: int
    worker: int | None


def read_master() -> Master | None:
    """Ask the master process. None if none answers."""
    try:
        listing = runtime.send("show proc")
    except OSError:
        return None
    found = re.search(r"master\s+(\d+)\s+\[failed: (\d+)\]", listing)
    present, _ = runtime.find_workers(listing)
    return Master(int(found[1]), int(found[2]), present[0] if present else None) if found else None


def is_ready(worker: int | None) -> bool:
    """Whether a worker is ready: the newer masters tell of one that still reads its configuration."""
    try:
        return worker is not None and "Pid:" in runtime.send(f"@!{worker} show info")
    except OSError:
        return False


def find_ports(config: str) -> dict[tuple[str, ...], str]:
    """Return the port of each server by the names of its backend and its own."""
    ports, section = {}, ""
    for line in config.splitlines():
        words = line.split()
        if line[:1].strip(" \t#"):
            section = words[1] if words[0] in ("backend", "listen") and len(words) > 1 else ""
        elif section and words[:1] == ["server"] and len(words) > 2:
            port = words[2].rpartition(":")[2]
            if port.isdecimal():
                ports[section, words[1]] = port
    return ports


def translate_states(states: str, ports: dict[tuple[str, ...], str]) -> str:
    """Return what of `show servers state` holds for the servers of a new configuration."""
    version, *lines = states.strip().splitlines() or [""]
    kept = [version]
    for line in lines:
        fields = line.split()
        port = ports.get(tuple(fields[NAMES]))
        if len(fields) >= USE_SSL and port:
            fields[ADDRESS], fields[PORT] = "-", port
            kept.append(" ".join(fields[:USE_SSL]))
    return "\n".join(kept) + "\n"


def save_states(before: Master | None) -> None:
    """Save the states of the servers. Without a worker that reports them, all are up for the next process."""
    STATES.unlink(missing_ok=True)
    if before is None or before.worker is None:
        return
    try:
        states = runtime.send(f"@!{before.worker} show servers state")
    except OSError:
        return
    if states.startswith("1\n"):
        new = STATES.with_suffix(".new")
        new.write_text(translate_states(states, find_ports(CONFIG.read_text())))
        new.replace(STATES)


def reload_service(before: Master | None) -> bool:
    """Whether HAProxy started, or runs with the new configuration if it ran before."""
    if subprocess.run(["systemctl", "reload-or-restart", "haproxy"]).returncode != 0:
        return False
    end = time.monotonic() + 30
    while before and time.monotonic() < end:
        now = read_master()
        if now and now.reloads != before.reloads:
            if now.failed:
                return False
            if now.worker != before.worker and is_ready(now.worker):
                return True
        time.sleep(0.05)
    return before is None


def reload() -> bool:
    """Whether HAProxy runs with its configuration, the servers in the states that they were in."""
    with runtime.locked():
        before = read_master()
        try:
            save_states(before)
            return reload_service(before)
        finally:
            # What holds now would be wrong for a process that starts later.
            STATES.unlink(missing_ok=True)


def why(start: float) -> str:
    """What the journal says of a reload. Its last lines alone: a worker that was taken over can fill it."""
    journal = ["journalctl", "--unit=haproxy", "--output=cat", "--no-pager", f"--since=@{start:.0f}"]
    command = [*journal, f"--lines={JOURNAL_LINES}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=JOURNAL_S).stdout
    except subprocess.TimeoutExpired:
        return f"HAProxy did not take its configuration, and its journal is not read within {JOURNAL_S} s"
    log = [line[:LINE_LENGTH] for line in said.splitlines()]
    return "\n".join([line for line in log if "[ALERT]" in line][-ALERTS:] or log[-10:])


def main() -> None:
    start = time.time()
    subprocess.run(["systemctl", "unmask", "--quiet", "haproxy"], check=True)
    try:
        done = reload()
    except runtime.Busy as problem:
        sys.exit(str(problem))
    if not done:
        sys.exit(why(start))


if __name__ == "__main__":
    main()
