# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two runs for one directory of a host follow each other."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCKS = Path("/run/config_tree")  # in /run, not in /run/lock, where any user could create the file first


class HostLockError(Exception):
    """One sentence: which directory another run is working on."""


def path_of(root: Path) -> Path:
    """Return the file that a run for a directory locks.

    Args:
        root: the directory.
    """
    name = str(root).strip("/").replace("/", "-")
    return LOCKS / f"{name}.lock"


@contextmanager
def exclusive(root: Path, wait: float = 60.0) -> Iterator[None]:
    """Hold the lock of a directory. It dies with its process; a leftover file means nothing.

    Args:
        root: the directory.
        wait: seconds to wait for another run.

    Raises:
        HostLockError: another run has held it for all that time.
    """
    LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path_of(root).open("a") as lock:
        if not is_taken(lock, wait):
            raise HostLockError(
                f"{root}: another run has been working on it for {wait:.0f} s; wait for it and run again"
            )
        yield


def is_taken(file: IO, wait: float) -> bool:
    """Return whether the lock of an open file is ours now. It goes with the file.

    Args:
        file: the file.
        wait: seconds to wait for whoever holds it.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True
