"""Makes the programs of the role importable as they are on a host, and an application in a directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles/gunicorn_flask/files"))

from gunicorn_flask import application, health, helpers, switch, system

SETTINGS = {
    "name": "web",
    "release": "new",
    "wsgi": "web:app",
    "listen": "127.0.0.1:1",
    "health_path": "/health",
    "health_timeout": 1,
    "migrate_timeout": 9,
    "graceful_timeout": 1,
    "releases_kept": 2,
    "chosen": False,
    "writable_paths": [],
    "helpers": [],
}


def done(output: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, output)


def names(app) -> list[str]:
    return sorted(path.name for path in (app.root / "releases").iterdir())


@pytest.fixture
def app(tmp_path, monkeypatch):
    """An application with the releases one, two, three and new, of which two is live."""
    monkeypatch.setattr(system, "RUN", tmp_path)
    monkeypatch.setattr(switch, "UNITS", tmp_path / "units")
    (tmp_path / "units").mkdir()
    (tmp_path / "deployment.json").write_text(json.dumps(SETTINGS))
    for age, name in enumerate(["new", "three", "two", "one"]):
        release = tmp_path / "srv/releases" / name
        release.mkdir(parents=True)
        (release / application.MARK).touch()
        os.utime(release / application.MARK, (time.time() - age, time.time() - age))
    app = application.Application(tmp_path, tmp_path / "srv")
    app.point("current", app.root / "releases/two")
    return app


@pytest.fixture
def systemd(monkeypatch):
    """No systemd: records what it would be asked, and says that all is well unless told otherwise."""

    class System:
        asked: list[tuple]
        problem: health.Problem | None = None

    recorder = System()
    recorder.asked = []
    monkeypatch.setattr(system, "run", lambda argv, **_: recorder.asked.append(tuple(argv)) or done(""))
    monkeypatch.setattr(
        switch, "start_or_reload", lambda app, switched: recorder.asked.append(("bring up", switched)) or 0.0
    )
    monkeypatch.setattr(health, "find_problem", lambda app, since: recorder.problem)
    monkeypatch.setattr(helpers, "bring_up", lambda app: recorder.asked.append(("helpers",)))
    return recorder
