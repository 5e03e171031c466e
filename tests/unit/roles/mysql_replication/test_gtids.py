"""Sets of transactions: parsed, compared, written."""

from __future__ import annotations

import pytest
from mysql_replication import gtids
from mysql_replication.gtids import parse


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("", {}),
        ("x:1", {"x": [(1, 1)]}),
        ("x:1-5:7,\ny:2-3", {"x": [(1, 5), (7, 7)], "y": [(2, 3)]}),
        ("x:1-5:6-9", {"x": [(1, 9)]}),
        ("X:1:tag:4-5", {"x": [(1, 1)], "x:tag": [(4, 5)]}),
    ],
)
def test_sets_are_parsed_as_the_server_writes_them(text, parsed):
    assert parse(text) == parsed


@pytest.mark.parametrize(
    "text", [":", ":1", "x", "x:", "x:0", "x:0-3", "x:5-2", "x:1-", "x:tag", "x:1:tag", "x:\u00b2"]
)
def test_another_text_is_no_set(text):
    with pytest.raises(ValueError, match="is no set of transactions"):
        parse(f"y:1,{text}")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("", {}), ("x:23841#57", {"x": [(23841, 23841)]}), ("x:7#52:8#53,\ny:1#9", {"x": [(7, 8)], "y": [(1, 1)]})],
)
def test_what_threads_own_is_a_set(text, parsed):
    assert gtids.parse_owned(text) == parsed


@pytest.mark.parametrize(
    ("one", "other", "rest"),
    [
        ("x:1-5", "x:1-5", ""),
        ("x:1-5", "", "x:1-5"),
        ("x:1-9", "x:3-4:6", "x:1-2:5:7-9"),
        ("x:4", "x:1-9", ""),
        ("x:1-3,y:1", "x:2-8", "x:1,y:1"),
        ("x:5-9", "x:1-5:9-12", "x:6-8"),
        ("x:tag:1-2", "x:1-9", "x:tag:1-2"),
    ],
)
def test_what_one_set_has_and_the_other_lacks(one, other, rest):
    assert gtids.show(gtids.subtract(parse(one), parse(other))) == rest


def test_a_union_has_both_and_a_count_counts():
    both = gtids.union(parse("x:1-3"), parse("x:4-5,y:1"))
    assert gtids.show(both) == "x:1-5,y:1"
    assert gtids.count(both) == 6
