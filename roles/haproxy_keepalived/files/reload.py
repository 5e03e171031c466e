#!/usr/bin/python3
"""Makes HAProxy take its configuration, and fails if it did not: systemd says only that HAProxy was asked to."""

import re
import socket
import subprocess
import sys
import time


def reloads() -> tuple[int, int] | None:
    """Ask the master process how often it reloaded, and how many of the last attempts failed. None if none answers."""
    try:
        with socket.socket(socket.AF_UNIX) as master:
            master.settimeout(5)
            master.connect("/run/haproxy-master.sock")
            master.sendall(b"show proc\n")
            master.shutdown(socket.SHUT_WR)
            answer = master.makefile().read()
    except OSError:
        return None
    found = re.search(r"master\s+(\d+)\s+\[failed: (\d+)\]", answer)
    return (int(found[1]), int(found[2])) if found else None


def taken(before: tuple[int, int] | None) -> bool:
    """Whether HAProxy started, or runs with the new configuration if it ran before."""
    if subprocess.run(["systemctl", "reload-or-restart", "haproxy"]).returncode != 0:
        return False
    end = time.monotonic() + 30
    while before and time.monotonic() < end:
        now = reloads()
        if now and now[0] != before[0]:
            return now[1] == 0
        time.sleep(0.05)
    return before is None


start = time.time()
subprocess.run(["systemctl", "unmask", "--quiet", "haproxy"], check=True)
if not taken(reloads()):
    journal = ["journalctl", "--unit=haproxy", "--output=cat", "--no-pager", f"--since=@{start:.0f}"]
    log = subprocess.run(journal, capture_output=True, text=True).stdout.splitlines()
    sys.exit("\n".join([line for line in log if "[ALERT]" in line] or log[-10:]))
