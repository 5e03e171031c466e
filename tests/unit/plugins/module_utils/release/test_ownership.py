"""What no deployment has made is refused, whatever it is; what an earlier one has made is ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import made, ownership
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

PERSON = SimpleNamespace(pw_uid=1000, pw_gecos="Ann", pw_dir="/home/web", pw_shell="/bin/bash")
OURS = SimpleNamespace(pw_uid=998, pw_gecos=ownership.COMMENT, pw_dir="/x", pw_shell="/bin/bash")
# As a package of the distribution, and as an earlier version of this role, make it.
SERVICE = SimpleNamespace(pw_uid=997, pw_gecos="", pw_dir="/var/lib/web", pw_shell="/usr/sbin/nologin")


class Host:
    """Accounts, groups and directories of a host."""

    def __init__(self, root: Path, monkeypatch) -> None:
        self.account = self.group = None
        self.owner: str | None = None
        self.srv, self.etc, self.lib = root / "srv/web", root / "etc/web", root / "lib"
        self.units = root / "units"
        for path in (self.srv.parent, self.etc.parent, self.lib, self.units):
            path.mkdir()
        monkeypatch.setattr(ownership, "STATE", self.lib)
        monkeypatch.setattr(ownership, "UNITS", [root / "missing", self.units])
        monkeypatch.setattr(ownership, "account_of", lambda name: self.account)
        monkeypatch.setattr(ownership, "group_of", lambda name: self.group)
        monkeypatch.setattr(ownership, "name_of", lambda uid: self.owner)
        monkeypatch.setattr(ownership, "is_sound", lambda user: self.account is SERVICE)

    def look(self) -> None:
        params = {"user": "web", "root": self.srv, "config": self.etc, "units": ["web-worker.service"]}
        ownership.refuse_foreign(ownership.names_of(params))

    def put(self, path: Path, text: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Host:
    return Host(tmp_path, monkeypatch)


def deployed(machine: Host) -> None:
    machine.put(machine.etc / "deployment.json", "{}")


def built(machine: Host) -> None:
    """As earlier versions did it, which put no mark into the directory itself."""
    machine.put(machine.srv / "releases/0123456789ab/.complete", '{"built": 1.5, "python": "", "app": "", "venv": ""}')


def built_half(machine: Host) -> None:
    (machine.srv / "releases/0123456789ab/app").mkdir(parents=True)


def begun(machine: Host) -> None:
    for folder in ("releases", "venvs"):
        (machine.srv / folder).mkdir(parents=True)


def removed_half(machine: Host) -> None:
    machine.put(machine.srv / "venvs/0123456789ab/.complete", json.dumps(64 * "a"))
    machine.put(machine.srv / "uploads/a.png")


def marked(machine: Host) -> None:
    machine.srv.mkdir()
    made.claim(machine.srv)
    machine.put(machine.srv / "uploads/a.png")


def test_a_bare_host_and_empty_directories_are_nobodys(machine):
    machine.look()
    for path in (machine.srv, machine.etc, machine.lib / "web"):
        path.mkdir()
    (machine.srv / "lost+found").mkdir()
    machine.look()


@pytest.mark.parametrize("account", [PERSON, SERVICE])
def test_an_account_of_somebody_else_is_refused(machine, account):
    machine.account = account
    with pytest.raises(ReleaseError, match=f"an account 'web' .*user id {account.pw_uid}, home {account.pw_dir}"):
        machine.look()


def test_an_account_says_whose_it_is(machine):
    machine.account = OURS
    machine.put(machine.lib / "web/data")
    machine.owner = "web"
    machine.look()


def test_an_account_of_an_earlier_version_is_known_by_what_that_has_left(machine):
    machine.account, machine.group = PERSON, SimpleNamespace(gr_gid=1000)
    deployed(machine)
    machine.look()
    (machine.etc / "deployment.json").unlink()
    machine.account = SERVICE
    # Killed before the configuration was in place.
    built(machine)
    machine.look()
    machine.account = PERSON
    with pytest.raises(ReleaseError, match="an account 'web'"):
        machine.look()


def test_a_group_of_somebody_else_is_refused_and_one_that_was_left_behind_is_not(machine):
    machine.group = SimpleNamespace(gr_gid=1234)
    with pytest.raises(ReleaseError, match="a group 'web' .*group id 1234"):
        machine.look()
    deployed(machine)
    machine.look()


@pytest.mark.parametrize(
    ("unit", "place"),
    [
        ("web.socket", "gunicorn_flask_name"),
        ("web-worker.service", "gunicorn_flask_services and gunicorn_flask_timers"),
    ],
)
def test_a_unit_of_somebody_else_is_refused(machine, unit, place):
    deployed(machine)
    (machine.units / unit).symlink_to(machine.etc / unit)
    machine.look()
    (machine.units / unit).unlink()
    (machine.units / unit).symlink_to(os.devnull)
    machine.look()
    (machine.units / unit).unlink()
    machine.put(machine.units / unit)
    with pytest.raises(ReleaseError, match=f"^{place}: {machine.units / unit} is a unit of somebody else"):
        machine.look()


def test_directories_of_somebody_else_are_refused(machine):
    machine.put(machine.srv / "index.html")
    with pytest.raises(ReleaseError, match=f"{machine.srv} is there and holds no releases"):
        machine.look()
    (machine.srv / "index.html").unlink()
    machine.put(machine.etc / "site.conf")
    with pytest.raises(ReleaseError, match=f"{machine.etc} is there and was made by no deployment"):
        machine.look()


@pytest.mark.parametrize("before", [built, built_half, removed_half, marked])
def test_what_deployments_have_made_is_known_wherever_they_died(machine, before):
    before(machine)
    machine.look()


def test_directories_that_an_earlier_version_has_left_empty_are_taken(machine):
    begun(machine)
    machine.account = OURS
    machine.look()


def test_what_an_application_has_stored_there_stays_and_does_not_stand_in_the_way(machine):
    machine.put(machine.srv / "uploads/a.png")
    with pytest.raises(ReleaseError, match=f"{machine.srv} is there and holds no releases"):
        machine.look()
    machine.account = OURS
    machine.look()


def capistrano(machine: Host) -> None:
    for release in ("20260101120000", "20260102120000"):
        machine.put(machine.srv / "releases" / release / "Gemfile")
    machine.put(machine.srv / "shared/log")
    (machine.srv / "current").symlink_to("releases/20260102120000")


def commits(machine: Host) -> None:
    machine.put(machine.srv / "releases/0123456789ab/Gemfile")


def a_file(machine: Host) -> None:
    machine.put(machine.srv / "releases")


@pytest.mark.parametrize("theirs", [capistrano, commits, a_file])
@pytest.mark.parametrize("account", [None, OURS])
def test_releases_of_somebody_else_are_refused(machine, theirs, account):
    theirs(machine)
    machine.account = account
    with pytest.raises(ReleaseError, match=f"{machine.srv}/releases was made by no deployment"):
        machine.look()


def test_releases_of_somebody_else_make_nothing_else_known(machine):
    capistrano(machine)
    machine.account = SERVICE
    with pytest.raises(ReleaseError, match="an account 'web' that no deployment has made"):
        machine.look()
    machine.account, machine.group = None, SimpleNamespace(gr_gid=1234)
    with pytest.raises(ReleaseError, match="a group 'web' .*group id 1234"):
        machine.look()


def test_a_directory_that_was_left_to_an_application_makes_nothing_else_known(machine):
    marked(machine)
    machine.put(machine.lib / "web/status")
    machine.owner = "root"
    with pytest.raises(ReleaseError, match="/web is there, belongs to root and was made by no deployment"):
        machine.look()


def test_a_state_directory_is_taken_over_from_nobody_only(machine):
    machine.put(machine.lib / "web/status")
    machine.look()
    machine.owner = "root"
    with pytest.raises(ReleaseError, match="/web is there, belongs to root and was made by no deployment"):
        machine.look()
    built(machine)
    machine.look()


def test_a_link_in_the_place_of_the_state_directory_is_refused(machine):
    (machine.lib / "web").symlink_to(machine.units)
    with pytest.raises(ReleaseError, match="was made by no deployment"):
        machine.look()
