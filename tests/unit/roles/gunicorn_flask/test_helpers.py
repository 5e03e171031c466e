"""Services and timers start with the release, prove that they stay, and go when nobody wants them."""

from __future__ import annotations

import pytest
from gunicorn_flask import application, checks, health, helpers, sandbox, switch, system, trial

from .conftest import done

WORKER = application.Helper("web-worker", "gunicorn_flask_services, 'worker'", ["work", "--hard"], stop_timeout=5)
NIGHTLY = application.Helper(
    "web-nightly", "gunicorn_flask_timers, 'nightly'", ["clean"], schedule="daily", trial=False
)


@pytest.fixture
def host(app, tmp_path, monkeypatch):
    """The application with a service and a timer, and a systemd that does what it is told."""
    app.helpers = [WORKER, NIGHTLY]
    (app.here / "gunicorn.conf.py").touch()
    (app.here / "environment").write_text('A="1"\n')
    for unit in app.units:
        (app.here / unit).write_text("[Service]\n\n[Install]\n")
    state = {"NRestarts": "0", "InvocationID": "1", "Result": "success", "ExecMainStatus": "1"}
    asked: list[tuple[str, ...]] = []
    active: set[str] = set()

    def run(argv, **_):
        asked.append(tuple(argv[1:]))
        if argv[1] in ("start", "restart"):
            active.update(argv[2:])
        return done("")

    monkeypatch.setattr(system, "run", run)
    monkeypatch.setattr(system, "show", lambda unit, name, *more: state.get(name, ""))
    monkeypatch.setattr(system, "is_active", lambda unit: unit in active)
    monkeypatch.setattr(helpers, "PROOF_S", 0.05)
    app.asked, app.active, app.state = asked, active, state
    return app


def test_what_is_new_starts_and_what_is_the_same_goes_on(host):
    helpers.bring_up(host)
    assert host.asked == [("restart", "web-worker.service"), ("restart", "web-nightly.timer")]
    host.asked.clear()
    helpers.bring_up(host)
    assert host.asked == []
    # Another release: the service starts anew, and the timer's job will be of that release anyway.
    host.release = host.root / "releases/three"
    helpers.bring_up(host)
    assert host.asked == [("restart", "web-worker.service")]
    host.asked.clear()
    (host.here / "files").mkdir()
    (host.here / "files/shop.ini").write_text("changed")
    helpers.bring_up(host)
    assert host.asked == [("restart", "web-worker.service")]


def test_a_service_that_does_not_stay_up_is_named(host):
    host.state["NRestarts"] = "1"
    with pytest.raises(application.Failure, match="gunicorn_flask_services, 'worker': web-worker.service did not stay"):
        helpers.bring_up(host)


def test_units_that_nobody_wants_any_more_are_stopped_and_forgotten(host):
    for name, target in (("web-worker.service", host.here), ("web-old.service", host.here), ("x.service", host.root)):
        (switch.UNITS / name).symlink_to(target / name)
    wants = switch.UNITS / "multi-user.target.wants"
    wants.mkdir()
    (wants / "web-old.service").symlink_to(host.here / "web-old.service")
    helpers.remove_others(host)
    assert sorted(path.name for path in switch.UNITS.iterdir()) == [
        "multi-user.target.wants",
        "web-worker.service",
        "x.service",
    ]
    assert list(wants.iterdir()) == [] and host.asked[0] == ("stop", "web-old.service")
    host.asked.clear()
    helpers.remove_others(host)
    assert host.asked == []


def test_a_command_that_does_not_exist_is_named(host):
    programs = host.release / "venv/bin"
    programs.mkdir(parents=True)
    (programs / "work").touch(mode=0o755)
    with pytest.raises(application.Failure, match="_timers, 'nightly': there is no program 'clean' in release"):
        checks.find_programs(host)
    (programs / "clean").touch(mode=0o755)
    checks.find_programs(host)
    (host.release / "app/bin").mkdir(parents=True)
    with pytest.raises(application.Failure, match="there is no program 'bin/clean'"):
        checks.find_program(host, ["bin/clean"], "x")
    (host.release / "app/bin/clean").touch(mode=0o755)
    assert checks.find_program(host, ["bin/clean"], "x").endswith("new/app/bin/clean")


@pytest.fixture
def tried(host, tmp_path, monkeypatch):
    """The same, with a trial of the application that goes well; returns the names of the copies that were started."""
    folder = tmp_path / "run"
    monkeypatch.setattr(sandbox, "UNITS", tmp_path / "copies")
    original = sandbox.Copies.__init__

    def init(self, app, purpose):
        original(self, app, purpose)
        self.folder = folder

    monkeypatch.setattr(sandbox.Copies, "__init__", init)
    monkeypatch.setattr(trial, "watch_trial", lambda *arguments: None)
    monkeypatch.setattr(health, "request_health", lambda *arguments: None)
    return host


def test_services_are_tried_beside_the_live_ones_and_jobs_are_not(tried):
    trial.try_out(tried)
    started = next(words for words in tried.asked if words[0] == "start")
    assert [name for name in started if "worker" in name] and not [name for name in started if "nightly" in name]
    assert not list(sandbox.UNITS.iterdir())
    tried.helpers = [application.Helper("web-beat", "x", ["beat"], trial=False)]
    tried.asked.clear()
    (tried.here / "web-beat.service").write_text("[Service]\n\n[Install]\n")
    trial.try_out(tried)
    assert not [words for words in tried.asked if any("beat" in word for word in words)]


def test_a_service_that_ignores_sigterm_is_refused(tried):
    tried.state["Result"] = "timeout"
    with pytest.raises(application.Failure, match="of release new, which was not switched to, `work --hard` did"):
        trial.try_out(tried)


def test_a_service_that_ends_at_once_is_refused(tried, monkeypatch):
    monkeypatch.setattr(system, "is_active", lambda unit: "worker" not in unit)
    with pytest.raises(application.Failure, match="`work --hard` ended at once .exit code or signal 1"):
        trial.try_out(tried)
