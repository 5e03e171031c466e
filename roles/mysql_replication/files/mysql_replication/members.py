"""The members as the role has listed them, and what each of them says about itself."""

from __future__ import annotations

import functools
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mysql_replication import gtids
from mysql_replication.local import SYSTEM_SCHEMAS, Connection, Failure, MySQLError, connect, query
from mysql_replication.plans import View

HOME = Path(__file__).resolve().parent
# A member that is well answers in milliseconds.
ANSWER_S = 5
# A user lock that other members can see: this server is about to become writable.
PROMOTING = "mysql_replication_opening"
# Of a user lock, in SQL; see lock_name.
LOCK_NAME = (
    "CONCAT(%s, COALESCE((SELECT MAX(attribute->>'$.mysql_replication_lock')"
    " FROM information_schema.user_attributes), ''))"
)


class Members:
    """The settings that the role has put beside this program, and connections by them.

    Attributes:
        me: name of this server.
        addresses: address of each member, this server among them; the first is the source of new members.
        blocks: whether a write waits for a replica without end.
        timeout: milliseconds that a write waits for a replica.
        runs_events: whether the source runs scheduled events.
        versions: version of each service that has to run.
    """

    def __init__(self, home: Path = HOME) -> None:
        try:
            settings = json.loads((home / "members.json").read_text())
        except FileNotFoundError:
            raise Failure(
                "this server has no other members: the role was applied with mysql_replication_mode 'standalone'"
            ) from None
        self.mode: str = settings["mode"]
        self.me: str = settings["me"]
        self.addresses: dict[str, str] = settings["members"]
        self.user: str = settings["user"]
        self.password: str = (home / "password").read_text().rstrip("\n")
        self.network: str = settings["network"]
        self.port: int = settings["port"]
        self.blocks: bool = settings["policy"] == "block"
        self.timeout: int = settings["timeout_ms"]
        self.runs_events: bool = settings["runs_events"]
        self.versions: dict[str, str] = settings["versions"]

    @property
    def others(self) -> list[str]:
        return [name for name in self.addresses if name != self.me]

    @property
    def is_first(self) -> bool:
        return self.me == next(iter(self.addresses))

    def connect(self, name: str, **options: object) -> Connection:
        """Over TLS, with the account of replication."""
        return connect(
            host=self.addresses[name],
            port=self.port,
            user=self.user,
            password=self.password,
            ssl=encrypted(),
            connect_timeout=2,
            read_timeout=3,
            write_timeout=3,
            **options,
        )

    @contextmanager
    def asked(self, name: str) -> Iterator[Connection]:
        """A connection for a question. Its timeouts count from the last byte, so a peer could draw an answer out."""
        connection = self.connect(name, defer_connect=True)
        peer = socket.create_connection((self.addresses[name], self.port), timeout=2)
        with peer, ended_after(peer, ANSWER_S):
            connection.connect(peer)
            with connection:
                yield connection

    def view(self, name: str) -> View | None:
        """None when it does not answer, whatever the reason."""
        try:
            with self.asked(name) as connection, connection.cursor() as cursor:
                return read_view(cursor)
        except (MySQLError, OSError):
            return None

    def views_of_others(self) -> dict[str, View | None]:
        return {name: self.view(name) for name in self.others}

    def is_source(self, name: str) -> bool:
        view = self.view(name)
        return view is not None and view.is_source


@contextmanager
def ended_after(peer: socket.socket, seconds: float) -> Iterator[None]:
    """End a connection, also one that TLS has been laid over meanwhile, if it is there for so long."""

    def end() -> None:
        with suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)

    with peer.dup() as same:
        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@functools.cache
def encrypted() -> ssl.SSLContext:
    """The certificates are the servers' own, made at their first start: encrypted, not verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def lock_name(ask: Callable[..., list], purpose: str) -> str:
    """The name of a user lock of this role on a server, of which `ask` returns the rows of a statement.

    Any account may hold a user lock under any name, and would keep a server read-only with it. So the name ends with
    what only root and the account of replication can read, see Server.ensure_accounts.
    """
    return ask(f"SELECT {LOCK_NAME} AS name", purpose)[0]["name"]


def read_view(cursor) -> View:
    """What the server of this connection says about itself."""
    row = query(
        cursor,
        # In this order: what is owned may be executed a moment later.
        "SELECT @@server_uuid AS uuid, @@global.read_only AS read_only, @@global.gtid_owned AS owned,"  # noqa: S608 - a constant
        " @@global.gtid_executed AS executed,"
        " @@global.gtid_purged AS purged,"
        f" IS_USED_LOCK({LOCK_NAME}) IS NOT NULL AS promoting,"
        " (SELECT MAX(CAST(attribute->>'$.mysql_replication_epoch' AS UNSIGNED))"
        " FROM information_schema.user_attributes) AS term,"
        " (SELECT COALESCE(MAX(attribute->>'$.mysql_replication_alone' = 'true'), 0)"
        " FROM information_schema.user_attributes) AS alone,"
        " (SELECT MAX(attribute->>'$.mysql_replication_idle_events')"
        " FROM information_schema.user_attributes) AS idle_events,"
        " (SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name NOT IN %s) AS number",
        PROMOTING,
        SYSTEM_SCHEMAS,
    )[0]
    view = View(
        uuid=row["uuid"],
        read_only=bool(row["read_only"]),
        owned=gtids.parse_owned(row["owned"]),
        executed=gtids.parse(row["executed"]),
        purged=gtids.parse(row["purged"]),
        promoting=bool(row["promoting"]),
        databases=row["number"],
        term=row["term"] or 0,
        alone=bool(row["alone"]),
        idle_events=frozenset(json.loads(row["idle_events"] or "[]")),
    )
    for channel in query(cursor, "SHOW REPLICA STATUS"):
        view.source = channel["Source_Host"]
        view.received = gtids.parse(channel["Retrieved_Gtid_Set"])
        threads = channel["Replica_IO_Running"], channel["Replica_SQL_Running"]
        view.running = threads == ("Yes", "Yes")
        view.error = channel["Last_IO_Error"] or channel["Last_SQL_Error"]
        view.errno = channel["Last_IO_Errno"] or channel["Last_SQL_Errno"]
    return view
