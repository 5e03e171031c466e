"""The boundary between a database account of an application and what runs as root: what it holds is no sign of ours."""

from __future__ import annotations

import contextlib
import threading
import time

import pymysql
import pytest
import requests
from helpers.run import PROJECT, note_figure

# As any account could read them in the programs of the role.
NAMES = ("mysql_replication_opening", "mysql_replication_handover", "mysql_replication_closed")


@pytest.fixture
def source(groups, addresses):
    """Return a function that names the members that are writable."""

    def find() -> list[str]:
        urls = {name: f"http://{addresses[name]}:9200/source" for name in groups["databases"]}
        return [name for name, url in urls.items() if requests.get(url, timeout=2).status_code == 200]

    return find


@pytest.fixture
def login(addresses):
    """Return a function that connects to a member as an application does."""
    password = (PROJECT / ".local/mysql_replication").read_text().strip()
    return lambda name: pymysql.connect(
        host=addresses[name],
        user="guestbook",
        password=password,
        ssl={"check_hostname": False},
        connect_timeout=2,
        read_timeout=5,
    )


@pytest.fixture
def held(groups, login):
    """Everywhere an application holds the user locks of these names, as soon as it can connect; which it has got."""
    end, got = threading.Event(), set()

    def hold(name: str) -> None:
        while not end.is_set():
            with contextlib.suppress(pymysql.MySQLError, OSError), login(name) as connection:
                cursor = connection.cursor()
                while not end.wait(0.05):
                    for lock in NAMES:
                        cursor.execute("SELECT GET_LOCK(%s, 0)", [lock])
                        if cursor.fetchone() == (1,):
                            got.add((name, lock))

    threads = [threading.Thread(target=hold, args=[name], daemon=True) for name in groups["databases"]]
    for thread in threads:
        thread.start()
    yield got
    end.set()
    for thread in threads:
        thread.join(10)


def test_locks_of_an_account_keep_no_source_closed(docker, eventually, source, held, groups):
    (one,) = eventually(source)
    eventually(lambda: len(held) == len(NAMES) * len(groups["databases"]))
    docker("exec", one, "systemctl", "restart", "mysql")
    begin = time.monotonic()
    assert eventually(source, 30) == [one]
    note_figure(
        f"a restarted source is open after {time.monotonic() - begin:.1f} s, though an account holds user locks"
    )


def test_an_account_cannot_find_the_names_of_our_locks(login, source):
    with login(*source()) as connection:
        cursor = connection.cursor()
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            cursor.execute("SELECT object_name FROM performance_schema.metadata_locks")
        cursor.execute("SELECT COUNT(attribute) FROM information_schema.user_attributes")
        assert cursor.fetchone() == (0,)
