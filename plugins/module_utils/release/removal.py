# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Taking an application off a host: what runs of it first, so that its port is free, then what it has left.

A run that dies on the way leaves the account, which says whose it is, so that the next one goes on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import ownership
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.ownership import Names

UNITS = Path("/etc/systemd/system")
RUN = Path("/run/gunicorn_flask")


class Removal:
    """What there is of one application, and how it goes."""

    def __init__(self, names: Names, data: bool) -> None:
        self.names = names
        self.data = data

    @property
    def state(self) -> Path:
        return ownership.STATE / self.names.user

    def units(self) -> list[Path]:
        """Links to units in its configuration, be those still there or not."""
        found = [path for path in UNITS.iterdir() if path.is_symlink()] if UNITS.is_dir() else []
        return sorted(path for path in found if path.readlink().parent == self.names.config)

    def is_needed(self) -> bool:
        """Whether anything is there that has to go. ReleaseError where that is somebody else's."""
        places = [self.names.root, self.names.config]
        there = any(ownership.holds_something(path) for path in places) or bool(self.units())
        if not there and self.data:
            there = os.path.lexists(self.state) or ownership.account_of(self.names.user) is not None
        if there:
            ownership.refuse_foreign(self.names)
        return there

    def run(self) -> None:
        self._stop()
        account = ownership.account_of(self.names.user)
        keeps = os.path.lexists(self.state) and not self.data
        if account and keeps:
            # The data go on belonging to somebody, and a later deployment knows the account again.
            _must(["usermod", "--comment", ownership.COMMENT, self.names.user])
        config = self.names.config
        for path in (config, config.with_name(f".{config.name}.staged"), config.with_name(f".{config.name}.previous")):
            shutil.rmtree(path, ignore_errors=not path.exists())
        _empty(self.names.root)
        for path in RUN.glob(f"{self.names.user}.*"):
            path.unlink()
        if keeps:
            return
        if self.state.is_symlink():
            self.state.unlink()
        elif self.state.exists():
            _empty(self.state)
        if account:
            _must(["userdel", self.names.user])

    def _stop(self) -> None:
        links = self.units()
        if not links:
            return
        units = [link.name for link in links]
        # The socket first of all: a request would start the service again.
        units.sort(key=lambda unit: not unit.endswith(".socket"))
        _must(["systemctl", "stop", *units])
        for link in links:
            for wish in UNITS.glob(f"*.wants/{link.name}"):
                wish.unlink()
            link.unlink()
        _must(["systemctl", "daemon-reload"])
        # Only what has failed is remembered.
        subprocess.run(["systemctl", "reset-failed", *units], capture_output=True, check=False)


def _empty(root: Path) -> None:
    """A filesystem of its own stays where it is mounted."""
    if not root.exists():
        return
    if not os.path.ismount(root):
        shutil.rmtree(root)
        return
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _must(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}; run again")
