"""Two servers behind a balancer, as visitors, the operator and accidents meet them."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest
from helpers.load import within
from helpers.run import PROJECT, SOAK, note_figure
from helpers.writer import Growing

PLAYBOOK = PROJECT / "playbooks/1-distributed_web_infrastructure.yml"
SERVERS = ["foobar-server1", "foobar-server2"]
TIERS = ["guestbook.socket guestbook.service", "nginx"]


@pytest.fixture
def served_by(get, url):
    """Return a function that counts which servers answer so many requests."""

    def count(number: int) -> Counter:
        pages = [get(f"{url}/").text for _ in range(number)]
        return Counter(re.search(r"foobar-server\d", page)[0] for page in pages)

    return count


def test_what_stage_0_had_stored_is_in_both_databases(root, get, url):
    query = "SELECT COUNT(*) FROM guestbook.entries WHERE author = 'stage 0'"
    for server in SERVERS:
        assert root(server, query) == "3"
    assert "written before there was a second server" in get(f"{url}/").text


def test_the_database_went_on_taking_writes_while_it_got_a_replica(docker, root, eventually):
    grown = Growing(docker, SERVERS[0])
    note_figure(f"growing under a writer, degrade: longest gap {grown.gap:.1f} s, {len(grown.acknowledged)} writes")
    for name in SERVERS:
        eventually(lambda name=name: not grown.missing(root, name), 10)
    # One restart, and no wait for a replica that is still to come.
    assert grown.gap < 30


def test_both_servers_answer_in_turn(served_by, whole):
    whole()
    assert set(served_by(20).values()) == {10}


def test_a_write_is_read_on_both_servers(sign, stored, eventually):
    entry = sign("written once")
    eventually(lambda: all(stored(entry) for _ in range(6)))


def test_a_forged_client_address_is_dropped(get, url):
    page = get(url, headers={"X-Forwarded-For": "203.0.113.66", "X-Served-By-Balancer": "forged-balancer"}).text
    assert "203.0.113.66" not in page
    assert "forged-balancer" not in page


def test_cookies_of_a_single_sign_on_pass_all_programs(get, url):
    """15 kB in one header, as they come: HAProxy, nginx and gunicorn have to take them alike."""
    cookies = "; ".join(f"session_{number}={'x' * 1000}" for number in range(15))
    assert len(cookies) > 15000
    assert get(f"{url}/api/entries", headers={"Cookie": cookies}).status_code == 200
    assert get(f"{url}/api/entries", headers={"Cookie": cookies * 3}).status_code == 400


@pytest.mark.parametrize("arguments", ["", " --check --diff"])
def test_the_playbook_as_typed_changes_nothing(runs_without_a_change, arguments, whole):
    whole()
    stage = "1-distributed_web_infrastructure"
    runs_without_a_change(
        f"ansible-playbook -i inventories/{stage} -i inventories/local playbooks/{stage}.yml{arguments}"
    )


# Each tier on a server of its own; in the long form, both on each.
STOPPED = list(zip(SERVERS, TIERS, strict=True)) if not SOAK else list(itertools.product(SERVERS, TIERS))


@pytest.mark.parametrize(("server", "service"), STOPPED)
def test_visitors_do_not_notice_that_a_service_is_stopped(service, server, hosts, request_loop, get, url, whole):
    whole()
    with request_loop(lambda: get(f"{url}/")) as loop:
        hosts[server].check_output(f"systemctl stop {service}")
        loop.wait_for_answers(60)
        hosts[server].check_output(f"systemctl start {service}")
        whole()
        loop.wait_for_answers(20)
    loop.report(f"{service} of {server} stopped")
    # Until its checks have failed, a stopped application answers what nginx makes of that.
    assert loop.longest_gap < within(3)


@pytest.mark.parametrize("role", ["replica", "source"])
def test_reads_go_on_while_a_database_is_stopped(
    role, hosts, source, request_loop, get, url, sign, stored, whole, eventually
):
    whole()
    before = source()
    server = before if role == "source" else next(server for server in SERVERS if server != before)
    with request_loop(lambda: get(f"{url}/")) as loop:
        hosts[server].check_output("systemctl stop mysql")
        loop.wait_for_answers(150)
        hosts[server].check_output("systemctl start mysql")
        whole()
    loop.report(f"MySQL of the {role} ({server}) stopped and started, reading")
    assert loop.longest_gap < within(5)
    assert source() == before
    entry = sign("after a database was stopped")
    # The replica has to find its source again.
    eventually(lambda: stored(entry))


@pytest.mark.parametrize("server", SERVERS)
def test_a_reboot_of_a_server_is_survived(
    server, docker, source, request_loop, get, url, sign, stored, whole, eventually
):
    whole()
    before = source()
    with request_loop(lambda: get(f"{url}/")) as loop:
        docker("restart", "--time", "20", server)
        whole()
        loop.wait_for_answers(20)
    loop.report(f"reboot of {server}, {'the source' if server == before else 'a replica'}, reading")
    assert loop.longest_gap < within(5)
    assert source() == before
    entry = sign("after a reboot")
    eventually(lambda: stored(entry))


def test_active_passive_is_one_variable(playbook, served_by, whole, hosts, eventually):
    whole()
    try:
        run = playbook(PLAYBOOK, "--tags=loadbalancers", site_balance="active-passive")
        assert run.code == 0, run.output
        assert served_by(20) == {SERVERS[0]: 20}
        hosts[SERVERS[0]].check_output("systemctl stop nginx")
        eventually(lambda: served_by(4) == {SERVERS[1]: 4})
    finally:
        hosts[SERVERS[0]].check_output("systemctl start nginx")
        assert playbook(PLAYBOOK, "--tags=loadbalancers").code == 0
    whole()
    assert set(served_by(20).values()) == {10}


def test_mistakes_are_reported_together_before_any_host_is_touched(playbook, get, url):
    wrong = {"site_database_read_port": 3306, "site_balance": "random", "site_replication_password": "short"}
    run = playbook(PLAYBOOK, **wrong)
    assert run.code != 0
    assert [name for name in wrong if name not in run.output] == []
    assert "TASK [foobar.web_infrastructure.mysql_replication" not in run.output
    assert get(f"{url}/").status_code == 200
