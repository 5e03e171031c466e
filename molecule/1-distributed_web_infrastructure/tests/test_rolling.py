"""Deployments through the balancer and changes of the writing database: visitors read and write all the while.

FOOBAR_SOAK=1 makes ten deployments instead of one, and 20 reloads instead of 8.
"""

from __future__ import annotations

import json

import pytest
from helpers.load import within
from helpers.run import PROJECT, SOAK, add_release, note_figure
from helpers.web import load_page

SERVERS = ["foobar-server1", "foobar-server2"]
FAILOVER = PROJECT / "playbooks/mysql_failover.yml"
DEPLOYMENTS = 10 if SOAK else 1
RELOADS = 20 if SOAK else 8


@pytest.fixture
def releases(get, web, addresses):
    """Return a function that says which release each server runs."""
    return lambda: {server: get(f"{web.url(addresses[server])}/version").json()["release"] for server in SERVERS}


@pytest.fixture
def migrations(application, root, source):
    """Return a function that says how often the application has been told to migrate."""

    root(source(), "CREATE TABLE IF NOT EXISTS guestbook.migrations (at DATETIME(6)); DELETE FROM guestbook.migrations")
    path, mark = application / "guestbook/migrate.py", "    with locked(connection):\n"
    note = '        connection.exec_driver_sql("INSERT INTO migrations VALUES (NOW(6))")\n        connection.commit()\n'
    assert mark in path.read_text()
    path.write_text(path.read_text().replace(mark, mark + note))
    return lambda: int(root(source(), "SELECT COUNT(*) FROM guestbook.migrations"))


def test_nobody_notices_rolling_deployments(
    deploy, application, migrations, releases, request_loop, get, url, write, docker, whole, eventually
):
    whole()
    seconds, seen = [], {releases()[SERVERS[0]]}
    with request_loop(lambda: load_page(get, url)) as reader, request_loop(write) as writer:
        for number in range(DEPLOYMENTS):
            add_release(application, f"release {number}")
            run = deploy()
            assert run.code == 0, run.output
            assert run.changed, run.output
            seconds.append(run.seconds)
            live = releases()
            assert len(set(live.values())) == 1
            seen.add(live[SERVERS[0]])
        reader.wait_for_answers(20)
    reader.report(f"{DEPLOYMENTS} rolling deployments, reading a page and its style sheet")
    writer.report(f"{DEPLOYMENTS} rolling deployments, writing")
    note_figure(f"rolling deployment over two servers: {min(seconds):.1f} to {max(seconds):.1f} s")
    assert len(seen) == DEPLOYMENTS + 1
    assert migrations() == DEPLOYMENTS
    assert (reader.failed, writer.failed) == ([], [])
    eventually(lambda: write.stored_on_each(docker, SERVERS) == [sorted(write.ids)] * 2)
    again = deploy()
    assert (again.code, again.changed) == (0, 0), again.output


@pytest.mark.parametrize(("tier", "service"), [("loadbalancers", "haproxy"), ("webservers", "nginx")])
def test_nobody_notices_reloads(
    tier, service, worker, groups, addresses, site, hammered, write, docker, whole, eventually
):
    """With the programs that the roles use, in turn on each host of the tier."""
    whole()
    workers = {(name, worker(name, service)) for name in groups[tier]}
    load = {
        "post": "/api/entries",
        "body": lambda: json.dumps(write.entry()),
        "headers": {"Host": site["site_domain"], "Content-Type": "application/json"},
    }
    with hammered(f"{RELOADS} reloads of {service}", addresses["foobar-balancer1"], **load) as hammers:
        for number in range(RELOADS):
            name = groups[tier][number % len(groups[tier])]
            workers.add((name, worker(name, service, reload=True)))
    assert len(workers) == RELOADS + len(groups[tier])
    for hammer in hammers:
        assert hammer.answered > 50
        assert not hammer.failed
    eventually(lambda: write.stored_on_each(docker, SERVERS) == [sorted(write.ids)] * 2)


def test_a_bad_release_stops_the_roll_and_the_server_goes_on(
    deploy,
    application,
    releases,
    request_loop,
    get,
    url,
    states,
    whole,
):
    before = releases()
    views = application / "guestbook/views.py"
    views.write_text(
        views.read_text().replace(
            'LIMITS = {"author"', '@pages.before_request\ndef fail():\n    abort(500)\n\n\nLIMITS = {"author"'
        )
    )
    with request_loop(lambda: get(f"{url}/")) as visitor:
        run = deploy(gunicorn_flask_health_timeout=5)
        visitor.wait_for_answers(20)
    visitor.report("a rolling deployment of a release that answers 500")
    assert run.code != 0
    assert f"{SERVERS[1]}  " not in run.output.split("PLAY [Deploy the application")[1].split("PLAY RECAP")[0]
    assert visitor.failed == []
    assert releases() == before
    assert {states()[f"web/{server}"] for server in SERVERS} == {"UP"}


def test_a_server_that_an_interrupted_roll_left_out_comes_back(hosts, playbook, states, whole):
    hosts["foobar-balancer1"].check_output(f"/etc/haproxy/server drain web/{SERVERS[0]}")
    assert states()[f"web/{SERVERS[0]}"] == "DRAIN"
    run = playbook(PROJECT / "playbooks/deploy.yml")
    assert run.code == 0, run.output
    whole()


def test_writing_is_handed_over_without_loss(playbook, source, request_loop, write, docker, hosts, whole, eventually):
    whole()
    old = source()
    new = next(server for server in SERVERS if server != old)
    with request_loop(write) as writer:
        # The connections of the application stay with the old worker, which no longer asks who the source is.
        hosts["foobar-balancer1"].check_output("/etc/haproxy/reload")
        run = playbook(PROJECT / "playbooks/mysql_switchover.yml", mysql_switchover_to=new)
        assert run.code == 0, run.output
        writer.wait_for_answers(50)
    writer.report(f"switchover from {old} to {new}, writing")
    assert source() == new
    assert writer.longest_gap < within(5)
    eventually(lambda: set(write.acknowledged) <= set(write.stored_on_each(docker, SERVERS)[0]))
    for stored in write.stored_on_each(docker, SERVERS):
        assert len(stored) == len(set(stored))
    whole()


def test_a_restore_into_a_replica_is_refused(playbook, source):
    replica = next(server for server in SERVERS if server != source())
    wish = {"mysql_restore_hosts": replica, "mysql_restore_database": "guestbook"}
    run = playbook(PROJECT / "playbooks/mysql_restore.yml", **wish)
    assert run.code != 0 and "this server is a replica" in run.said


def test_a_dead_source_is_replaced_without_loss(
    playbook, source, request_loop, get, url, write, docker, hosts, whole, eventually, rejoin
):
    whole()
    old = source()
    new = next(server for server in SERVERS if server != old)
    with request_loop(write) as writer, request_loop(lambda: get(f"{url}/")) as reader:
        writer.wait_for_answers(50)
        hosts[old].check_output("systemctl mask --runtime --quiet mysql && systemctl kill --signal=KILL mysql")
        # The policy of the stage lets the source go on without a replica, so only a person can know.
        refused = playbook(FAILOVER)
        assert refused.code != 0 and f"mysql_failover_accept_loss={old}" in refused.said
        assert playbook(FAILOVER, "--check", mysql_failover_accept_loss=old).code == 0
        run = playbook(FAILOVER, mysql_failover_accept_loss=old)
        assert run.code == 0, run.output
        note_figure(f"failover, by hand: {run.seconds:.1f} s")
        writer.wait_for_answers(50)
    writer.report(f"kill -9 of the source's MySQL ({old}) and failover to {new}, writing")
    reader.report(f"kill -9 of the source's MySQL ({old}) and failover to {new}, reading")
    assert reader.longest_gap < within(5)
    acknowledged = set(write.acknowledged)
    assert acknowledged <= set(write.stored(docker, new))
    hosts[old].check_output("systemctl unmask --runtime --quiet mysql")
    rejoin(old)
    eventually(
        lambda: (
            acknowledged
            <= set(write.stored_on_each(docker, SERVERS)[0]) & set(write.stored_on_each(docker, SERVERS)[1])
        )
    )
    whole()
