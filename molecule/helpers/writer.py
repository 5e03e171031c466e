"""Applications that write, each entry once, and remember what was acknowledged."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable

import pymysql
import requests

from .load import RequestLoop
from .web import Web


class Writer:
    """Signs the guest book through the site, each time with another id.

    Attributes:
        ids: of all entries it has tried to write.
        acknowledged: of those that the site has taken.
    """

    def __init__(self, web: Web, url: str, host: str) -> None:
        self.web, self.url, self.host = web, url, host
        self.message = f"under load {uuid.uuid4()}"
        self.ids: list[str] = []
        self.acknowledged: list[str] = []

    def entry(self) -> dict[str, str]:
        """The next entry to write."""
        self.ids.append(str(uuid.uuid4()))
        return {"id": self.ids[-1], "author": "molecule", "message": self.message}

    def __call__(self) -> requests.Response:
        entry = self.entry()
        answer = self.web.request(
            "POST", f"{self.url}/api/entries", self.host, json=entry, timeout=2 * self.web.timeout
        )
        if answer.ok:
            self.acknowledged.append(entry["id"])
        return answer

    def stored(self, docker, server: str) -> list[str]:
        """The ids of its entries in the database of that container, each as often as it is there."""
        query = f"SELECT id FROM guestbook.entries WHERE message = '{self.message}'"  # noqa: S608
        return docker("exec", server, "mysql", "--skip-column-names", "--execute", query).split()

    def stored_on_each(self, docker, servers: list[str]) -> list[list[str]]:
        """The same for several, sorted."""
        return [sorted(self.stored(docker, server)) for server in servers]


ACKNOWLEDGED = "/var/tmp/acknowledged"  # noqa: S108 - of a container


class Growing:
    """What the client of molecule/shared/tasks/growing.yml has written on a host, ended by asking for it.

    Attributes:
        acknowledged: numbers of the entries that the database has taken.
        gap: seconds between the two neighbouring ones that lie furthest apart.
    """

    def __init__(self, docker, name: str) -> None:
        docker("exec", name, "systemctl", "stop", "growing")
        rows = [line.split() for line in docker("exec", name, "cat", ACKNOWLEDGED).splitlines()]
        moments = [float(moment) for _, moment in rows]
        self.acknowledged = {int(number) for number, _ in rows}
        self.gap = max(later - earlier for earlier, later in itertools.pairwise(moments))

    def missing(self, root, name: str) -> set[int]:
        """The entries that a member does not have."""
        return self.acknowledged - {int(number) for number in root(name, "SELECT id FROM guestbook.growth").split()}


class DatabaseWriter:
    """Writes to the database that is the source, over one connection as long as it holds; a context manager.

    Args:
        find: names the source; an exception of the network when there is none.
        login: address of each database, and what else a connection needs: ``{"foobar-mysql2": {"host": ...}}``.

    Attributes:
        acknowledged: ids of the entries that the database has taken.
        hosts: for each of them, which database that was.
    """

    def __init__(self, find: Callable[[], str], login: dict[str, dict]) -> None:
        self.find, self.login = find, login
        self.acknowledged: list[str] = []
        self.hosts: list[str] = []
        self.connection, self.name = None, ""
        errors = (pymysql.MySQLError, OSError)
        self.loop = RequestLoop(self.write, pause=0.005, errors=errors)

    def __enter__(self) -> DatabaseWriter:
        self.loop.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self.loop.__exit__(*problem)

    def write(self) -> None:
        entry = str(uuid.uuid4())
        try:
            if self.connection is None:
                self.name = self.find()
                settings = {"autocommit": True, "connect_timeout": 1, "read_timeout": 2}
                self.connection = pymysql.connect(**settings, **self.login[self.name])
            with self.connection.cursor() as cursor:
                cursor.execute("INSERT INTO guestbook.writes (id) VALUES (%s)", [entry])
        except Exception:
            self.connection = None
            raise
        self.acknowledged.append(entry)
        self.hosts.append(self.name)

    def wait_for(self, number: int, seconds: float = 90) -> None:
        """Return when ``number`` more entries were taken; fail when that takes longer than ``seconds``."""
        self.loop.wait_for_answers(number, seconds)

    @property
    def gap(self) -> float:
        """Seconds between the two neighbouring writes that lie furthest apart."""
        return self.loop.longest_gap
