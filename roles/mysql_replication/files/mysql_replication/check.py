"""Say over HTTP what this server is, for balancers: 200 is yes, 503 is no, with a line that says why.

    GET /source     the one that may be written to
    GET /replica    replicates, and is not too far behind
    GET /readable   one of both
    GET /any        has data, however old. Where all others are gone, that is better than nothing

MySQL is asked over two connections that stay, however many balancers ask here. A yes is never older than MAX_AGE_S. A
request that finds an older one waits for the next, because a busy host may be late; PATIENCE_S after the last answer
the server counts as hung, and every request is answered at once that it does not answer.

Whoever has no reason to ask (admission.py) is closed as soon as the connection is accepted, and not read from.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from mysql_replication.admission import Admission
from mysql_replication.local import CHECK_USER, SOCKET, Failure, MySQLError, connect

PATHS = ("/source", "/replica", "/readable", "/any")
# HAProxy asks with OPTIONS if it is not told otherwise.
METHODS = ("GET", "HEAD", "OPTIONS")

# --- seconds
MAX_AGE_S = 0.1
PERIOD_S = 0.06
PATIENCE_S = 0.5
RETRY_S = 0.2
# A connection that brings no complete request for so long is ended.
IDLE_S = 30

# --- limits
MAX_REQUEST_BYTES = 4096
MAX_CONNECTIONS = 512
# So that no neighbour takes the places of the balancers.
MAX_OF_ONE_ADDRESS = 64
BACKLOG = 128

Answer = tuple[bool, str]


# --- what is answered -------------------------------------------------------------------------------------------------


def decide(path: str, read_only: bool, ask_for_channel: Callable[[], dict | None], max_lag: int) -> Answer:
    """The answer for one path.

    MySQL lets SHOW REPLICA STATUS wait while the channel is being changed. In a switchover balancers have to
    hear just then from the old source that it is closed: that answer does without the channel.
    """
    if path == "/any":
        return True, "may be behind" if read_only else "writable"
    if path == "/source" and read_only:
        return False, "closed for writing"
    channel = ask_for_channel()
    if path == "/source" or (path == "/readable" and not read_only and not channel):
        return source_answer(channel)
    return replica_answer(read_only, channel, max_lag)


def source_answer(channel: dict | None) -> Answer:
    """Of one that is writable. A replica that was made writable by hand is no source."""
    if channel:
        return False, f"replica of {channel['Source_Host']}, although it is writable"
    return True, "source"


def replica_answer(read_only: bool, channel: dict | None, max_lag: int) -> Answer:
    if not channel:
        return False, "no replica"
    if not read_only:
        return False, "a replica that is writable"
    for thread, error in (("Replica_IO_Running", "Last_IO_Error"), ("Replica_SQL_Running", "Last_SQL_Error")):
        if channel[thread] != "Yes":
            return False, f"{thread} is {channel[thread]}: {channel[error] or 'stopped'}"
    lag = channel["Seconds_Behind_Source"]
    if lag is None:
        return False, "behind its source by an unknown time"
    if lag > max_lag:
        return False, f"{lag} s behind its source, more than {max_lag} s"
    return True, f"replica of {channel['Source_Host']}, {lag} s behind"


# --- what MySQL says --------------------------------------------------------------------------------------------------


class Stale(Exception):
    """MySQL has not answered this question lately."""


class Question:
    """One question, asked again and again over one connection, and its last answer.

    Attributes:
        answer: when it was asked, and the row that MySQL answered.
        problem: why it cannot be asked; empty while it can, even if MySQL is late.
    """

    def __init__(self, statement: str) -> None:
        self.statement = statement
        self.answer: tuple[float, dict | None] = (time.monotonic() - MAX_AGE_S, None)
        self.problem = ""

    def ask_for_ever(self) -> None:
        while True:
            try:
                self.ask_over_one_connection()
            except (MySQLError, OSError) as problem:
                self.problem = str(problem)
                time.sleep(RETRY_S)

    def ask_over_one_connection(self) -> None:
        # No password: MySQL asks the kernel which user this is.
        limits = {"connect_timeout": 2, "read_timeout": 10, "write_timeout": 10}
        with connect(unix_socket=SOCKET, user=CHECK_USER, **limits) as connection, connection.cursor() as cursor:
            while True:
                asked = time.monotonic()
                cursor.execute(self.statement)
                self.answer = asked, cursor.fetchone()
                self.problem = ""
                time.sleep(PERIOD_S)

    @property
    def age(self) -> float:
        return time.monotonic() - self.answer[0]

    def fresh(self) -> dict | None:
        asked, row = self.answer
        if self.problem or time.monotonic() - asked > MAX_AGE_S:
            raise Stale
        return row


class RoleCheck:
    """What this server is, from memory."""

    def __init__(self, max_lag: int) -> None:
        self.max_lag = max_lag
        # Two, because MySQL may keep the second one waiting.
        self.read_only = Question("SELECT @@global.read_only AS read_only")
        self.channel = Question("SHOW REPLICA STATUS")

    def start(self) -> None:
        # A busy server thread gives way to these within so many seconds.
        sys.setswitchinterval(0.001)
        for question in (self.read_only, self.channel):
            threading.Thread(target=question.ask_for_ever, daemon=True).start()

    def answer(self, path: str) -> Answer | None:
        """None where the answer is late: ask again."""
        question = self.read_only
        try:
            read_only = bool(question.fresh()["read_only"])
            question = self.channel
            return decide(path, read_only, question.fresh, self.max_lag)
        except Stale:
            pass
        if question.problem:
            return False, f"MySQL cannot be asked: {question.problem}"
        if question.age > PATIENCE_S:
            return False, f"MySQL does not answer: its last answer is {question.age:.1f} s old"
        if path == "/source" and (self.read_only.answer[1] or {}).get("read_only"):
            # A no needs no fresh answer.
            return False, "closed for writing when MySQL answered last"
        return None


# --- HTTP -------------------------------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One connection of a balancer: requests one after the other, no bodies."""

    def __init__(self, check: RoleCheck, clients: dict[Client, float]) -> None:
        self.check, self.clients = check, clients
        self.buffer = b""
        self.waits = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.address = transport.get_extra_info("peername")[0]
        same = [client for client in self.clients if client.address == self.address]
        # The one that has been idle for longest makes room.
        if len(same) >= MAX_OF_ONE_ADDRESS:
            same[0].transport.abort()
        elif len(self.clients) >= MAX_CONNECTIONS:
            next(iter(self.clients)).transport.abort()
        self.is_active()

    def connection_lost(self, _problem: Exception | None) -> None:
        self.clients.pop(self, None)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def is_active(self) -> None:
        self.clients.pop(self, None)
        self.clients[self] = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.waits:
            self.serve()

    def serve(self) -> None:
        """Answer every complete request of the buffer, until one has to wait."""
        if self.waits:
            self.waits = False
            self.transport.resume_reading()
        while not self.transport.is_closing():
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if len(head) > MAX_REQUEST_BYTES:
                self.respond(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long", keep=False)
            if not end or self.transport.is_closing():
                return None
            method, path, keep, problem = parse_request(head)
            if problem:
                return self.respond(HTTPStatus.BAD_REQUEST, problem, keep=False)
            answer = self.check.answer(path) if path in PATHS else None
            if path not in PATHS:
                self.respond(HTTPStatus.NOT_FOUND, f"ask for {' or '.join(PATHS)}", keep, method)
            elif answer is None:
                self.waits = True
                # What else the client sends stays with the kernel.
                self.transport.pause_reading()
                asyncio.get_running_loop().call_later(PERIOD_S / 4, self.serve)
                return None
            else:
                status = HTTPStatus.OK if answer[0] else HTTPStatus.SERVICE_UNAVAILABLE
                self.respond(status, answer[1], keep, method)
            self.buffer = rest
        return None

    def respond(self, status: HTTPStatus, line: str, keep: bool, method: str = "GET") -> None:
        body = f"{' '.join(line.split())}\n".encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        self.transport.write(head.encode() + (b"" if method == "HEAD" else body))
        if keep:
            self.is_active()
        else:
            self.transport.close()


def parse_request(head: bytes) -> tuple[str, str, bool, str]:
    """Method, path without a query, whether the connection stays, and what is wrong with the request."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1") or words[0] not in METHODS:
        return "", "", False, f"send {', '.join(METHODS)} over HTTP/1.0 or HTTP/1.1"
    fields = {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(":") for line in lines)}
    if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
        return "", "", False, "send no body"
    wish = fields.get("connection", "keep-alive" if words[2] == "HTTP/1.1" else "close")
    return words[0], words[1].partition("?")[0], wish == "keep-alive", ""


class Door(socket.socket):
    """A listener that lets those in that are admitted. Of others there is nothing to keep and no work to do."""

    admission: Admission

    def accept(self) -> tuple[socket.socket, tuple]:
        for _ in range(BACKLOG):
            connection, address = super().accept()
            if self.admission.admits(address[0]):
                return connection, address
            self.admission.refuse(address[0])
            connection.close()
        # As if nobody else were there: the event loop does its other work, and comes again.
        raise BlockingIOError


async def end_idle(clients: dict[Client, float], admission: Admission) -> None:
    """Of those that are idle, and of those that a changed list does not admit any more."""
    while True:
        await asyncio.sleep(1)
        late = time.monotonic() - IDLE_S
        for client, active in list(clients.items()):
            if active < late or not admission.admits(client.address):
                client.transport.abort()


async def serve(check: RoleCheck, listener: Door) -> None:
    clients: dict[Client, float] = {}
    server = await asyncio.get_running_loop().create_server(
        lambda: Client(check, clients), sock=listener, backlog=BACKLOG
    )
    async with server, asyncio.TaskGroup() as tasks:
        tasks.create_task(end_idle(clients, listener.admission))
        await server.serve_forever()


def listen(address: str, port: int, admission: Admission) -> Door:
    kind = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    listener = Door(kind, socket.SOCK_STREAM)
    listener.admission = admission
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The address may come up later than this service.
    listener.setsockopt(socket.SOL_IP, getattr(socket, "IP_FREEBIND", 15), 1)
    try:
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as problem:
        raise Failure(f"mysql_replication_check_port: {address} port {port}: {problem}") from None
    return listener


def run(address: str, port: int, max_lag: int) -> None:
    """The service."""
    check, admission = RoleCheck(max_lag), Admission()
    with listen(address, port, admission) as listener, contextlib.suppress(KeyboardInterrupt):
        check.start()
        admission.start()
        asyncio.run(serve(check, listener))
