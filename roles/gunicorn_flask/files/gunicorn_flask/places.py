"""Directories that the application writes to."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gunicorn_flask import system
from gunicorn_flask.application import Application, Failure

STATE = Path("/var/lib")
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# As many links as the kernel follows on one way.
MOST_LINKS = 40


def make_writable_places(app: Application) -> None:
    """The state directory as systemd does at the first start, since a migration may need it before; and the others."""
    user = pwd.getpwnam(app.name)
    state = STATE / app.name
    make(state, user)
    take_over(state, user.pw_uid, user.pw_gid)
    for path in app.writable:
        if not make(path, user) and system.run(["test", "-w", str(path)], user=app.name).returncode != 0:
            raise Failure(
                f"gunicorn_flask_writable_paths: the user {app.name} may not write to {path}, which was there before; "
                "change its owner or its mode, or leave it out"
            )


def make(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether it was missing and has been made."""
    if path.exists():
        return False
    try:
        with opened(path.parent) as parent:
            os.mkdir(path.name, 0o700, dir_fd=parent)
            give(path, parent, user)
    except OSError as error:
        place = "/var/lib" if path.parent == STATE else "gunicorn_flask_writable_paths"
        raise Failure(f"{place}: {path} cannot be made: {error.strerror}") from None
    return True


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A directory, on the way to which only links are followed that nobody but root can have put there."""
    handle, only_root, links = os.open("/", DIRECTORY), True, 0
    waiting = list(reversed(path.parts[1:]))
    try:
        while waiting:
            part = waiting.pop()
            only_root = only_root and is_written_by_root_only(os.fstat(handle))
            is_link = stat.S_ISLNK(os.stat(part, dir_fd=handle, follow_symlinks=False).st_mode)
            if is_link and only_root and links < MOST_LINKS:
                links += 1
                target = Path(os.readlink(part, dir_fd=handle))
                waiting += reversed(target.parts[1:] if target.is_absolute() else target.parts)
                following = os.open("/", DIRECTORY) if target.is_absolute() else os.dup(handle)
            else:
                following = os.open(part, DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = following
        yield handle
    finally:
        os.close(handle)


def is_written_by_root_only(status: os.stat_result) -> bool:
    return status.st_uid == 0 and not status.st_mode & 0o022


def give(path: Path, parent: int, user: pwd.struct_passwd) -> None:
    """What has just been made, and not what somebody has put in its place since."""
    made = os.open(path.name, DIRECTORY, dir_fd=parent)
    try:
        with os.scandir(made) as items:
            is_empty = not any(items)
        if not is_empty or os.fstat(made).st_uid != os.geteuid():
            raise Failure(f"gunicorn_flask_writable_paths: {path} was replaced while it was made; run again")
        os.fchown(made, user.pw_uid, user.pw_gid)
        os.fchmod(made, 0o750)
    finally:
        os.close(made)


def take_over(state: Path, uid: int, gid: int) -> None:
    """Give the state directory back to the application, whose account may have been made anew or on another machine.

    What belonged to the directory's old owner changes hands; what is somebody else's stays. No link that the
    application has put there is followed, and no other filesystem is entered.
    """
    old = state.lstat()
    if (old.st_uid, old.st_gid) == (uid, gid):
        return
    if state.is_symlink() or not state.is_dir():
        raise Failure(f"{state} is not a directory; move away what is there")
    for _folder, folders, files, handle in os.fwalk(state, follow_symlinks=False):
        for name in [*folders, *files]:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if status.st_dev != old.st_dev:
                continue
            owner = uid if status.st_uid == old.st_uid else -1
            group = gid if status.st_gid == old.st_gid else -1
            os.chown(name, owner, group, dir_fd=handle, follow_symlinks=False)
        folders[:] = [
            name for name in folders if os.stat(name, dir_fd=handle, follow_symlinks=False).st_dev == old.st_dev
        ]
    # Last, so that a run that ends here begins anew.
    os.chown(state, uid, gid)
    state.chmod(0o750)
