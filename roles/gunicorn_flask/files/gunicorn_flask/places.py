"""Directories that the application writes to."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from gunicorn_flask import system
from gunicorn_flask.application import Application, Failure

STATE = Path("/var/lib")


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
        path.mkdir(mode=0o700)
    except OSError as error:
        place = "/var/lib" if path.parent == STATE else "gunicorn_flask_writable_paths"
        raise Failure(f"{place}: {path} cannot be made: {error.strerror}") from None
    os.chown(path, user.pw_uid, user.pw_gid)
    path.chmod(0o750)
    return True


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
