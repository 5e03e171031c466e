"""nginx as its clients, its balancer and its monitoring see it.

The controller is the balancer over IPv6 and anybody over IPv4.
"""

from __future__ import annotations

import gzip
import json
import re
import socket

import pytest
import requests

HOST = "foobar-nginx1"
WEB = "http://198.18.0.101"
FILES = "http://198.18.0.101:8080"
BALANCED = "http://[fd5a:f00b:a5::101]"
ANYBODY = "198.18.0.1"
FORGED = {
    "X-Forwarded-For": "203.0.113.66",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Ssl": "on",
    "X-Real-IP": "203.0.113.66",
    "X-Request-ID": "forged-id",
    "X-Served-By-Balancer": "evil",
    "Forwarded": "for=203.0.113.66",
}


@pytest.fixture(scope="module")
def host(hosts):
    return hosts[HOST]


@pytest.fixture(scope="module")
def variables(inventory):
    """The scenario's variables as they were converged."""
    return inventory["_meta"]["hostvars"][HOST]


def last_log_line(host, uri: str) -> dict:
    lines = host.check_output("cat /var/log/nginx/access.log").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["uri"] == uri][-1]


def raw_request(text: str, port: int = 80) -> bytes:
    with socket.create_connection(("198.18.0.101", port), timeout=5) as connection:
        connection.sendall(text.encode())
        return b"".join(iter(lambda: connection.recv(4096), b""))


# --- static files


@pytest.mark.parametrize(
    ("path", "cache_control"),
    [
        ("/static/app.js", "public, max-age=300"),
        ("/static/app.js?page=2", "public, max-age=300"),
        ("/static/app.js?v=42", "public, max-age=31536000, immutable"),
        ("/static/app.js?3f2a9c1b", "public, max-age=31536000, immutable"),
        ("/static/app.3f2a9c1b.js", "public, max-age=31536000, immutable"),
        ("/static/report-20261124.txt", "public, max-age=300"),
        ("/assets/css/site.css?v=42", "no-cache"),
    ],
)
def test_static_file_says_how_long_it_may_be_kept(get, path, cache_control):
    response = get(WEB + path)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == cache_control


def test_static_file_is_the_local_one_and_is_revalidated(get):
    first = get(f"{WEB}/static/app.js")
    assert first.text.startswith("// A script that is long enough")
    assert first.headers["Content-Type"] == "application/javascript"
    again = get(f"{WEB}/static/app.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == "public, max-age=300"


def test_missing_static_file_may_not_be_kept(get):
    response = get(f"{WEB}/static/missing.js?v=42")
    assert response.status_code == 404
    assert "Cache-Control" not in response.headers


def test_text_is_compressed_for_those_who_take_it(get):
    plain = get(f"{WEB}/static/app.js", headers={"Accept-Encoding": "identity"})
    packed = get(f"{WEB}/static/app.js", headers={"Accept-Encoding": "gzip"}, stream=True)
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.raw.read()) == plain.content


# --- forwarded requests


def test_dynamic_request_reaches_the_application_over_a_kept_connection(get):
    answers = [get(f"{WEB}/page?a=b").json() for _ in range(3)]
    assert answers[0]["path"] == "/page?a=b"
    assert len({answer["connection"] for answer in answers}) == 1
    assert "Connection" not in answers[0]["headers"]
    assert answers[0]["headers"]["X-Served-By-Web"] == HOST


def test_cache_headers_of_the_application_pass(get):
    assert get(f"{WEB}/page").headers["Cache-Control"] == "private, max-age=7"


def test_claims_of_anybody_are_dropped(get):
    headers = get(f"{WEB}/page", headers=FORGED).json()["headers"]
    assert headers["X-Forwarded-For"] == headers["X-Real-IP"] == ANYBODY
    assert headers["X-Forwarded-Proto"] == "http"
    assert headers["X-Forwarded-Host"] == "www.foobar.com"
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])
    assert not headers.keys() & {"X-Served-By-Balancer", "Forwarded", "X-Forwarded-Prefix", "X-Forwarded-Ssl"}


def test_claims_of_the_balancer_are_believed(get):
    claims = {
        "X-Forwarded-For": "203.0.113.66, 192.0.2.7, 198.18.0.201",  # anybody's claim, the client, another balancer
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "www.foobar.com:8443",
        "X-Request-ID": "balancer-1",
        "X-Served-By-Balancer": "foobar-lb1",
        "Forwarded": "for=203.0.113.66",
    }
    headers = get(f"{BALANCED}/page", headers=claims).json()["headers"]
    assert headers["X-Forwarded-For"] == headers["X-Real-IP"] == "192.0.2.7"
    for name in ("X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-ID", "X-Served-By-Balancer"):
        assert headers[name] == claims[name]
    assert "Forwarded" not in headers


def test_application_sees_the_host_that_chose_the_site():
    answer = raw_request(
        "GET http://www.foobar.com/page HTTP/1.1\r\nHost: evil.example:81\r\nConnection: close\r\n\r\n"
    )
    headers = json.loads(answer.split(b"\r\n\r\n", 1)[1])["headers"]
    assert headers["Host"] == headers["X-Forwarded-Host"] == "www.foobar.com:81"


def test_only_a_request_without_effect_is_tried_again(get):
    def drops(method: str) -> int:
        return get(f"{WEB}/page").json()["asked"].get(f"{method} /drop", 0)

    before = {method: drops(method) for method in ("GET", "POST")}
    headers = {"Host": "www.foobar.com"}
    assert requests.post(f"{WEB}/drop", headers=headers, data="order=1", timeout=5).status_code == 502
    assert get(f"{WEB}/drop").status_code == 502
    assert {method: drops(method) - before[method] for method in before} == {"GET": 2, "POST": 1}


# --- hosts and addresses


@pytest.mark.parametrize("base", [WEB, BALANCED])
@pytest.mark.parametrize("name", ["www.foobar.com", "foobar.com", "unknown.example", "198.18.0.101"])
def test_health_path_answers_for_any_host_and_is_not_logged(get, host, base, name):
    before = host.check_output("wc --lines < /var/log/nginx/access.log")
    response = get(f"{base}/nginx-health", host=name)
    assert (response.status_code, response.text) == (200, "ok\n")
    assert host.check_output("wc --lines < /var/log/nginx/access.log") == before


def test_unknown_host_gets_no_answer_where_no_site_is_the_default(get):
    with pytest.raises(requests.ConnectionError):
        get(f"{WEB}/", host="unknown.example")
    assert raw_request("GET / HTTP/1.0\r\n\r\n") == b""


def test_default_site_answers_for_an_unknown_host(get):
    assert "GNU GENERAL PUBLIC LICENSE" in get(f"{FILES}/common-licenses/GPL-3", host="unknown.example").text
    assert get(f"{FILES}/nginx-health", host="unknown.example").text == "ok\n"


def test_welcome_page_of_the_package_is_gone(get, host):
    assert not host.file("/etc/nginx/sites-enabled/default").exists
    with pytest.raises(requests.ConnectionError):
        get(f"{WEB}/", host="localhost")
    assert get(f"{FILES}/", host="localhost").status_code == 404


def test_version_is_not_told(get):
    assert get(f"{WEB}/static/missing").headers["Server"] == "nginx"
    assert re.search(r"nginx/\d", get(f"{WEB}/static/missing").text) is None


def test_redirect_names_no_host_or_port(get):
    assert get(f"{WEB}/old").headers["Location"] == "/new"
    assert get(f"{WEB}/static/css").headers["Location"] == "/static/css/"


def test_counters_are_for_this_host_alone(get, host):
    assert re.search(
        r"server accepts handled requests\n \d+ \d+ \d+", host.check_output("curl -s http://127.0.0.1:8081/status")
    )
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{WEB}:8081/status", timeout=2)
    assert "handled requests" not in get(f"{WEB}/status").text


# --- the log


def test_log_line_tells_who_when_and_how_long(get, host):
    get(f'{BALANCED}/logged?"quoted"', headers={"X-Forwarded-For": "192.0.2.7", "X-Request-ID": "log-1"})
    line = last_log_line(host, "/logged?%22quoted%22")
    assert line["client"] == "192.0.2.7"
    assert line["peer"] == "fd5a:f00b:a5::1"
    assert line["forwarded_for"] == "192.0.2.7"
    assert (line["host"], line["method"], line["status"]) == ("www.foobar.com", "GET", 200)
    assert (line["upstream_addr"], line["upstream_status"], line["request_id"]) == ("127.0.0.1:8000", "200", "log-1")
    assert line["bytes"] > 0
    assert isinstance(line["request_time"], float)
    assert all(float(line[f"upstream_{part}_time"]) >= 0 for part in ("connect", "header", "response"))


def test_every_log_line_is_json(host):
    assert b"GNU GENERAL PUBLIC LICENSE" in raw_request("GET /common-licenses/GPL-3\r\n", 8080)  # HTTP/0.9
    raw_request('GET /"\\ HTTP/1.1\r\nHost: www.foobar.com\r\nUser-Agent: "\\\t\r\nConnection: close\r\n\r\n')
    raw_request("\x16\x03\x01 this is no HTTP\r\n\r\n")
    lines = [json.loads(line) for line in host.check_output("cat /var/log/nginx/access.log").splitlines()]
    assert {(line["protocol"], line["status"]) for line in lines} >= {("", 200), ("HTTP/1.1", 200), ("", 400)}


def test_log_goes_on_after_rotation(get, host):
    host.check_output("logrotate --force /etc/logrotate.d/nginx")
    get(f"{WEB}/after-rotation")
    assert last_log_line(host, "/after-rotation")["status"] == 200


# --- raw lines


def test_raw_lines_work_at_each_level(get, host):
    processes = host.check_output("ps -o ni=,args= --ppid $(cat /run/nginx.pid)").splitlines()
    assert [line.split()[0] for line in processes if "worker process" in line] == ["5"]  # main
    assert get(f"{WEB}/raw").text == "raw www.foobar.com"  # http and server
    assert get(f"{WEB}/static/app.js").headers["X-Raw-Static"] == "raw www.foobar.com"
    assert get(f"{WEB}/page").json()["headers"]["X-Raw-Location"] == "yes"
    assert len({get(f"{WEB}/by-key?key=1").json()["port"] for _ in range(4)}) == 1  # upstream
    assert len({get(f"{WEB}/by-key?key={key}").json()["port"] for key in range(20)}) == 2


# --- mistakes and mishaps; the last one leaves the host as the scenario wants it


def test_contradicting_variables_are_told_at_once_and_change_nothing(role, get):
    sites = [
        {
            "name": "one",
            "server_names": ["one.example"],
            "default": True,
            "locations": [{"path": "/", "upstream": "ap"}],
        },
        {"name": "two", "server_names": ["one.example"], "default": True, "locations": [{"path": "/"}]},
        {
            "name": "three",
            "server_names": ["three.example"],
            "static": [{"path": "static", "directory": "files/static"}],
            "locations": [{"path": "/", "upstream": "pair", "return": "404"}],
        },
    ]
    run = role("nginx", nginx_sites=sites)
    assert run.code != 0
    assert run.changed == 0
    for mistake in (
        "nginx_sites: several sites are the default on port 80; keep default: true in one of them",
        "nginx_sites: the server name 'one.example' stands twice on port 80; keep it in one site",
        "nginx_sites, 'one': location '/' names the upstream 'ap', which nginx_upstreams does not define; "
        "it defines: application, pair, by_key",
        "nginx_sites, 'two': location '/' has no target; give it exactly one of upstream, root and return",
        "nginx_sites, 'three': location '/' has upstream and return; give it exactly one of upstream, root and return",
        "nginx_sites, 'three': the static path 'static' needs a slash at both ends, as in /static/",
    ):
        assert mistake in " ".join(run.output.split())
    assert get(f"{WEB}/static/app.js").status_code == 200


def test_mistyped_key_is_told(role):
    run = role("nginx", nginx_sites=[{"name": "one", "server_name": ["one.example"]}])
    assert run.code != 0
    assert run.changed == 0
    assert (
        "nginx_sites.server_name. Supported parameters include: client_body_timeout, client_max_body_size, "
        in run.output
    )


def test_site_that_nginx_refuses_never_becomes_live(role, get, variables):
    sites = [*variables["nginx_sites"], {"name": "broken", "server_names": ["broken.example"], "extra": ["bogus on;"]}]
    run = role("nginx", nginx_sites=sites)
    assert run.code != 0
    assert 'unknown directive "bogus" in /etc/nginx/sites/broken.conf' in " ".join(run.output.split())
    assert get(f"{WEB}/static/app.js").status_code == 200
    assert get(f"{WEB}/page").status_code == 200


def test_port_that_is_taken_is_told_and_the_old_configuration_comes_back(role, get, host, variables):
    sites = [*variables["nginx_sites"], {"name": "late", "server_names": ["late.example"], "port": 8000}]
    run = role("nginx", nginx_sites=sites)
    assert run.code != 0
    assert "nginx goes on with its old configuration, because:" in run.output
    assert "bind() to 0.0.0.0:8000 failed (98: Address already in use)" in run.output
    assert not host.file("/etc/nginx/sites/late.conf").exists
    assert get(f"{WEB}/page").status_code == 200


def test_reloads_lose_no_request(host, get, hammered):
    """Without a balancer nginx closes kept connections at a reload, without a word before: before 1.27.4 it cannot.

    What a client then sends has not been looked at, so it can send it again, as browsers do. Nobody else notices.
    """

    def posts() -> int:
        return get(f"{WEB}/page").json()["asked"].get("POST /reloaded", 0)

    site = {"Host": "www.foobar.com"}
    worker = "pgrep --newest --parent $(systemctl show -P MainPID nginx)"
    workers, before = {host.check_output(worker)}, posts()
    with hammered("20 reloads, without a balancer", "198.18.0.101", post="/reloaded", headers=site) as hammers:
        for _ in range(20):
            workers.add(host.check_output(f"/etc/nginx/reload && {worker}"))
    assert len(workers) == 21
    closed = ("RemoteDisconnected", "ConnectionResetError", "BrokenPipeError")
    for hammer in hammers:
        assert hammer.answered > 50
        assert len(hammer.failed) <= (20 if hammer.keep else 0)
        assert [problem for problem in hammer.failed if not problem.startswith(closed)] == []
    assert posts() - before == sum(hammer.answered for hammer in hammers if hammer.method == "POST")


def test_single_address_is_listened_on_though_a_reload_cannot_do_that(role, get):
    run = role("nginx", nginx_listen_addresses=["198.18.0.101"])
    assert run.code == 0, run.output
    assert get(f"{WEB}/page").status_code == 200
    with pytest.raises(requests.ConnectionError):
        get(f"{BALANCED}/page")


def test_site_no_longer_listed_goes_and_a_masked_service_comes_back(role, get, host, variables):
    host.check_output("systemctl mask --now nginx")
    host.check_output("touch /etc/nginx/conf.d/of-somebody-else.conf")
    run = role("nginx", nginx_sites=variables["nginx_sites"][1:])
    assert run.code == 0, run.output
    with pytest.raises(requests.ConnectionError):
        get(f"{WEB}/page")
    assert not host.file("/etc/nginx/sites/www.foobar.com.conf").exists
    assert not host.file("/srv/www/www.foobar.com").exists
    assert host.file("/etc/nginx/conf.d/of-somebody-else.conf").exists
    assert get(f"{FILES}/nginx-health", host="files.foobar.com").status_code == 200


def test_next_good_run_heals(role, get, host):
    host.check_output("systemctl mask --now nginx")
    host.check_output("sh -c 'echo bogus > /etc/nginx/sites/files.foobar.com.conf'")
    run = role("nginx")
    assert run.code == 0, run.output
    assert get(f"{WEB}/page").status_code == 200
    assert get(f"{WEB}/static/app.js").status_code == 200
    service = host.service("nginx")
    assert service.is_running
    assert service.is_enabled
    assert not service.is_masked


def test_stopped_service_is_started_and_nothing_else_changes(role, get, host):
    host.check_output("systemctl mask --now nginx")
    run = role("nginx")
    assert (run.code, run.changed) == (0, 1), run.output
    assert get(f"{WEB}/page").status_code == 200
    assert role("nginx").changed == 0
