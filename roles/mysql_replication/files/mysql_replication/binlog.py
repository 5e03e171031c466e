"""What of binary logs belongs to the data: everything but the statements about accounts, which a scratch server lacks.

That is found out from the events of the files, which only the server writes: where one begins and ends, an application
has no say in. In SQL that is made of them, the text of a statement may look like the next one.

Format: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication_binlog_event.html
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mysql_replication.local import Failure

MAGIC, ENCRYPTED = b"\xfebin", b"\xfdbin"
# Seconds since 1970, kind, server, size of the whole event, its end (of 32 bits only), flags.
HEADER = struct.Struct("<IBIIIH")
QUERY, FORMAT_DESCRIPTION, PREVIOUS_GTIDS = 2, 15, 35
# What a transaction begins with: with a GTID, without one, with a tag in it.
GTIDS = (33, 34, 42)
# The last of a file: a stop, or the name of the next file.
LAST = (3, 4)
# Of a QUERY: thread, seconds, length of the database's name, error, length of the status variables.
OF_A_QUERY = struct.Struct("<IIBHH")
CHECKSUM_BYTES = 4
# Of a statement: enough for what kind it is, with comments before it.
BEGIN_BYTES = 4096

# What is between /*! and */ counts. Two dashes need a space behind them, or a control character, be it the line's end.
COMMENT = re.compile(rb"/\*!\d*|/\*.*?\*/|\*/|--(?=[\x00-\x20\x7f]|$).*?(?:\n|$)|#.*?(?:\n|$)", re.S)
ACCOUNTS = re.compile(
    rb"\s*((CREATE|ALTER|DROP|RENAME)\s+(USER|ROLE)|GRANT|REVOKE|SET\s+(PASSWORD|DEFAULT\s+ROLE))\b", re.I
)


@dataclass(frozen=True)
class Moment:
    """Where a replay ends: before a position of a file, or before the first event of a second since 1970."""

    file: str = ""
    position: int = 0
    second: float = 0.0


@dataclass(frozen=True)
class Event:
    """One event: where it begins and ends in its file, when it was, and whether it is a statement about accounts.

    Attributes:
        kind: its number in the format.
        transaction: where its transaction begins.
    """

    begin: int
    end: int
    second: int
    kind: int
    is_of_accounts: bool
    transaction: int


@dataclass(frozen=True)
class Range:
    """Events of one file, from one position to another."""

    path: Path
    begin: int
    end: int


def is_of_accounts(statement: bytes) -> bool:
    return ACCOUNTS.match(COMMENT.sub(b" ", statement)) is not None


def read_events(path: Path, first: int = len(MAGIC)) -> Iterator[Event]:
    """The events of a file from a position on, if they are complete: the server may be writing the next one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
        if magic == ENCRYPTED:
            raise Failure(
                f"{path} is encrypted (binlog_encryption), so nothing after a backup can be restored from it here"
            )
        if magic != MAGIC:
            raise Failure(f"{path} is no binary log")
        begin, with_checksum, transaction = len(MAGIC), False, 0
        while len(header := file.read(HEADER.size)) == HEADER.size:
            second, kind, _server, length, _end, _flags = HEADER.unpack(header)
            end = begin + length
            if length < HEADER.size + (OF_A_QUERY.size if kind == QUERY else 0):
                raise Failure(f"{path} is damaged at {begin}")
            if end > size:
                return
            if kind == FORMAT_DESCRIPTION:
                # Its last bytes: how checksums are made, 0 for none, and its own one.
                file.seek(end - CHECKSUM_BYTES - 1)
                with_checksum = file.read(1) != b"\0"
                file.seek(begin + HEADER.size)
            if kind in (*GTIDS, *LAST):
                transaction = begin
            found = kind == QUERY and is_of_accounts(_statement(file, length - HEADER.size, with_checksum))
            if begin >= first:
                yield Event(begin, end, second, kind, found, transaction or begin)
            # A file begins with its description, by which the others are read.
            begin = max(end, first)
            file.seek(begin)


def _statement(file: BinaryIO, length: int, with_checksum: bool) -> bytes:
    """The beginning of the statement of a QUERY, whose header has been read."""
    _thread, _seconds, database, _error, variables = OF_A_QUERY.unpack(file.read(OF_A_QUERY.size))
    before = variables + database + 1
    file.seek(before, 1)
    left = length - OF_A_QUERY.size - before - (CHECKSUM_BYTES if with_checksum else 0)
    return file.read(max(0, min(left, BEGIN_BYTES)))


def end_of_head(path: Path) -> int:
    """Where the transactions of a file begin: before, it says how it is written and what was written before."""
    head = itertools.takewhile(lambda event: event.kind in (FORMAT_DESCRIPTION, PREVIOUS_GTIDS), read_events(path))
    return max((event.end for event in head), default=len(MAGIC))


def find_ranges(paths: Sequence[Path], begin: int, until: Moment) -> list[Range]:
    """What has to be replayed, in this order.

    Args:
        paths: consecutive binary logs.
        begin: position in the first of them.
        until: where it ends.
    """
    ranges: list[Range] = []
    for path in paths:
        start = end = begin if path == paths[0] else len(MAGIC)
        ended = False
        for event in read_events(path, start):
            ended = event.begin >= until.position if path.name == until.file else 0 < until.second <= event.second
            if ended:
                # One that is not whole is none.
                end = min(end, event.transaction)
                break
            if event.is_of_accounts:
                ranges.append(Range(path, start, event.transaction))
                start = event.end
            if event.kind not in LAST:
                end = event.end
        ranges.append(Range(path, start, end))
        if ended:
            break
    return [one for one in ranges if one.begin < one.end]
