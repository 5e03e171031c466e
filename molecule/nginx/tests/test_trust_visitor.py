"""The boundary between visitors and the host: what they ask for is data, and no reason for root to act."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
import requests

WEB = "http://198.18.0.101"
# Where nginx itself looks for a file, and says by its name that there is none.
FILES = "http://198.18.0.101:8080"
SITE = {"Host": "www.foobar.com"}


@pytest.mark.parametrize(
    "more",
    [
        {"data": "a=b"},
        {"data": iter([b"a=b"])},
        *(
            {"headers": SITE | {name: "DELETE"}}
            for name in ("X-HTTP-Method-Override", "X-Api-Key", "x-auth-token", "Authorization")
        ),
    ],
    ids=["body", "chunked", "method", "key", "token", "authorization"],
)
def test_nobody_gets_what_another_one_asked_for_in_other_words(ask, more):
    page = f"/cached/{uuid.uuid4()}"
    assert ask(page, **more) == ("BYPASS", 1)
    assert [ask(page), ask(page)] == [("MISS", 2), ("HIT", 2)]


@pytest.mark.parametrize(
    "name", ["X-Original-URL", "X-Rewrite-URL", "True-Client-IP", "X-Client-IP", "X-Host", "Forwarded"]
)
def test_no_header_makes_the_application_believe_in_another_url_or_client(name):
    answer = requests.get(f"{WEB}/page", headers=SITE | {name: "/admin", "X-Kept": "yes"}, timeout=5)
    told = {key.lower() for key in answer.json()["headers"]}
    assert (name.lower() in told, "x-kept" in told) == (False, True)


def test_a_visitor_cannot_turn_a_reload_into_a_restart(host, eventually):
    """In the log stand the words by which `reload` knows that only a restart helps, in a line like one of nginx."""
    master = host.check_output("systemctl show -P MainPID nginx")
    words = f"still could not bind()\n2026/01/01 00:00:00 [emerg] {master}#{master}: still could not bind()"
    # The workers serve, and the master takes up nothing: a reload waits.
    host.check_output(f"kill -STOP {master}")
    try:
        with ThreadPoolExecutor() as pool:
            reload = pool.submit(host.run, "/etc/nginx/reload")
            for _ in range(5):
                assert requests.get(f"{FILES}/{quote(words)}", timeout=5).status_code == 404
            assert "still could not bind()" in host.check_output("tail -n 20 /var/log/nginx/error.log")
            told = reload.result(timeout=60)
    finally:
        host.check_output(f"kill -CONT {master}")
    assert (told.rc, "goes on with its old configuration" in told.stdout) == (1, True), told
    assert "still could not" not in told.stdout
    assert host.check_output("systemctl show -P MainPID nginx") == master
    eventually(lambda: requests.get(f"{WEB}/page", headers=SITE, timeout=5).status_code == 200)
