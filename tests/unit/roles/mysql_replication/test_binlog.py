"""Which events of binary logs are replayed: all but statements about accounts, whatever the others contain."""

from __future__ import annotations

import struct

import pytest
from mysql_replication import binlog
from mysql_replication.binlog import Moment, Range
from mysql_replication.local import Failure

ROWS = 30


def event(kind: int, body: bytes, second: int = 1) -> bytes:
    return struct.pack("<IBIIIH", second, kind, 1, 19 + len(body) + 4, 0, 0) + body + b"sum!"


def description(checksum: int = 1) -> bytes:
    return event(15, b"d" * 57 + bytes([checksum]))


def query(statement: str, database: str = "shop", second: int = 1) -> bytes:
    variables = b"v" * 11
    head = struct.pack("<IIBHH", 1, 0, len(database), 0, len(variables))
    return event(2, head + variables + database.encode() + b"\0" + statement.encode(), second)


@pytest.fixture
def log(tmp_path):
    """Return a function that writes a binary log of some events, and returns its path and where they begin and end."""

    def write(*events: bytes, name: str = "binlog.000001"):
        path, places = tmp_path / name, [4]
        path.write_bytes(binlog.MAGIC + b"".join(events))
        for one in events:
            places.append(places[-1] + len(one))
        return path, places

    return write


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE USER x@y IDENTIFIED WITH 'caching_sha2_password' AS 'z'",
        "alter  user x@y",
        "DROP ROLE r",
        "RENAME USER x TO y",
        "/* a */ GRANT ALL ON *.* TO x@y",
        "-- a\n# b\nREVOKE ALL ON *.* FROM x@y",
        "/*!80000 GRANT ALL ON *.* TO x@y */",
        "CREATE/**/USER x@y",
        "--\nGRANT ALL ON *.* TO x@y",
        "CREATE/*!80000 */USER x@y",
        "/*!80000 CREATE */ USER x@y",
        "SET PASSWORD FOR x@y = 'z'",
        "SET DEFAULT ROLE r TO x@y",
    ],
)
def test_a_statement_about_accounts_is_left_out(log, statement):
    path, places = log(description(), query("CREATE TABLE a (id INT)"), query(statement), query("DROP TABLE b"))
    assert binlog.find_ranges([path], 4, Moment()) == [Range(path, 4, places[2]), Range(path, places[3], places[4])]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (id INT) COMMENT '\n/*!*/;\nGRANT ALL ON *.* TO x@y\n/*!*/;\n'",
        "GRANTED",
        "CREATE TABLE user (id INT)",
        "INSERT INTO t VALUES ('GRANT')",
        "/* GRANT ALL */ CREATE TABLE t (id INT)",
        "CREATE DEFINER=a@b EVENT e ON SCHEDULE EVERY 1 DAY DO GRANT ALL ON *.* TO x",
    ],
)
def test_whatever_another_statement_contains_it_stays(log, statement):
    path, places = log(description(), query(statement), event(ROWS, b"CREATE USER"))
    assert binlog.find_ranges([path], 4, Moment()) == [Range(path, 4, places[-1])]


def test_a_replay_begins_and_ends_where_it_should(log):
    one, places = log(description(), *(query(f"INSERT {number}", second=number) for number in (1, 2, 3)))
    two, others = log(description(), query("GRANT x", second=4), query("INSERT", second=5), name="binlog.000002")
    both, begin = [one, two], places[2]
    rest = Range(one, begin, places[4])
    assert binlog.find_ranges(both, begin, Moment()) == [
        rest,
        Range(two, 4, others[1]),
        Range(two, others[2], others[3]),
    ]
    assert binlog.find_ranges(both, begin, Moment(second=3)) == [Range(one, begin, places[3])]
    assert binlog.find_ranges(both, begin, Moment(second=2.5)) == [Range(one, begin, places[3])]
    # What comes after that is not replayed, however early it says to be.
    assert binlog.find_ranges(both, begin, Moment(second=2)) == []
    assert binlog.find_ranges([one], begin, Moment(one.name, places[3])) == [Range(one, begin, places[3])]
    assert binlog.find_ranges(both, begin, Moment(two.name, others[1])) == [rest, Range(two, 4, others[1])]


def test_an_event_that_is_being_written_is_left(log):
    path, places = log(description(), query("INSERT 1"), query("INSERT 2")[:-5])
    assert binlog.find_ranges([path], 4, Moment()) == [Range(path, 4, places[2])]


def test_without_checksums_a_statement_is_read_to_its_end(log):
    plain = query("GRANT")[:-4]
    plain = plain[:9] + struct.pack("<I", len(plain)) + plain[13:]
    path, places = log(description(0), plain)
    assert binlog.find_ranges([path], 4, Moment()) == [Range(path, 4, places[1])]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xfdbin", "is encrypted"), (b"text", "is no binary log"), (binlog.MAGIC + bytes(19), "is damaged at 4")]
    # A statement without the room for what comes before one.
    + [(binlog.MAGIC + struct.pack("<IBIIIH", 1, 2, 1, 19, 0, 0), "is damaged at 4")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, said):
    path = tmp_path / "binlog.000001"
    path.write_bytes(content)
    with pytest.raises(Failure, match=f"binlog.000001 {said}"):
        list(binlog.read_events(path))


GTID = 33


def test_a_statement_about_accounts_goes_with_the_number_of_its_transaction(log):
    path, places = log(description(), event(GTID, b"1"), query("DROP USER x"), event(GTID, b"2"), query("DROP TABLE b"))
    assert binlog.find_ranges([path], 4, Moment()) == [Range(path, 4, places[1]), Range(path, places[3], places[5])]


def test_a_transaction_that_the_limit_cuts_is_left_out(log):
    row = event(ROWS, b"row")
    path, places = log(
        description(), event(GTID, b"1"), query("BEGIN"), row, event(GTID, b"2"), query("BEGIN"), row, row
    )
    cut = [Range(path, 4, places[4])]
    assert binlog.find_ranges([path], 4, Moment(path.name, places[7])) == cut
    assert binlog.find_ranges([path], 4, Moment(path.name, places[4])) == cut


def test_the_name_of_the_next_file_is_not_replayed(log):
    path, places = log(description(), event(GTID, b"1"), query("DROP TABLE b"), event(4, b"binlog.000002"))
    assert binlog.find_ranges([path], 4, Moment()) == [Range(path, 4, places[3])]


def test_the_head_of_a_file_ends_where_its_transactions_begin(log):
    path, places = log(description(), event(35, b"1-9"), event(GTID, b"1"), query("DROP TABLE b"))
    assert binlog.end_of_head(path) == places[2]
    assert binlog.end_of_head(log(description())[0]) == places[1]
