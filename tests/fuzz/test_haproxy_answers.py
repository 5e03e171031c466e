"""What HAProxy says of itself: a worker that was taken over may say anything, and is told in one sentence."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from unittest import mock

import pytest
import reload
import runtime
import server
from hypothesis import given
from hypothesis import strategies as st

WORKER = 1342
LISTING = (
    f"#<PID> <type> <reloads> <uptime> <version>\n5 master 3 [failed: 0] 0d 3.0\n# workers\n{WORKER} worker 0 0d 3.0\n"
)
NAMES = st.text("abAB01_.:-", min_size=1, max_size=6)
FIELDS = ("pxname", "svname", "qcur", "scur", "status", "check_status", "check_code")
STATUS = st.sampled_from(["UP", "DOWN", "no check", "MAINT", "UP 1/3", "DRAIN", "NOLB"])
# What parts fields and lines, for HAProxy or for Python alone.
NOISE = st.text("ab1,\"'# \t\r\n\0\x0b\x0c\x1c\x85\u2028\u00b2\u0663-/=", max_size=40)
JUNK = st.one_of(
    NOISE,
    st.text(max_size=40),
    NOISE.map(lambda text: f"# {','.join(FIELDS)}\n{text}"),
    st.lists(st.sampled_from(["1", "a", "-", "0x8", "8", "\u00b2", "", "9" * 5000]), max_size=25).map(
        lambda words: "1\n# be_id\n" + " ".join(words) + "\n"
    ),
)
ROWS = st.dictionaries(
    st.tuples(NAMES, NAMES), st.tuples(st.integers(0, 9), st.integers(0, 9), STATUS), min_size=1, max_size=4
)


def stat_of(rows: Mapping[tuple[str, str], tuple[int, int, str]]) -> str:
    lines = [f"{proxy},{name},{queue},{now},{status},L7OK,200," for (proxy, name), (queue, now, status) in rows.items()]
    return "\n".join([f"# {','.join(FIELDS)},", *lines, ""])


def states_of(servers: Mapping[tuple[str, str], tuple[int, int]]) -> str:
    lines = [
        f"3 {proxy} 1 {name} 198.18.0.21 2 {admin} 1 1 99 15 3 4 {check} 0 0 0 - 80 - 0 0 - - 0"
        for (proxy, name), (admin, check) in servers.items()
    ]
    return "\n".join(["1", "# be_id be_name srv_id srv_name srv_addr", *lines, ""])


@given(ROWS)
def test_rows_are_read_as_they_were_written(rows):
    found = runtime.parse_stat(stat_of(rows))
    assert found.keys() == {f"{proxy}/{name}" for proxy, name in rows}
    for (proxy, name), (queue, now, status) in rows.items():
        row = found[f"{proxy}/{name}"]
        assert (row["qcur"], row["scur"], row["status"]) == (str(queue), str(now), status)


@given(st.dictionaries(st.tuples(NAMES, NAMES), st.tuples(st.integers(0, 63), st.integers(0, 15)), max_size=4))
def test_states_are_read_as_they_were_written(servers):
    text = states_of(servers)
    assert server.find_drained(text) == {f"{p}/{n}" for (p, n), (admin, _check) in servers.items() if admin & 0x18}
    sent = {f"{p}/{n}": bool(check & 4) for (p, n), (_admin, check) in servers.items() if check & 2}
    assert server.find_checks(text) == sent


@given(st.lists(st.integers(1, 2**22), unique=True), st.lists(st.integers(1, 2**22), unique=True))
def test_workers_are_found(present, replaced):
    old = "".join(f"{pid} worker 2 0d 3.0\n" for pid in replaced)
    new = "".join(f"{pid} worker 0 0d 3.0\n" for pid in present)
    assert runtime.find_workers(f"#<PID>\n1 master 0 0d\n# workers\n{new}# old workers\n{old}# programs\n") == (
        present,
        replaced,
    )


@given(JUNK)
def test_another_answer_is_read_or_told(text):
    for read in (runtime.find_workers, runtime.parse_stat, server.find_drained, server.find_checks):
        with contextlib.suppress(runtime.Unreadable):
            read(text)


def asked(listing: str, stat: str, states: str, refusal: str):
    """A master process and its worker, that say this."""

    def send(command: str) -> str:
        if command == "show proc":
            return listing
        return stat if "show stat" in command else states if "show servers state" in command else refusal

    return send


COMMANDS = st.sampled_from(
    [
        ["status"],
        ["drain", "web/web1", "--timeout=0", "--json"],
        ["drain", "web/web1", "--timeout=0", "--keep=1"],
        ["hold", "web/web1"],
        ["ready", "web/web1", "--timeout=0"],
        ["available", "web", "--timeout=0"],
    ]
)
GOOD_STAT = stat_of({("web", "web1"): (0, 0, "UP"), ("web", "web2"): (1, 2, "DOWN")})
GOOD_STATES = states_of({("web", "web1"): (0, 6), ("web", "web2"): (8, 2)})


@given(
    COMMANDS,
    st.one_of(st.just(LISTING), JUNK),
    st.one_of(st.just(GOOD_STAT), JUNK),
    st.one_of(st.just(GOOD_STATES), JUNK),
    st.one_of(st.just("\n"), JUNK),
)
def test_a_command_ends_well_or_with_a_sentence(command, listing, stat, states, refusal):
    with (
        mock.patch.object(runtime, "send", asked(listing, stat, states, refusal)),
        mock.patch.object(runtime, "locked", contextlib.nullcontext),
        mock.patch.object(server, "RETRY_S", 0),
        mock.patch.object(server, "POLL_INTERVAL_S", 0),
        contextlib.redirect_stdout(None),
    ):
        try:
            server.main(command)
        except SystemExit as end:
            assert isinstance(end.code, str) and end.code


@given(st.one_of(st.just(LISTING), JUNK, JUNK.map(LISTING.__add__)))
def test_a_master_is_read_or_none(listing):
    with mock.patch.object(runtime, "send", lambda _command: listing):
        found = reload.read_master()
    assert found is None or (found.reloads >= 0 and found.failed >= 0)


@given(
    st.dictionaries(st.tuples(NAMES, NAMES), st.tuples(st.integers(0, 63), st.integers(0, 15)), max_size=3),
    st.dictionaries(st.tuples(NAMES, NAMES), st.integers(1, 65535).map(str), max_size=3),
    JUNK,
)
def test_states_for_the_next_process_name_its_servers_alone(servers, ports, junk):
    ports = {**ports, **dict.fromkeys(servers, "81")}
    lines = reload.translate_states(states_of(servers) + junk, ports).split("\n")
    assert (lines[0], lines[-1]) == ("1", "")
    for line in lines[1:-1]:
        fields = line.split(" ")
        assert len(fields) == reload.USE_SSL
        assert fields[reload.ADDRESS] == "-"
        assert fields[reload.PORT] == ports[tuple(fields[reload.NAMES])]
    kept = [tuple(line.split(" ")[reload.NAMES]) for line in lines[1:-1]]
    assert set(servers) <= set(kept)


@given(JUNK)
def test_the_states_of_a_worker_are_lines_of_the_first_version(states):
    head, *lines = reload.translate_states(f"1\n{states}", {("a", "b"): "80"}).split("\n")
    assert head == "1"
    assert all(len(line.split(" ")) == reload.USE_SSL for line in lines[:-1])


@given(NOISE, st.dictionaries(st.tuples(NAMES, NAMES), st.integers(1, 65535), max_size=4))
def test_ports_of_a_configuration_are_found(noise, servers):
    config = "".join(
        f"backend {proxy}\n  mode http\n  server {name} 198.18.0.21:{port} check\n"
        for (proxy, name), port in servers.items()
    )
    assert reload.find_ports(f"global\n{config}") == {key: str(port) for key, port in servers.items()}
    assert all(port.isdecimal() for port in reload.find_ports(noise).values())


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """A socket of the master process."""
    path = str(tmp_path_factory.mktemp("haproxy") / "master.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        with mock.patch.object(runtime, "MASTER", path):
            yield listener


@given(st.binary(max_size=200))
def test_bytes_of_an_answer_are_a_text(master, answer):
    sent = []

    def answer_it(*_about: object) -> None:
        """When the question has ended, as HAProxy does."""
        connection, _ = master.accept()
        with connection:
            connection.sendall(answer)
            sent.append(connection.recv(100))

    with mock.patch.object(socket.socket, "shutdown", answer_it):
        assert runtime.send("show proc") == answer.decode(errors="replace")
    assert sent == [b"show proc\n"]
