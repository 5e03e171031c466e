"""Requests to the role check: any bytes get an answer of HTTP or none, however they arrive."""

from __future__ import annotations

import re
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from mysql_replication import check

LINES = st.sampled_from(
    [
        "GET /source HTTP/1.1",
        "HEAD /any HTTP/1.0",
        "OPTIONS /replica?x HTTP/1.1",
        "GET / HTTP/1.1",
        "POST /any HTTP/1.1",
    ]
    + ["GET /any HTTP/2", "GET  /any HTTP/1.1", "", "GET /any HTTP/1.1 ", "get /any HTTP/1.1"]
)
FIELDS = st.lists(
    st.sampled_from(
        ["Connection: close", "connection:keep-alive", "Content-Length: 0", "Content-Length: 5", "Content-Length: 00"]
        + ["Transfer-Encoding: chunked", "x", ": y", "Host: \xff", " folded"]
    ),
    max_size=3,
)
REQUESTS = st.builds(lambda line, fields: "\r\n".join([line, *fields, "", ""]).encode("latin-1"), LINES, FIELDS)
BYTES = st.one_of(REQUESTS, st.binary(max_size=40))


class Transport:
    """What is written to it, until it is closed."""

    def __init__(self) -> None:
        self.sent, self.closed = b"", False

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return "198.18.0.11", 1

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.sent += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        raise AssertionError("nothing waits here")

    resume_reading = pause_reading


def answered(*parts: bytes) -> tuple[bytes, bool]:
    """What is sent for bytes that arrive in parts, and whether the connection is ended."""
    transport = Transport()
    client = check.Client(SimpleNamespace(answer=lambda path: (path == "/any", f"is {path}\n")), {})
    client.connection_made(transport)
    for part in parts:
        if not transport.closed:
            client.data_received(part)
    return transport.sent, transport.closed


@given(st.lists(BYTES, max_size=4).map(b"".join), st.lists(st.integers(0, 200), max_size=4))
def test_how_bytes_arrive_makes_no_difference(data, cuts):
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts = [data[begin:end] for begin, end in zip(places, places[1:], strict=False)]
    assert answered(*parts) == answered(data)


@given(st.lists(BYTES, max_size=4).map(b"".join))
def test_every_answer_is_whole_and_a_refusal_is_the_last(data):
    sent, closed = answered(data)
    while sent:
        head, end, rest = sent.partition(b"\r\n\r\n")
        assert end
        status = re.match(rb"HTTP/1\.1 (200|400|404|431|503) [A-Z]", head)
        length = re.search(rb"Content-Length: (\d+)", head)
        assert status and length
        body = b"" if rest[: int(length[1])].startswith(b"HTTP/") or not rest else rest[: int(length[1])]
        assert not body or body.endswith(b"\n")
        sent = rest[len(body) :]
        if status[1] in (b"400", b"431"):
            assert closed and not sent


@given(st.binary(max_size=80))
def test_a_request_is_read_or_refused(head):
    method, path, _keep, problem = check.parse_request(head)
    assert problem or (method in check.METHODS and "?" not in path)


@given(st.integers(0, 20000))
def test_a_request_without_an_end_is_ended(length):
    sent, closed = answered(*[b"x" * 1000] * (length // 1000), b"x" * (length % 1000))
    assert closed == (length > check.MAX_REQUEST_BYTES)
    assert closed == (b"431" in sent)
