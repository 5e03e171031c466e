"""The micro-cache as visitors, the application and the operator see it."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from helpers.logs import access_log

WEB = "http://198.18.0.101"
BALANCED = "http://[fd5a:f00b:a5::101]"
SITE = {"Host": "www.foobar.com"}


@pytest.fixture
def page() -> str:
    """The path of a page that nobody has asked for yet."""
    return f"/cached/{uuid.uuid4()}"


def test_page_is_fetched_once_for_everybody(ask, page):
    assert [ask(page) for _ in range(3)] == [("MISS", 1), ("HIT", 1), ("HIT", 1)]


def test_log_line_has_the_cache_status(ask, page, host, eventually):
    def told() -> list[str]:
        return [line["cache"] for line in access_log(host) if line["uri"] == page]

    ask(page)
    ask(page)
    assert eventually(lambda: told() == ["MISS", "HIT"], seconds=3)


def test_only_locations_that_ask_for_it_are_cached(get):
    assert "X-Cache-Status" not in get(f"{WEB}/page").headers
    assert "X-Cache-Status" not in get(f"{WEB}/static/app.js").headers


def test_query_host_and_scheme_make_another_page(ask, get, page):
    assert ask(page) == ("MISS", 1)
    assert ask(f"{page}?a=b")[0] == "MISS"
    assert ask(page, host="foobar.com")[0] == "MISS"
    secure = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "www.foobar.com"}
    other = {"X-Forwarded-Host": "shop.foobar.com"}
    for claims in (secure, other):
        statuses = [get(BALANCED + page, headers=claims).headers["X-Cache-Status"] for _ in range(2)]
        assert statuses == ["MISS", "HIT"]
    # Anybody's claims change neither the page nor which one it is.
    assert ask(page, headers=secure)[0] == "HIT"


def test_head_is_answered_from_the_same_page(ask, page):
    head = requests.head(WEB + page, headers=SITE, timeout=5)
    assert (head.headers["X-Cache-Status"], head.content) == ("MISS", b"")
    assert ask(page) == ("HIT", 1)


def test_other_methods_always_reach_the_application(page):
    for _ in range(2):
        answer = requests.post(WEB + page, headers=SITE, data="a=b", timeout=5)
        assert answer.headers.get("X-Cache-Status") is None
        assert answer.json()["asked"][f"POST {page}"] == _ + 1


@pytest.mark.parametrize("header", [{"Cookie": "session=1"}, {"Authorization": "Basic YTpi"}])
def test_personal_request_neither_meets_nor_fills_the_cache(ask, page, header):
    assert ask(page, headers=header)[0] == "BYPASS"
    assert ask(page) == ("MISS", 2)
    assert ask(page, headers=header) == ("BYPASS", 3)
    assert ask(page) == ("HIT", 2)


def test_only_the_named_cookies_make_a_request_personal(get, ask):
    page = f"/cached/by-session/{uuid.uuid4()}"
    first = get(WEB + page, headers={"Cookie": "tracker=1; my_session=2"})
    assert first.headers["X-Cache-Status"] == "MISS"
    assert "Cookie" not in first.json()["headers"]
    assert ask(page, headers={"Cookie": "tracker=3"}) == ("HIT", 1)
    personal = get(WEB + page, headers={"Cookie": "tracker=1; session=2"})
    assert personal.headers["X-Cache-Status"] == "BYPASS"
    assert personal.json()["headers"]["Cookie"] == "tracker=1; session=2"
    written = requests.post(WEB + page, headers={**SITE, "Cookie": "tracker=1"}, timeout=5)
    assert written.json()["headers"]["Cookie"] == "tracker=1"


@pytest.mark.parametrize(
    "query",
    ["control=private", "control=no-store", "control=no-cache", "control=max-age%3D0", "cookie=a%3Db", "accel=0",
     "vary=*", "status=500", "status=302"],
)  # fmt: skip
def test_answer_that_is_not_for_everybody_is_not_kept(ask, page, query):
    assert [ask(f"{page}?{query}") for _ in range(2)] == [("MISS", 1), ("MISS", 2)]


def test_application_says_how_long_before_the_location_does(ask, eventually, page):
    brief, lasting = f"{page}?control=max-age%3D1", f"/cached/brief/{uuid.uuid4()}?control=max-age%3D30"
    assert (ask(brief), ask(lasting)) == (("MISS", 1), ("MISS", 1))
    eventually(lambda: ask(brief) == ("HIT", 2))
    assert ask(lasting) == ("HIT", 1)


def test_variants_that_the_application_names_are_kept_apart(ask, page):
    page += "?vary=Accept-Language"
    german, french = ({"Accept-Language": language} for language in ("de", "fr"))
    statuses = [ask(page, headers=headers)[0] for headers in (german, french, german, french)]
    assert statuses == ["MISS", "MISS", "HIT", "HIT"]


def test_hit_carries_no_header_of_the_request_that_filled_the_cache(get, page):
    for _ in range(2):
        response = get(BALANCED + page, headers={"X-Request-ID": "of-the-first"})
        assert "of-the-first" not in str(response.headers)
    assert response.headers["X-Cache-Status"] == "HIT"


def test_many_at_once_make_one_request_to_the_application(ask, page):
    with ThreadPoolExecutor(8) as visitors:
        answers = list(visitors.map(ask, [f"{page}?wait=1"] * 8))
    assert {number for _, number in answers} == {1}
    assert [status for status, _ in answers].count("MISS") == 1


def test_uncacheable_answers_hardly_delay_concurrent_requests(ask):
    page = f"/cached/brief/{uuid.uuid4()}?control=no-store&wait=1"
    began = time.monotonic()
    with ThreadPoolExecutor(6) as visitors:
        answers = list(visitors.map(ask, [page] * 6))
    # One after the other they would take six seconds and more.
    assert time.monotonic() - began < 4
    # The last of them had counted all.
    assert max(number for _, number in answers) == 6


def test_stale_page_is_given_out_while_a_new_one_is_fetched(ask, eventually):
    page = f"/cached/brief/{uuid.uuid4()}"
    assert ask(page) == ("MISS", 1)
    assert eventually(lambda: [answer for answer in [ask(page)] if answer[0] == "STALE"]) == [("STALE", 1)]
    eventually(lambda: ask(page)[1] == 2)


def test_stale_page_is_given_out_while_the_application_fails(get, ask, eventually):
    page = f"/cached/brief/{uuid.uuid4()}"
    assert ask(page) == ("MISS", 1)
    requests.post(f"{WEB}/fails", headers=SITE, timeout=5)
    try:
        assert get(f"{WEB}{page}-other").status_code == 503
        for _ in range(3):
            eventually(lambda: ask(page) == ("STALE", 1))
    finally:
        requests.post(f"{WEB}/works", headers=SITE, timeout=5)
    eventually(lambda: ask(page)[1] > 1)


# --- the purge


def test_changed_page_is_seen_at_once_after_a_purge(get, host, page):
    def text(path: str) -> str:
        return get(WEB + path).json()["text"]

    def change(to: str) -> None:
        requests.post(f"{WEB}/text", headers=SITE, data=to, timeout=5)

    change("old")
    paths = [f"{page}?a=[b]", f"{page}?a=b", f"{page}?a=[b]&vary=Accept-Language"]
    assert [text(path) for path in paths] == ["old"] * 3
    change("new")
    assert [text(path) for path in paths] == ["old"] * 3
    purged = host.check_output(f"/etc/nginx/purge 'https://WWW.foobar.com{paths[0]}' 'http://www.foobar.com/missing'")
    assert purged == "forgotten: 1"
    assert [text(path) for path in paths] == ["new", "old", "old"]
    purged = host.check_output("/etc/nginx/purge --all")
    assert int(purged.removeprefix("forgotten: ")) >= 3
    assert [text(path) for path in paths] == ["new"] * 3
    assert "[crit]" not in host.check_output("cat /var/log/nginx/error.log /var/log/nginx/nginx.log")


def test_all_variants_of_a_page_are_purged(ask, host, page):
    page += "?vary=Accept-Language"
    languages = [{"Accept-Language": language} for language in ("de", "fr")]
    assert [ask(page, headers=headers)[0] for headers in languages * 2] == ["MISS", "MISS", "HIT", "HIT"]
    assert host.check_output(f"/etc/nginx/purge 'http://www.foobar.com{page}'") == "forgotten: 2"
    assert [ask(page, headers=headers)[0] for headers in languages] == ["MISS", "MISS"]


def test_purge_is_for_root_on_the_host_alone(ask, host, page):
    ask(page)
    assert host.run("sudo -u www-data /etc/nginx/purge --all").rc != 0
    requests.request("PURGE", WEB + page, headers=SITE, timeout=5)
    assert ask(page)[0] == "HIT"


def test_purge_prints_its_usage(host):
    wrong = host.run("/etc/nginx/purge www.foobar.com/page")
    assert (wrong.rc, wrong.stdout) == (1, "")
    assert "write it as http://www.example.com/page" in wrong.stderr
    assert "purge --all    everything" in host.run("/etc/nginx/purge").stderr
