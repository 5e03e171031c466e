"""An application goes from a host without its data, or with them, and nobody else's goes."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import ownership, removal
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

OURS = SimpleNamespace(pw_uid=998, pw_gecos=ownership.COMMENT, pw_dir="/x", pw_shell="/x")


class Host:
    """An application that is deployed, and another one."""

    def __init__(self, root: Path, monkeypatch) -> None:
        self.root, self.asked, self.account = root, [], OURS
        for path in ("srv/web/releases/one/app", "etc/web/gunicorn_flask", "etc/other", "lib/web", "run"):
            (root / path).mkdir(parents=True)
        self.units = root / "units"
        (self.units / "multi-user.target.wants").mkdir(parents=True)
        for path in ("etc/web/deployment.json", "lib/web/data", "run/web.json", "run/web2.json", "etc/.web.previous/x"):
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).touch()
        for unit, place in (
            ("web.service", "web"),
            ("web.socket", "web"),
            ("web-job.timer", "web"),
            ("o.service", "other"),
        ):
            (self.units / unit).symlink_to(root / "etc" / place / unit)
            (self.units / "multi-user.target.wants" / unit).symlink_to(root / "etc" / place / unit)
        monkeypatch.setattr(removal, "UNITS", self.units)
        monkeypatch.setattr(removal, "RUN", root / "run")
        monkeypatch.setattr(removal, "_must", self.asked.append)
        monkeypatch.setattr(removal.subprocess, "run", lambda argv, **_: self.asked.append(argv))
        monkeypatch.setattr(ownership, "UNITS", [self.units])
        monkeypatch.setattr(ownership, "STATE", root / "lib")
        monkeypatch.setattr(ownership, "account_of", lambda name: self.account)
        monkeypatch.setattr(ownership, "group_of", lambda name: None)
        monkeypatch.setattr(ownership, "name_of", lambda uid: "somebody")

    def wish(self, data: bool = False) -> removal.Removal:
        params = {"user": "web", "root": self.root / "srv/web", "config": self.root / "etc/web", "units": []}
        return removal.Removal(ownership.names_of(params), data)

    def left(self) -> set[str]:
        found = (path.relative_to(self.root) for path in self.root.rglob("*") if not path.is_dir() or path.is_symlink())
        return {str(path) for path in found}


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Host:
    return Host(tmp_path, monkeypatch)


OTHERS = {"units/o.service", "units/multi-user.target.wants/o.service", "run/web2.json"}


def test_data_and_account_stay(machine):
    assert machine.wish().is_needed()
    machine.wish().run()
    assert machine.left() == OTHERS | {"lib/web/data"} and not (machine.root / "srv/web").exists()
    stop, reload, reset, account = machine.asked
    assert stop[:3] == ["systemctl", "stop", "web.socket"] and set(stop[3:]) == {"web.service", "web-job.timer"}
    assert reload == ["systemctl", "daemon-reload"] and reset[1] == "reset-failed"
    assert account == ["usermod", "--comment", ownership.COMMENT, "web"]
    assert not machine.wish().is_needed()
    # Then, or later, the rest.
    assert machine.wish(data=True).is_needed()
    machine.asked.clear()
    machine.wish(data=True).run()
    assert machine.left() == OTHERS and machine.asked == [["userdel", "web"]]
    machine.account = None
    assert not machine.wish(data=True).is_needed()


def test_what_no_deployment_has_made_stays(machine):
    (machine.root / "etc/web/deployment.json").unlink()
    machine.account = SimpleNamespace(pw_uid=1000, pw_gecos="Ann", pw_dir="/home/web", pw_shell="/bin/bash")
    before = machine.left()
    with pytest.raises(ReleaseError, match="an account 'web' that no deployment has made"):
        machine.wish(data=True).is_needed()
    assert machine.left() == before and machine.asked == []


def test_a_filesystem_of_its_own_stays_mounted(machine, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path).endswith("srv/web"))
    machine.wish().run()
    assert list((machine.root / "srv/web").iterdir()) == []
