"""A way to a server of IPv6 for who knows IPv4 alone: CLONE takes no address of IPv6."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 1 << 20


@contextmanager
def ipv4_way(address: str, port: int) -> Iterator[tuple[str, int]]:
    """Yield address and port of IPv4 that lead to a server: its own, or those of a relay on this host for so long.

    Args:
        address: of the server, without brackets.
        port: its TCP port.
    """
    if ":" not in address:
        yield address, port
        return

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((address, port), timeout=10) as far:
                far.settimeout(None)
                back = threading.Thread(target=_copy, args=(far, self.request), daemon=True)
                back.start()
                _copy(self.request, far)
                back.join()

    class Relay(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """The connection ends, which its client sees."""

    with Relay(("127.0.0.1", 0), Connection) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        try:
            yield relay.server_address[0], relay.server_address[1]
        finally:
            relay.shutdown()


def _copy(near: socket.socket, far: socket.socket) -> None:
    """Send what comes from one end to the other, and its end too."""
    with suppress(OSError):
        while chunk := near.recv(CHUNK):
            far.sendall(chunk)
    with suppress(OSError):
        far.shutdown(socket.SHUT_WR)
