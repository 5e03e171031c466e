"""nginx as its clients, its balancer and its monitoring see it.

The controller is the balancer over IPv6 and anybody over IPv4.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
from pathlib import Path

import jinja2
import pytest
import requests
import yaml
from helpers.logs import access_log

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
def variables(inventory):
    """The scenario's variables as they were converged."""
    return inventory["_meta"]["hostvars"][HOST]


@pytest.fixture
def last_log_line(host, eventually):
    """Return a function that waits for the line of a URI. nginx writes it within a second."""

    def find(uri: str) -> dict:
        return eventually(lambda: [line for line in access_log(host) if line["uri"] == uri], seconds=3)[-1]

    return find


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
def test_cache_control_of_static_files(get, path, cache_control):
    response = get(WEB + path)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == cache_control


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("v=0e3a5f21c9d4", "// The script of the release before."),
        ("v=4f0c2b9be1d7", "// A script that is long enough"),
        ("", "// A script that is long enough"),
        ("v=../releases/0e3a5f21c9d4", "// A script that is long enough"),
        ("v=0e3a5f21c9d4/static/../../../../../../etc/passwd%00", "// A script that is long enough"),
    ],
)
def test_a_page_of_the_release_before_has_its_own_static_file(get, query, text):
    response = get(f"{WEB}/static/app.js?{query}")
    assert response.status_code == 200
    assert response.text.startswith(text)


def test_static_file_is_the_local_one_and_is_revalidated(get):
    first = get(f"{WEB}/static/app.js")
    assert first.text.startswith("// A script that is long enough")
    assert first.headers["Content-Type"] == "application/javascript"
    again = get(f"{WEB}/static/app.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == "public, max-age=300"


def test_missing_static_file_has_no_cache_control(get):
    response = get(f"{WEB}/static/missing.js?v=42")
    assert response.status_code == 404
    assert "Cache-Control" not in response.headers


def test_text_is_compressed_for_clients_that_accept_gzip(get):
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


def test_forwarded_headers_of_untrusted_clients_are_dropped(get):
    headers = get(f"{WEB}/page", headers=FORGED).json()["headers"]
    assert headers["X-Forwarded-For"] == headers["X-Real-IP"] == ANYBODY
    assert headers["X-Forwarded-Proto"] == "http"
    assert headers["X-Forwarded-Host"] == "www.foobar.com"
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])
    assert not headers.keys() & {"X-Served-By-Balancer", "Forwarded", "X-Forwarded-Prefix", "X-Forwarded-Ssl"}


def test_forwarded_headers_of_the_balancer_are_trusted(get):
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


def test_only_idempotent_requests_are_retried(get):
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
def test_health_path_answers_for_any_host(get, base, name):
    response = get(f"{base}/nginx-health", host=name)
    assert (response.status_code, response.text) == (200, "ok\n")


def test_health_path_is_not_logged(get, host, last_log_line):
    for base in (WEB, BALANCED):
        assert get(f"{base}/nginx-health").status_code == 200
    get(f"{WEB}/after-health")
    assert last_log_line("/after-health")
    assert "/nginx-health" not in {line["uri"] for line in access_log(host)}


def test_unknown_host_gets_no_answer_without_a_default_site(get):
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


def test_version_of_nginx_is_not_disclosed(get):
    assert get(f"{WEB}/static/missing").headers["Server"] == "nginx"
    assert re.search(r"nginx/\d", get(f"{WEB}/static/missing").text) is None


def test_redirect_names_no_host_or_port(get):
    assert get(f"{WEB}/old").headers["Location"] == "/new"
    assert get(f"{WEB}/static/css").headers["Location"] == "/static/css/"


def test_stub_status_answers_on_loopback_only(get, host):
    assert re.search(
        r"server accepts handled requests\n \d+ \d+ \d+", host.check_output("curl -s http://127.0.0.1:8081/status")
    )
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{WEB}:8081/status", timeout=2)
    assert "handled requests" not in get(f"{WEB}/status").text


# --- the log


def test_log_line_has_client_time_and_durations(get, last_log_line):
    get(f'{BALANCED}/logged?"quoted"', headers={"X-Forwarded-For": "192.0.2.7", "X-Request-ID": "log-1"})
    line = last_log_line("/logged?%22quoted%22")
    assert line["client"] == "192.0.2.7"
    assert line["peer"] == "fd5a:f00b:a5::1"
    assert line["forwarded_for"] == "192.0.2.7"
    assert (line["host"], line["method"], line["status"]) == ("www.foobar.com", "GET", 200)
    assert (line["upstream_addr"], line["upstream_status"], line["request_id"]) == ("127.0.0.1:8000", "200", "log-1")
    assert line["bytes"] > 0
    assert isinstance(line["request_time"], float)
    assert all(float(line[f"upstream_{part}_time"]) >= 0 for part in ("connect", "header", "response"))


def test_every_log_line_is_json(get, host, last_log_line):
    assert b"GNU GENERAL PUBLIC LICENSE" in raw_request("GET /common-licenses/GPL-3\r\n", 8080)  # HTTP/0.9
    raw_request('GET /"\\ HTTP/1.1\r\nHost: www.foobar.com\r\nUser-Agent: "\\\t\r\nConnection: close\r\n\r\n')
    raw_request("\x16\x03\x01 this is no HTTP\r\n\r\n")
    get(f"{WEB}/after-these")
    assert last_log_line("/after-these")
    logged = {(line["protocol"], line["status"]) for line in access_log(host)}
    assert logged >= {("", 200), ("HTTP/1.1", 200), ("", 400)}


def test_rotation_and_reload_lose_no_log_line(get, host, last_log_line):
    get(f"{WEB}/before-rotation")
    host.check_output("logrotate --force /etc/logrotate.d/nginx")
    get(f"{WEB}/after-rotation")
    host.check_output("/etc/nginx/reload")
    get(f"{WEB}/after-reload")
    assert last_log_line("/after-rotation")["status"] == last_log_line("/after-reload")["status"] == 200
    host.check_output("grep --quiet /before-rotation /var/log/nginx/access.log.1")


# --- what a playbook wires beside what an inventory lists


def test_entries_of_the_inventory_join_the_wired_ones_and_replace_those_of_their_name(host):
    lines = [line.strip() for line in host.check_output("nginx -T").splitlines()]
    assert [line for line in lines if line.startswith("set_real_ip_from")] == [
        "set_real_ip_from fd5a:f00b:a5::1;",
        "set_real_ip_from 198.18.0.200/29;",
    ]
    names = [line.split()[1] for line in lines if line.startswith("upstream ")]
    assert names == ["application", "pair", "by_key", "alike", "half_gone"]
    assert "server 127.0.0.1:9; # replaced" not in lines
    sites = [line for line in lines if line.startswith("include sites/")]
    assert sites == ["include sites/files.foobar.com.conf;", "include sites/www.foobar.com.conf;"]


# --- what the role publishes


@pytest.fixture(scope="module")
def published(variables):
    """What other roles and playbooks read, as it is on this host."""
    text = (Path(__file__).parents[3] / "roles/nginx/vars/published.yml").read_text()
    return yaml.safe_load(jinja2.Template(text, undefined=jinja2.StrictUndefined).render(variables))["nginx_published"]


def test_published_places_are_there(host, published, get):
    assert all(host.service(unit).is_running for unit in published["units"])
    assert get(WEB + published["health_path"]).status_code == 200
    assert "Active connections" in host.check_output(f"curl --silent {published['status_url']}")
    for log in ("access_log", "error_log", "own_log"):
        assert host.file(published[log]).is_file
    for directory in ("configuration", "static_root", "maintenance_directory"):
        assert host.file(published[directory]).is_directory
    workers = host.check_output("ps -o user=,group= --ppid $(cat /run/nginx.pid)").splitlines()
    assert {tuple(line.split()) for line in workers} == {(published["user"], published["group"])}
    host.check_output(" ".join(published["reload"]))


def test_a_certificate_in_the_published_place_is_served_and_stays(host, role, variables, published):
    place = published["certificates"]
    owner = f"--owner={place['owner']} --group={place['group']}"
    host.check_output(f"install --directory {owner} --mode={place['directory_mode']} {place['directory']}")
    host.check_output(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=published.example "
        "-keyout /run/published.pem -out /run/published.crt"
    )
    host.check_output("sh -c 'cat /run/published.crt >> /run/published.pem'")
    pem = f"{place['directory']}/published.pem"
    host.check_output(f"install {owner} --mode={place['mode']} /run/published.pem {pem}")
    extra = ["listen 8443 ssl;", f"ssl_certificate {pem};", f"ssl_certificate_key {pem};"]
    site = {"name": "published", "server_names": ["published.example"], "extra": extra}
    run = role("nginx", nginx_sites=[*variables["nginx_sites"], site])
    assert run.code == 0, run.output
    told = host.check_output("openssl s_client -connect 127.0.0.1:8443 < /dev/null 2>&1")
    assert "subject=CN = published.example" in told or "subject=CN=published.example" in told
    assert role("nginx").code == 0
    assert host.file(pem).exists
    host.check_output(f"rm -r {place['directory']}")


# --- raw lines


def test_raw_lines_work_at_each_level(get, host):
    processes = host.check_output("ps -o ni=,args= --ppid $(cat /run/nginx.pid)").splitlines()
    assert [line.split()[0] for line in processes if "worker process" in line] == ["5"]  # main
    assert get(f"{WEB}/raw").text == "raw www.foobar.com"  # http and server
    assert get(f"{WEB}/static/app.js").headers["X-Raw-Static"] == "raw www.foobar.com"
    assert get(f"{WEB}/page").json()["headers"]["X-Raw-Location"] == "yes"
    assert len({get(f"{WEB}/by-key?key=1").json()["port"] for _ in range(4)}) == 1  # upstream
    assert len({get(f"{WEB}/by-key?key={key}").json()["port"] for key in range(20)}) == 2


# --- mistakes and failures; the last one leaves the host as the scenario wants it


def test_contradicting_variables_are_all_reported_and_change_nothing(role, get):
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
        "it defines: application, pair, by_key, alike, half_gone",
        "nginx_sites, 'two': location '/' has no target; give it exactly one of upstream, root and return",
        "nginx_sites, 'three': location '/' has upstream and return; give it exactly one of upstream, root and return",
        "nginx_sites, 'three': the static path 'static' needs a slash at both ends; write it as in /static/",
    ):
        assert mistake in " ".join(run.output.split())
    assert get(f"{WEB}/static/app.js").status_code == 200


def test_mistyped_key_is_reported(role):
    run = role("nginx", nginx_sites=[{"name": "one", "server_name": ["one.example"]}])
    assert run.code != 0
    assert run.changed == 0
    assert (
        "nginx_sites.server_name. Supported parameters include: client_body_timeout, client_max_body_size, "
        in run.output
    )


def test_site_that_nginx_refuses_never_becomes_live(role, get, variables):
    sites = [*variables["nginx_sites"], {"name": "broken", "server_names": ["broken.example"], "extra": ["bogus on;"]}]
    # In the same run static files move: those that are served have to stay.
    moved = [{**static, "path": static["path"].replace("/static/", "/moved/")} for static in sites[0]["static"]]
    sites[0] = {**sites[0], "static": moved}
    planned = role("nginx", "--check", nginx_sites=sites)
    assert planned.code != 0
    assert 'unknown directive "bogus" in /etc/nginx/sites/broken.conf' in " ".join(planned.output.split()), (
        planned.output
    )
    run = role("nginx", nginx_sites=sites)
    assert run.code != 0
    assert 'unknown directive "bogus" in /etc/nginx/sites/broken.conf' in " ".join(run.output.split())
    assert get(f"{WEB}/static/app.js").status_code == 200
    assert get(f"{WEB}/page").status_code == 200


def test_port_in_use_is_reported_and_the_old_configuration_restored(role, get, host, variables):
    sites = [*variables["nginx_sites"], {"name": "late", "server_names": ["late.example"], "port": 8000}]
    run = role("nginx", nginx_sites=sites)
    assert run.code != 0
    assert "nginx goes on with its old configuration, because:" in run.output
    assert "bind() to 0.0.0.0:8000 failed (98: Address already in use)" in run.output
    assert not host.file("/etc/nginx/sites/late.conf").exists
    assert get(f"{WEB}/page").status_code == 200


def test_reloads_lose_no_request(worker, get, hammered):
    """Without a balancer nginx closes kept connections at a reload, without a word before: before 1.27.4 it cannot.

    What a client then sends has not been looked at, so it can send it again, as browsers do. Nobody else notices.
    """

    def posts() -> int:
        return get(f"{WEB}/page").json()["asked"].get("POST /reloaded", 0)

    site = {"Host": "www.foobar.com"}
    workers, before = {worker("foobar-nginx1", "nginx")}, posts()
    with hammered("20 reloads, without a balancer", "198.18.0.101", post="/reloaded", headers=site) as hammers:
        for _ in range(20):
            workers.add(worker("foobar-nginx1", "nginx", reload=True))
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
    run = role("nginx", nginx_sites=[])
    assert run.code == 0, run.output
    with pytest.raises(requests.ConnectionError):
        get(f"{WEB}/page")
    assert not host.file("/etc/nginx/sites/www.foobar.com.conf").exists
    assert not host.file("/srv/www/www.foobar.com").exists
    assert host.file("/etc/nginx/conf.d/of-somebody-else.conf").exists
    assert get(f"{FILES}/nginx-health", host="files.foobar.com").status_code == 200


def test_next_run_repairs_a_damaged_configuration(role, get, host):
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


def test_an_unchanged_run_says_that_somebody_elses_file_would_keep_nginx_from_starting(role, get, host):
    theirs = "/etc/nginx/conf.d/of-somebody-else.conf"
    host.check_output(f"sh -c 'echo \"server {{ listen 80 default_server; }}\" > {theirs}'")
    run = role("nginx")
    host.check_output(f"rm {theirs}")
    assert run.code != 0
    said = " ".join(run.output.split())
    assert "nothing of ours differs, but `nginx -t` refuses what is there now" in said
    assert "a duplicate default server for 0.0.0.0:80" in said
    assert get(f"{WEB}/page").status_code == 200
