"""Limits of a client and of an upstream, and connections that stay open: WebSockets and server-sent events."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import requests

WEB = "http://198.18.0.101"
BALANCED = "http://[fd5a:f00b:a5::101]"
SITE = {"Host": "www.foobar.com"}


def test_rate_limit_answers_429_to_that_client_only(get):
    def statuses(client: str, number: int) -> list[int]:
        # Behind the balancer, so that the client's own address is what counts, not the balancer's.
        headers = {"X-Forwarded-For": client}
        return [get(f"{BALANCED}/limited/", headers=headers).status_code for _ in range(number)]

    name = int.from_bytes(os.urandom(2))
    eager, other = f"2001:db8::{name:x}", f"2001:db8:1::{name:x}"
    assert statuses(eager, 5) == [200, 200, 200, 429, 429]
    assert statuses(other, 1) == [200]
    assert get(f"{BALANCED}/page", headers={"X-Forwarded-For": eager}).status_code == 200


def test_connection_limit_answers_429():
    def status(client: int) -> int:
        headers = {**SITE, "X-Forwarded-For": f"2001:db8::{client}"}
        return requests.get(f"{BALANCED}/impatient/", headers=headers, timeout=5).status_code

    with ThreadPoolExecutor(8) as visitors:
        assert 429 in visitors.map(status, [1] * 8)
        assert set(visitors.map(status, range(2, 10))) == {504}


def test_read_timeout_of_the_upstream_gives_504(get):
    assert get(f"{WEB}/impatient/").status_code == 504


def test_size_of_a_body_is_limited_per_location():
    def status(path: str, size: int) -> int:
        return requests.post(WEB + path, headers=SITE, data=b"x" * size, timeout=10).status_code

    assert status("/limited/", 1025) == 413
    assert status("/page", 1025) == 200
    assert status("/page", (10 << 20) + 1) == 413
    assert status("/large/", (10 << 20) + 1) == 200


# --- streams


def handshake(path: str, upgrade: str = "websocket") -> tuple[socket.socket, bytes, str]:
    """The connection, the header of the answer, and what a server that understands must say in it."""
    key = base64.b64encode(os.urandom(16)).decode()
    connection = socket.create_connection(("198.18.0.101", 80), timeout=5)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: www.foobar.com\r\nUpgrade: {upgrade}\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    header = b""
    while b"\r\n\r\n" not in header:
        header += connection.recv(1)
    text = f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
    return connection, header, base64.b64encode(accept).decode()


def exchange(connection: socket.socket, kind: int, text: bytes) -> bytes:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
    connection.sendall(bytes([0x80 | kind, 0x80 | len(text)]) + mask + masked)
    answer = b""
    while len(answer) < 2 + len(text):
        answer += connection.recv(2 + len(text) - len(answer))
    return answer[2:]


def test_websocket_passes_frames_both_ways():
    connection, header, accept = handshake("/socket")
    with connection:
        assert header.startswith(b"HTTP/1.1 101")
        assert f"Sec-WebSocket-Accept: {accept}".encode() in header
        assert exchange(connection, 1, b"hello") == b"hello"
        assert exchange(connection, 1, b"and again") == b"and again"
        assert exchange(connection, 8, b"") == b""
        assert connection.recv(1) == b""


def test_only_websockets_and_only_where_wanted_are_upgraded():
    for path, upgrade in (("/socket", "h2c"), ("/page", "websocket")):
        connection, header, _ = handshake(path, upgrade)
        connection.close()
        assert header.split()[1] in (b"426", b"200"), path


def test_first_event_arrives_before_the_stream_ends():
    with requests.get(f"{WEB}/stream", headers=SITE, stream=True, timeout=5) as stream:
        events = stream.iter_content(chunk_size=None)
        # Only what comes now makes the application send the rest.
        assert next(events) == b"data: first\n\n"
        requests.post(f"{WEB}/next", headers=SITE, timeout=5)
        assert b"".join(events) == b"data: second\n\n"
