# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What in a directory of releases was made by deployments. Nothing else in it is ever deleted.

A mark in the directory comes first, before anything is built in it, and goes last. Earlier versions made none: there, a
finished release says it by its own mark, or releases that look like those that a build has left which died.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

# Of the whole directory.
HOME_MARK = ".gunicorn_flask"
# Of a release or an environment that is finished.
MARK = ".complete"
# A digest, and a number where a changed one is still in use.
NAME = re.compile(r"[0-9a-f]{12}(\.\d{1,3})?")
OF_A_RELEASE = {"app", "venv", MARK, f"{MARK}.new"}
FOLDERS = ("releases", "venvs")
LINKS = ("current.new", "previous.new", "current", "previous")
FILES = ("migrations.new", "migrations.json")
# In a filesystem of its own.
NO_CONTENT = {"lost+found"}


def is_ours(root: Path) -> bool:
    """Whether deployments have made what has our names there."""
    if (root / HOME_MARK).is_file():
        return True
    releases = entries(root / "releases")
    if any(is_finished(path) for path in releases):
        return True
    if releases:
        return all(is_release(path) for path in releases)
    # Of a removal that died.
    venvs = entries(root / "venvs")
    return bool(venvs) and all(is_environment(path) for path in venvs)


def is_in_use(root: Path) -> bool:
    """Whether there is anything of deployments besides the mark of the directory."""
    return is_ours(root) and any(os.path.lexists(root / name) for name in (*FOLDERS, *LINKS, *FILES))


def refuse_foreign(root: Path) -> None:
    """ReleaseError where somebody else keeps releases."""
    if is_ours(root):
        return
    for name in FOLDERS:
        # An empty directory is nobody's.
        if os.path.lexists(root / name) and (not (root / name).is_dir() or entries(root / name)):
            raise ReleaseError(
                f"gunicorn_flask_name: {root / name} was made by no deployment; nothing was changed: choose another "
                "name, or move it away"
            )


def claim(root: Path) -> None:
    mark = root / HOME_MARK
    if not mark.exists():
        mark.touch()
        # Whatever umask the run has.
        mark.chmod(0o644)


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name not in NO_CONTENT) if folder.is_dir() else []


def is_finished(path: Path) -> bool:
    """By the mark that a build of ours has written last."""
    try:
        mark = json.loads((path / MARK).read_bytes())
    except (OSError, ValueError):
        return False
    return (isinstance(mark, dict) and "built" in mark) or (isinstance(mark, str) and len(mark) == 64)


def is_environment(path: Path) -> bool:
    """An environment in our directory, finished or not."""
    status = path.lstat()
    return bool(NAME.fullmatch(path.name)) and path.is_dir() and not path.is_symlink() and status.st_uid == os.geteuid()


def is_release(path: Path) -> bool:
    """A release in our directory, finished or not."""
    return is_environment(path) and (is_finished(path) or {item.name for item in path.iterdir()} <= OF_A_RELEASE)


def everything(root: Path) -> Iterator[Path]:
    """What there is of ours, in the order in which it may go. Finished releases are the last that says whose it is."""
    yield from (root / name for name in LINKS if (root / name).is_symlink())
    yield from (root / name for name in FILES if (root / name).is_file())
    yield from (path for path in entries(root / "venvs") if is_environment(path))
    yield from sorted((path for path in entries(root / "releases") if is_release(path)), key=is_finished)
