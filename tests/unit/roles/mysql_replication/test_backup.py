"""What a backup and a restore decide before they act."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from mysql_replication import backup
from mysql_replication.binlog import Moment
from mysql_replication.programs import Program


def test_the_kind_follows_the_size_unless_it_is_given():
    assert backup.choose_kind("auto", 10 << 20, 10) == "physical"
    assert backup.choose_kind("auto", (10 << 20) - 1, 10) == "logical"
    assert backup.choose_kind("logical", 10 << 30, 10) == "logical"


def test_the_newest_backup_always_stays_and_unfinished_ones_do_not_count():
    names = ["20260101T000000Z-logical", "20260102T000000Z-physical", ".unfinished-20260103T000000Z-logical", ".lock"]
    assert backup.removable(names, 1) == ["20260101T000000Z-logical"]
    assert backup.removable(names, 0) == ["20260101T000000Z-logical"]
    assert backup.removable(names, 2) == []


def test_a_moment_is_a_time_or_a_position():
    moment = datetime.datetime(2026, 11, 25, 3)  # noqa: DTZ001 - of this host's time zone, whichever that is
    assert backup.parse_until("2026-11-25 03:00:00") == Moment(second=moment.timestamp())
    assert backup.parse_until("binlog.000003:1234") == Moment(file="binlog.000003", position=1234)
    assert backup.parse_until("") is None
    with pytest.raises(backup.Failure, match="no moment"):
        backup.parse_until("2026-13-25 03:00:00")


def test_every_table_that_differs_is_named():
    assert backup.compare_tables({"a.t": [1, 2]}, {"a.t": [1, 2]}) == []
    assert "a.t: [1, 2] live, None restored" in backup.compare_tables({"a.t": [1, 2]}, {})[0]


def test_a_dump_of_an_older_version_is_not_loaded():
    old = {"name": "20260101T000000Z-logical", "kind": "logical"}
    with pytest.raises(
        backup.Failure, match=r"was made by an older version: .* zcat /b/dump.sql.gz . mysql --binary-mode"
    ):
        backup.programs_of(old, Path("/b/dump.sql.gz"))
    assert (
        backup.programs_of(old | {"kind": "physical"}, Path())
        == backup.programs_of(old | {"programs": []}, Path())
        == []
    )


def test_a_definer_that_is_another_one_is_named():
    view = Program("VIEW", "shop", "v", "app@%", *6 * [""])
    stolen = replace(view, definer="root@localhost")
    assert backup.compare_programs([view], [view], []) == []
    assert backup.compare_programs([view], [], [str(view)]) == []
    assert backup.compare_programs([view], [stolen], []) == [
        "view shop.v of app@% was not restored",
        "view shop.v of root@localhost is not to be there",
    ]
