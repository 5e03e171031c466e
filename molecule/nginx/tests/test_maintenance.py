"""A site under maintenance: by a file on the host at once, or by the inventory."""

from __future__ import annotations

import pytest
import requests

WEB = "http://198.18.0.101"
BALANCED = "http://[fd5a:f00b:a5::101]"
SITE = {"Host": "www.foobar.com"}
FILE = "/var/lib/nginx/maintenance-www.foobar.com"


@pytest.fixture
def closed(host):
    """The site, closed by the file."""
    host.check_output(f"touch {FILE}")
    yield
    host.check_output(f"rm -f {FILE}")


@pytest.mark.parametrize("path", ["/page", "/static/app.js", "/cached/x", "/old", "/"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_file_closes_the_site_at_once(closed, path, method):
    response = requests.request(method, WEB + path, headers=SITE, timeout=5)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "300"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert ("We will be back soon" in response.text) == (method != "HEAD")


def test_balancer_keeps_the_server_and_other_sites_go_on(closed, get):
    assert get(f"{WEB}/nginx-health").text == "ok\n"
    assert get(f"{WEB}:8080/common-licenses/GPL-3", host="files.foobar.com").status_code == 200


def test_page_of_maintenance_is_no_page_of_the_site(closed, get):
    assert get(f"{WEB}/.maintenance.html").status_code == 404
    assert get(f"{WEB}/.Maintenance.html").status_code == 503
    assert get(f"{WEB}/nginx-Health").status_code == 503


def test_site_is_open_again_without_the_file(closed, get, host):
    assert get(f"{WEB}/page").status_code == 503
    host.check_output(f"rm {FILE}")
    assert get(f"{WEB}/page").status_code == 200


def test_inventory_closes_a_site_with_a_page_of_its_own(role, get, inventory, tmp_path):
    own = tmp_path / "page.html"
    own.write_text("<h1>Our own words</h1>")
    sites = inventory["_meta"]["hostvars"]["foobar-nginx1"]["nginx_sites"]
    run = role(
        "nginx",
        nginx_sites=[{**sites[0], "maintenance": True}, *sites[1:]],
        nginx_maintenance_page=str(own),
        nginx_maintenance_retry_after=60,
        nginx_maintenance_allow=["192.0.2.7", "2001:db8::/64"],
    )
    try:
        assert run.code == 0, run.output
        response = get(f"{WEB}/page")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "60")
        assert response.text == "<h1>Our own words</h1>"
        for client, status in {"192.0.2.7": 200, "2001:db8::9": 200, "192.0.2.8": 503}.items():
            assert get(f"{BALANCED}/page", headers={"X-Forwarded-For": client}).status_code == status
            # Whoever claims that without being a balancer stays outside.
            assert get(f"{WEB}/page", headers={"X-Forwarded-For": client}).status_code == 503
        assert get(f"{WEB}/nginx-health").status_code == 200
    finally:
        assert role("nginx").code == 0
    assert get(f"{WEB}/page").status_code == 200
