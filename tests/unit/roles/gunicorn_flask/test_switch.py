"""Releases are switched, taken back and cleaned up."""

from __future__ import annotations

import socket
import threading

import pytest
from gunicorn_flask import application, health, helpers, switch, system

from .conftest import done, names


def test_a_good_release_becomes_live_and_old_ones_go(app, systemd):
    assert switch.activate(app) == "release new is live"
    assert (app.target("current"), app.target("previous")) == (app.release, app.root / "releases/two")
    assert names(app) == ["new", "two"] and ("bring up", True) in systemd.asked


def test_releases_are_kept_by_age_and_never_the_two_that_matter(app):
    app.kept = 3
    app.point("previous", app.root / "releases/one")
    (app.root / "releases/building").mkdir()
    switch.prune(app)
    assert names(app) == ["building", "new", "one", "two"]


def test_a_release_that_fails_gives_way_to_the_old_one(app, systemd):
    systemd.problem = health.Problem("GET /health answered 500")
    with pytest.raises(application.Failure, match="release new: GET /health answered 500 for 1 s"):
        switch.activate(app)
    assert app.target("current") == app.root / "releases/two" and app.target("previous") is None
    assert not (app.release / application.MARK).exists() and len(names(app)) == 4


def test_a_first_release_that_fails_leaves_nothing(app, systemd):
    (app.root / "current").unlink()
    systemd.problem = health.Problem("no")
    with pytest.raises(application.Failure):
        switch.activate(app)
    assert app.target("current") is None
    assert ("systemctl", "disable", "--now", "--quiet", "web.socket", "web.service") in systemd.asked


@pytest.mark.parametrize("link", ["current", "previous"])
def test_a_configuration_that_fails_does_not_void_a_release_that_has_proved_well(app, systemd, link):
    app.point(link, app.release)
    before = app.target("current")
    systemd.problem = health.Problem("no")
    with pytest.raises(application.Failure):
        switch.activate(app)
    assert app.target("current") == before and (app.release / application.MARK).exists()


def test_a_release_that_is_not_there_is_not_switched_to(app, systemd):
    (app.release / application.MARK).unlink()
    with pytest.raises(application.Failure, match="release new is not on this host"):
        switch.activate(app)
    assert app.target("current") == app.root / "releases/two" and systemd.asked == []


def test_the_link_is_never_missing(app):
    stop, seen = threading.Event(), []

    def watch():
        while not stop.is_set():
            seen.append((app.root / "current").is_dir())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(200):
        app.point("current", app.root / "releases" / ("new", "two")[number % 2])
    stop.set()
    watcher.join()
    assert all(seen)


@pytest.mark.parametrize(
    ("running", "switched", "wanted"),
    [
        (None, True, "restart"),
        (["process", "code"], True, "reload"),
        (["process", "code"], False, None),
        (["process", "old"], False, "reload"),
        (["old", "code"], True, "restart"),
    ],
)
def test_a_reload_where_it_is_enough(app, monkeypatch, running, switched, wanted):
    asked = []
    monkeypatch.setattr(system, "systemctl", lambda *words: asked.append(words))
    monkeypatch.setattr(system, "is_active", lambda unit: True)
    monkeypatch.setattr(system, "show", lambda *words: "invocation")
    monkeypatch.setattr(system, "run", lambda argv: asked.append(tuple(argv[1:])) or done(""))
    monkeypatch.setattr(switch, "interpreter", lambda release: "")
    prints = {app.socket: "listener", app.service: "process", "gunicorn.conf.py": "code"}
    monkeypatch.setattr(switch, "fingerprint", lambda files, *words: prints[files[0].name])
    record = switch.Record(app.name)
    record.write(app.socket, "listener")
    if running:
        record.write(app.service, running)
    since = switch.start_or_reload(app, switched)
    assert [words[0] for words in asked] == ([wanted] if wanted else [])
    assert (since > 0) == bool(wanted) and record.read(app.service) == ["process", "code"]
    asked.clear()
    prints[app.socket] = "other"
    switch.start_or_reload(app, switched)
    assert asked[:2] == [("stop", app.socket, app.service), ("start", app.socket)]


def test_a_record_of_another_start_does_not_count(app, monkeypatch):
    monkeypatch.setattr(system, "show", lambda *words: "first")
    record = switch.Record("web")
    record.write("web.service", "x")
    assert record.read("web.service") == "x" and record.path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(system, "show", lambda *words: "second")
    assert record.read("web.service") is None
    record.path.write_text("{")
    assert record.read("web.service") is None


def test_after_a_rollback_there_is_nothing_to_go_back_to(app, systemd):
    app.chosen = True
    app.point("previous", app.root / "releases/one")
    switch.activate(app)
    assert (app.target("previous"), app.target("current")) == (None, app.release)


def test_workers_with_the_code_of_another_release_are_started_by_a_new_master_once(app, monkeypatch):
    """What a master has found out at its start, such as where packages are, stays over a reload."""
    starts, verdicts = [], iter([health.OtherCode("its workers run code of release two"), None])
    monkeypatch.setattr(
        switch, "start_or_reload", lambda app, switched: starts.append(switch.Record("web").read(app.service)) or 0.0
    )
    monkeypatch.setattr(system, "show", lambda *words: "invocation")

    def wait(app, since):
        if verdict := next(verdicts):
            raise verdict

    monkeypatch.setattr(health, "wait_until_healthy", wait)
    switch.Record("web").write(app.service, ["process", "code"])
    switch.serve(app, switched=True)
    assert starts == [["process", "code"], None]
    verdicts = iter([health.OtherCode("other"), health.OtherCode("still other")])
    with pytest.raises(application.Failure, match="still other"):
        switch.serve(app, switched=True)


def test_a_new_environment_of_packages_needs_a_new_master(app):
    one, other, same = (app.root / "releases" / name for name in ("one", "two", "three"))
    for release, venv in ((one, "a"), (other, "b"), (same, "a")):
        (app.root / "venvs" / venv / "bin").mkdir(parents=True, exist_ok=True)
        (release / "venv").symlink_to(f"../../venvs/{venv}")
    assert switch.interpreter(one) == switch.interpreter(same) != switch.interpreter(other)


def test_a_service_that_fails_leaves_what_serves_untouched(app, systemd, monkeypatch):
    monkeypatch.setattr(system, "show", lambda *words: "invocation")
    switch.Record("web").write(app.service, ["process", "code"])

    def fail(app):
        raise application.Failure("gunicorn_flask_services, 'worker': it did not stay up")

    monkeypatch.setattr(helpers, "bring_up", fail)
    with pytest.raises(application.Failure, match="'worker': it did not stay up"):
        switch.activate(app)
    assert app.target("current") == app.root / "releases/two"
    assert switch.Record("web").read(app.service) == ["process", "code"] and ("bring up", True) not in systemd.asked


def test_why_nobody_can_listen_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert switch.refusal(f"127.0.0.1:{taken.getsockname()[1]}") == "Address already in use"
    assert switch.refusal("192.0.2.1:8000") == "Cannot assign requested address"
    assert switch.refusal("127.0.0.1:0") == "nothing stands in the way now"
    assert "directory" in switch.refusal("/run/web/web.sock")
