# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How config_tree runs the commands of others: bounded in time, and nothing of them stays when time is up."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Cron jobs and some sudo rules leave the sbin directories out.
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))

MARK = "CONFIG_TREE_COMMAND"
OUTPUT_LIMIT = 256 * 1024  # more than a message ever shows
FLOOD = 16 * 1024 * 1024


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `said` is fit to be shown."""

    ok: bool
    said: str


def run_command(argv: Sequence[str], timeout: int) -> Outcome:
    """A service that the command leaves behind may keep its output open, so that goes to a file instead of a pipe."""
    token = f"{MARK}={uuid.uuid4()}"
    with tempfile.TemporaryFile() as output:
        # What is written after the file was shortened goes to its new end.
        fcntl.fcntl(output, fcntl.F_SETFL, fcntl.fcntl(output, fcntl.F_GETFL) | os.O_APPEND)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env=os.environ | {"PATH": PATH} | dict([token.split("=")]),
        )
        code = _wait(process, timeout, output.fileno())
        if code is None:
            _kill(process, token)
        size = os.fstat(output.fileno()).st_size
        said = os.pread(output.fileno(), OUTPUT_LIMIT, max(size - OUTPUT_LIMIT, 0)).decode(errors="replace").strip()
    ended = {None: f"(killed after {timeout} s)", 0: ""}.get(code, f"(exit code {code})")
    return Outcome(code == 0, f"{said} {ended}".strip())


def _wait(process: subprocess.Popen, timeout: int, output: int) -> int | None:
    """The exit code, or None after the timeout. A flood of output must not fill the disk meanwhile."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(min(left, 0.1))
        if os.fstat(output).st_size > FLOOD:
            os.ftruncate(output, 0)
    return process.poll()


def _kill(process: subprocess.Popen, token: str) -> None:
    """With all its children, those included that have made a session of their own: they carry the token."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _round in range(20):
        left = _carriers(token)
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _carriers(token: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is not ours
            if token.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
