"""Whether what runs is the wanted release, and well."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gunicorn_flask import system
from gunicorn_flask.application import Application, Failure

# For a whole answer, which the application decides on: a visitor or a fault may make it long, or slow.
ANSWER_S = 5
ANSWER_BYTES = 2**20


class OtherCode(Failure):
    """The workers are new, and what they run is another release's."""


class Problem(NamedTuple):
    """What is not as it should be."""

    said: str
    # Only old workers still have something to do.
    old_workers_remain: bool = False
    # Waiting does not help: the workers run what their master knows.
    other_code: bool = False


def wait_until_healthy(app: Application, since: float, pause: float = 0.2) -> None:
    end = time.monotonic() + app.health_timeout
    # Old workers may finish what they have begun; gunicorn kills them after graceful_timeout.
    end_of_old_workers = end + app.graceful_timeout + 5
    settled = None
    while True:
        problem = find_problem(app, since)
        now = time.monotonic()
        if problem is None:
            settled = settled or now
            # Without a health path, workers that stay up for two seconds count as healthy.
            if app.health_path or now - settled >= 2:
                return
        else:
            settled = None
            if problem.other_code:
                raise OtherCode(problem.said)
            if now > (end_of_old_workers if problem.old_workers_remain else end):
                raise Failure(f"{problem.said} for {app.health_timeout} s (gunicorn_flask_health_timeout)")
        time.sleep(pause)


def find_problem(app: Application, since: float) -> Problem | None:
    main = system.show(app.service, "MainPID")
    if main == "0" or not system.is_active(app.service):
        return Problem("the service did not stay up")
    answer = request_health(app) if app.health_path else None
    if answer:
        return Problem(answer)
    wanted = os.path.realpath(app.release / "app")
    found = system.working_directory(app.name, main)
    if found != wanted:
        return Problem(f"gunicorn's working directory was {found}, not {wanted},")
    workers = system.children(main)
    if not workers or all(started < since for started in workers.values()):
        return Problem("gunicorn had no worker of it")
    if any(started < since for started in workers.values()):
        return Problem("workers of the old release did not end", old_workers_remain=True)
    return find_other_code(app, workers)


def find_other_code(app: Application, workers: Iterable[str]) -> Problem | None:
    """Each worker says itself where its code is from, see gunicorn.conf.py: neither link nor directory proves it."""
    own = Path(os.path.realpath(app.release))
    held = system.held_releases(app.name, own.parent, workers)
    others = sorted({name for worker in workers for name in held.get(worker, set())} - {own.name})
    if others:
        return Problem(f"its workers run code of release {', '.join(others)}", other_code=True)
    if any(own.name not in held.get(worker, set()) for worker in workers):
        return Problem("a worker did not say which release it runs (post_worker_init in gunicorn.conf.py)")
    return None


def request_health(app: Application, listener: str | None = None) -> str | None:
    listener = listener or app.listen
    page = f"GET {app.health_path} on {app.listen}"
    connection = Connection(listener)
    late = threading.Timer(ANSWER_S, connection.end)
    late.start()
    try:
        connection.request("GET", app.health_path, headers={"Host": "localhost", "User-Agent": system.AGENT})
        answer = connection.getresponse()
        if len(answer.read(ANSWER_BYTES + 1)) > ANSWER_BYTES:
            return f"{page} answered with more than {ANSWER_BYTES} bytes"
    except (OSError, http.client.HTTPException) as error:
        return f"{page} had no answer ({error or type(error).__name__})"
    finally:
        late.cancel()
        connection.close()
    if connection.ended:
        return f"{page} had no whole answer in {ANSWER_S} s"
    if answer.status == 200:
        return None
    if 300 <= answer.status < 400:
        return (
            f"{page} redirects ({answer.status}) to {answer.headers['Location']}; gunicorn_flask_health_path needs 200"
        )
    return f"{page} answered {answer.status} {answer.reason} instead of 200"


class Connection(http.client.HTTPConnection):
    """HTTP to the listener, over whatever it listens on."""

    def __init__(self, listen: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self.listen = listen
        self.ended = False
        # The base class forgets its socket when an answer without a length begins.
        self.way: socket.socket | None = None

    def end(self) -> None:
        """From another thread: who reads finds the end of the answer."""
        self.ended = True
        with contextlib.suppress(OSError):
            if self.way:
                self.way.shutdown(socket.SHUT_RDWR)

    def connect(self) -> None:
        if self.listen.startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self.listen)
        else:
            self.sock = socket.create_connection(reachable(self.listen), self.timeout)
        self.way = self.sock


def reachable(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)  # noqa: S104 - nothing listens here
