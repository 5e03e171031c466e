"""A published application that is none of the collection's: its own settings, migrations, static files and helpers.

It begins on one server and grows to stage 3, with its data and under a writer.
"""

from __future__ import annotations

import json

import pytest
import requests
from helpers.load import within
from helpers.logs import access_log
from helpers.run import PROJECT, SOAK

HOST, NEW_HOST = "foobar-published1", "foobar-published4"
GROWN = "-i molecule/published_application/grown -i inventories/local"
# The hosts talk to each other by IPv6 then, and so do visitors.
VIP = "fd5a:f00b:a5::170"
SITE = "budget.example.com"
PROJECT_ID, PASSWORD = "holidays", "a-long-password"
# The second one migrates; nobody can go back behind that. The third one does not.
VERSIONS = ["7.1.1", "7.2.0", "7.2.1"]
# Its page takes much longer than one of the sample application.
PAUSE_S = 0.2


@pytest.fixture(scope="module")
def budget(web, addresses):
    """Return a function that sends a request to the application as its own programs do, and returns the response."""

    def ask(method: str, path: str, address: str = addresses[HOST], **arguments):
        return web.request(method, web.url(address) + path, SITE, timeout=50, **arguments)

    return ask


@pytest.fixture(scope="module")
def project(budget):
    """A project with two members and a bill, made over the application's own interface."""
    wish = {"name": "Holidays", "id": PROJECT_ID, "password": PASSWORD, "contact_email": "a@example.com"}
    wish["default_currency"] = "XXX"
    made = budget("POST", "/api/projects", data=wish)
    assert made.status_code == 201, made.text
    login = (PROJECT_ID, PASSWORD)
    for name in ("Ada", "Grace"):
        budget("POST", f"/api/projects/{PROJECT_ID}/members", data={"name": name}, auth=login).raise_for_status()
    pay(budget, login, "a boat")
    return login


def bills(budget, login, **where: str) -> list[str]:
    return [bill["what"] for bill in budget("GET", f"/api/projects/{PROJECT_ID}/bills", auth=login, **where).json()]


def pay(budget, login, what: str, **where: str) -> str:
    """Write a bill, and return what it is for."""
    answer = budget("GET", f"/api/projects/{PROJECT_ID}/members", auth=login, **where)
    answer.raise_for_status()
    members = answer.json()
    bill = {"date": "2026-11-27", "what": what, "payer": members[0]["id"], "amount": "25"}
    bill["payed_for"] = [member["id"] for member in members]
    budget("POST", f"/api/projects/{PROJECT_ID}/bills", data=bill, auth=login, **where).raise_for_status()
    return what


def requirement(version: str) -> dict:
    return {"gunicorn_flask_source": {"type": "pypi", "requirement": f"ihatemoney[database]=={version}"}}


def installed(hosts, name: str = HOST) -> str:
    listing = hosts[name].check_output("ls /srv/ihatemoney/current/venv/lib/python3*/site-packages")
    return next(line for line in listing.splitlines() if line.startswith("ihatemoney-")).split("-")[1].split(".dist")[0]


def test_the_application_has_its_settings_and_its_database(budget, project):
    page = budget("GET", "/")
    assert page.status_code == 200
    assert f"Budgets of {SITE}" in page.text
    assert bills(budget, project) == ["a boat"]


def test_its_settings_are_no_one_elses(hosts):
    place = hosts[HOST].check_output("find /etc/gunicorn/ihatemoney -name ihatemoney.cfg")
    file = hosts[HOST].file(place)
    assert (file.user, file.group, file.mode) == ("root", "ihatemoney", 0o640)


def test_nginx_has_the_static_files_of_its_package(budget, hosts, eventually):
    answer = budget("GET", "/static/css/main.css")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/css"
    place = "/srv/ihatemoney/current/venv/lib/python3*/site-packages/ihatemoney/static/css/main.css"
    assert answer.text == hosts[HOST].run(f"cat {place}").stdout
    [line] = eventually(
        lambda: [line for line in access_log(hosts[HOST]) if line["uri"] == "/static/css/main.css"], seconds=3
    )
    assert line["upstream_addr"] == ""


def test_a_service_and_a_timer_work_beside_it(hosts, project, eventually):
    host = hosts[HOST]
    eventually(lambda: f"Budgets of {SITE}" in host.run("curl -sS http://127.0.0.1:8099/").stdout)
    assert host.run("systemctl is-enabled ihatemoney-count.timer").stdout.strip() == "enabled"
    host.check_output("systemctl start ihatemoney-count.service")
    said = host.check_output("journalctl --unit=ihatemoney-count.service --output=cat")
    assert "Number of projects: 1" in said


def test_upgrades_and_a_rollback_keep_the_data(playbook, hosts, budget, project, request_loop):
    assert installed(hosts) == VERSIONS[0]
    with request_loop(lambda: budget("GET", "/"), pause=PAUSE_S) as visitor:
        for version in VERSIONS[1:]:
            upgrade = playbook(PROJECT / "playbooks/deploy.yml", **requirement(version))
            assert upgrade.code == 0, upgrade.output
            assert installed(hosts) == version
            assert bills(budget, project) == ["a boat"]
        back = playbook(PROJECT / "playbooks/rollback.yml")
        assert back.code == 0, back.output
        assert installed(hosts) == VERSIONS[1]
        visitor.wait_for_answers(10)
    visitor.report("two upgrades and a rollback of a published application")
    assert visitor.failed == []
    assert bills(budget, project) == ["a boat"]


@pytest.fixture(scope="module")
def grown(typed):
    """Return a function that runs a playbook with the inventory of stage 3, for a version of the application."""

    def run(name: str, version: str = VERSIONS[1]):
        # Without a space: the words are separated by these.
        variables = json.dumps(requirement(version), separators=(",", ":"))
        done = typed(f"ansible-playbook {GROWN} playbooks/{name}.yml --extra-vars {variables}")
        assert done.code == 0, done.output
        return done

    return run


def test_it_grows_to_stage_3_under_a_writer(grown, hosts, budget, project, request_loop, eventually):
    """The old server goes on, and what it has acknowledged is there afterwards.

    Its MySQL starts once more, to become a source. This application learns of a connection that is gone by using it.
    """
    written = ["a boat"]

    def write():
        number = len(tried)
        tried.append(number)
        written.append(pay(budget, project, f"bill {number}"))
        return budget("GET", "/")

    tried: list[int] = []
    with request_loop(write, pause=PAUSE_S) as writer:
        grown("3-scale_up")
        writer.wait_for_answers(5)
    writer.report("growing from stage 0 to stage 3, writing to the old server")
    assert writer.longest_gap < within(30)
    assert installed(hosts, NEW_HOST) == VERSIONS[1]
    assert f"Budgets of {SITE}" in budget("GET", "/", address=VIP).text
    assert budget("GET", "/static/css/main.css", address=VIP).headers["Content-Type"] == "text/css"
    eventually(lambda: set(written) <= set(bills(budget, project, address=VIP)))
    if SOAK:
        assert grown("3-scale_up").changed == 0


def test_it_is_upgraded_and_rolled_back_on_stage_3(grown, hosts, budget, project, request_loop):
    before = bills(budget, project, address=VIP)
    with request_loop(lambda: budget("GET", "/", address=VIP), pause=PAUSE_S) as visitor:
        grown("deploy", VERSIONS[2])
        assert installed(hosts, NEW_HOST) == VERSIONS[2]
        pay(budget, project, "written after the upgrade", address=VIP)
        grown("rollback", VERSIONS[2])
        assert installed(hosts, NEW_HOST) == VERSIONS[1]
        visitor.wait_for_answers(10)
    visitor.report("an upgrade and a rollback of a published application on stage 3")
    assert visitor.failed == []
    assert sorted(bills(budget, project, address=VIP)) == sorted([*before, "written after the upgrade"])


def test_the_old_server_retires_and_keeps_the_data(grown, hosts, budget, project, root):
    """And the account by which its application came through the socket is no more."""
    account = "SELECT COUNT(*) FROM mysql.user WHERE user = 'i_hate_money' AND host = 'localhost'"
    assert root(HOST, account) == "1"
    kept = bills(budget, project, address=VIP)
    grown("retire")
    with pytest.raises(requests.ConnectionError):
        budget("GET", "/")
    assert hosts[HOST].run("systemctl is-active nginx ihatemoney.socket mysql").stdout.split() == [
        "inactive",
        "inactive",
        "active",
    ]
    assert root(HOST, account) == "0"
    assert bills(budget, project, address=VIP) == kept
    # From now on it belongs to its owner.
    hosts[HOST].check_output("touch /etc/nginx/conf.d/own.conf")
    assert grown("retire").changed == 0
