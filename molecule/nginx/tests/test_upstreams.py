"""Upstreams of two servers: what visitors notice when one of them ends, vanishes or hangs."""

from __future__ import annotations

import time
import uuid
from collections import Counter

import pytest
import requests
from helpers.run import note_figure

WEB = "http://198.18.0.101"
SITE = {"Host": "www.foobar.com"}
STORED = "/var/lib/application-stored"


@pytest.fixture
def both(host, get, eventually):
    """Both servers run and are asked, before the test and after it."""

    def ports() -> set[int]:
        return {get(f"{WEB}/alike/page").json()["port"] for _ in range(4)}

    def start() -> None:
        host.check_output("systemctl start application@8002 application@8003")
        # nginx comes back to a server ten seconds after it failed.
        eventually(lambda: ports() == {8002, 8003}, seconds=20)

    start()
    yield start
    start()


@pytest.fixture
def load(host, hammered):
    """Return a context manager that has eight clients at work, and a function that says how often a text was stored."""
    sent: list[str] = []

    def body() -> str:
        sent.append(f"{uuid.uuid4()}")
        return sent[-1]

    def stored() -> dict[str, int]:
        found = Counter(host.check_output(f"cat {STORED}").split())
        return {text: found[text] for text in sent}

    def under_load(what: str):
        return hammered(what, "198.18.0.101", get="/alike/page", post="/alike/stored", body=body, headers=SITE)

    return under_load, stored


def failed(hammers, method: str) -> list[str]:
    return [problem for hammer in hammers if hammer.method == method for problem in hammer.failed]


def test_refusing_server_fails_no_request(both, load, host):
    under_load, stored = load
    host.check_output("systemctl stop application@8002")
    with under_load("one of two servers refuses") as hammers:
        time.sleep(3)
    assert min(hammer.answered for hammer in hammers) > 20
    assert failed(hammers, "GET") == failed(hammers, "POST") == []
    assert set(stored().values()) == {1}


def test_killed_servers_fail_no_get_and_duplicate_no_post(both, load, host):
    under_load, stored = load
    with under_load("each of two servers killed in turn") as hammers:
        for port in (8002, 8003):
            time.sleep(1)
            host.check_output(f"systemctl kill --signal=KILL application@{port}")
            time.sleep(1)
            both()
    assert failed(hammers, "GET") == []
    # What a server has got and not answered is not sent to the other one: no more than one request of each client.
    assert len(failed(hammers, "POST")) <= 2 * 4
    assert max(stored().values()) == 1
    assert sum(stored().values()) >= sum(hammer.answered for hammer in hammers if hammer.method == "POST")


def test_unreachable_server_delays_one_request(role):
    # Nothing of what other tests have asked is remembered after a reload.
    assert role("nginx", nginx_worker_processes="2").code == 0
    seconds = []
    for method in ["GET", "POST"] * 20:
        start = time.monotonic()
        assert requests.request(method, f"{WEB}/half-gone", headers=SITE, timeout=10).status_code == 200
        seconds.append(time.monotonic() - start)
    note_figure(f"one of two servers vanished: the slowest of {len(seconds)} requests {max(seconds):.1f} s")
    assert len([duration for duration in seconds if duration > 0.5]) <= 1, seconds
    assert role("nginx").code == 0


def test_upstream_answers_after_every_server_timed_out(both, get):
    assert get(f"{WEB}/alike/impatient/").status_code == 504
    assert [get(f"{WEB}/alike/page").status_code for _ in range(4)] == [200] * 4
