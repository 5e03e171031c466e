# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How config_tree runs the commands of others: bounded in time, and nothing of them stays when time is up."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

# Cron jobs and some sudo rules leave the sbin directories out.
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `said` is fit to be shown."""

    ok: bool
    said: str


def run_command(argv: Sequence[str], timeout: int) -> Outcome:
    """A service that the command leaves behind may keep its output open, so that goes to a file instead of a pipe."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env=os.environ | {"PATH": PATH},
        )
        try:
            code = process.wait(timeout)
            ended = "" if code == 0 else f"(exit code {code})"
        except subprocess.TimeoutExpired:
            code = None
            ended = f"(killed after {timeout} s)"
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
    return Outcome(code == 0, f"{said} {ended}".strip())
