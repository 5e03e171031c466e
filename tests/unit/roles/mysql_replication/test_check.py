"""The role check: what a member answers, from which memory, and over which HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from unittest import mock

import pytest
from mysql_replication import check
from mysql_replication.admission import Admission, parse_network


def channel(**changes) -> dict:
    return {
        "Source_Host": "192.0.2.1",
        "Replica_IO_Running": "Yes",
        "Replica_SQL_Running": "Yes",
        "Last_IO_Error": "",
        "Last_SQL_Error": "",
        "Seconds_Behind_Source": 0,
    } | changes


@pytest.mark.parametrize(
    ("read_only", "channel", "answers"),
    [
        (False, None, (True, False, True)),
        (True, None, (False, False, False)),
        (True, channel(), (False, True, True)),
        (False, channel(), (False, False, False)),
        (True, channel(Seconds_Behind_Source=10), (False, True, True)),
        (True, channel(Seconds_Behind_Source=11), (False, False, False)),
        (True, channel(Seconds_Behind_Source=None), (False, False, False)),
        (True, channel(Replica_IO_Running="Connecting"), (False, False, False)),
        (True, channel(Replica_SQL_Running="No"), (False, False, False)),
    ],
)
def test_a_member_is_what_it_answers(read_only, channel, answers):
    paths = ("/source", "/replica", "/readable")
    assert tuple(check.decide(path, read_only, lambda: channel, 10)[0] for path in paths) == answers
    assert check.decide("/any", read_only, lambda: channel, 10)[0]


def test_a_closed_source_says_so_while_its_channel_is_being_changed():
    def keeps_waiting():
        pytest.fail("asked for the channel, and would wait until it is changed")

    assert check.decide("/source", True, keeps_waiting, 10) == (False, "closed for writing")


def test_a_refusal_says_why():
    def why(path, read_only, channel):
        return check.decide(path, read_only, lambda: channel, 10)[1]

    assert why("/source", False, channel()) == "replica of 192.0.2.1, although it is writable"
    assert why("/replica", True, channel(Seconds_Behind_Source=60)) == "60 s behind its source, more than 10 s"
    broken = channel(Replica_SQL_Running="No", Last_SQL_Error="duplicate key")
    assert why("/readable", True, broken) == "Replica_SQL_Running is No: duplicate key"


# --- from memory


def question(row: dict | None, age: float = 0.0, problem: str = "") -> check.Question:
    asked = check.Question("")
    asked.answer = (time.monotonic() - age, row)
    asked.problem = problem
    return asked


def admission(*listed: str) -> Admission:
    """Of those that are listed; of everybody where none is."""
    made = Admission()
    made.networks = tuple(map(parse_network, listed)) or None
    return made


def role_check(read_only: check.Question, channel: check.Question) -> check.RoleCheck:
    made = check.RoleCheck(10)
    made.read_only, made.channel = read_only, channel
    return made


OPEN, CLOSED = {"read_only": 0}, {"read_only": 1}
LATE, HUNG = check.MAX_AGE_S + 0.05, check.PATIENCE_S + 0.1


def test_a_yes_is_never_older_than_a_tenth_of_a_second():
    assert check.MAX_AGE_S == 0.1
    assert role_check(question(OPEN), question(None)).answer("/source") == (True, "source")
    for stale in (
        role_check(question(OPEN, LATE), question(None)),
        role_check(question(OPEN), question(None, LATE)),
    ):
        assert stale.answer("/source") is None
        assert stale.answer("/readable") is None


def test_a_no_needs_no_fresh_answer():
    late = role_check(question(CLOSED, LATE), question(None, LATE))
    assert late.answer("/source") == (False, "closed for writing when MySQL answered last")


def test_a_closed_source_says_so_while_its_channel_is_not_answered():
    blocked = role_check(question(CLOSED), question(None, HUNG))
    assert blocked.answer("/source") == (False, "closed for writing")
    assert blocked.answer("/any") == (True, "may be behind")


@pytest.mark.parametrize("path", check.PATHS)
def test_a_server_that_hangs_is_said_not_to_answer(path):
    good, why = role_check(question(OPEN, HUNG), question(None, HUNG)).answer(path)
    assert not good
    assert why.startswith("MySQL does not answer")


@pytest.mark.parametrize("path", check.PATHS)
def test_a_server_that_is_down_is_said_to_be_without_waiting(path):
    down = role_check(question(OPEN, LATE, "no such file"), question(None, LATE, "no such file"))
    assert down.answer(path) == (False, "MySQL cannot be asked: no such file")


# --- over HTTP


@pytest.fixture
def ask():
    """Return a function that sends bytes over one connection to a role check and returns what comes back."""

    def send(made: check.RoleCheck, *sent: bytes, pause: float = 0.0) -> bytes:
        async def talk() -> bytes:
            listener = check.listen("127.0.0.1", 0, admission())
            service = asyncio.create_task(check.serve(made, listener))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            for part in sent:
                writer.write(part)
                await asyncio.sleep(pause)
            writer.write_eof()
            received = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            service.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await service
            return received

        return asyncio.run(talk())

    return send


@pytest.fixture
def source():
    return role_check(question(OPEN, -60), question(None, -60))


def statuses(received: bytes) -> list[int]:
    return [int(line.split()[1]) for line in received.decode().splitlines() if line.startswith("HTTP/1.1")]


def test_a_connection_stays_until_one_of_the_two_ends_it(ask, source):
    get, last = b"GET /source HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /replica HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert statuses(ask(source, get + get, get, last, pause=0.02)) == [200, 200, 200, 503]
    assert b"Connection: close" in ask(source, b"OPTIONS /source HTTP/1.0\r\n\r\n")


def test_a_request_may_come_in_pieces(ask, source):
    assert statuses(ask(source, b"GET /sou", b"rce?x HTTP/1.1\r\n\r", b"\n", pause=0.02)) == [200]


def test_a_head_request_gets_no_body(ask, source):
    received = ask(source, b"HEAD /source HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert statuses(received) == [200]
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /else HTTP/1.1\r\n\r\n", 404),
        (b"POST /source HTTP/1.1\r\n\r\n", 400),
        (b"GET /source HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET /source HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /source SPDY\r\n\r\n", 400),
        (b"GET /" + b"x" * 5000, 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000 + b"\r\n", 431),
    ],
)
def test_odd_requests_are_refused_in_one_answer(ask, source, request_, status):
    assert statuses(ask(source, request_)) == [status]


def test_a_request_that_finds_a_late_answer_waits_for_the_next(ask):
    late = role_check(question(OPEN, LATE), question(None, -60))

    def answer() -> None:
        late.read_only.answer = (time.monotonic() + 60, OPEN)

    waiting = threading.Timer(0.15, answer)
    waiting.start()
    begin = time.monotonic()
    assert statuses(ask(late, b"GET /source HTTP/1.1\r\nConnection: close\r\n\r\n", pause=0.4)) == [200]
    assert time.monotonic() - begin >= 0.1
    waiting.join()


def test_one_that_waits_is_not_read_from():
    """What it sends meanwhile would be kept in memory."""
    late = role_check(question(OPEN, LATE), question(None, -60))
    transport = mock.Mock(is_closing=lambda: False, get_extra_info=lambda name: ("192.0.2.1", 1))

    async def talk() -> None:
        client = check.Client(late, {})
        client.connection_made(transport)
        client.data_received(b"GET /source HTTP/1.1\r\n\r\n")
        assert transport.mock_calls == [mock.call.pause_reading()]
        late.read_only.answer = (time.monotonic() + 60, OPEN)
        await asyncio.sleep(4 * check.PERIOD_S)

    asyncio.run(talk())
    assert [name for name, *_ in transport.mock_calls] == ["pause_reading", "resume_reading", "write"]


@pytest.mark.parametrize(
    ("name", "addresses"),
    [("MAX_CONNECTIONS", ["127.0.0.1"] * 5), ("MAX_OF_ONE_ADDRESS", ["127.0.0.2", *["127.0.0.1"] * 5])],
)
def test_the_number_of_connections_is_bounded(monkeypatch, source, name, addresses):
    monkeypatch.setattr(check, name, 3)

    async def talk() -> list[bytes]:
        listener = check.listen("127.0.0.1", 0, admission())
        service = asyncio.create_task(check.serve(source, listener))
        clients = []
        for address in addresses:
            clients.append(await asyncio.open_connection(*listener.getsockname(), local_addr=(address, 0)))
            await asyncio.sleep(0.02)
        answers = []
        for reader, writer in clients:
            try:
                writer.write(b"GET /source HTTP/1.1\r\n\r\n")
                answers.append(await asyncio.wait_for(reader.read(15), 5))
            except ConnectionError:
                answers.append(b"")
            writer.close()
        service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service
        return answers

    # Those of 127.0.0.1 that were idle for longest made room, and nobody else.
    others = [True] * (len(addresses) - 5)
    assert [bool(answer) for answer in asyncio.run(talk())] == [*others, False, False, True, True, True]


# --- for those who have a reason to ask


GET = b"GET /source HTTP/1.1\r\n\r\n"


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether a request over this connection is; a connection that is closed has no answer."""
    try:
        writer.write(GET)
        return b"200 OK" in await asyncio.wait_for(reader.read(500), 5)
    except ConnectionError:
        return False


def asked_from(source, guests: Admission, addresses: list[str], later: str = "") -> tuple[list[bool], list[bool]]:
    """Who is answered of those that ask from these addresses, and who still is when only `later` is listed."""

    async def talk() -> tuple[list[bool], list[bool]]:
        listener = check.listen("127.0.0.1", 0, guests)
        service = asyncio.create_task(check.serve(source, listener))
        first, opened = [], []
        for address in addresses:
            opened.append(await asyncio.open_connection(*listener.getsockname(), local_addr=(address, 0)))
            first.append(await answered(*opened[-1]))
        if later:
            guests.networks = (parse_network(later),)
            await asyncio.sleep(1.5)
        then = [await answered(*connection) for connection in opened]
        for _reader, writer in opened:
            writer.close()
        service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service
        return first, then

    return asyncio.run(talk())


def test_a_stranger_gets_no_answer_and_takes_no_place(monkeypatch, source):
    monkeypatch.setattr(check, "MAX_CONNECTIONS", 2)
    guests = admission("127.0.0.2", "127.0.0.4/31")
    asked = ["127.0.0.2", *["127.0.0.1", "127.0.0.3"] * 5, "127.0.0.5"]
    expected = [True, *[False] * 10, True]
    assert asked_from(source, guests, asked) == (expected, expected)
    assert (guests.refused, guests.stranger) == (10, "127.0.0.3")


def test_nothing_is_made_for_a_stranger(monkeypatch, source):
    made = []
    monkeypatch.setattr(check, "Client", lambda *_arguments: made.append(1))
    assert asked_from(source, admission("127.0.0.2"), ["127.0.0.1"] * 3) == ([False] * 3, [False] * 3)
    assert made == []


def test_strangers_without_an_end_keep_nobody_else_waiting(monkeypatch):
    """The event loop gets its turn, and whoever is admitted comes after them."""
    monkeypatch.setattr(check, "BACKLOG", 8)
    guests = admission("127.0.0.2")
    with check.listen("127.0.0.1", 0, guests) as door, contextlib.ExitStack() as callers:
        door.setblocking(False)
        for address in [*["127.0.0.1"] * 8, "127.0.0.2"]:
            callers.enter_context(socket.create_connection(door.getsockname(), 5, (address, 0)))
        with pytest.raises(BlockingIOError):
            door.accept()
        assert guests.refused == 8
        connection, peer = door.accept()
        connection.close()
        assert peer[0] == "127.0.0.2"


def test_whoever_is_taken_off_the_list_is_closed(source):
    guests = admission("127.0.0.2", "127.0.0.3")
    asked = ["127.0.0.2", "127.0.0.3"]
    assert asked_from(source, guests, asked, later="127.0.0.3") == ([True, True], [False, True])
