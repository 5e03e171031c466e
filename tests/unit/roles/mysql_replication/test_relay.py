"""The relay: bytes in both directions, many connections at a time, and none when it is over."""

from __future__ import annotations

import socket
import socketserver
import threading

import pytest
from mysql_replication import relay


class Echo(socketserver.BaseRequestHandler):
    """Sends everything back, then says that it has seen the end."""

    def handle(self) -> None:
        while chunk := self.request.recv(65536):
            self.request.sendall(chunk)
        self.request.sendall(b"end")


class Server6(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


@pytest.fixture
def far():
    with Server6(("::1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def ask(way: tuple[str, int], said: bytes) -> bytes:
    with socket.create_connection(way, timeout=5) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(said), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        sender.join()
        return answer


def test_ipv4_needs_no_relay():
    with relay.ipv4_way("192.0.2.1", 3306) as way:
        assert way == ("192.0.2.1", 3306)


def test_connections_of_ipv6_are_relayed_for_so_long(far):
    big = bytes(range(256)) * 20_000
    with relay.ipv4_way("::1", far) as way:
        assert way[0] == "127.0.0.1"
        first, second = socket.create_connection(way, timeout=5), socket.create_connection(way, timeout=5)
        with first, second:
            for connection in (second, first):
                connection.sendall(b"hello")
                assert connection.recv(5) == b"hello"
        assert ask(way, big) == big + b"end"
    with pytest.raises(OSError):
        socket.create_connection(way, timeout=1)


def test_a_server_that_is_not_there_ends_the_connection():
    with socket.socket(socket.AF_INET6) as unused:
        unused.bind(("::1", 0))
        with (
            relay.ipv4_way("::1", unused.getsockname()[1]) as way,
            socket.create_connection(way, timeout=5) as connection,
        ):
            assert connection.recv(1) == b""
