#!/usr/bin/python3
"""Say over HTTP what this server is, for a balancer: 200 is yes, 503 is no, with a line that says why.

    GET /source     the one that may be written to
    GET /replica    replicates, and is not too far behind
    GET /readable   one of both
    GET /any        has data, however old. Where all others are gone, that is better than nothing

Every answer is from that moment and takes less than a second, whether MySQL answers or not.
"""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SOCKET = "/run/mysqld/mysqld.sock"
PATIENCE = 0.8
PATHS = ("/source", "/replica", "/readable", "/any")
Answer = tuple[bool, str]


def judge(path: str, read_only: bool, ask_for_channel: Callable[[], dict | None], max_lag: int) -> Answer:
    """The answer for one path.

    MySQL keeps whoever asks for its channel waiting while that is changed. In a hand-over that is just when balancers
    have to hear from the old source that it is closed: that answer does without.
    """
    if path == "/any":
        return True, "may be behind" if read_only else "writable"
    if path == "/source" and read_only:
        return False, "closed for writing"
    channel = ask_for_channel()
    if path == "/source" or (path == "/readable" and not read_only and not channel):
        return is_source(channel)
    return is_replica(read_only, channel, max_lag)


def is_source(channel: dict | None) -> Answer:
    """Of one that is writable: a replica that somebody has made so is still none."""
    if channel:
        return False, f"replica of {channel['Source_Host']}, although it is writable"
    return True, "source"


def is_replica(read_only: bool, channel: dict | None, max_lag: int) -> Answer:
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


def ask(path: str, max_lag: int) -> Answer:
    import pymysql

    # No password: MySQL asks the kernel which user this is.
    connection = pymysql.connect(
        unix_socket=SOCKET,
        user="mysql_replication_check",
        cursorclass=pymysql.cursors.DictCursor,
        # Later than the answer, and in the end.
        connect_timeout=2 * PATIENCE,
        read_timeout=2 * PATIENCE,
        write_timeout=2 * PATIENCE,
    )

    def first_row(query: str) -> dict | None:
        cursor.execute(query)
        return cursor.fetchone()

    with connection, connection.cursor() as cursor:
        read_only = bool(first_row("SELECT @@global.read_only AS read_only")["read_only"])
        return judge(path, read_only, lambda: first_row("SHOW REPLICA STATUS"), max_lag)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    max_lag = 0
    pool = ThreadPoolExecutor(8)

    def server_bind(self) -> None:
        # The address may come up later than this service.
        self.socket.setsockopt(socket.SOL_IP, getattr(socket, "IP_FREEBIND", 15), 1)
        super().server_bind()

    def answer(self, path: str) -> Answer:
        try:
            return self.pool.submit(ask, path, self.max_lag).result(PATIENCE)
        except TimeoutError:
            return False, f"MySQL does not answer within {PATIENCE} s"
        except Exception as problem:
            return False, f"MySQL cannot be asked: {problem}"


class Handler(BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        known = path in PATHS
        good, why = self.server.answer(path) if known else (False, f"ask for {' or '.join(PATHS)}")
        body = f"{' '.join(why.split())}\n".encode()
        self.send_response(200 if good else 503 if known else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - the name is the base class's

    def log_message(self, *_: object) -> None:
        """A line for each check of each balancer would fill the journal."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-lag", type=int, required=True)
    arguments = parser.parse_args()
    Server.max_lag = arguments.max_lag
    if ipaddress.ip_address(arguments.address).version == 6:
        Server.address_family = socket.AF_INET6
    try:
        Server((arguments.address, arguments.port), Handler).serve_forever()
    except OSError as problem:
        sys.exit(f"mysql_replication_check_port: {arguments.address} port {arguments.port}: {problem}")


if __name__ == "__main__":
    main()
