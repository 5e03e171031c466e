# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Taking an application off a host: what runs of it first, so that its port is free, then what deployments have made.

What else is in its directory, such as files that the application has stored there, stays. A run that dies on the way
leaves what says whose the rest is, the account and the marks in the directory, so that the next one goes on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from ansible_collections.foobar.web_infrastructure.plugins.module_utils import mounts
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import made, ownership
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.ownership import Names

UNITS = Path("/etc/systemd/system")
TRANSIENT_UNITS = Path("/run/systemd/system")
RUN = Path("/run/gunicorn_flask")
# What is in the folder of a trial.
COPIED = {"environment", "files", "gunicorn.conf.py", "listener", "output"}


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
        names = self.names
        there = self._holds_releases() or ownership.holds_something(names.config)
        there = there or bool(self.units() or trials(names.user))
        if not there and self.data:
            there = os.path.lexists(self.state) or ownership.account_of(names.user) is not None
        if there:
            ownership.refuse_foreign(names)
            self._refuse_mounts()
        return there

    def run(self) -> None:
        account = ownership.account_of(self.names.user)
        if account and account.pw_gecos != ownership.COMMENT:
            # A run that dies is known again, as is the application whose data stay, when it is deployed again.
            _must(["usermod", "--comment", ownership.COMMENT, self.names.user])
        self._stop()
        for path in RUN.glob(f"{self.names.user}.*"):
            path.unlink()
        self._remove_configuration()
        _remove_releases(self.names.root)
        if os.path.lexists(self.state) and not self.data:
            return
        if self.state.is_symlink():
            self.state.unlink()
        elif self.state.exists():
            _empty(self.state)
        if account:
            _must(["userdel", self.names.user])

    def _holds_releases(self) -> bool:
        root = self.names.root
        if any(made.everything(root)):
            return True
        # What a removal that died has left.
        folders = [root / name for name in made.FOLDERS if (root / name).is_dir() and not os.path.ismount(root / name)]
        return any(not any(folder.iterdir()) for folder in folders) or _holds_only_the_mark(root)

    def _refuse_mounts(self) -> None:
        """What is mounted may be shared with other hosts."""
        going = [self.names.config, *made.everything(self.names.root)]
        # These may be filesystems of their own, which are emptied.
        emptied = [self.state] if self.data else []
        places = [Path(os.path.realpath(path)) for path in going if not path.is_symlink()]
        for point in mounts.mount_points():
            inside = any(point == place or place in point.parents for place in places)
            if inside or any(Path(os.path.realpath(path)) in point.parents for path in emptied):
                raise ReleaseError(
                    f"gunicorn_flask_name: {point} is mounted in what would be deleted; nothing was changed: unmount it"
                )

    def _stop(self) -> None:
        links, tried = self.units(), trials(self.names.user)
        if not links and not tried:
            return
        units = [link.name for link in links]
        # The socket first of all: a request would start the service again.
        units.sort(key=lambda unit: not unit.endswith(".socket"))
        copies = sorted(path.name for path in tried if path.parent == TRANSIENT_UNITS)
        if copies:
            # One that was never written to its end is no unit that could be stopped.
            subprocess.run(["systemctl", "stop", *copies], capture_output=True, check=False)
        if units:
            _must(["systemctl", "stop", *units])
        for link in links:
            for wish in UNITS.glob(f"*.wants/{link.name}"):
                wish.unlink()
            link.unlink()
        for path in tried:
            if path.parent == TRANSIENT_UNITS:
                path.unlink()
            else:
                shutil.rmtree(path)
        _must(["systemctl", "daemon-reload"])
        # Only what has failed is remembered.
        subprocess.run(["systemctl", "reset-failed", *units, *copies], capture_output=True, check=False)

    def _remove_configuration(self) -> None:
        """What says that it was deployed goes last."""
        config = self.names.config
        for path in (config.with_name(f".{config.name}.staged"), config.with_name(f".{config.name}.previous")):
            shutil.rmtree(path, ignore_errors=not path.exists())
        if config.exists():
            for path in sorted(config.iterdir(), key=lambda path: path.name == "deployment.json"):
                _delete(path)
            config.rmdir()


def trials(name: str) -> list[Path]:
    """Copies of an application's units, and their folders, that a check has left which was killed.

    As ``sandbox.strays`` of the role's program, which is not here where no deployment has come that far.
    """
    copy = rf"{re.escape(name)}-(?:trial|load|migrate)-[0-9]+"
    found = []
    for path in TRANSIENT_UNITS.glob(f"{name}-*"):
        match = re.fullmatch(rf"{copy}(-{re.escape(name)}-[a-z0-9-]+)?\.(?:service|socket)", path.name)
        if match and (not match[1] or _users(path)[:1] in ([], [name])):
            found.append(path)
    for path in TRANSIENT_UNITS.parent.parent.glob(f"{name}-*"):
        if re.fullmatch(copy, path.name) and _is_copy(path):
            found.append(path)
    return sorted(found)


def _is_copy(folder: Path) -> bool:
    """The directory of another application's listener may have such a name."""
    return folder.is_dir() and not folder.is_symlink() and {item.name for item in folder.iterdir()} <= COPIED


def _users(unit: Path) -> list[str]:
    return re.findall(r"^User=(.*)$", unit.read_text(errors="replace"), re.MULTILINE)


def _remove_releases(root: Path) -> None:
    """A filesystem of its own stays where it is mounted, and so does a link to another place."""
    if not root.is_dir():
        return
    # A full disk must not stand in the way.
    with suppress(OSError):
        made.claim(root)
    for path in made.everything(root):
        _delete(path)
    for name in reversed(made.FOLDERS):
        folder = root / name
        if not folder.is_dir() or os.path.ismount(folder) or any(folder.iterdir()):
            continue
        if folder.is_symlink():
            folder.unlink()
        else:
            folder.rmdir()
    if _holds_only_the_mark(root):
        (root / made.HOME_MARK).unlink()
    if not root.is_symlink() and not os.path.ismount(root) and not any(root.iterdir()):
        root.rmdir()


def _holds_only_the_mark(root: Path) -> bool:
    return [path.name for path in made.entries(root)] == [made.HOME_MARK]


def _empty(root: Path) -> None:
    """A filesystem of its own stays where it is mounted."""
    if not os.path.ismount(root):
        shutil.rmtree(root)
        return
    for path in root.iterdir():
        _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _must(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}; run again")
