"""What the programs beside this file ask HAProxy: its master process and, through it, every worker.

A worker that a reload has replaced is there until its last connection ends, and its sessions count too.
"""

import contextlib
import csv
import fcntl
import io
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

MASTER = "/run/haproxy-master.sock"
# In a directory of root's: in /run itself any user could open the file and hold the lock, and in /run/haproxy a worker
# that was taken over could write.
LOCK = Path("/run/haproxy_keepalived/lock")
ANSWER_S = 5
# What thousands of servers need is a tenth of that.
ANSWER_BYTES = 16 * 2**20
LOCK_S = 60
LOCK_RETRY_S = 0.1

WORKER = re.compile(r"([0-9]{1,10})\s+worker\s")
# What is read of a row of `show stat`, and which of it are numbers.
FIELDS = ("pxname", "svname", "qcur", "scur", "status", "check_status", "check_code")
NUMBERS = ("qcur", "scur")
NUMBER = re.compile(r"[0-9]{0,18}")


class Busy(Exception):
    """One sentence: another program has been at work for too long."""


class Unreadable(Exception):
    """One sentence: a worker answers what HAProxy does not write, as one that was taken over may."""

    def __init__(self) -> None:
        super().__init__("HAProxy's worker answers what is no list of servers; a restart puts another in its place")


def send(command: str) -> str:
    """Send one command to the master process and return the whole answer.

    Raises:
        OSError: none answers, not within ANSWER_S, or a worker that was taken over answers without an end.
    """
    end = time.monotonic() + ANSWER_S
    answer = bytearray()
    with socket.socket(socket.AF_UNIX) as master:
        master.settimeout(ANSWER_S)
        master.connect(MASTER)
        master.sendall(f"{command}\n".encode())
        master.shutdown(socket.SHUT_WR)
        while part := master.recv(65536):
            answer += part
            if len(answer) > ANSWER_BYTES:
                raise OSError(f"more than {ANSWER_BYTES} bytes")
            if time.monotonic() > end:
                raise TimeoutError(f"no whole answer in {ANSWER_S} s")
            master.settimeout(max(0.01, end - time.monotonic()))
    return answer.decode(errors="replace")


def find_workers(listing: str) -> tuple[list[int], list[int]]:
    """Return the present and the replaced workers that `show proc` lists."""
    found: dict[str, list[int]] = {}
    title = ""
    for line in listing.splitlines():
        if line.startswith("#"):
            title = line.strip("# ")
        elif match := WORKER.match(line):
            found.setdefault(title, []).append(int(match[1]))
    return found.get("workers", []), found.get("old workers", [])


def parse_stat(text: str) -> dict[str, dict[str, str]]:
    """Return the rows of `show stat` by BACKEND/SERVER.

    Raises:
        Unreadable: they are none.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(text.strip().removeprefix("# "))))
    except csv.Error:
        raise Unreadable from None
    for row in rows:
        whole = all(isinstance(row.get(field), str) for field in FIELDS)
        if not whole or not all(NUMBER.fullmatch(row[field]) for field in NUMBERS):
            raise Unreadable
    return {f"{row['pxname']}/{row['svname']}": row for row in rows}


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Keep states as they are: one that is set between their copy and the reload would be lost.

    Raises:
        Busy: another program has held the lock for LOCK_S.
    """
    LOCK.parent.mkdir(mode=0o700, exist_ok=True)
    with LOCK.open("a") as lock:
        end = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Busy(
                        f"another program has been changing this HAProxy's servers for {LOCK_S} s; wait for its end"
                    ) from None
                time.sleep(LOCK_RETRY_S)
        yield
