"""Binary logs: every whole event is found, a damaged file is named, and accounts are told by MySQL's own comments."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mysql_replication import binlog
from mysql_replication.binlog import Moment, Range
from mysql_replication.local import Failure

ROWS = 30
SECONDS = st.integers(0, 5)


def event(kind: int, body: bytes, second: int, checksum: bytes) -> bytes:
    whole = binlog.HEADER.size + len(body) + len(checksum)
    return binlog.HEADER.pack(second, kind, 1, whole, 0, 0) + body + checksum


def query(statement: bytes, database: bytes, variables: bytes, second: int, checksum: bytes) -> bytes:
    head = binlog.OF_A_QUERY.pack(1, 0, len(database), 0, len(variables))
    return event(binlog.QUERY, head + variables + database + b"\0" + statement, second, checksum)


@st.composite
def logs(draw) -> tuple[list[bytes], list[bool]]:
    """Events of a log, the description first, and which of them are about accounts."""
    checksum = draw(st.sampled_from([b"", b"sum!"]))
    events, ours = [event(binlog.FORMAT_DESCRIPTION, b"d" * 57 + bytes([bool(checksum)]), 0, b"sum!")], [False]
    for _number in range(draw(st.integers(0, 5))):
        second, of_accounts = draw(SECONDS), draw(st.booleans())
        if of_accounts or draw(st.booleans()):
            tail = draw(st.binary(max_size=20))
            statement = b"GRANT " + tail if of_accounts else b"INSERT " + tail
            variables = draw(st.binary(max_size=9))
            events.append(query(statement, draw(st.binary(max_size=9)), variables, second, checksum))
        else:
            events.append(event(ROWS, b"GRANT " + draw(st.binary(max_size=9)), second, checksum))
        ours.append(of_accounts)
    return events, ours


@pytest.fixture(scope="module")
def path():
    with tempfile.TemporaryDirectory() as place:
        yield Path(place, "binlog.000001")


def places_of(events: list[bytes]) -> list[int]:
    places = [len(binlog.MAGIC)]
    for one in events:
        places.append(places[-1] + len(one))
    return places


@given(logs(), st.integers(0, 60))
def test_every_whole_event_is_found_and_none_that_is_being_written(path, log, cut):
    events, ours = log
    whole = binlog.MAGIC + b"".join(events)
    path.write_bytes(whole[: max(len(binlog.MAGIC), len(whole) - cut)])
    found = list(binlog.read_events(path))
    places = places_of(events)
    size = path.stat().st_size
    expected = [(begin, end) for begin, end in zip(places, places[1:], strict=False) if end <= size]
    assert [(one.begin, one.end) for one in found] == expected
    assert [one.is_of_accounts for one in found] == ours[: len(found)]


@given(logs(), st.data())
def test_a_replay_has_each_event_once_but_those_about_accounts(path, log, data):
    events, ours = log
    path.write_bytes(binlog.MAGIC + b"".join(events))
    places = places_of(events)
    first = data.draw(st.integers(0, len(events)))
    last = data.draw(st.integers(first, len(events)))
    until = Moment(path.name, places[last])
    ranges = binlog.find_ranges([path], places[first], until)
    wanted = [number for number in range(first, last) if not ours[number]]
    replayed = [
        number
        for number in range(len(events))
        if any(one.begin <= places[number] and places[number + 1] <= one.end for one in ranges)
    ]
    assert replayed == wanted
    assert sum(one.end - one.begin for one in ranges) == sum(len(events[number]) for number in wanted)
    assert all(isinstance(one, Range) and one.begin < one.end for one in ranges)


@st.composite
def damaged(draw) -> bytes:
    """A log with some bytes of others in it, or headers that say what they want."""
    content = bytearray(binlog.MAGIC + b"".join(draw(logs())[0]))
    for _number in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content) - 1))
        content[place : place + 1] = draw(st.binary(min_size=1, max_size=4))
    kind, length = draw(st.sampled_from([binlog.QUERY, binlog.FORMAT_DESCRIPTION])), draw(st.integers(0, 60))
    if draw(st.booleans()):
        content += binlog.HEADER.pack(1, kind, 1, length, 0, 0) + draw(st.binary(max_size=60))
    return bytes(content)


@given(st.one_of(damaged(), st.binary(max_size=80), st.binary(max_size=80).map(binlog.MAGIC.__add__)))
def test_a_damaged_file_is_named_or_read_in_order(path, content):
    path.write_bytes(content)
    try:
        found = list(binlog.read_events(path))
    except Failure as failure:
        assert str(path) in str(failure)
        return
    assert all(one.begin < one.end <= len(content) for one in found)
    assert all(one.end <= two.begin for one, two in zip(found, found[1:], strict=False))


# What MySQL passes over: https://dev.mysql.com/doc/refman/en/comments.html
NOTE = st.text("GRANTxy'\"# ;*", max_size=8).map(str.encode)
GAP = st.one_of(
    st.sampled_from([b" ", b"\n", b"\t", b"\r\n", b"\x0b", b"/**/", b"/*!80000 */", b"--\n", b"#\n", b"-- \n"]),
    NOTE.filter(lambda note: b"*/" not in note + b"*").map(lambda note: b"/* " + note + b" */"),
    NOTE.map(lambda note: b"# " + note + b"\n"),
    NOTE.map(lambda note: b"--\t" + note + b"\n"),
)
GAPS = st.lists(GAP, min_size=1, max_size=4).map(b"".join)
OF_ACCOUNTS = st.sampled_from(
    [
        *([verb, noun] for verb in (b"CREATE", b"Alter", b"drop", b"RENAME") for noun in (b"USER", b"role")),
        *([b"GRANT"], [b"revoke"], [b"SET", b"PASSWORD"], [b"SET", b"DEFAULT", b"ROLE"]),
    ]
)
OTHERS = st.sampled_from([[b"CREATE", b"TABLE"], [b"INSERT"], [b"SET", b"x"], [b"DROP", b"VIEW"], [b"BEGIN"]])


@given(GAPS, GAPS, OF_ACCOUNTS, st.binary(max_size=20))
def test_a_statement_about_accounts_is_told_through_any_comment(before, between, words, after):
    assert binlog.is_of_accounts(before + between.join(words) + b" " + after)


@given(GAPS, GAPS, OTHERS, st.binary(max_size=20))
def test_another_statement_is_none_whatever_it_contains(before, between, words, after):
    assert not binlog.is_of_accounts(before + between.join(words) + b" 'GRANT " + after)


def test_the_header_is_as_long_as_the_server_writes_it():
    assert (binlog.HEADER.size, struct.calcsize("<IIBHH")) == (19, binlog.OF_A_QUERY.size)
