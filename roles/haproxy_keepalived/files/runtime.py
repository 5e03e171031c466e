"""What the programs beside this file ask HAProxy: its master process and, through it, every worker.

A worker that a reload has replaced is there until its last connection ends, and its sessions count too.
"""

import contextlib
import csv
import fcntl
import io
import socket
from collections.abc import Iterator
from pathlib import Path

MASTER = "/run/haproxy-master.sock"
# Not in /run/haproxy, where a worker that was taken over could write.
LOCK = Path("/run/haproxy-servers.lock")


def send(command: str) -> str:
    """Send one command to the master process. OSError if none answers."""
    with socket.socket(socket.AF_UNIX) as master:
        master.settimeout(5)
        master.connect(MASTER)
        master.sendall(f"{command}\n".encode())
        master.shutdown(socket.SHUT_WR)
        return master.makefile().read()


def find_workers(listing: str) -> tuple[list[int], list[int]]:
    """Return the present and the replaced workers that `show proc` lists."""
    found: dict[str, list[int]] = {}
    title = ""
    for line in listing.splitlines():
        if line.startswith("#"):
            title = line.strip("# ")
        elif line[:1].isdigit() and line.split()[1] == "worker":
            found.setdefault(title, []).append(int(line.split()[0]))
    return found.get("workers", []), found.get("old workers", [])


def parse_stat(text: str) -> dict[str, dict[str, str]]:
    """Return the rows of `show stat` by BACKEND/SERVER."""
    rows = csv.DictReader(io.StringIO(text.strip().removeprefix("# ")))
    return {f"{row['pxname']}/{row['svname']}": row for row in rows}


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Keep states as they are: one that is set between their copy and the reload would be lost."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
