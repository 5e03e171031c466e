"""What counts as the wanted release, and as well."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from gunicorn_flask import application, health, system


@pytest.mark.parametrize(
    ("listen", "place"),
    [("0.0.0.0:8000", ("127.0.0.1", 8000)), ("[::]:80", ("::1", 80)), ("198.18.0.1:1", ("198.18.0.1", 1))],
)
def test_where_a_listener_is_asked(listen, place):
    assert health.reachable(listen) == place


class Page(BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_only_200_is_healthy(app):
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    app.listen = f"127.0.0.1:{server.server_port}"
    assert health.request_health(app) is None
    app.health_path = "/other"
    assert "answered 503 Service Unavailable instead of 200" in health.request_health(app)
    server.shutdown()
    server.server_close()
    assert "had no answer" in health.request_health(app)


def test_old_workers_get_their_time_to_finish(app, monkeypatch):
    answers = iter([health.Problem("busy", old_workers_remain=True)] * 3 + [None])
    app.health_timeout = 0
    monkeypatch.setattr(health, "find_problem", lambda app, since: next(answers))
    health.wait_until_healthy(app, 0.0, pause=0.01)
    monkeypatch.setattr(health, "find_problem", lambda app, since: health.Problem("wrong"))
    with pytest.raises(application.Failure, match="wrong"):
        health.wait_until_healthy(app, 0.0, pause=0.01)


def test_children_and_their_age():
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    with subprocess.Popen(["sleep", "60"]) as child:
        ages = system.children(str(os.getpid()))
        child.kill()
    assert any(before - 0.02 <= started <= before + 5 for started in ages.values())


def test_a_health_path_that_redirects_is_told_where_to(app):
    class Redirect(Page):
        def do_GET(self):  # noqa: N802
            self.send_response(301)
            self.send_header("Location", "https://elsewhere/login")
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Redirect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    app.listen = f"127.0.0.1:{server.server_port}"
    assert r"redirects (301) to https://elsewhere/login" in health.request_health(app)
    server.shutdown()
    server.server_close()


@pytest.fixture
def answers(app):
    """Return a function that lets the application answer with what a function of the test sends."""
    listener = socket.create_server(("127.0.0.1", 0))
    app.listen = f"127.0.0.1:{listener.getsockname()[1]}"

    def with_what(send) -> None:
        def serve() -> None:
            connection, _ = listener.accept()
            # The reader may have had enough.
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                send(connection)

        threading.Thread(target=serve, daemon=True).start()

    yield with_what
    listener.close()


def test_an_answer_without_an_end_is_given_up(app, answers, monkeypatch):
    def send(connection) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    monkeypatch.setattr(health, "ANSWER_BYTES", 10**6)
    answers(send)
    assert "answered with more than 1000000 bytes" in health.request_health(app)


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Long: "])
def test_an_answer_that_drips_is_given_up(app, answers, monkeypatch, begin):
    def send(connection) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(b"x")
            time.sleep(0.01)

    monkeypatch.setattr(health, "ANSWER_S", 0.2)
    answers(send)
    assert re.search(r"had no (whole )?answer", health.request_health(app))


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"1": {"new"}, "2": {"new"}}, None),
        ({"1": {"new"}, "2": {"new", "two"}}, "its workers run code of release two"),
        ({"1": {"new"}}, "a worker did not say which release it runs"),
        ({}, "a worker did not say which release it runs"),
    ],
)
def test_every_worker_has_to_run_the_code_of_the_release_and_no_other(app, monkeypatch, held, said):
    monkeypatch.setattr(system, "held_releases", lambda user, releases, workers: held)
    found = health.find_other_code(app, ["1", "2"])
    assert found is None if said is None else said in found.said
    assert bool(found and found.other_code) == ("two" in str(said))


def test_code_of_another_release_ends_the_waiting_at_once(app, monkeypatch):
    monkeypatch.setattr(health, "find_problem", lambda app, since: health.Problem("other", other_code=True))
    app.health_timeout = 1000
    with pytest.raises(health.OtherCode, match="other"):
        health.wait_until_healthy(app, 0.0)


def test_what_a_process_has_open_is_told(app, monkeypatch):
    real = subprocess.run
    monkeypatch.setattr(system, "run", lambda argv, **_: real(argv, capture_output=True, text=True, check=False))
    releases = (app.root / "releases").resolve()
    handles = [os.open(path, os.O_RDONLY) for path in (releases / "new", releases / "two" / application.MARK)]
    try:
        assert system.held_releases("web", releases, [str(os.getpid()), "999999999"]) == {str(os.getpid()): {"new"}}
    finally:
        for handle in handles:
            os.close(handle)
