"""Every regular expression ends soon, whatever text of a thousand signs it gets."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PROJECT = Path(__file__).resolve().parents[2]
COLLECTION = "ansible_collections.foobar.web_infrastructure"
FOLDERS = {
    PROJECT / "plugins": f"{COLLECTION}.plugins.",
    **{
        PROJECT / "roles" / role / "files": "" for role in ("gunicorn_flask", "haproxy_keepalived", "mysql_replication")
    },
}
# They are programs, which do their work when they are read.
PROGRAMS = ("activate", "check")
LENGTH = 1000
# One that goes back and forth takes hours for as many signs.
SECONDS = 1


def expressions() -> Iterator[tuple[str, re.Pattern]]:
    """Those that modules keep, by name."""
    for folder, prefix in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            name = ".".join(path.relative_to(folder).with_suffix("").parts)
            if path.stem == "__init__" or name in PROGRAMS:
                continue
            module = importlib.import_module(f"{prefix}{name}")
            for key, value in vars(module).items():
                if isinstance(value, re.Pattern):
                    yield f"{name}.{key}", value


FOUND = dict(expressions())


def test_there_are_expressions():
    assert len(FOUND) > 40


PIECES = st.text("a0-_./:;,=%$'\"\\#*!@[]{}() \n\tAZ9\u0660", min_size=1, max_size=4)


# There are many expressions.
@settings(max_examples=settings.default.max_examples // 10)
@pytest.mark.parametrize("name", FOUND)
@given(st.lists(PIECES, max_size=2).map("".join), PIECES, PIECES)
def test_an_expression_ends_soon(name, begin, piece, end):
    pattern = FOUND[name]
    text = (begin + piece * LENGTH)[:LENGTH] + end
    given_text = text.encode() if isinstance(pattern.pattern, bytes) else text
    start = time.process_time()
    pattern.fullmatch(given_text)
    pattern.sub(given_text[:0], given_text)
    assert time.process_time() - start < SECONDS
