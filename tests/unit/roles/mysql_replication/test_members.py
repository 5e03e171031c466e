"""The settings that the role puts beside the programs."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest
from mysql_replication import members
from mysql_replication.local import Busy, Failure, host_lock
from mysql_replication.members import Members


@pytest.fixture
def home(tmp_path):
    settings = {
        "mode": "source_replica",
        "me": "b",
        "members": {"a": "192.0.2.1", "b": "192.0.2.2"},
        "user": "replication",
        "network": "192.0.2.0/24",
        "port": 3306,
        "policy": "block",
        "timeout_ms": 1000,
        "runs_events": True,
        "versions": {},
    }
    (tmp_path / "members.json").write_text(json.dumps(settings))
    (tmp_path / "password").write_text("secret\n")
    return tmp_path


def test_members_know_who_is_first_and_who_else_there_is(home):
    members = Members(home)
    assert (members.me, members.others, members.is_first) == ("b", ["a"], False)
    assert (members.password, members.blocks) == ("secret", True)


def test_a_member_that_draws_its_answer_out_is_one_that_does_not_answer(home, monkeypatch):
    monkeypatch.setattr(members, "ANSWER_S", 0.3)
    one, end = Members(home), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one.addresses["a"], one.port = listener.getsockname()

        def serve() -> None:
            client, _address = listener.accept()
            # A packet of 16 MB, byte by byte.
            with client, contextlib.suppress(OSError):
                client.sendall(b"\xff\xff\xff\0")
                while not end.wait(0.05):
                    client.sendall(b"x")

        server = threading.Thread(target=serve)
        server.start()
        start = time.monotonic()
        assert one.view("a") is None
        assert time.monotonic() - start < 3
        end.set()
        server.join()


def test_a_server_without_members_says_why(tmp_path):
    with pytest.raises(Failure, match="mysql_replication_mode 'standalone'"):
        Members(tmp_path)


def test_a_member_that_refuses_the_connection_has_no_view(home, monkeypatch):
    members = Members(home)
    members.addresses["a"] = "127.0.0.1"
    members.port = 1
    assert members.views_of_others() == {"a": None}
    assert not members.is_source("a")


def test_the_lock_of_the_host_is_held_once_and_lies_where_only_root_may_write(tmp_path):
    path = tmp_path / "locks/lock"
    with host_lock(0, path):
        assert path.parent.stat().st_mode & 0o777 == 0o700
        with pytest.raises(Busy, match="wait for it"), host_lock(0, path, "wait for it"):
            pass
    with host_lock(0, path):
        pass
