"""Load on a site while something happens to it: requests one after the other, or as many as eight clients can send."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests

from .run import SOAK, note_figure
from .web import Web


def within(seconds: float) -> float:
    """Return the longest silence that a test accepts, from the one that is promised on a machine of one's own.

    ``make soak`` runs there. Beside other tests, and on a machine of somebody else, all programs get their turn late:
    that a site goes on is the same there, how soon is a figure to print.
    """
    return seconds if SOAK else 5 * seconds


@dataclass
class RequestLoop:
    """A client that sends one request after the other, each over a new connection, while something happens.

    Args:
        ask: sends one request and returns its response; an error or a status >= 400 counts as a failure.
        pause: seconds between two requests. Beside other tests they are fewer, or they would be most of the load.
        errors: exceptions that are failed requests.
    """

    ask: Callable[[], requests.Response | None]
    pause: float = 0.02 if SOAK else 0.05
    errors: tuple[type[Exception], ...] = (requests.RequestException,)
    answered: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> RequestLoop:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.wait_for_answers(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self.ask()
                if answer is not None:
                    answer.raise_for_status()
            except self.errors as problem:
                self.failed.append(f"{time.monotonic():.2f} {problem}")
                self._stop.wait(max(self.pause, 0.02))
            else:
                self.answered.append(time.monotonic())
                self._stop.wait(self.pause)

    def wait_for_answers(self, number: int, seconds: float = 60) -> None:
        """Return when ``number`` more requests were answered; fail when that takes longer than ``seconds``."""
        wanted, end = len(self.answered) + number, time.monotonic() + seconds
        while len(self.answered) < wanted:
            assert time.monotonic() < end, f"no {number} answers within {seconds} s; failures: {self.failed[-3:]}"
            time.sleep(0.02)

    @property
    def longest_gap(self) -> float:
        """Seconds between the two neighbouring answers that lie furthest apart."""
        return max(later - earlier for earlier, later in zip(self.answered, self.answered[1:], strict=False))

    def report(self, what: str) -> None:
        """Note the figures of the loop."""
        asked = len(self.failed) + len(self.answered)
        note_figure(
            f"{what}: longest gap {self.longest_gap * 1000:.0f} ms, {len(self.failed)} failed of {asked} requests"
        )


@dataclass
class Hammer:
    """A client that sends requests as fast as it can; it ends its connection after every answer, or never.

    Attributes:
        answered: number of answers with status 2xx.
        failed: errors and status codes of the others.
    """

    connection: Callable[[], http.client.HTTPConnection]
    method: str
    path: str
    keep: bool
    body: Callable[[], str | None]
    headers: dict[str, str]
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        connection = self.connection()
        headers = self.headers if self.keep else {**self.headers, "Connection": "close"}
        while not stop.is_set():
            try:
                connection.request(self.method, self.path, self.body(), headers)
                answer = connection.getresponse()
                text = answer.read()
                if not 200 <= answer.status < 300:
                    raise http.client.HTTPException(f"{answer.status} {text[:80]}")
            except (OSError, http.client.HTTPException) as problem:
                self.failed.append(repr(problem))
                connection.close()
            else:
                self.answered += 1
                if not self.keep:
                    connection.close()
        connection.close()


@contextmanager
def hammered(
    web: Web, what: str, address: str, get: str = "/", post: str = "/", body: Callable = lambda: "x" * 2000, headers=()
) -> Iterator[list[Hammer]]:
    """Keep eight clients at work: each method with kept and with closed connections, two clients each."""
    places = {"GET": (get, lambda: None), "POST": (post, body)}
    hammers = [
        Hammer(lambda: web.connection(address), method, path, keep, content, dict(headers))
        for method, (path, content) in places.items()
        for keep in (True, False)
        for _ in range(2)
    ]
    stop = threading.Event()
    threads = [threading.Thread(target=hammer.run, args=[stop], daemon=True) for hammer in hammers]
    for thread in threads:
        thread.start()
    try:
        yield hammers
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
        for first, second in itertools.batched(hammers, 2):
            kind = "kept connections" if first.keep else "closing clients"
            failed = first.failed + second.failed
            asked = first.answered + second.answered + len(failed)
            note_figure(f"{what}, {first.method}, {kind}: {len(failed)} failed of {asked} {failed[:1] or ''}")
