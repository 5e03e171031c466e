"""An application goes from a host without its data, or with them, and nobody else's goes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import made, ownership, removal
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

OURS = SimpleNamespace(pw_uid=998, pw_gecos=ownership.COMMENT, pw_dir="/x", pw_shell="/x")
# Of an earlier version.
OLD = SimpleNamespace(pw_uid=998, pw_gecos="", pw_dir="/x", pw_shell="/x")
COMMENT = ["usermod", "--comment", ownership.COMMENT, "web"]
ONE, TWO = "0123456789ab", "ba9876543210.1"
MARK = '{"built": 1.5, "python": "", "app": "", "venv": ""}'


RECORDS = ("run/gunicorn_flask/web.json", "run/gunicorn_flask/web2.json")


class Host:
    """An application that is deployed, and another one."""

    def __init__(self, root: Path, monkeypatch) -> None:
        self.root, self.asked, self.account = root, [], OLD
        for path in ("etc/web/gunicorn_flask", "etc/other", "lib/web", "run/systemd/system", "run/gunicorn_flask"):
            (root / path).mkdir(parents=True)
        for path in (f"releases/{ONE}/app", f"releases/{TWO}/app/web", "venvs/aaaaaaaaaaaa/bin"):
            (root / "srv/web" / path).mkdir(parents=True)
        (root / f"srv/web/releases/{TWO}" / made.MARK).write_text(MARK)
        (root / "srv/web/migrations.json").write_text("[]")
        for link in ("current", "previous", "current.new"):
            (root / "srv/web" / link).symlink_to(f"releases/{TWO}")
        self.units = root / "units"
        (self.units / "multi-user.target.wants").mkdir(parents=True)
        for path in ("etc/web/deployment.json", "lib/web/data", *RECORDS, "etc/.web.previous/x"):
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
        monkeypatch.setattr(removal, "RUN", root / "run/gunicorn_flask")
        monkeypatch.setattr(removal, "TRANSIENT_UNITS", root / "run/systemd/system")
        monkeypatch.setattr(removal, "_must", self.must)
        monkeypatch.setattr(removal.subprocess, "run", lambda argv, **_: self.asked.append(argv))
        monkeypatch.setattr(ownership, "UNITS", [self.units])
        monkeypatch.setattr(ownership, "STATE", root / "lib")
        monkeypatch.setattr(ownership, "account_of", lambda name: self.account)
        monkeypatch.setattr(ownership, "group_of", lambda name: None)
        monkeypatch.setattr(ownership, "name_of", lambda uid: "somebody")

    def must(self, argv: list[str]) -> None:
        self.asked.append(argv)
        if argv == COMMENT:
            self.account = OURS
        if argv[0] == "userdel":
            self.account = None

    def put(self, path: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).touch()

    def wish(self, data: bool = False) -> removal.Removal:
        params = {"user": "web", "root": self.root / "srv/web", "config": self.root / "etc/web", "units": []}
        return removal.Removal(ownership.names_of(params), data)

    def left(self) -> set[str]:
        found = (path.relative_to(self.root) for path in self.root.rglob("*") if not path.is_dir() or path.is_symlink())
        return {str(path) for path in found}


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Host:
    return Host(tmp_path, monkeypatch)


OTHERS = {"units/o.service", "units/multi-user.target.wants/o.service", "run/gunicorn_flask/web2.json"}


def test_data_and_account_stay(machine):
    assert machine.wish().is_needed()
    machine.wish().run()
    assert machine.left() == OTHERS | {"lib/web/data"} and not (machine.root / "srv/web").exists()
    account, stop, reload, reset = machine.asked
    assert stop[:3] == ["systemctl", "stop", "web.socket"] and set(stop[3:]) == {"web.service", "web-job.timer"}
    assert reload == ["systemctl", "daemon-reload"] and reset[1] == "reset-failed"
    assert account == COMMENT
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


def test_what_the_application_has_stored_beside_its_releases_stays(machine):
    stored = {"srv/web/uploads/a.png", "srv/web/releases/notes/text", "srv/web/venvs/README"}
    for path in stored:
        machine.put(path)
    machine.wish(data=True).run()
    assert machine.left() == OTHERS | stored | {f"srv/web/{made.HOME_MARK}"}
    assert not machine.wish(data=True).is_needed()
    machine.wish()._refuse_mounts()
    # It can be deployed again, and what is left does not hold it up when it is gone.
    ownership.refuse_foreign(machine.wish().names)
    shutil.rmtree(machine.root / "srv/web/uploads")
    for path in ("releases", "venvs"):
        shutil.rmtree(machine.root / "srv/web" / path)
    assert machine.wish().is_needed()
    machine.wish().run()
    assert not (machine.root / "srv/web").exists()


@pytest.mark.parametrize("what", ["index.html", "site/index.html"])
def test_a_directory_without_anything_of_deployments_is_not_looked_at(machine, what):
    machine.wish(data=True).run()
    machine.put(f"srv/web/{what}")
    assert not machine.wish(data=True).is_needed()
    machine.wish(data=True).run()
    assert f"srv/web/{what}" in machine.left()


def test_releases_of_somebody_else_are_refused_and_stay(machine):
    machine.wish(data=True).run()
    for path in ("releases/20260101120000/Gemfile", "shared/log"):
        machine.put(f"srv/web/{path}")
    (machine.root / "srv/web/current").symlink_to("releases/20260101120000")
    before = machine.left()
    with pytest.raises(ReleaseError, match="srv/web/releases was made by no deployment"):
        machine.wish(data=True).is_needed()
    assert machine.left() == before


@pytest.mark.parametrize("mounted", ["srv/web", "srv/web/releases", "lib/web"])
def test_a_filesystem_of_its_own_stays_mounted(machine, monkeypatch, mounted):
    (machine.root / mounted / "lost+found").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path).endswith(mounted))
    monkeypatch.setattr(removal.mounts, "mount_points", lambda: [machine.root / mounted])
    # While there is a directory for releases, that says whose it is.
    mark = f"srv/web/{made.HOME_MARK}" if mounted.endswith("releases") else ""
    assert machine.wish(data=mounted == "lib/web").is_needed()
    machine.wish(data=mounted == "lib/web").run()
    assert (machine.root / mounted).is_dir() and machine.left() - {"lib/web/data"} - {mark} == OTHERS
    assert not machine.wish().is_needed()


@pytest.mark.parametrize(
    ("mounted", "data"),
    [(f"srv/web/releases/{ONE}/app/uploads", False), (f"srv/web/releases/{ONE}", False), ("lib/web/share", True)],
)
def test_what_is_mounted_in_what_would_go_is_refused(machine, monkeypatch, mounted, data):
    monkeypatch.setattr(removal.mounts, "mount_points", lambda: [machine.root / mounted])
    before = machine.left()
    with pytest.raises(ReleaseError, match=f"{mounted} is mounted in what would be deleted; nothing was changed"):
        machine.wish(data).is_needed()
    assert machine.left() == before
    if data:
        assert machine.wish().is_needed()


TRIALS = {
    "web-trial-12.service": "web",
    "web-trial-12.socket": "",
    "web-load-7.service": "web",
    "web-trial-12-web-worker.service": "web",
    "web-load-8.service": "",
}
NO_TRIALS = {
    "web-trial-1-trial-12.service": "web-trial-1",
    "web-trial-1-trial-12.socket": "",
    "web-trial-1-web-x-trial-12.service": "web-trial-1-web-x",
    "web-trial-x.service": "web",
    "web-trial-12.timer": "web",
    "web2-trial-12.service": "web2",
    "other-web-trial-12.service": "other-web",
}


@pytest.mark.parametrize("rest", ["all", "nothing"])
def test_what_a_killed_check_has_left_running_is_stopped_and_nobody_elses(machine, rest):
    if rest == "nothing":
        machine.wish().run()
        machine.asked.clear()
    run = machine.root / "run"
    for unit, user in (TRIALS | NO_TRIALS).items():
        (run / "systemd/system" / unit).write_text(f"[Service]\nUser={user}\n" if user else "")
    # The second one is where an application of that name listens.
    for path in ("web-trial-12/gunicorn.conf.py", "web-trial-1/web-trial-1.sock", "web2-trial-12/environment"):
        machine.put(f"run/{path}")
    (run / "web-load-7").mkdir()
    assert machine.wish(data=True).is_needed()
    machine.wish(data=True).run()
    stop = next(argv for argv in machine.asked if argv[:2] == ["systemctl", "stop"])
    assert set(stop[2:]) == set(TRIALS) and machine.asked.index(stop) < machine.asked.index(["userdel", "web"])
    assert {path.name for path in (run / "systemd/system").iterdir()} == set(NO_TRIALS)
    assert {path.name for path in run.glob("*-*")} == {"web-trial-1", "web2-trial-12"}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("data", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_a_removal_that_was_killed_at_any_step_is_finished_by_the_next(tmp_path, monkeypatch, data, stored):
    """Each file and each directory that is removed is a step."""
    for step in range(200):
        with monkeypatch.context() as patch:
            place = tmp_path / str(step)
            place.mkdir()
            machine = Host(place, patch)
            if stored:
                machine.put("srv/web/uploads/a.png")
            left = [step]

            def dying(real, left=left):
                def change(*arguments, **options):
                    left[0] -= 1
                    if left[0] < 0:
                        raise Killed
                    return real(*arguments, **options)

                return change

            def rmtree(path, ignore_errors=False, gone=None):
                if not os.path.lexists(path):
                    return
                for item in sorted(Path(path).iterdir()):
                    if item.is_dir() and not item.is_symlink():
                        rmtree(item)
                    else:
                        item.unlink()
                Path(path).rmdir()

            killed = False
            with patch.context() as harm:
                for name in ("unlink", "rmdir", "touch"):
                    harm.setattr(Path, name, dying(getattr(Path, name)))
                harm.setattr(removal.shutil, "rmtree", rmtree)
                harm.setattr(removal, "_must", dying(machine.must))
                try:
                    machine.wish(data).run()
                except Killed:
                    killed = True
            if machine.wish(data).is_needed():
                machine.wish(data).run()
            assert not machine.wish(data).is_needed()
            kept = set() if data else {"lib/web/data"}
            if stored:
                kept |= {"srv/web/uploads/a.png", f"srv/web/{made.HOME_MARK}"}
            assert machine.left() == OTHERS | kept
            # An empty one is nobody's.
            assert stored or not (machine.root / "srv/web").exists() or not any((machine.root / "srv/web").iterdir())
            assert (machine.account is None) == data
            # A deployment takes it as it is.
            ownership.refuse_foreign(machine.wish().names)
            if not killed:
                assert step > 20
                return
    raise AssertionError("it never came to its end")


def test_the_rest_of_a_removal_that_an_earlier_version_has_begun_goes(machine):
    shutil.rmtree(machine.root / "srv/web/releases")
    shutil.rmtree(machine.root / "etc/web")
    machine.account = OURS
    machine.put("srv/web/uploads/a.png")
    assert machine.wish().is_needed()
    machine.wish().run()
    assert machine.left() == OTHERS | {"lib/web/data", "srv/web/uploads/a.png", f"srv/web/{made.HOME_MARK}"}
