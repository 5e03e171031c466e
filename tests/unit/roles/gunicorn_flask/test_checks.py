"""What is asked before a release is switched to."""

from __future__ import annotations

import os

import pytest
from gunicorn_flask import application, checks, sandbox


@pytest.mark.parametrize("value", ["", "plain", "a \"b\" $c `d` \\e 'f' #g", "one\n# two\n", "\\", '"', "a=b", "ü"])
def test_the_environment_file_is_read_as_systemd_reads_it(value):
    # The template's quoting.
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    text = f'#\n# It\'s managed\n#\nFIRST="1"\nVALUE="{quoted}"\n'
    assert application.parse_environment(text) == {"FIRST": "1", "VALUE": value}


class Migrations:
    """What is run in the place of units, and how that ends."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.ends: list[sandbox.Ended] = []

    def __call__(self, app, command, timeout) -> sandbox.Ended:
        assert timeout == app.migrate_timeout
        self.ran.append(command)
        return self.ends.pop() if self.ends else sandbox.Ended(True, "")


@pytest.fixture
def migrations(app, monkeypatch) -> Migrations:
    ran = Migrations()
    monkeypatch.setattr(app, "environment", dict)
    monkeypatch.setattr(checks, "find_program", lambda app, command, place: f"/bin/{command[0]}")
    monkeypatch.setattr(sandbox, "run_command", ran)
    return ran


def test_a_migration_runs_once_for_a_release_a_command_and_a_database(app, migrations, monkeypatch):
    ran, environment = migrations.ran, {"DATABASE_URL": "mysql://app:old@db/app", "TOKEN": "1"}
    monkeypatch.setattr(app, "environment", lambda: environment)

    def runs(*command: str) -> bool:
        before = len(ran)
        checks.migrate(app, command or ("migrate",))
        return len(ran) > before

    assert runs() and not runs()
    environment |= {"TOKEN": "2", "DATABASE_URL": "mysql://app:new@db/app"}
    assert not runs()
    environment["DATABASE_URL"] = "mysql://app:new@db/other"
    assert runs()
    assert runs("migrate", "--all") and not runs("migrate", "--all")
    app.release = app.root / "releases/new.1"
    assert not runs()
    app.release = app.root / "releases/three"
    assert runs() and not runs()


def test_the_record_of_migrations_is_as_the_rest_whatever_the_umask(app, migrations):
    before = os.umask(0o077)
    try:
        checks.migrate(app, ["migrate"])
    finally:
        os.umask(before)
    assert (app.root / checks.MIGRATIONS).stat().st_mode & 0o777 == 0o644


def test_a_migration_that_failed_is_tried_again(app, migrations):
    migrations.ends = [sandbox.Ended(False, "", "timeout", "15"), sandbox.Ended(False, "a\nhalf", "exit-code", "1")]
    with pytest.raises(application.Failure, match="`migrate --now` failed in release new: half\na\nhalf$"):
        checks.migrate(app, ["migrate", "--now"])
    with pytest.raises(application.Failure, match="`migrate` failed in release new: it did not end within 9 s"):
        checks.migrate(app, ["migrate"])
    checks.migrate(app, ["migrate"])
    checks.migrate(app, ["migrate"])
    assert migrations.ran == [["/bin/migrate", "--now"], ["/bin/migrate"], ["/bin/migrate"]]


def test_what_is_required_has_to_succeed_and_says_why_not(tmp_path):
    checks.require([])
    checks.require(["true", f"touch '{tmp_path}/with space'"])
    assert (tmp_path / "with space").exists()
    with pytest.raises(application.Failure, match="and fails: sh -c 'echo db1 is DOWN; exit 3': db1 is DOWN$"):
        checks.require(["true", "sh -c 'echo db1 is DOWN; exit 3'"])
    for command in ("/nowhere/command", "an 'open quote", ""):
        with pytest.raises(application.Failure, match="required, and fails"):
            checks.require([command])


def test_what_is_required_may_not_take_for_ever(monkeypatch):
    monkeypatch.setattr(checks, "REQUIREMENT_S", 0.1)
    with pytest.raises(application.Failure, match="timed out"):
        checks.require(["sleep 5"])


def test_a_parent_that_an_earlier_version_made_too_tight_is_opened(app, tmp_path):
    app.here = tmp_path / "etc/web"
    app.here.mkdir(parents=True)
    app.here.parent.chmod(0o700)
    checks.open_parent(app)
    assert app.here.parent.stat().st_mode & 0o777 == 0o755


def test_in_check_mode_what_is_there_is_judged_and_nothing_is_changed(app, monkeypatch):
    asked = []
    for name in ("verify_units", "find_programs"):
        monkeypatch.setattr(checks, name, lambda app, name=name: asked.append(name))
    monkeypatch.setattr(sandbox, "load_application", lambda app: asked.append("load_application"))
    checks.judge(app)
    assert asked == ["verify_units", "find_programs", "load_application"]
    app.release = app.root / "releases/none"
    checks.judge(app)
    assert len(asked) == 3
