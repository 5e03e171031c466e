"""Two balancers behind one address, each with one of the servers, as visitors, operators and accidents meet them.

A third host balances for itself alone, on loopback. FOOBAR_SOAK=1 moves the address more often.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import csv
import io
import json
import re
import socket
import time

import jinja2
import pytest
import requests
import yaml
from helpers.load import within
from helpers.run import PROJECT, SOAK, note_figure

VIP = "198.18.0.130"
ROLE = "haproxy_keepalived"
PAIR = ("foobar-ha1", "foobar-ha2")
ALONE = "foobar-ha3"


@pytest.fixture(scope="session")
def alone(hosts):
    """The host that has neither a shared address nor a frontend for others."""
    return hosts[ALONE]


@pytest.fixture(scope="session")
def pair(hosts) -> dict:
    """The two balancers."""
    return {name: hosts[name] for name in PAIR}


@pytest.fixture
def role(role):
    """Return a function that applies a role to the two balancers, unless the call limits it to another host."""
    return lambda name, *arguments, **variables: role(name, "--limit=balancers", *arguments, **variables)


def holders(docker) -> list[str]:
    """Names of the containers that have the VIP, read without the network, which may be down."""
    return [name for name in PAIR if f" {VIP}/" in docker("exec", name, "ip", "-4", "address", "show", "dev", "eth0")]


def states(host) -> dict[str, str]:
    """State of each server of the backend as one balancer sees it."""
    text = host.check_output("curl -sf 'http://127.0.0.1:8404/stats;csv'").removeprefix("# ")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["pxname"] == "servers"]
    return {row["svname"]: row["status"] for row in rows if row["svname"] in PAIR}


def count_transitions(host) -> int:
    """How often keepalived has changed its state."""
    return int(host.check_output("journalctl -u keepalived -o cat | grep -c 'Entering .* STATE'"))


def log_of(host, pattern: str, since: float) -> float | None:
    """When HAProxy has first logged a line like this since a time."""
    lines = host.check_output(f"journalctl -u haproxy -o short-unix --quiet --since=@{since:.6f}").splitlines()
    return next((float(line.split()[0]) for line in lines if re.search(pattern, line)), None)


@pytest.fixture(scope="session")
def wait_until_whole(pair, docker, eventually):
    """Return a function that waits for two balancers that see two servers, and one holder."""

    def wait() -> None:
        for host in pair.values():
            eventually(lambda host=host: set(states(host).values()) == {"UP"}, seconds=40)
        eventually(lambda: len(holders(docker)) == 1)

    return wait


@pytest.fixture
def whole(wait_until_whole):
    """All servers are up and one balancer has the address, before the test and again after it."""
    wait_until_whole()
    yield
    wait_until_whole()


@pytest.fixture
def holder(docker, whole) -> str:
    return holders(docker)[0]


@pytest.fixture
def backup(holder) -> str:
    return next(name for name in PAIR if name != holder)


@pytest.fixture(scope="session")
def killed():
    """Return a function that returns what the watchdog has killed since a time, each line with its time in front."""

    def read(host, since: float) -> list[str]:
        command = f"journalctl -u haproxy-watchdog -o short-unix --quiet --since=@{since:.6f}"
        return [line for line in host.check_output(command).splitlines() if line.endswith("killed")]

    return read


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
    assert took <= within(0.5 * 2 + 0.5)


def test_a_backend_follows_the_server_that_is_primary(hosts, pair, get, eventually, whole):
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
        assert time.monotonic() - start < within(2)
    finally:
        for host in pair.values():
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
    assert max(refused) < within(0.45)
    assert get(f"http://{VIP}:8085/").status_code == 200
    assert get(f"http://{VIP}:8085/elsewhere").status_code == 200


def test_without_a_server_503_comes_at_once(get, pair, eventually, whole):
    for host in pair.values():
        host.check_output("touch /run/sick")
    try:
        eventually(lambda: get(f"http://{VIP}/").status_code == 503)
        answer = get(f"http://{VIP}/")
        assert answer.text == "No server is free to answer at the moment. Please try again in a few seconds.\n"
        assert answer.headers["Retry-After"] == "5"
        assert answer.elapsed.total_seconds() < within(0.5)
    finally:
        for host in pair.values():
            host.check_output("rm /run/sick")


def test_a_listen_with_a_password_needs_it(get, hosts, holder):
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


def test_an_edge_frontend_drops_forwarded_headers(get, holder):
    answer = get(f"http://{VIP}/", headers=FORGED)
    assert "203.0.113.66" not in answer.text
    assert "forged" not in answer.text
    seen = answer.json()["headers"]
    assert seen["x-forwarded-for"] == "198.18.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == seen["host"] == "www.foobar.com"
    assert seen["x-served-by-balancer"] == holder
    assert len(seen["x-request-id"]) == 36


def test_a_trusted_frontend_passes_forwarded_headers_on(get, hosts, holder):
    told = {name: value for name, value in FORGED.items() if "_" not in name}
    seen = get(f"http://{VIP}:8080/", headers=told).json()["headers"]
    assert {name.lower(): value for name, value in told.items()}.items() <= seen.items()
    named = get(f"http://{VIP}:8080/").json()["headers"]["x-request-id"]
    assert len(named) == 36
    # The log names the request, so that it can be followed through the tiers.
    assert named in hosts[holder].check_output("journalctl -t haproxy -o cat -n 200")


def test_statistics_are_for_the_host_itself(pair, holder):
    for host in pair.values():
        assert "haproxy_server_status" in host.check_output("curl -sf http://127.0.0.1:8404/metrics")
        assert "Statistics Report" in host.check_output("curl -sf http://127.0.0.1:8404/stats")
        assert host.run("curl -sf http://127.0.0.1:8404/health").rc == 0
    for address in (VIP, "198.18.0.131"):
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{address}:8404/metrics", timeout=2)


def test_wired_entries_stay_beside_the_operators(get, addresses):
    """www and inner are wired, the others are the operator's. Of the two called replaced, the operator's is there."""
    for port in (80, 8080, 8082, 8083, 8085, 8088):
        assert get(f"http://{addresses['foobar-ha1']}:{port}/").status_code == 200
    with pytest.raises(requests.ConnectionError):
        get(f"http://{addresses['foobar-ha1']}:8087/")


def test_the_watchdog_may_do_little_else(alone):
    exposure = alone.check_output("systemd-analyze security --no-pager haproxy-watchdog.service | tail -n 1")
    assert float(exposure.split(":")[1].split()[0]) <= 1.7, exposure


def test_published_names_exist(hosts):
    text = (PROJECT / "roles/haproxy_keepalived/vars/published.yml").read_text()
    published = yaml.safe_load(jinja2.Template(text).render())["haproxy_keepalived_published"]
    for name, host in hosts.items():
        for path in (published["server_command"], published["reload_command"][0]):
            assert host.file(path).mode & 0o100
        directory = host.file(published["certificates"]["directory"])
        assert directory.is_directory
        assert directory.user == published["certificates"]["owner"]
        assert host.file(published["config_directory"]).is_directory
        for key in ("metrics_url", "statistics_url", "health_url"):
            assert host.run(f"curl -sf -o /dev/null '{published[key]}'").rc == 0
        for unit in published["units"] + (published["vip_units"] if name in PAIR else []):
            assert host.service(unit).is_running
            assert host.service(unit).is_enabled


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


def test_a_held_server_keeps_its_requests_until_it_is_ready(hosts, get, holder, eventually):
    """Whatever its check would say: the other balancer, which goes on asking, is the proof that it would."""
    other = next(name for name in PAIR if name != holder)

    def state(name: str) -> str:
        return re.search(r"servers/foobar-ha2 +(\S+)", hosts[name].check_output(f"{SERVER} status"))[1]

    assert "held" in hosts[holder].check_output(f"{SERVER} hold servers/foobar-ha2")
    hosts["foobar-ha2"].check_output("touch /run/sick")
    try:
        eventually(lambda: state(other) == "DOWN")
        assert state(holder) == "no" and who_answers(get) == set(PAIR)
        hosts[holder].check_output("/etc/haproxy/reload")
        assert state(holder) == "no" and who_answers(get) == set(PAIR)
        hosts[holder].check_output(f"{SERVER} ready servers/foobar-ha2")
        eventually(lambda: state(holder) == "DOWN")
    finally:
        hosts["foobar-ha2"].check_output("rm /run/sick")
    for name in PAIR:
        assert "UP (L7OK" in hosts[name].check_output(f"{SERVER} ready servers/foobar-ha2")


def test_a_server_that_fails_its_check_leaves_and_returns(hosts, pair, get, eventually, request_loop, whole):
    with request_loop(lambda: get(f"http://{VIP}/")) as loop:
        start = time.monotonic()
        hosts["foobar-ha2"].check_output("touch /run/sick")
        try:
            eventually(lambda: all(states(host)["foobar-ha2"] == "DOWN" for host in pair.values()))
            note_figure(f"a sick server is out on both balancers after {time.monotonic() - start:.1f} s")
            assert {get(f"http://{VIP}/").json()["name"] for _ in range(20)} == {"foobar-ha1"}
        finally:
            hosts["foobar-ha2"].check_output("rm /run/sick")
        eventually(lambda: {get(f"http://{VIP}/").json()["name"] for _ in range(10)} == set(PAIR))
    loop.report("a server fails its check and recovers")
    assert not loop.failed


def test_a_server_that_dies_in_silence_costs_no_request(docker, hosts, eventually, visitors, holder, backup):
    """Its link is down: connections are neither refused nor answered."""
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
        assert loop.longest_gap < within(4)


def test_a_request_is_sent_twice_only_if_that_is_the_same_as_once(get, addresses, whole):
    def dropped() -> collections.Counter:
        counts = [get(f"http://{addresses[name]}:8000/dropped").json() for name in PAIR]
        return sum(map(collections.Counter, counts), collections.Counter())

    before = dropped()
    assert get(f"http://{VIP}/drop").status_code == 502
    assert requests.post(f"http://{VIP}/drop", data="x", timeout=5).status_code == 502
    assert dropped() - before == {"GET": 4, "POST": 1}


def test_reloads_are_not_noticed(worker, holder, docker, hammered):
    workers = [worker(holder, "haproxy")]
    with hammered("20 reloads", VIP) as hammers:
        for _ in range(20):
            workers.append(worker(holder, "haproxy", reload=True))
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
        before = count_transitions(hosts[backup])
        # Longer than any election takes.
        time.sleep(3)
        loop.wait_for_answers(20)
    loop.report(f"{request.node.callspec.id}, address moved after {moved:.1f} s")
    assert loop.longest_gap < within(seconds)
    assert holders(docker) == [backup]
    assert count_transitions(hosts[backup]) == before
    assert get(f"http://{VIP}/").json()["headers"]["x-served-by-balancer"] == backup


# All threads of the present worker; the master process as well, as pkill does it.
HANGS = {
    "worker": "kill -STOP $(pgrep --newest --exact --uid haproxy haproxy)",
    "master and worker": "pkill -STOP -x haproxy",
}


@pytest.mark.parametrize("hang", HANGS)
@pytest.mark.parametrize("where", ["the holder of the address", "the other balancer"])
def test_a_hung_haproxy_is_restarted(
    hang, where, docker, hosts, addresses, holder, backup, request_loop, worker, killed
):
    """Visitors wait for less than 2 s. The address stays where it is, unless HAProxy takes long to start."""
    name = holder if where == "the holder of the address" else backup
    host, address = hosts[name], VIP if name == holder else addresses[name]
    before, hung, elsewhere = (
        count_transitions(host),
        worker(name, "haproxy"),
        VIP if name == backup else addresses[backup],
    )
    with (
        request_loop(lambda: requests.get(f"http://{address}/", timeout=5)) as loop,
        request_loop(lambda: requests.get(f"http://{elsewhere}/", timeout=5)) as other,
    ):
        start = time.time()
        docker("exec", name, "sh", "-c", HANGS[hang])
        loop.wait_for_answers(50)
        lines = killed(host, start)
    assert re.fullmatch(rf"\S+ .*HAProxy's worker {hung} is stopped and has not answered for \S+ s: killed", lines[0])
    ended = float(lines[0].split()[0])
    noticed, restarted = ended - start, log_of(host, "Started haproxy.service", start) - ended
    loop.report(
        f"{where}: HAProxy hangs ({hang}), noticed after {noticed:.1f} s, up again after {restarted:.1f} s more"
    )
    other.report(f"{where}: HAProxy hangs ({hang}), visitors of the other balancer")
    assert len(lines) == 1
    assert worker(name, "haproxy") != hung
    assert noticed < 2
    # The goal is 2 s. A busy machine starts HAProxy more slowly.
    assert loop.longest_gap < within(3)
    assert not other.failed
    if restarted < 0.7:
        assert holders(docker) == [holder]
        assert count_transitions(host) == before


def test_an_haproxy_that_hangs_for_good_loses_the_address(docker, hosts, eventually, holder, backup):
    hosts[holder].check_output("systemctl stop haproxy-watchdog")
    start = time.monotonic()
    hosts[holder].check_output("pkill -STOP -x haproxy")
    try:
        eventually(lambda: holders(docker) == [backup], pause=0.05)
        note_figure(f"haproxy hangs and nobody restarts it: address moved after {time.monotonic() - start:.1f} s")
        assert time.monotonic() - start < 5
    finally:
        hosts[holder].check_output("pkill -CONT -x haproxy")
        hosts[holder].check_output("systemctl start haproxy-watchdog")


def test_a_busy_haproxy_is_not_killed(docker, hosts, addresses, get, holder, hammered, worker, killed):
    """Its host has no CPU time to spare, and its frontends and sockets as many connections as they take."""
    host, start = hosts[holder], time.time()
    working, address = worker(holder, "haproxy"), addresses[holder]
    docker(
        "exec",
        "--detach",
        holder,
        "timeout",
        "8",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6; do while :; do :; done & done; wait",
    )
    idle = "import socket, time; all = [socket.socket(socket.AF_UNIX) for _ in range(40)]; "
    idle += "[one.connect('/run/haproxy/admin.sock') for one in all]; time.sleep(8)"
    docker("exec", "--detach", holder, "timeout", "8", "python3", "-c", idle)
    with contextlib.ExitStack() as stack:
        for _ in range(380):
            stack.enter_context(contextlib.closing(socket.create_connection((address, 80), timeout=5)))
        with hammered("a host without CPU time to spare", f"{address}:8080"):
            time.sleep(8)
    assert worker(holder, "haproxy") == working
    assert killed(host, start) == []
    assert holders(docker) == [holder]
    assert get(f"http://{VIP}/").status_code == 200


def test_starts_stops_and_reloads_are_left_alone(hosts, backup, killed):
    host, start = hosts[backup], time.time()
    for command in ("systemctl restart haproxy", "systemctl reload haproxy", "systemctl stop haproxy"):
        host.check_output(command)
        time.sleep(1)
    host.check_output("systemctl start haproxy")
    assert killed(host, start) == []


def test_planned_moves_lose_only_what_is_under_way(docker, hosts, eventually, visitors, whole):
    """As before maintenance: keepalived is stopped on the holder and started again."""
    moves = 12 if SOAK else 3
    with visitors(VIP, f"{moves} planned moves") as loops:
        for _ in range(moves):
            holder = holders(docker)[0]
            hosts[holder].check_output("systemctl stop keepalived")
            eventually(lambda holder=holder: holders(docker) not in ([], [holder]), pause=0.02)
            hosts[holder].check_output("systemctl start keepalived")
            loops[0].wait_for_answers(20)
    for loop in loops:
        # Each visitor has one request under way, and may send the next one on a connection that is gone.
        assert len(loop.failed) <= 2 * moves
        # A packet that opens a connection and is lost is sent again after a second.
        assert loop.longest_gap < within(2)


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
    assert loop.longest_gap < within(3)
    assert holders(docker) == [backup]
    for service in ("haproxy", "keepalived"):
        assert hosts[holder].service(service).is_running


def test_keepalived_check_runs_unprivileged(pair, holder):
    for host in pair.values():
        assert host.user("keepalived_script").shell == "/usr/sbin/nologin"
        assert host.file("/etc/haproxy/check_haproxy").user == "root"
        assert host.file("/etc/haproxy/check_haproxy").mode == 0o755
        assert host.run("runuser -u keepalived_script /etc/haproxy/check_haproxy").rc == 0
        assert "SECURITY VIOLATION" not in host.check_output("journalctl -u keepalived -o cat")


# --- a host that balances for itself


def test_a_host_without_a_shared_address_has_no_keepalived(alone, addresses):
    assert not alone.package("keepalived").is_installed
    assert alone.run("getent passwd keepalived_script").rc != 0
    listened = alone.check_output("ss -Hltn").splitlines()
    assert {line.split()[3] for line in listened} >= {"127.0.0.1:3306", "127.0.0.1:3307", "127.0.0.1:8404"}
    assert (
        "haproxy_process_max_connections 2100\n" in alone.check_output("curl -sf http://127.0.0.1:8404/metrics") + "\n"
    )
    assert not [line for line in listened if re.search(r" (0\.0\.0\.0|\[::\]|\*):(3306|3307|8404) ", line)]
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{addresses[ALONE]}:3306/", timeout=2)


def test_a_switchover_is_noticed_within_a_check_interval(alone, docker, eventually, pair):
    """The write backend of an application's host, with an interval of 200 ms."""

    def switch(former: str, new: str) -> float:
        docker("exec", former, "rm", "-f", "/run/primary")
        docker("exec", new, "touch", "/run/primary")
        return time.time()

    times = []
    try:
        switch("foobar-ha2", "foobar-ha1")
        ask = "curl -sf -m 1 http://127.0.0.1:3306/"
        eventually(lambda: "foobar-ha1" in alone.run(ask).stdout)
        for former, new in [PAIR, PAIR[::-1]] * (5 if SOAK else 2):
            start = switch(former, new)
            seen = [
                eventually(lambda line=line, start=start: log_of(alone, line, start - 0.3), pause=0.1)
                for line in (f"Server write/{former} is DOWN", f"Server write/{new} is UP")
            ]
            assert new in alone.check_output(ask)
            times.append(max(seen) - start)
    finally:
        for name in PAIR:
            docker("exec", name, "rm", "-f", "/run/primary")
    note_figure(f"switchover seen by the host of an application after {', '.join(f'{one:.2f}' for one in times)} s")
    assert max(times) < 0.5


def test_a_failed_connection_hastens_the_check(alone, docker, hosts, eventually):
    """A server that dies is out long before its interval of a second has passed twice, if somebody connects to it."""
    ask = "while :; do curl -s -o /dev/null -m 3 http://127.0.0.1:3307/; sleep 0.05; done"
    docker("exec", "--detach", ALONE, "timeout", "5", "sh", "-c", ask)
    time.sleep(0.5)
    start = time.time()
    docker("exec", "foobar-ha1", "systemctl", "kill", "--signal=KILL", "server")
    try:
        down = eventually(lambda: log_of(alone, "Server read/foobar-ha1 is DOWN", start), pause=0.1)
        note_figure(f"interval 1000, fastinter 100: a dead server is out after {down - start:.2f} s under traffic")
        assert down - start < 1
    finally:
        docker("exec", "foobar-ha1", "systemctl", "restart", "server")


def test_an_unchanged_run_sends_few_commands(role, alone, addresses, tmp_path, monkeypatch):
    record = tmp_path / "executions"
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", str(PROJECT / "tools/bench.d"))
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "executions")
    monkeypatch.setenv("FOOBAR_EXECUTIONS", str(record))
    run = role(ROLE, "--limit=all")
    assert run.recap("changed") == dict.fromkeys([*PAIR, ALONE], 0), run.output
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    sent = collections.Counter(row["host"] for row in rows if row["what"] == "execution" and not row["local"])
    counts = {name: sent[addresses[name]] for name in [*PAIR, ALONE]}
    note_figure(f"unchanged run: commands sent to the hosts, facts included {counts}")
    assert counts[ALONE] <= 4
    assert max(counts.values()) <= 8


# --- the role


def test_changed_settings_move_nothing_and_fail_nothing(role, docker, hosts, pair, holder, visitors, inventory):
    """Nor do they end a drain. A port is taken from the new settings, not from the old process."""
    before = {name: count_transitions(host) for name, host in pair.items()}
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
    assert {name: count_transitions(host) for name, host in pair.items()} == before
    for loop in loops:
        assert not loop.failed
    assert re.search(r"first/foobar-ha1 +DRAIN", hosts[holder].check_output(f"{SERVER} status"))
    answers = [requests.get(f"http://{VIP}:8083/", timeout=5).json() for _ in range(5)]
    assert {(answer["name"], answer["port"]) for answer in answers} == {("foobar-ha2", 9200)}
    hosts[holder].check_output(f"{SERVER} ready first/foobar-ha1")


def test_contradictions_are_reported_together(role):
    """Every rule is tested without a host; here they are run by the role, with its facts, before anything changes."""
    peers = {"foobar-ha1": "198.18.0.199", "foobar-ha2": "198.18.0.132"}
    frontends = [{"name": "a", "port": 80, "default_backend": "missing"}]
    users = [{"name": "u", "users": [{"name": "jane", "password": "letmein"}]}]
    run = role(
        ROLE,
        "--limit=foobar-ha1",
        haproxy_keepalived_peers=peers,
        haproxy_keepalived_frontends=frontends,
        haproxy_keepalived_userlists=users,
    )
    assert run.recap("changed") == {"foobar-ha1": 0}
    for complaint in (
        "haproxy_keepalived_frontends, 'a' (on foobar-ha1): the default_backend 'missing' is not among",
        "haproxy_keepalived_frontends (on foobar-ha1): 0.0.0.0:80 is listened on twice",
        "haproxy_keepalived_userlists (on foobar-ha1): the password of 'jane' is no hash",
        "haproxy_keepalived_peers (on foobar-ha1): no interface of 'foobar-ha1' has the address 198.18.0.199",
    ):
        assert complaint in run.output
    assert "letmein" not in run.output


@pytest.mark.parametrize("variable", ["haproxy_keepalived_global_extra", "haproxy_keepalived_vrrp_extra"])
def test_a_configuration_that_a_product_refuses_is_not_applied(variable, role, pair, visitors, docker, holder):
    before = {name: count_transitions(host) for name, host in pair.items()}
    with visitors(VIP, f"nonsense in {variable}") as loops:
        run = role(ROLE, **{variable: ["nonsense 42"]})
    assert run.recap("failed") == dict.fromkeys(PAIR, 1), run.output
    assert "the running one is untouched" in run.output
    assert "nonsense" in run.output.partition("It said:")[2]
    assert holders(docker) == [holder]
    assert {name: count_transitions(host) for name, host in pair.items()} == before
    for loop in loops:
        assert not loop.failed
    for host in pair.values():
        assert host.run("grep -r nonsense /etc/haproxy /etc/keepalived").rc == 1


def test_a_port_in_use_is_refused(role, hosts, pair, inventory, get, visitors, whole):
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
        for host in pair.values():
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


def test_an_address_that_is_no_longer_shared_is_given_up(role, pair, docker, get, addresses):
    check = role(ROLE, "--check", haproxy_keepalived_vip="")
    assert check.recap("changed") == dict.fromkeys(PAIR, 1), check.output
    run = role(ROLE, haproxy_keepalived_vip="")
    assert run.recap("changed") == dict.fromkeys(PAIR, 1), run.output
    assert holders(docker) == []
    for name, host in pair.items():
        assert not host.service("keepalived").is_running
        assert not host.service("keepalived").is_enabled
        left = set(host.check_output("ls -A /etc/keepalived /etc/haproxy").split())
        assert not left & {"keepalived.conf", "check_haproxy"}
        assert host.run("test -e /etc/keepalived/.config_tree.json").rc == 1
        assert get(f"http://{addresses[name]}/").status_code == 200


def test_the_address_may_be_ipv6(role, pair, addresses, docker, eventually, get):
    """Over IPv6 addresses of the balancers; the number of the virtual router is computed."""
    peers = {name: addresses[name].replace("198.18.0.", "fd5a:f00b:a5::") for name in PAIR}
    vip = {"haproxy_keepalived_vip": "fd5a:f00b:a5::130", "haproxy_keepalived_vip_prefix": 64}
    run = role(ROLE, haproxy_keepalived_peers=peers, **vip)
    assert run.code == 0, run.output
    eventually(lambda: get("http://[fd5a:f00b:a5::130]:8086/", auth=("jane", "secret")).text == "hello")
    shown = [host.check_output("ip -6 address show dev eth0") for host in pair.values()]
    assert sum("fd5a:f00b:a5::130/" in text for text in shown) == 1
    assert "virtual_router_id 48" in pair["foobar-ha1"].check_output("cat /etc/keepalived/keepalived.conf")


def test_a_run_repairs_what_was_masked_disabled_or_deleted(role, hosts, pair, docker, wait_until_whole, get):
    hosts["foobar-ha1"].check_output("systemctl mask --now haproxy")
    hosts["foobar-ha2"].check_output("systemctl disable --now haproxy")
    hosts["foobar-ha2"].check_output("rm -r /etc/haproxy/haproxy.cfg")
    hosts["foobar-ha2"].check_output("systemctl disable --now haproxy-watchdog")
    run = role(ROLE)
    assert run.code == 0, run.output
    wait_until_whole()
    for host in pair.values():
        for service in ("haproxy", "haproxy-watchdog", "keepalived"):
            assert host.service(service).is_running
            assert host.service(service).is_enabled
    assert get(f"http://{VIP}/").status_code == 200
    again = role(ROLE, "--check", "--diff")
    assert again.recap("changed") == dict.fromkeys(PAIR, 0), again.output
    note_figure(f"unchanged run: {again.seconds:.1f} s, tasks {again.recap('ok')}")
