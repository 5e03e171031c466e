"""Copies of the unit run what the unit will run."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import removal
from gunicorn_flask import application, checks, sandbox, system

from .conftest import done

UNIT = """[Unit]
Requires=web.socket
After=network.target web.socket

[Service]
Type=notify
EnvironmentFile={here}/environment
ExecStart={root}/current/venv/bin/python -P -m gunicorn \\
  --config {here}/gunicorn.conf.py \\
  "shop:create_app('production')"
Restart=always

[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def written(app, tmp_path, monkeypatch):
    """The application with a unit, settings and a file, and its copies in a directory."""
    app.here = here = tmp_path / "etc"
    (here / "files").mkdir(parents=True)
    (here / "files/shop.ini").write_text("x")
    (here / "files/shop.ini").chmod(0o640)
    (here / "gunicorn.conf.py").write_text(f"pythonpath = '{app.root}/current/app/src'\n")
    (here / "environment").write_text(
        f'GUNICORN_CMD_ARGS="--threads 2"\nSHOP_FILE="{here}/files/shop.ini"\nPYTHONPATH="{app.root}/current/app/src"\n'
    )
    (here / "web.service").write_text(UNIT.format(here=here, root=app.root))
    monkeypatch.setattr(sandbox, "UNITS", tmp_path / "run-units")
    copies = sandbox.Copies(app, "trial")
    copies.folder = tmp_path / "run"
    return copies


def test_copies_use_the_new_files_and_leave_the_old_ones(app, written, monkeypatch):
    asked = []
    monkeypatch.setattr(system, "run", lambda argv, **_: asked.append(argv[1]) or done(""))
    with written as copies:
        copies.write_environment(GUNICORN_CMD_ARGS="""--threads 2 --access-logformat '%(h)s "x" \\' --workers 1""")
        unit = copies.add("web.service", "service", sandbox.TRIAL)
        text = unit.read_text()
        assert f"ExecStart={app.release}/venv/bin/python -P -m gunicorn" in text
        assert f"--config {copies.folder}/gunicorn.conf.py" in text and "[Install]" not in text
        assert f"Requires={copies.name}.socket" in text and "web.socket" not in text
        assert text.index("Restart=no") > text.index("Restart=always")
        assert f"EnvironmentFile={copies.folder}/environment" in text
        assert application.parse_environment((copies.folder / "environment").read_text()) == {
            "GUNICORN_CMD_ARGS": """--threads 2 --access-logformat '%(h)s "x" \\' --workers 1""",
            "SHOP_FILE": f"{copies.folder}/files/shop.ini",
            "PYTHONPATH": f"{app.release}/app/src",
        }
        assert (copies.folder / "environment").stat().st_mode & 0o777 == 0o600
        assert f"'{app.release}/app/src'" in (copies.folder / "gunicorn.conf.py").read_text()
        assert (copies.folder / "files/shop.ini").stat().st_mode & 0o777 == 0o640
    assert not copies.folder.exists() and not unit.exists() and asked == ["stop", "reset-failed"]


def load(app, written, monkeypatch, result: str, status: str, said: str) -> str:
    """What the user is told when loading the application ends so."""

    def start(argv, output):
        text = (sandbox.UNITS / argv[2]).read_text()
        assert """python -P -m gunicorn --check-config \\\n""" in text and "create_app('production')\"" in text
        assert "Requires=" not in text and text.index("Type=oneshot") > text.index("Type=notify")
        assert f"StandardOutput=file:{output}\n" in text and f"TimeoutStartSec={sandbox.LOAD_S}\n" in text
        return done(said, 1)

    monkeypatch.setattr(system, "run", lambda argv, **_: done(""))
    monkeypatch.setattr(system, "run_and_hear", start)
    monkeypatch.setattr(system, "show", lambda unit, name: {"Result": result, "ExecMainStatus": status}[name])
    monkeypatch.setattr(sandbox, "Copies", lambda app, purpose: written)
    with pytest.raises(application.Failure) as failure:
        sandbox.load_application(app)
    return str(failure.value)


def test_loading_runs_the_unit_as_it_is_and_names_the_error(app, written, monkeypatch):
    log = "Error while loading the application:\nImportError: no numpy"
    said = load(app, written, monkeypatch, "exit-code", "1", log)
    assert said.startswith("gunicorn_flask_wsgi: gunicorn cannot load 'web:app' of release new: ImportError: no numpy")


def test_settings_that_gunicorn_refuses_are_told_from_an_application_that_fails(app, written, monkeypatch):
    said = load(app, written, monkeypatch, "exit-code", "1", "ValueError: no setting x")
    assert said.startswith("gunicorn refuses its configuration: ValueError: no setting x")
    assert "ended with exit code 3 and said nothing" in reason("exit-code", "3", "")
    assert "did not end within 7 s" in reason("timeout", "15", "")


def reason(result: str, status: str, said: str) -> str:
    return sandbox.reason(sandbox.Ended(False, said, result, status), 7)


def test_a_command_of_the_release_runs_in_the_same_sandbox_and_within_its_time(app, written, monkeypatch):
    units = []

    def start(argv, output):
        units.append((sandbox.UNITS / argv[2]).read_text())
        environment = application.parse_environment((written.folder / "environment").read_text())
        assert environment["APP_RELEASE"] == "new" and environment["GUNICORN_CMD_ARGS"] == "--threads 2"
        return done("said")

    monkeypatch.setattr(system, "run", lambda argv, **_: done(""))
    monkeypatch.setattr(system, "run_and_hear", start)
    monkeypatch.setattr(sandbox, "Copies", lambda app, purpose: written)
    words = ["/bin/sh", "-c", 'echo "$HOME" 50% \\ \n;']
    assert sandbox.run_command(app, words, 9) == sandbox.Ended(True, "said")
    own = units[0].partition("WantedBy")[0]
    assert "TimeoutStartSec=9\n" in own and f"WorkingDirectory={app.release}/app\n" in own
    first, last = own.index("ExecStart=" + str(app.release)), own.index("ExecStart=\nExecStart=:")
    assert first < last
    assert own[last:].splitlines()[1] == 'ExecStart=:"/bin/sh" "-c" "echo \\"$HOME\\" 50%% \\\\ \\x0a;"'


def test_a_death_by_a_signal_is_named_with_what_to_loosen(app, written, monkeypatch):
    said = load(app, written, monkeypatch, "signal", "31", "")
    assert (
        "cannot load 'web:app' of release new: it was killed by SIGSYS: the sandbox kills for this system call" in said
    )
    assert "SystemCallFilter=" in said and "SystemCallErrorNumber=EPERM" in said
    assert reason("core-dump", "11", "x").startswith("it was killed by SIGSEGV: ")
    assert reason("signal", "64", "") == "it was killed by SIGRTMAX"
    assert reason("signal", "200", "") == "it was killed by signal 200"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "[1] [WARNING] Worker (pid:7) was sent SIGSYS!\n[1] [INFO] Worker (pid:8) was sent SIGTERM!",
            "SIGSYS: the sandbox",
        ),
        ("[1] [ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?", "SIGKILL: often for want of memory"),
        ("web.service: Main process exited, code=dumped, status=11/SEGV", "SIGSEGV: if it makes code"),
        ("Worker (pid:8) was sent SIGTERM!\nweb.service: code=exited, status=1/FAILURE", ""),
        ("", ""),
    ],
)
def test_a_log_tells_of_a_death(log, said):
    assert said in sandbox.death_in(log) and bool(said) == bool(sandbox.death_in(log))


@pytest.fixture
def left(tmp_path, monkeypatch) -> Path:
    """What checks have left that were killed, of the application web and of others."""
    run, units = tmp_path / "host", tmp_path / "host/systemd/system"
    units.mkdir(parents=True)
    for name, user in {
        "web-trial-12.service": "web",
        "web-trial-12.socket": "",
        "web-load-7.service": "web",
        "web-migrate-9.service": "web",
        "web-trial-12-web-worker.service": "web",
        "web-load-8.service": "",
        "web-trial-1-trial-12.service": "web-trial-1",
        "web-trial-1-trial-12.socket": "",
        "web-trial-1-web-x-trial-12.service": "web-trial-1-web-x",
        "web-trial-x.service": "web",
        "web-trial-12.timer": "web",
        "web2-trial-12.service": "web2",
        "other-web-trial-12.service": "other-web",
    }.items():
        (units / name).write_text(f"[Service]\nUser={user}\n" if user else "")
    for path in ("web-trial-12/environment", "web-trial-1/web-trial-1.sock", "web2-trial-12/environment"):
        (run / path).parent.mkdir()
        (run / path).touch()
    (run / "web-load-7").mkdir()
    monkeypatch.setattr(sandbox, "RUN", run)
    monkeypatch.setattr(sandbox, "UNITS", units)
    monkeypatch.setattr(removal, "TRANSIENT_UNITS", units)
    return run


OURS = {
    "web-trial-12.service",
    "web-trial-12.socket",
    "web-load-7.service",
    "web-migrate-9.service",
    "web-trial-12-web-worker.service",
    "web-load-8.service",
}


def test_a_check_stops_what_one_that_was_killed_has_left_and_nobody_elses(app, left, monkeypatch):
    asked = []
    monkeypatch.setattr(system, "run", lambda argv, **_: asked.append(argv) or done(""))
    before = {path.name for path in sandbox.UNITS.iterdir()}

    def require(_commands):
        raise application.Failure("looked at first")

    monkeypatch.setattr(checks, "require", require)
    with pytest.raises(application.Failure, match="looked at first"):
        checks.check(app, [])
    assert asked[0][:2] == ["systemctl", "stop"] and set(asked[0][2:]) == OURS
    assert {path.name for path in sandbox.UNITS.iterdir()} == before - OURS
    assert {path.name for path in left.glob("*-*")} == {"web-trial-1", "web2-trial-12"}
    asked.clear()
    sandbox.remove_strays(app.name)
    assert asked == []


def test_one_that_cannot_be_stopped_is_named_and_known_to_the_next(app, left, monkeypatch):
    monkeypatch.setattr(system, "run", lambda argv, **_: done(""))
    monkeypatch.setattr(system, "is_active", lambda unit: unit == "web-load-7.service")
    with pytest.raises(application.Failure, match="cannot be stopped: web-load-7.service$"):
        sandbox.remove_strays(app.name)
    assert {path.name for path in sandbox.UNITS.iterdir()} >= OURS


def test_the_removal_of_an_application_finds_the_same(left):
    assert removal.trials("web") == sandbox.strays("web") and removal.COPIED == sandbox.COPIED
    for name in ("web-trial-1", "web-trial-1-web-x", "web2", "other-web"):
        assert removal.trials(name) == sandbox.strays(name) != []
