"""Two balancers behind one address, each with one of the servers, as visitors, operators and accidents meet them."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import csv
import io
import re
import socket
import time

import pytest
import requests
from conftest import note_figure

VIP = "198.18.0.130"
ROLE = "haproxy_keepalived"
PAIR = ("foobar-ha1", "foobar-ha2")


def holders(docker) -> list[str]:
    """Who has the VIP, asked past the network, which may be down."""
    return [name for name in PAIR if f" {VIP}/" in docker("exec", name, "ip", "-4", "address", "show", "dev", "eth0")]


def states(host) -> dict[str, str]:
    """State of each server of the backend as one balancer sees it."""
    text = host.check_output("curl -sf 'http://127.0.0.1:8404/stats;csv'").removeprefix("# ")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["pxname"] == "servers"]
    return {row["svname"]: row["status"] for row in rows if row["svname"] in PAIR}


def entries(host) -> int:
    """How often keepalived changed its mind."""
    return int(host.check_output("journalctl -u keepalived -o cat | grep -c 'Entering .* STATE'"))


@pytest.fixture(scope="session")
def wait_until_whole(hosts, docker, eventually):
    """Return a function that waits for two balancers that see two servers, and one holder."""

    def wait() -> None:
        for host in hosts.values():
            eventually(lambda host=host: set(states(host).values()) == {"UP"}, seconds=40)
        eventually(lambda: len(holders(docker)) == 1)

    return wait


@pytest.fixture
def whole(wait_until_whole):
    """All is well before the test, and again after it."""
    wait_until_whole()
    yield
    wait_until_whole()


@pytest.fixture
def holder(docker, whole) -> str:
    return holders(docker)[0]


@pytest.fixture
def backup(holder) -> str:
    return next(name for name in PAIR if name != holder)


@pytest.fixture
def visitors(request_loop, get):
    """Return a context manager around an accident: visitors that open a connection each time, and that keep theirs."""

    @contextlib.contextmanager
    def run(address: str, what: str):
        session = requests.Session()
        with (
            request_loop(lambda: get(f"http://{address}/")) as new,
            request_loop(lambda: session.get(f"http://{address}/", timeout=5)) as kept,
            request_loop(lambda: requests.post(f"http://{address}/", data="x" * 2000, timeout=5)) as post,
        ):
            yield new, kept, post
            for loop in (new, kept, post):
                loop.wait_for_answers(20)
        for name, loop in (("new connections", new), ("kept connection", kept), ("POST", post)):
            loop.report(f"{what}, {name}")

    return run


# --- HAProxy


def test_requests_are_shared_out_exactly(whole):
    with requests.Session() as visitor:
        names = collections.Counter(visitor.get(f"http://{VIP}/", timeout=5).json()["name"] for _ in range(1000))
    note_figure(f"round robin, 1000 requests: {dict(names)}")
    assert names == dict.fromkeys(PAIR, 500)


def test_the_passive_server_gets_nothing_while_the_active_one_lives(docker, eventually, request_loop, whole):
    """The active one is killed, which refuses connections, and takes over again when it is back."""
    names = []

    def ask(seconds: float = 5) -> requests.Response:
        answer = requests.get(f"http://{VIP}:8083/", timeout=seconds)
        if answer.ok:
            names.append(answer.json()["name"])
        return answer

    with request_loop(ask) as loop:
        loop.wait_for_answers(300)
        assert set(names) == {"foobar-ha1"}
        start, before = time.monotonic(), len(names)
        docker("exec", "foobar-ha1", "systemctl", "kill", "--signal=KILL", "server")
        try:
            # A request that is refused is tried again after a second, so these do not wait for their answers.
            eventually(lambda: ask(0.1).json()["name"] == "foobar-ha2", pause=0.02)
            took = time.monotonic() - start
            loop.wait_for_answers(20)
        finally:
            docker("exec", "foobar-ha1", "systemctl", "restart", "server")
        eventually(lambda: names[-1] == "foobar-ha1", pause=0.02)
        loop.wait_for_answers(20)
    note_figure(f"active-passive: 0 of {before} requests on the passive server, takeover after {took:.2f} s")
    loop.report("active-passive, the active server is killed and comes back")
    assert not loop.failed
    # Check interval x fall + 0.5 s.
    assert took <= 0.5 * 2 + 0.5


def test_a_backend_follows_the_server_that_is_primary(hosts, get, eventually, whole):
    """As for the primary of a database: by a check on another port, and whoever is connected has to connect again."""
    hosts["foobar-ha1"].check_output("touch /run/primary")
    try:
        eventually(lambda: get(f"http://{VIP}:8084/").json()["name"] == "foobar-ha1")
        with socket.create_connection((VIP, 8084), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with connection.makefile("rb") as answer:
                while answer.readline().strip():
                    pass
                assert b"foobar-ha1" in answer.read1()
                start = time.monotonic()
                hosts["foobar-ha1"].check_output("rm /run/primary")
                hosts["foobar-ha2"].check_output("touch /run/primary")
                assert answer.read() == b""
            note_figure(f"a former primary's connection is ended after {time.monotonic() - start:.2f} s")
        eventually(lambda: get(f"http://{VIP}:8084/").json()["name"] == "foobar-ha2", pause=0.02)
        note_figure(f"the new primary has the requests after {time.monotonic() - start:.2f} s")
        assert time.monotonic() - start < 2
    finally:
        for host in hosts.values():
            host.check_output("rm -f /run/primary")


def test_a_flood_is_refused_at_once_while_others_are_served(get, whole):
    """Two servers that take two each, and four places to wait, for forty visitors."""

    def ask(_: int) -> tuple[int, float, str | None]:
        start = time.monotonic()
        answer = get(f"http://{VIP}:8085/slow/0.5")
        return answer.status_code, time.monotonic() - start, answer.headers.get("Retry-After")

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = pool.map(ask, range(40))
        assert get(f"http://{VIP}/").status_code == 200
        served, refused = [], []
        for status, seconds, again in answers:
            (served if status == 200 else refused).append(seconds)
            assert status == 200 or (status, again) == (503, "5")
    note_figure(
        f"40 visitors for 8 places: {len(served)} served within {max(served):.2f} s, "
        f"{len(refused)} refused within {max(refused):.2f} s"
    )
    # All threads of HAProxy look at the queue at the same time, so a few more than fit may get in.
    assert 8 <= len(served) <= 16
    assert max(refused) < 0.45
    assert get(f"http://{VIP}:8085/").status_code == 200
    assert get(f"http://{VIP}:8085/elsewhere").status_code == 200


def test_no_server_at_all_is_said_at_once(get, hosts, eventually, whole):
    for host in hosts.values():
        host.check_output("touch /run/sick")
    try:
        eventually(lambda: get(f"http://{VIP}/").status_code == 503)
        answer = get(f"http://{VIP}/")
        assert answer.text == "No server is free to answer at the moment. Please try again in a few seconds.\n"
        assert answer.headers["Retry-After"] == "5"
        assert answer.elapsed.total_seconds() < 0.5
    finally:
        for host in hosts.values():
            host.check_output("rm /run/sick")


def test_a_password_is_asked_for_and_kept(get, hosts, holder):
    assert get(f"http://{VIP}:8086/").status_code == 401
    assert get(f"http://{VIP}:8086/", auth=("jane", "wrong")).status_code == 401
    assert get(f"http://{VIP}:8086/", auth=("jane", "secret")).text == "hello"
    assert hosts[holder].file("/etc/haproxy/haproxy.cfg").mode == 0o640


def test_a_tcp_frontend_and_ipv6_answer(get, hosts, whole):
    assert get(f"http://{VIP}:8082/").json()["name"] in PAIR
    seen = get("http://[fd5a:f00b:a5::131]/").json()["headers"]
    assert seen["x-forwarded-for"] == "fd5a:f00b:a5::1"


FORGED = {
    "X-Forwarded-For": "203.0.113.66",
    "x-forwarded-proto": "forged",
    "X-Forwarded-Host": "forged.example",
    "X-Forwarded-Prefix": "/forged",
    "X_Forwarded_For": "203.0.113.66",
    "Forwarded": "for=203.0.113.66;proto=forged",
    "X-Real-IP": "203.0.113.66",
    "X-Request-ID": "forged",
    "X-Served-By-Balancer": "forged",
    "X-Served-By-Web": "forged",
}


def test_an_edge_frontend_believes_nothing(get, holder):
    answer = get(f"http://{VIP}/", headers=FORGED)
    assert "203.0.113.66" not in answer.text
    assert "forged" not in answer.text
    seen = answer.json()["headers"]
    assert seen["x-forwarded-for"] == "198.18.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == seen["host"] == "www.foobar.com"
    assert seen["x-served-by-balancer"] == holder
    assert len(seen["x-request-id"]) == 36


def test_a_trusted_frontend_passes_on_what_it_is_told(get, hosts, holder):
    told = {name: value for name, value in FORGED.items() if "_" not in name}
    seen = get(f"http://{VIP}:8080/", headers=told).json()["headers"]
    assert {name.lower(): value for name, value in told.items()}.items() <= seen.items()
    named = get(f"http://{VIP}:8080/").json()["headers"]["x-request-id"]
    assert len(named) == 36
    # The log names the request, so that it can be followed through the tiers.
    assert named in hosts[holder].check_output("journalctl -t haproxy -o cat -n 200")


def test_statistics_are_for_the_host_itself(hosts, holder):
    for host in hosts.values():
        assert "haproxy_server_status" in host.check_output("curl -sf http://127.0.0.1:8404/metrics")
        assert "Statistics Report" in host.check_output("curl -sf http://127.0.0.1:8404/stats")
        assert host.run("curl -sf http://127.0.0.1:8404/health").rc == 0
    for address in (VIP, "198.18.0.131"):
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{address}:8404/metrics", timeout=2)


SERVER = "/etc/haproxy/server"


def who_answers(get, number: int = 20) -> set[str]:
    return {get(f"http://{VIP}/").json()["name"] for _ in range(number)}


def test_a_drained_server_gets_nothing_until_it_is_ready(hosts, get, holder):
    """As a rolling update does it: over and over, over reloads, and nobody but root."""
    host = hosts[holder]
    assert "drained after" in host.check_output(f"{SERVER} drain servers/foobar-ha2")
    try:
        assert who_answers(get) == {"foobar-ha1"}
        assert "drained after" in host.check_output(f"{SERVER} drain servers/foobar-ha2")
        for _ in range(2):
            host.check_output("/etc/haproxy/reload")
            assert who_answers(get) == {"foobar-ha1"}
        shown = [line.split() for line in host.check_output(f"{SERVER} status").splitlines()]
        assert {line[0]: line[-3] for line in shown if line[0].startswith("servers/")} == {
            "servers/foobar-ha1": "no",
            "servers/foobar-ha2": "yes",
        }
    finally:
        assert "UP (L7OK" in host.check_output(f"{SERVER} ready servers/foobar-ha2")
    assert "UP (L7OK" in host.check_output(f"{SERVER} ready servers/foobar-ha2")
    assert who_answers(get) == set(PAIR)
    host.check_output("/etc/haproxy/reload")
    assert who_answers(get) == set(PAIR)
    denied = host.run(f"runuser -u keepalived_script -- python3 -B {SERVER} drain servers/foobar-ha1")
    assert denied.rc != 0
    assert "Permission denied" in denied.stderr


def test_a_drain_waits_for_what_is_under_way(hosts, get, holder):
    """Also for what a worker has under way that a reload has replaced. One that is killed leaves a server drained."""
    host, slow = hosts[holder], "curl -s -o /dev/null http://127.0.0.1:8085/slow/2"
    both = f"{SERVER} drain narrow/foobar-ha2 %s"
    try:
        said = host.check_output(f"{slow} & {slow} & sleep 0.1; {both % '--timeout 0'}; wait")
        assert "drained, 1 sessions left after 0.0 s" in said
        host.check_output(f"{SERVER} ready narrow/foobar-ha2")
        said = host.check_output(f"{slow} & {slow} & sleep 0.1; /etc/haproxy/reload; {both % ''}; wait")
        assert 0 < float(re.search(r"drained after (\S+) s", said)[1]) < 2
        host.check_output(f"{SERVER} ready narrow/foobar-ha2")
        killed = host.run(f"{slow} & {slow} & sleep 0.1; timeout --signal=KILL 0.2 {both % ''}; wait")
        assert "drained" not in killed.stdout
        assert "drained after 0.0 s" in host.check_output(both % "")
    finally:
        host.check_output(f"{SERVER} ready narrow/foobar-ha2")


def test_a_server_that_is_not_well_does_not_become_ready(hosts, eventually, holder):
    host = hosts[holder]
    host.check_output(f"{SERVER} drain servers/foobar-ha2")
    hosts["foobar-ha2"].check_output("touch /run/sick")
    try:
        eventually(lambda: re.search(r"servers/foobar-ha2 +DOWN", host.check_output(f"{SERVER} status")))
        failed = host.run(f"{SERVER} ready servers/foobar-ha2 --timeout 1")
        assert failed.rc == 1
        assert "servers/foobar-ha2: is DOWN (L7STS 500) after 1 s and gets no requests" in failed.stderr
        # It is down from the first moment on after a reload too.
        said = host.check_output(f"/etc/haproxy/reload; {SERVER} status")
        assert re.search(r"servers/foobar-ha2 +DOWN", said)
        last = host.run(f"{SERVER} drain servers/foobar-ha1 --keep 1")
        assert last.rc == 1
        assert "0 other servers are up, and 1 have to be" in last.stderr
    finally:
        hosts["foobar-ha2"].check_output("rm /run/sick")
    assert "UP" in host.check_output(f"{SERVER} ready servers/foobar-ha2 --timeout 10")
    unknown = host.run(f"{SERVER} drain servers/foobar-ha3")
    assert unknown.rc == 1
    assert "there is no server 'servers/foobar-ha3'; there are: servers/foobar-ha1" in unknown.stderr


def test_a_server_that_fails_its_check_leaves_and_returns(hosts, get, eventually, request_loop, whole):
    with request_loop(lambda: get(f"http://{VIP}/")) as loop:
        start = time.monotonic()
        hosts["foobar-ha2"].check_output("touch /run/sick")
        try:
            eventually(lambda: all(states(host)["foobar-ha2"] == "DOWN" for host in hosts.values()))
            note_figure(f"a sick server is out on both balancers after {time.monotonic() - start:.1f} s")
            assert {get(f"http://{VIP}/").json()["name"] for _ in range(20)} == {"foobar-ha1"}
        finally:
            hosts["foobar-ha2"].check_output("rm /run/sick")
        eventually(lambda: {get(f"http://{VIP}/").json()["name"] for _ in range(10)} == set(PAIR))
    loop.report("a server fails its check and recovers")
    assert not loop.failed


def test_a_server_that_dies_in_silence_costs_no_request(docker, hosts, eventually, visitors, holder, backup):
    """The cable is pulled: nobody refuses, nobody answers."""
    with visitors(VIP, "a server dies in silence") as loops:
        start = time.monotonic()
        docker("exec", backup, "ip", "link", "set", "eth0", "down")
        try:
            eventually(lambda: states(hosts[holder])[backup] == "DOWN", pause=0.05)
            out = time.monotonic() - start
        finally:
            docker("exec", backup, "ip", "link", "set", "eth0", "up")
            # What the engine had set up went with the link.
            docker("exec", backup, "ip", "route", "add", "default", "via", "198.18.0.1")
            docker(
                "exec",
                backup,
                "ip",
                "address",
                "add",
                f"fd5a:f00b:a5::{backup.replace('foobar-ha', '13')}/64",
                "dev",
                "eth0",
            )
    note_figure(f"a silent server is out after {out:.1f} s")
    assert out < 2.5
    for loop in loops:
        assert not loop.failed
        # 1 s until another server is tried, 3 s if the dead one had the request in hand.
        assert loop.longest_gap < 4


def test_a_request_is_sent_twice_only_if_that_is_the_same_as_once(get, addresses, whole):
    def dropped() -> collections.Counter:
        counts = [get(f"http://{address}:8000/dropped").json() for address in addresses.values()]
        return sum(map(collections.Counter, counts), collections.Counter())

    before = dropped()
    assert get(f"http://{VIP}/drop").status_code == 502
    assert requests.post(f"http://{VIP}/drop", data="x", timeout=5).status_code == 502
    assert dropped() - before == {"GET": 4, "POST": 1}


def test_reloads_are_not_noticed(hosts, holder, docker, hammered):
    worker = "pgrep --newest --parent $(systemctl show -P MainPID haproxy)"
    workers = [hosts[holder].check_output(worker)]
    with hammered("20 reloads", VIP) as hammers:
        for _ in range(20):
            workers.append(hosts[holder].check_output(f"/etc/haproxy/reload && {worker}"))
    assert len(set(workers)) == 21
    for hammer in hammers:
        assert hammer.answered > 100
        assert not hammer.failed
    assert holders(docker) == [holder]


def test_a_flood_on_one_frontend_leaves_the_others_and_the_address_alone(hosts, get, docker, holder):
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(contextlib.closing(socket.create_connection((VIP, 80), timeout=5)))
        for _ in range(4):
            assert get(f"http://{VIP}:8080/").status_code == 200
            assert hosts[holder].run("curl -sf -m 1 http://127.0.0.1:8404/health").rc == 0
            time.sleep(1)
        assert holders(docker) == [holder]


# --- keepalived


@pytest.mark.parametrize(
    ("accident", "repair", "seconds"),
    [
        ("systemctl stop haproxy", "systemctl start haproxy", 4),
        ("systemctl stop keepalived", "systemctl start keepalived", 1.5),
        # It leaves the address where it is, so that two hosts have it until systemd starts it again.
        ("pkill -KILL -x keepalived", "systemctl start keepalived", 3),
    ],
    ids=["haproxy stops", "keepalived stops", "keepalived is killed"],
)
def test_the_address_moves_and_stays(
    accident, repair, seconds, request, hosts, docker, get, eventually, holder, backup, request_loop
):
    with request_loop(lambda: requests.get(f"http://{VIP}/", timeout=1)) as loop:
        start = time.monotonic()
        hosts[holder].check_output(accident)
        eventually(lambda: holders(docker) == [backup], pause=0.05)
        moved = time.monotonic() - start
        loop.wait_for_answers(20)
        hosts[holder].check_output(repair)
        before = entries(hosts[backup])
        # Both would have agreed long ago.
        time.sleep(3)
        loop.wait_for_answers(20)
    loop.report(f"{request.node.callspec.id}, address moved after {moved:.1f} s")
    assert loop.longest_gap < seconds
    assert holders(docker) == [backup]
    assert entries(hosts[backup]) == before
    assert get(f"http://{VIP}/").json()["headers"]["x-served-by-balancer"] == backup


def test_an_haproxy_that_runs_and_answers_nothing_loses_the_address(docker, hosts, eventually, holder, backup):
    start = time.monotonic()
    hosts[holder].check_output("pkill -STOP -x haproxy")
    try:
        eventually(lambda: holders(docker) == [backup], pause=0.05)
        note_figure(f"haproxy hangs: address moved after {time.monotonic() - start:.1f} s")
    finally:
        hosts[holder].check_output("pkill -CONT -x haproxy")


def test_a_dead_balancer_is_replaced_and_comes_back_whole(
    docker, hosts, get, eventually, wait_until_whole, holder, backup, request_loop
):
    with request_loop(lambda: get(f"http://{VIP}/")) as loop:
        docker("kill", holder)
        loop.wait_for_answers(50)
        docker("start", holder)
        eventually(lambda: hosts[holder].run("systemctl is-system-running").stdout.strip() == "running", seconds=60)
        wait_until_whole()
        loop.wait_for_answers(20)
    loop.report("a balancer and the server on it die")
    assert loop.longest_gap < 3
    assert holders(docker) == [backup]
    for service in ("haproxy", "keepalived"):
        assert hosts[holder].service(service).is_running


def test_the_check_runs_as_nobody_in_particular(hosts, holder):
    for host in hosts.values():
        assert host.user("keepalived_script").shell == "/usr/sbin/nologin"
        assert host.file("/etc/keepalived/check_haproxy").user == "root"
        assert host.file("/etc/keepalived/check_haproxy").mode == 0o755
        assert host.run("runuser -u keepalived_script /etc/keepalived/check_haproxy").rc == 0
        assert "SECURITY VIOLATION" not in host.check_output("journalctl -u keepalived -o cat")


# --- the role


def test_changed_settings_move_nothing_and_fail_nothing(role, docker, hosts, holder, visitors, inventory):
    """Nor do they end a drain. A port is taken from the new settings, not from the old process."""
    before = {name: entries(host) for name, host in hosts.items()}
    backends = inventory["_meta"]["hostvars"]["foobar-ha1"]["haproxy_keepalived_backends"]
    moved = [{**one, "port": 9200} if one["name"] == "first" else one for one in backends]
    hosts[holder].check_output(f"{SERVER} drain first/foobar-ha1")
    settings = {"haproxy_keepalived_advert_interval": 0.4, "haproxy_keepalived_timeout_queue": "6s"}
    with visitors(VIP, "both configurations change on both balancers") as loops:
        run = role(ROLE, "--diff", **settings, haproxy_keepalived_backends=moved)
    assert run.code == 0, run.output
    assert run.recap("changed") == dict.fromkeys(PAIR, 2), run.output
    assert "$5$" not in run.output
    assert holders(docker) == [holder]
    assert {name: entries(host) for name, host in hosts.items()} == before
    for loop in loops:
        assert not loop.failed
    assert re.search(r"first/foobar-ha1 +DRAIN", hosts[holder].check_output(f"{SERVER} status"))
    answers = [requests.get(f"http://{VIP}:8083/", timeout=5).json() for _ in range(5)]
    assert {(answer["name"], answer["port"]) for answer in answers} == {("foobar-ha2", 9200)}
    hosts[holder].check_output(f"{SERVER} ready first/foobar-ha1")


MISTAKES = {
    "haproxy_keepalived_frontends": [
        {"name": "a", "port": 80, "default_backend": "missing"},
        {"name": "b", "port": 80, "default_backend": "empty"},
        {"name": "c", "port": 8404, "default_backend": "empty"},
    ],
    "haproxy_keepalived_backends": [{"name": "empty", "servers": {}, "port": 70000}],
    "haproxy_keepalived_peers": {"other1": VIP, "other2": "198.18.0.132"},
    "haproxy_keepalived_router_id": 256,
    "haproxy_keepalived_vip_prefix": 33,
    "haproxy_keepalived_advert_interval": 0.001,
}
COMPLAINTS = [
    "haproxy_keepalived_frontends, 'a': the default_backend 'missing' is not among",
    "haproxy_keepalived_frontends: 0.0.0.0:80 is listened on twice",
    "haproxy_keepalived_stats_port: 8404 is the port of a frontend too",
    "haproxy_keepalived_backends, 'empty': has no servers",
    "haproxy_keepalived_backends, 'empty': port: 70000 is no port",
    f"haproxy_keepalived_vip: {VIP} is the address of the balancer 'other1'",
    "haproxy_keepalived_peers: 'foobar-ha1' itself is missing",
    "haproxy_keepalived_router_id: 256 is out of range",
    "haproxy_keepalived_vip_prefix: 33 is no length of a prefix",
    "haproxy_keepalived_advert_interval: 0.001 is out of range",
]


MORE_MISTAKES = {
    "haproxy_keepalived_frontends": [
        {"name": "a", "port": 80, "default_backend": "web", "routes": [{"condition": "TRUE", "backend": "nowhere"}]},
        {"name": "a", "port": 81, "default_backend": "db"},
        {"name": "b", "port": 82, "mode": "tcp", "trusted": True, "maxconn": 0, "default_backend": "db"},
        {"name": "c", "port": 83, "mode": "tcp", "default_backend": "db", "extra": ["http-request deny"]},
        {"name": "stats", "port": 84, "default_backend": "web", "extra": ["use_backend raw if TRUE"]},
        {"name": "a name", "port": 85, "default_backend": "web"},
    ],
    "haproxy_keepalived_backends": [
        {"name": "web", "servers": {"web1": "198.18.0.21", "web2": "198.18.0.21"}, "port": 80, "maxqueue": 5},
        {
            "name": "db",
            "mode": "tcp",
            "balance": "active-passive",
            "servers": {"db 1": "198.18.0.41"},
            "port": 3306,
            "maxconn": -1,
            "check": {"path": "primary", "fall": 0},
            "extra": ["option httpchk", "option forwardfor"],
        },
        {"name": "raw", "servers": {"web1": "198.18.0.21"}, "port": 80},
        {"name": "lonely", "servers": {"web1": "198.18.0.21"}, "port": 80},
    ],
    "haproxy_keepalived_listens": [{"name": "web", "port": 80, "lines": []}, {"name": "d", "port": 0, "lines": []}],
    "haproxy_keepalived_userlists": [{"name": "u", "users": [{"name": "jane", "password": "letmein"}]}] * 2,
}
MORE_COMPLAINTS = [
    "haproxy_keepalived_frontends, 'a': the routes 'nowhere' is not among haproxy_keepalived_backends",
    "haproxy_keepalived_frontends, 'a': has mode http, and its backend 'db' has mode tcp",
    "haproxy_keepalived_frontends, 'b': trusted is about headers",
    "haproxy_keepalived_frontends, 'b': maxconn: 0 lets nobody in",
    "haproxy_keepalived_frontends, 'c': the extra line 'http-request deny' is for mode http",
    "haproxy_keepalived_frontends, 'd': port: 0 is no port",
    "haproxy_keepalived_frontends: the name 'a' is taken twice",
    "haproxy_keepalived_frontends: the name 'stats' is taken twice (the role itself has one)",
    "haproxy_keepalived_frontends: 'a name' is no name",
    "haproxy_keepalived_frontends: 0.0.0.0:80 is listened on twice",
    "haproxy_keepalived_backends, 'web': 198.18.0.21 is the address of two servers",
    "haproxy_keepalived_backends, 'web': maxqueue without maxconn",
    "haproxy_keepalived_backends, 'db': has balance active-passive and one server",
    "haproxy_keepalived_backends, 'db': maxconn and maxqueue cannot be negative",
    "haproxy_keepalived_backends, 'db': check.fall: 0 is too small",
    "haproxy_keepalived_backends, 'db': check.path: 'primary' is no path",
    "haproxy_keepalived_backends, 'db': the extra line 'option forwardfor' is for mode http",
    "haproxy_keepalived_backends, 'lonely': no frontend leads to it",
    "haproxy_keepalived_backends: 'db 1' is no name of a server",
    "haproxy_keepalived_backends: the name 'web' is taken twice",
    "haproxy_keepalived_userlists: the name 'u' is taken twice",
    "haproxy_keepalived_userlists: the password of 'jane' is no hash",
]


@pytest.mark.parametrize(
    ("mistakes", "complaints"), [(MISTAKES, COMPLAINTS), (MORE_MISTAKES, MORE_COMPLAINTS)], ids=["some", "more"]
)
def test_contradictions_are_named_together(mistakes, complaints, role):
    run = role(ROLE, "--limit=foobar-ha1", **mistakes)
    assert run.recap("changed") == {"foobar-ha1": 0}
    assert [complaint for complaint in complaints if complaint not in run.output] == []
    # What is right is not complained of, and a secret is not shown.
    for right in ("'raw': no frontend", "httpchk", "letmein"):
        assert right not in run.output


@pytest.mark.parametrize(
    ("peers", "complaint"),
    [
        ({"foobar-ha1": "198.18.0.131"}, "has 1 balancers, and a shared address takes two"),
        (
            {"foobar-ha1": "198.18.0.199", "foobar-ha2": "198.18.0.132"},
            "no interface of 'foobar-ha1' has the address 198.18.0.199",
        ),
    ],
    ids=["alone", "foreign address"],
)
def test_wrong_peers_are_refused(role, peers, complaint):
    run = role(ROLE, "--limit=foobar-ha1", haproxy_keepalived_peers=peers)
    assert run.recap("changed") == {"foobar-ha1": 0}
    assert complaint in run.output


@pytest.mark.parametrize("variable", ["haproxy_keepalived_global_extra", "haproxy_keepalived_vrrp_extra"])
def test_what_a_product_refuses_never_gets_to_it(variable, role, hosts, visitors, docker, holder):
    before = {name: entries(host) for name, host in hosts.items()}
    with visitors(VIP, f"nonsense in {variable}") as loops:
        run = role(ROLE, **{variable: ["nonsense 42"]})
    assert run.recap("failed") == dict.fromkeys(PAIR, 1), run.output
    assert "the running one is untouched" in run.output
    assert "nonsense" in run.output.partition("It said:")[2]
    assert holders(docker) == [holder]
    assert {name: entries(host) for name, host in hosts.items()} == before
    for loop in loops:
        assert not loop.failed
    for host in hosts.values():
        assert host.run("grep -r nonsense /etc/haproxy /etc/keepalived").rc == 1


def test_a_port_of_somebody_else_is_not_passed_over(role, hosts, inventory, get, visitors, whole):
    """Seen before the reload where the role knows of the port, and by its outcome where only a raw line does."""
    listen = "systemd-run --quiet --unit=other python3 -m http.server %d"
    hosts["foobar-ha1"].check_output(listen % 9001)
    hosts["foobar-ha2"].check_output(listen % 9002)
    frontends = inventory["_meta"]["hostvars"]["foobar-ha1"]["haproxy_keepalived_frontends"]
    new = {"name": "new", "port": 9001, "default_backend": "servers", "extra": ["bind 0.0.0.0:9002"]}
    try:
        with visitors("198.18.0.131", "a port is taken") as loops:
            run = role(ROLE, haproxy_keepalived_frontends=[*frontends, new])
    finally:
        for host in hosts.values():
            host.run("systemctl stop other")
    assert run.recap("failed") == dict.fromkeys(PAIR, 1), run.output
    known, unknown = sorted(run.output.split("fatal: ")[1:])
    assert "cannot listen on 0.0.0.0:9001: another program does" in known
    assert "python3" in known
    assert "the old one is back in place and applied" in unknown
    assert "Address already in use" in unknown
    for loop in loops:
        assert not loop.failed
    for address in ("198.18.0.131", "198.18.0.132"):
        assert get(f"http://{address}/").status_code == 200


def test_an_address_that_is_no_longer_shared_is_given_up(role, hosts, docker, get, addresses):
    check = role(ROLE, "--check", haproxy_keepalived_vip="")
    assert check.recap("changed") == dict.fromkeys(PAIR, 1), check.output
    run = role(ROLE, haproxy_keepalived_vip="")
    assert run.recap("changed") == dict.fromkeys(PAIR, 1), run.output
    assert holders(docker) == []
    for name, host in hosts.items():
        assert not host.service("keepalived").is_running
        assert not host.service("keepalived").is_enabled
        left = set(host.check_output("ls -A /etc/keepalived").split())
        assert not left & {"keepalived.conf", "check_haproxy", ".config_tree.json"}
        assert get(f"http://{addresses[name]}/").status_code == 200


def test_a_good_run_heals_what_was_done_to_the_hosts(role, hosts, docker, wait_until_whole, get):
    hosts["foobar-ha1"].check_output("systemctl mask --now haproxy")
    hosts["foobar-ha2"].check_output("systemctl disable --now haproxy")
    hosts["foobar-ha2"].check_output("rm -r /etc/haproxy/haproxy.cfg")
    run = role(ROLE)
    assert run.code == 0, run.output
    wait_until_whole()
    for host in hosts.values():
        for service in ("haproxy", "keepalived"):
            assert host.service(service).is_running
            assert host.service(service).is_enabled
    assert get(f"http://{VIP}/").status_code == 200
    again = role(ROLE, "--check", "--diff")
    assert again.recap("changed") == dict.fromkeys(PAIR, 0), again.output
    note_figure(f"unchanged run: {again.seconds:.1f} s, tasks {again.recap('ok')}")
