"""Dumps of tables, and the programs that write and load them: what they say and how long they wait is bounded."""

from __future__ import annotations

import gzip
import os
import select
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mysql_replication.local import PATIENCE, Failure, connect_as_root, query

# mysqldump gives rows all the time, if it does not wait for a lock; the first ones while others wait for it.
SILENCE_S = 600
START_S = 60
LAST_WORDS = 500


def connect(socket: str):
    return connect_as_root(socket, tuples=True, charset="utf8mb4", init_command=PATIENCE)


def errors_of(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        lines = last_words(file, 1 << 16).splitlines()
    return "\n".join([line for line in lines if "[ERROR]" in line][-5:])


def last_words(file: BinaryIO, length: int = LAST_WORDS, begin: int = 0) -> str:
    """The end of what a program has said since its file had the size `begin`, however much that is."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(begin, size - length))
    return file.read(length).decode(errors="replace").strip()


def run(command: list[str], log: Path | None = None, **arguments) -> None:
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(command, stderr=errors, **arguments)
        if done.returncode != 0:
            raise Failure(f"{command[0]} failed: {last_words(errors) or (errors_of(log) if log else '')}")


def load(lines: Iterable[bytes], socket: str) -> None:
    client = ["mysql", "--no-defaults", f"--socket={socket}", "--user=root", "--binary-mode"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(client, stdin=subprocess.PIPE, stderr=errors)
        try:
            with process.stdin:
                process.stdin.write(f"{PATIENCE};\n".encode())
                process.stdin.writelines(lines)
        except BrokenPipeError:
            pass  # its error says why
        if process.wait() != 0:
            raise Failure(f"the restore was refused: {last_words(errors)}")


@contextmanager
def reading(command: list[str]) -> Iterator[Iterator[bytes]]:
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        try:
            with process.stdout:
                yield blocks(process.stdout, command[0])
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.wait() != 0:
            raise Failure(f"{command[0]} failed: {last_words(errors)}")


def blocks(output: BinaryIO, name: str) -> Iterator[bytes]:
    """What a program writes. Its silence has an end: locks of others decide how long that is."""
    patience = START_S
    while True:
        if not select.select([output], [], [], patience)[0]:
            raise Failure(
                f"{name} has given nothing for {patience} s; somebody holds a lock that it waits for, "
                f"performance_schema.metadata_locks says who"
            )
        block = os.read(output.fileno(), 1 << 20)
        if not block:
            return
        yield block
        patience = SILENCE_S


def dumping(socket: str, names: list[str], *options: str) -> list[str]:
    """The command that dumps tables alone: the text of views, routines, triggers and events is not for a client."""
    with connect(socket) as connection, connection.cursor() as cursor:
        views = query(cursor, "SELECT table_schema, table_name FROM information_schema.views")
    ignored = [f"--ignore-table={schema}.{view}" for schema, view in views if schema in names]
    command = ["mysqldump", "--no-defaults", f"--socket={socket}", "--user=root", "--single-transaction"]
    command += ["--skip-triggers", "--skip-comments", "--hex-blob", "--no-tablespaces"]
    return [*command, *ignored, *options, "--databases", *names]


def dump(target: Path, socket: str, name: str) -> None:
    command = dumping(socket, [name], "--set-gtid-purged=OFF", "--add-drop-database")
    with reading(command) as output, gzip.open(target, "wb", compresslevel=4) as out:
        out.writelines(output)
