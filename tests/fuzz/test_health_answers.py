"""What an application answers for its health: 200 is yes, anything else a sentence, in bounded time and size."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

import pytest
from gunicorn_flask import health
from hypothesis import given
from hypothesis import strategies as st

HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200",
        b"HTTP/1.1 301 Moved",
        b"HTTP/1.1 503 No",
        b"HTTP/1.1 100 Continue",
        b"HTTP/2 200",
    ]
    + [b"HTTP/1.1 0200 OK", b"HTTP/1.1 2\xb20 OK", b"HTTP/1.1 -200 OK", b"HTTP/1.1", b"", b"HTTP/1.1 200 \xff"]
)
FIELDS = st.lists(
    st.sampled_from(
        [b"Content-Length: 2", b"Content-Length: -5", b"Content-Length: x", b"Content-Length: 99999999999999999999"]
        + [
            b"Transfer-Encoding: chunked",
            b"Location: /x\r\ty",
            b"Location: \xff\xfe",
            b"no colon",
            b": x",
            b" folded",
            b"A: b",
        ]
    ),
    max_size=4,
)
BODIES = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"0\r\n\r\n", b"2\r\nok\r\n0\r\n\r\n", b"fffffffff\r\nx", b"-1\r\n"])
)
ANSWERS = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda head, fields, body: b"\r\n".join([head, *fields, b"", body]), HEADS, FIELDS, BODIES),
)


@pytest.fixture(scope="module")
def application() -> Iterator[SimpleNamespace]:
    """One that answers each connection with the bytes of its attribute, and then ends it."""
    app = SimpleNamespace(health_path="/health", listen="", said=b"")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app.listen = "{}:{}".format(*listener.getsockname())

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if connection.recv(65536) == b"end":
                        return
                    connection.sendall(app.said)

        thread = threading.Thread(target=serve)
        thread.start()
        yield app
        with socket.create_connection(listener.getsockname()) as last:
            last.sendall(b"end")
        thread.join()


@given(ANSWERS)
def test_only_200_is_well(application, answer):
    application.said = answer
    said = health.request_health(application)
    assert said is None or (isinstance(said, str) and said.startswith("GET /health on "))
    if said is None:
        assert re.search(rb"HTTP/1\.?\S*\s+\+?0*200(\s|$)", answer)


@given(st.integers(0, 300))
def test_no_more_than_the_limit_is_read(application, length):
    application.said = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * length
    with mock.patch.object(health, "ANSWER_BYTES", 100):
        said = health.request_health(application)
    assert (said is None) == (length <= 100)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_is_where_it_listens(address, port):
    host = f"[{address}]" if address.version == 6 else str(address)
    found = health.reachable(f"{host}:{port}")
    instead = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(address), str(address))  # noqa: S104 - compared
    assert found == (instead, port)
