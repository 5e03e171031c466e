"""Dumps hold tables alone, and the programs that make them neither wait nor talk without an end."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from mysql_replication import dumps


def test_no_text_of_an_application_is_dumped_for_a_client(monkeypatch):
    monkeypatch.setattr(
        dumps, "connect", lambda _socket: contextlib.nullcontext(SimpleNamespace(cursor=contextlib.nullcontext))
    )
    monkeypatch.setattr(dumps, "query", lambda _cursor, _statement: [("shop", "v"), ("other", "w")])
    command = dumps.dumping("socket", ["shop"], "--add-drop-database")
    assert {"--skip-triggers", "--skip-comments", "--ignore-table=shop.v"} <= set(command)
    assert not {"--routines", "--events", "--triggers", "--ignore-table=other.w"} & set(command)
    assert command[-3:] == ["--add-drop-database", "--databases", "shop"]


def test_a_program_that_falls_silent_is_ended(monkeypatch):
    monkeypatch.setattr(dumps, "SILENCE_S", 0.1)

    def read(script: str) -> bytes:
        with dumps.reading(["sh", "-c", script]) as output:
            return b"".join(output)

    assert read("echo x") == b"x\n"
    with pytest.raises(dumps.Failure, match=r"sh has given nothing for 0.1 s; somebody holds a lock"):
        read("echo x; exec sleep 60")
    with pytest.raises(dumps.Failure, match="sh failed: wrong"):
        read("echo x; echo wrong >&2; exit 1")


def test_of_what_a_program_says_the_end_is_read(tmp_path):
    with pytest.raises(dumps.Failure) as said:
        dumps.run(["sh", "-c", "head --bytes=1000000 /dev/zero | tr '\\0' x >&2; exit 1"])
    assert len(str(said.value)) < 2 * dumps.LAST_WORDS
    log = tmp_path / "log"
    log.write_text("[ERROR] first\n" + "x" * (1 << 17) + "\n[ERROR] last\n")
    assert dumps.errors_of(log) == "[ERROR] last"
