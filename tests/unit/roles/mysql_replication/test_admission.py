"""Whom the role check answers: by which addresses, names and lists."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from mysql_replication import admission

MEMBERS = {"db1": "198.18.0.41", "db2": "fd5a::42"}


@pytest.fixture
def settings(tmp_path):
    """Return a function that writes what the role puts beside the program, and the path."""
    path = tmp_path / "members.json"

    def write(*clients: str) -> None:
        path.write_text(json.dumps({"members": MEMBERS, "check_clients": clients}))

    write.path = path
    return write


@pytest.fixture
def made(settings):
    """Return a function that makes an admission of such a list."""

    def make(*clients: str) -> admission.Admission:
        settings(*clients)
        found = admission.Admission(settings.path)
        found.read()
        return found

    return make


@pytest.fixture
def said(monkeypatch):
    """The lines of the journal."""
    lines = []
    monkeypatch.setattr(admission, "log", lambda text, *_priority: lines.append(text))
    return lines


def test_without_a_list_everybody_is_answered(made):
    assert made().admits("203.0.113.9") and made().admits("2001:db8::9")


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("198.18.0.31", True),
        ("198.18.0.32", False),
        # IPv4 on a socket of IPv6.
        ("::ffff:198.18.0.31", True),
        ("::ffff:198.18.0.32", False),
        ("203.0.113.77", True),
        ("203.0.114.1", False),
        ("fd5a:f00b:a5::77", True),
        ("fd5a:f00b:a6::77", False),
        ("fe80::5%eth0", True),
        ("192.0.2.5", True),
        ("192.0.2.200", False),
        # The members and this host need no line.
        ("198.18.0.41", True),
        ("fd5a::42", True),
        ("fd5a:0:0::0042", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::", False),
    ],
)
def test_those_on_the_list_the_members_and_this_host_are_answered(made, address, admitted):
    guests = made("198.18.0.31", "203.0.113.7/24", "fd5a:f00b:a5::/64", "fe80::5", "::ffff:192.0.2.0/121")
    assert guests.admits(address) == admitted


@pytest.mark.parametrize("listed", ["0.0.0.0/0", "::ffff:0:0/96"])
def test_a_network_of_all_is_all_of_its_version(made, listed):
    assert made(listed).admits("8.8.8.8") and not made(listed).admits("2001:db8::1")


def test_a_list_that_cannot_be_read_at_the_start_is_a_refusal(settings):
    with pytest.raises(OSError, match="members.json"):
        admission.Admission(settings.path).start()


# --- names


@pytest.fixture
def resolver(monkeypatch):
    """Addresses by name, for tests to change; a name that is not there cannot be resolved."""
    names: dict[str, list[str]] = {}

    def answer(name, *_arguments, **_options):
        if name not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in names[name]]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return names


def test_a_name_is_every_address_that_it_has(made, resolver, said):
    resolver["app1.example.com"] = ["198.18.0.31", "fd5a::31"]
    guests = made("app1.example.com")
    assert not guests.admits("198.18.0.31")
    guests.resolve()
    assert guests.admits("198.18.0.31") and guests.admits("fd5a::31") and not guests.admits("198.18.0.32")
    resolver["app1.example.com"] = ["198.18.0.32"]
    guests.resolve()
    assert guests.admits("198.18.0.32") and not guests.admits("198.18.0.31")
    assert said == []


def test_a_resolver_that_is_away_takes_nobody_off_the_list(made, resolver, said):
    resolver["app1.example.com"] = ["198.18.0.31"]
    guests = made("app1.example.com", "app2.example.com", "198.18.0.33")
    guests.resolve()
    resolver.clear()
    guests.resolve()
    guests.resolve()
    assert guests.admits("198.18.0.31") and guests.admits("198.18.0.33")
    assert [line.split(" cannot")[0] for line in said] == [
        "role check: app2.example.com",
        "role check: app1.example.com",
    ]


def test_a_name_that_is_taken_off_is_forgotten(made, settings, resolver):
    resolver["app1.example.com"] = ["198.18.0.31"]
    guests = made("app1.example.com", "198.18.0.33")
    guests.resolve()
    settings("198.18.0.33")
    guests.read()
    guests.resolve()
    assert guests.known == {} and not guests.admits("198.18.0.31")


def test_a_resolver_that_hangs_delays_the_start_by_moments_and_no_list(made, settings, monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [] if hangs.wait(30) else [])
    monkeypatch.setattr(admission.Admission, "keep_list", lambda self: None)
    monkeypatch.setattr(admission, "FIRST_S", 0.1)
    guests = made("app1.example.com")
    begin = time.monotonic()
    guests.start()
    assert time.monotonic() - begin < 10 and not guests.names_tried.is_set()
    settings("198.18.0.33")
    guests.look()
    assert guests.admits("198.18.0.33")
    hangs.set()
    assert guests.names_tried.wait(10)


# --- while it runs


def test_the_list_and_the_names_are_kept_from_the_start(made, monkeypatch):
    begun = {name: threading.Event() for name in ("keep_list", "keep_names")}
    for name, event in begun.items():
        monkeypatch.setattr(admission.Admission, name, lambda _self, event=event: event.set())
    monkeypatch.setattr(admission, "FIRST_S", 0)
    made("198.18.0.31").start()
    assert all(event.wait(10) for event in begun.values())


def test_a_changed_list_counts_without_a_restart(made, settings, resolver):
    guests = made("198.18.0.31")
    resolver["app2.example.com"] = ["198.18.0.32"]
    settings("app2.example.com")
    guests.names_changed.clear()
    guests.look()
    assert not guests.admits("198.18.0.31") and guests.names_changed.is_set()
    guests.resolve()
    assert guests.admits("198.18.0.32")
    settings()
    guests.look()
    assert guests.admits("203.0.113.9")


def test_a_list_that_cannot_be_read_leaves_the_last_one_and_one_line(made, settings, said):
    guests = made("198.18.0.31")
    settings.path.unlink()
    for text in (None, None, "{", "{", "{}", json.dumps({"members": MEMBERS})):
        if text:
            settings.path.write_text(text)
        guests.look()
        assert guests.admits("198.18.0.31") and not guests.admits("198.18.0.32")
    assert len(said) == 3 and all("cannot be read" in line for line in said)
    settings("198.18.0.32")
    guests.look()
    assert guests.admits("198.18.0.32")


def test_strangers_are_one_line_a_minute(made, said, monkeypatch):
    guests = made("198.18.0.31")
    now = [1000.0]
    monkeypatch.setattr(admission.time, "monotonic", lambda: now[0])
    guests.tell()
    assert said == []
    for second in range(180):
        now[0] = 1000.0 + second
        for number in range(100):
            guests.refuse(f"203.0.113.{number}")
        guests.tell()
    assert [line.split(", which")[0] for line in said] == [
        f"role check: {number} connections closed, the last from 203.0.113.99" for number in (100, 6000, 6000)
    ]
