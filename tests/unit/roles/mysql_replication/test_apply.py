"""Which options of a running server differ from its file."""

from __future__ import annotations

import pytest
from mysql_replication import apply


def test_of_a_log_that_clients_have_filled_the_last_errors_are_told(tmp_path, monkeypatch):
    log = tmp_path / "error.log"
    log.write_text("[ERROR] of yesterday\n")
    monkeypatch.setattr(apply, "LOG", log)
    size = log.stat().st_size
    log.write_text(log.read_text() + "x" * apply.LOG_BYTES + "\n" + "[ERROR] unknown option\n" * 100)
    assert apply.errors_since(size) == apply.LOG_LINES * ["[ERROR] unknown option"]
    log.write_text("[ERROR] of yesterday\n[ERROR] of today\n")
    assert apply.errors_since(size) == ["[ERROR] of today"]
    log.unlink()
    assert apply.errors_since(size) == []


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


def test_what_was_changed_by_hand_is_named_with_both_values():
    own = {"max_connections": "200", "sync_binlog": "1", "super_read_only": "ON", "innodb_buffer_pool_size": "256M"}
    changed = [
        {"name": "max_connections", "value": "77", "how": "is"},
        {"name": "sync_binlog", "value": "1", "how": "is persisted as"},
        {"name": "innodb_buffer_pool_size", "value": "268435456", "how": "is"},
        {"name": "super_read_only", "value": "OFF", "how": "is"},
        {"name": "somebody_elses", "value": "5", "how": "is"},
    ]
    assert apply.drifted(own, changed) == [
        "max_connections is 77 instead of 200",
        "sync_binlog is persisted as 1, which would win over the file: 1",
    ]
