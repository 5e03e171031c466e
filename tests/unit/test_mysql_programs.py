"""The programs of mysql_replication: which options differ, and what a backup and a restore decide before they act."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "roles/mysql_replication/files"


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"mysql_{name}", FILES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for it.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


apply, backup = load("apply"), load("backup")


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("256M", "268435456", True),
        ("ON", "1", True),
        ("off", "OFF", True),
        ("2.0", "2.000000", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("1K", "1000", False),
        ("ON", "OFF", False),
    ],
)
def test_values_are_compared_as_the_server_means_them(one, other, equal):
    assert (apply.normal(one) == apply.normal(other)) is equal


def test_the_last_option_counts_and_dashes_are_underscores():
    lines = ["# comment", "[mysqld]", "--bind-address=127.0.0.1", "bind_address = 192.0.2.1"]
    assert apply.parse(lines) == {"bind_address": "192.0.2.1"}


def test_only_what_differs_is_set_and_what_is_gone_gets_its_default():
    running = {"max_connections": "200", "log_bin": "ON", "log_bin_basename": "/var/lib/mysql/binlog", "io": "5"}
    wanted = {"max_connections": "150", "log_bin": "binlog"}
    before = {"max_connections": "200", "io": "5"}
    assert apply.compare(wanted, wanted, before, running) == ({"max_connections": "150", "io": None}, [])


def test_an_option_without_a_variable_counts_when_it_has_changed():
    assert apply.compare({}, {"mysqlx": "OFF"}, {"mysqlx": "ON"}, {}) == ({}, ["mysqlx"])
    assert apply.compare({}, {"mysqlx": "OFF"}, {"mysqlx": "OFF"}, {}) == ({}, [])


def test_a_text_is_quoted():
    assert apply.literal("a'b\\") == "'a''b\\\\'"
    assert (apply.literal("1M"), apply.literal("0.5"), apply.literal(None)) == ("1048576", "0.5", "DEFAULT")


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
    assert backup.parse_until("2026-11-25 03:00:00") == ["--stop-datetime=2026-11-25 03:00:00"]
    assert backup.parse_until("binlog.000003:1234") == ["--stop-position=1234"]
    assert backup.parse_until("") == []
    with pytest.raises(backup.Failure, match="no moment"):
        backup.parse_until("2026-13-25 03:00:00")


def test_statements_about_accounts_are_left_out_of_a_replay():
    lines = [b"SET TIMESTAMP=1/*!*/;\n", b"CREATE USER x@y\n", b"/*!*/;\n", b"CREATE TABLE t (id INT)\n", b"/*!*/;\n"]
    assert list(backup.without_accounts(lines)) == [lines[0], *lines[3:]]
    # In the middle of a statement the same words are data.
    data = [b"INSERT INTO t VALUES ('\n", b"GRANT me\n", b"')/*!*/;\n"]
    assert list(backup.without_accounts(data)) == data


def test_every_table_that_differs_is_named():
    assert backup.compare_tables({"a.t": [1, 2]}, {"a.t": [1, 2]}) == []
    assert "a.t: [1, 2] live, None restored" in backup.compare_tables({"a.t": [1, 2]}, {})[0]
