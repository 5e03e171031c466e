"""The boundary between the members and their neighbours in the network: whoever has no reason to ask gets no answer."""

from __future__ import annotations

import re
import subprocess
import time

import pytest
import requests
from helpers.run import note_figure

ONE, TWO, THREE = "foobar-mysql2", "foobar-mysql3", "foobar-mysql4"
# Another address on the network card of a member, which nobody has listed.
STRANGER = "198.18.0.127"
UNITS = {"mysql_replication_guard.service": 1.5, "mysql_replication_check.service": 1.5}

# Asks a role check from an address: a status, or "closed". One that neither answers nor closes is an error.
ASK = """
import http.client, sys
source, address = sys.argv[1:]
line = http.client.HTTPConnection(address, 9200, timeout=5, source_address=(source, 0))
try:
    line.request("GET", "/any")
    print(line.getresponse().status)
except (ConnectionError, http.client.BadStatusLine):
    print("closed")
"""
# Opens so many connections at a time, and again and again, until it is ended.
FLOOD = """
import socket, sys
source, address, number = sys.argv[1:]
while True:
    lines = []
    for _ in range(int(number)):
        try:
            lines.append(socket.create_connection((address, 9200), timeout=5, source_address=(source, 0)))
        except OSError:
            pass
"""


@pytest.fixture(scope="module")
def stranger(docker, addresses):
    """The address of a neighbour who is nobody's client, on the host of a member."""
    # A network that was cut off and joined again is another card.
    card = docker("exec", TWO, "ip", "-oneline", "address", "show", "to", addresses[TWO]).split()[1]
    docker("exec", TWO, "ip", "address", "add", f"{STRANGER}/32", "dev", card)
    yield STRANGER
    docker("exec", TWO, "ip", "address", "delete", f"{STRANGER}/32", "dev", card)


@pytest.fixture
def asked_from(docker, addresses):
    """Return a function that asks the role check of a member from an address of another one."""
    return lambda source, name=ONE: docker("exec", TWO, "python3", "-c", ASK, source, addresses[name])


@pytest.fixture
def asked(addresses):
    """Return a function that asks the role check of a member from here, which the inventory lists."""
    # Longer than a flood: who comes meanwhile may have to knock again.
    return lambda name=ONE: requests.get(f"http://{addresses[name]}:9200/any", timeout=30).status_code


@pytest.fixture
def processes(docker):
    """Return a function that gives the processes of MySQL, guard and check of a member."""
    units = ("mysql.service", *UNITS)
    return lambda name=ONE: [docker("exec", name, "systemctl", "show", "-P", "MainPID", unit) for unit in units]


@pytest.fixture
def lines(docker):
    """Return a function that gives what a member has said of strangers since a time."""
    said = "journalctl --identifier=mysql_replication --output=cat --quiet --since=@{:.0f}"
    command = f"{said} | grep 'connections closed' || true"
    return lambda since, name=ONE: docker("exec", name, "sh", "-c", command.format(since)).splitlines()


def test_a_neighbour_gets_no_answer_and_those_who_have_to_ask_get_theirs(
    asked, asked_from, stranger, addresses, docker
):
    for name in (ONE, TWO, THREE):
        assert asked_from(stranger, name) == "closed", name
        assert asked_from(addresses[TWO], name) == "200", name
        assert asked(name) == 200, name
    assert docker("exec", ONE, "python3", "-c", ASK, addresses[ONE], addresses[ONE]) == "200"


def test_a_neighbour_who_asks_without_an_end_costs_nothing_and_is_a_line_in_the_journal(
    asked, stranger, addresses, docker, processes, lines, eventually
):
    start, before = time.time(), processes()
    flood = ["docker", "exec", TWO, "timeout", "20", "python3", "-c", FLOOD, stranger, addresses[ONE], "1000"]
    with subprocess.Popen(flood) as neighbour:
        times = []
        while neighbour.poll() is None:
            begin = time.monotonic()
            assert asked() == 200
            times.append(time.monotonic() - begin)
            time.sleep(0.1)
    # One in a minute, and the last one may be of a moment ago.
    said = eventually(lambda: lines(start), 70)
    # Containers have no account of memory.
    status = docker("exec", ONE, "cat", f"/proc/{before[-1]}/status")
    threads, memory_kb = (int(re.search(rf"^{name}:\s+(\d+)", status, re.M)[1]) for name in ("Threads", "VmRSS"))
    note_figure(
        f"role check beside a neighbour who opens connections without an end: worst answer {max(times) * 1000:.0f} ms "
        f"(n={len(times)}), {threads} threads, {memory_kb >> 10} MB; {said[-1]}"
    )
    assert all(f"the last from {stranger}, which is neither" in line for line in said) and len(said) <= 2, said
    assert processes() == before
    assert threads <= 8 and memory_kb < 100 << 10


def test_a_neighbour_who_is_listed_is_answered_and_nothing_is_restarted(
    role, asked, asked_from, stranger, processes, eventually
):
    before = processes()
    done = role("mysql_replication", mysql_replication_check_clients=["198.18.0.1", "198.18.0.126/31"])
    assert done.code == 0, done.output
    eventually(lambda: (asked_from(stranger), asked()) == ("200", 200))
    done = role("mysql_replication")
    assert done.code == 0, done.output
    eventually(lambda: (asked_from(stranger), asked()) == ("closed", 200))
    assert processes() == before


@pytest.mark.parametrize("unit", UNITS)
def test_what_runs_all_the_time_may_do_little_else(docker, unit):
    said = docker("exec", ONE, "systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
    note_figure(said)
    assert float(said.split(":")[1].split()[0]) <= UNITS[unit], said
