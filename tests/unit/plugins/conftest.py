"""What tests of several plugins need."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def source(tmp_path) -> Path:
    root = tmp_path / "source"
    (root / "web" / "static").mkdir(parents=True)
    (root / "web" / "wsgi.py").write_text("app = 1\n")
    (root / "web" / "static" / "a.css").write_text("a")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o700)
    (root / "link").symlink_to("web/wsgi.py")
    return root


@pytest.fixture
def dripping() -> Iterator[str]:
    """The address of a server whose answer does not end: a byte now and then."""
    listener, end = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _address = listener.accept()
            with client:
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                while not end.wait(0.05):
                    client.sendall(b"x")

    server = threading.Thread(target=serve)
    server.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    end.set()
    listener.close()
    server.join()
