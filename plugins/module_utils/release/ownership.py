# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whose are the account, the group, the units and the directories of an application's name? Nothing is changed.

What an earlier run has made is ours: the account says so itself, in its comment. Accounts of earlier versions do not:
there, a finished deployment says it, or a release together with an account that can do nothing but run a service. That
a directory holds releases says nothing, since other programs do it that way, too: they have to be ours.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import made
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

COMMENT = "gunicorn_flask of foobar.web_infrastructure"
SHADOW = Path("/etc/shadow")
STATE = Path("/var/lib")
UNITS = [Path(place) for place in ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")]


@dataclass(frozen=True)
class Names:
    """What an application is called on a host.

    Attributes:
        user: its account and group.
        root: where its releases are.
        config: where its configuration is.
        units: each unit, with the variable that names it.
    """

    user: str
    root: Path
    config: Path
    units: Mapping[str, str]

    @property
    def deployed(self) -> bool:
        """Whether a deployment has come as far as putting its configuration in place."""
        return (self.config / "deployment.json").is_file()

    @property
    def built(self) -> bool:
        """Whether there is something that a deployment has built."""
        return made.is_in_use(self.root)


def refuse_foreign(names: Names) -> None:
    """ReleaseError for the first thing of the name that no run of this role has made."""
    ours = refuse_foreign_account(names)
    refuse_foreign_group(names)
    refuse_foreign_units(names)
    refuse_foreign_directories(names, ours)


def refuse_foreign_account(names: Names) -> bool:
    """Whether there is an account of ours."""
    account = account_of(names.user)
    if account is None:
        return False
    if account.pw_gecos == COMMENT or names.deployed or (names.built and is_sound(names.user)):
        return True
    raise ReleaseError(
        f"gunicorn_flask_name: this host has an account '{names.user}' that no deployment has made (user id "
        f"{account.pw_uid}, home {account.pw_dir}, shell {account.pw_shell}); nothing was changed: choose another name"
    )


def refuse_foreign_group(names: Names) -> None:
    """A group whose account was removed is left behind where it has members."""
    group = group_of(names.user)
    if group is None or account_of(names.user) is not None or names.deployed or names.built:
        return
    raise ReleaseError(
        f"gunicorn_flask_name: this host has a group '{names.user}' that no deployment has made (group id "
        f"{group.gr_gid}); nothing was changed: choose another name"
    )


def refuse_foreign_units(names: Names) -> None:
    config = names.config.resolve()
    for unit, place in names.units.items():
        for folder in UNITS:
            path = folder / unit
            if not os.path.lexists(path) or is_masked(path):
                continue
            if config not in path.resolve().parents:
                raise ReleaseError(
                    f"{place}: {path} is a unit of somebody else; nothing was changed: choose another name"
                )


def is_masked(path: Path) -> bool:
    return path.is_symlink() and path.readlink() == Path(os.devnull)


def refuse_foreign_directories(names: Names, account_is_ours: bool) -> None:
    made.refuse_foreign(names.root)
    known = account_is_ours or names.deployed or names.built
    # Without its releases: what the application has stored in there stays when it is removed.
    if holds_something(names.root) and not made.is_ours(names.root) and not known:
        raise ReleaseError(
            f"gunicorn_flask_name: {names.root} is there and holds no releases; nothing was changed: choose another "
            "name, or move it away"
        )
    if holds_something(names.config) and not known:
        raise ReleaseError(
            f"gunicorn_flask_name: {names.config} is there and was made by no deployment; nothing was changed: choose "
            "another name, or move it away"
        )
    state = STATE / names.user
    if known or not holds_something(state):
        return
    owner = state.lstat().st_uid
    name = name_of(owner)
    # Of an account that is gone, or restored from another machine: the deployment gives it to the application.
    if state.is_symlink() or name is not None:
        raise ReleaseError(
            f"gunicorn_flask_name: {state} is there, belongs to {name or owner} and was made by no deployment; nothing "
            "was changed: choose another name, or, if it is a copy of this application's data, let it belong to nobody "
            f"first, and the deployment takes it over: chown -R 65533:65533 {state}"
        )


def holds_something(path: Path) -> bool:
    """An empty directory, such as a fresh filesystem, is nobody's."""
    if not os.path.lexists(path):
        return False
    return not path.is_dir() or path.is_symlink() or any(item.name not in made.NO_CONTENT for item in path.iterdir())


def is_sound(user: str) -> bool:
    """Whether the account is one that runs a service and nothing else."""
    account = account_of(user)
    try:
        lines = SHADOW.read_text().splitlines()
    except OSError:
        return False
    if account is None:
        return False
    password = next((line.split(":")[1] for line in lines if line.startswith(f"{user}:")), "")
    is_member = any(user in group.gr_mem for group in grp.getgrall())
    is_locked = password.startswith(("!", "*"))
    return (
        (account.pw_dir, account.pw_shell) == (f"/var/lib/{user}", "/usr/sbin/nologin") and is_locked and not is_member
    )


def account_of(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def group_of(name: str) -> grp.struct_group | None:
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


def name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def names_of(params: Mapping[str, Any]) -> Names:
    """What the module's parameters call the application."""
    user = params["user"]
    units = {f"{user}.{kind}": "gunicorn_flask_name" for kind in ("socket", "service")}
    units |= {unit: "gunicorn_flask_services and gunicorn_flask_timers" for unit in params["units"]}
    return Names(user, Path(params["root"]), Path(params["config"]), units)
