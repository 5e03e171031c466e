"""Sets of transactions, as MySQL writes them: 3e11fa47-...:1-5:7, with a tag 3e11fa47-...:tag:1-5. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

Gtids = dict[str, list[tuple[int, int]]]

INTERVAL = re.compile(r"([1-9][0-9]*)(?:-([1-9][0-9]*))?")
TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")


def parse(text: str) -> Gtids:
    """``uuid:1-5:7,uuid:tag:1`` as intervals by ``uuid`` or ``uuid:tag``.

    Raises:
        ValueError: the text is no such set.
    """
    found: Gtids = {}
    for part in filter(None, "".join((text or "").split()).split(",")):
        uuid, *pieces = part.lower().split(":")
        key = uuid
        for piece in pieces:
            if TAG.fullmatch(piece):
                key = f"{uuid}:{piece}"
            else:
                found.setdefault(key, []).append(_interval(piece, part))
        if not uuid or key not in found:
            raise ValueError(f"{part!r} is no set of transactions")
    return {key: _merged(intervals) for key, intervals in found.items()}


def _interval(piece: str, part: str) -> tuple[int, int]:
    match = INTERVAL.fullmatch(piece)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 < first <= last:
        raise ValueError(f"{part!r} is no set of transactions")
    return first, last


def parse_owned(text: str) -> Gtids:
    """``@@global.gtid_owned``, where each number has the thread behind it that owns it: ``uuid:7#52:8#53``."""
    return parse(re.sub(r"#\d+", "", text or ""))


def _merged(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged


def union(one: Gtids, other: Gtids) -> Gtids:
    return {key: _merged([*one.get(key, []), *other.get(key, [])]) for key in one.keys() | other.keys()}


def subtract(one: Gtids, other: Gtids) -> Gtids:
    """What is in one and not in the other."""
    rest: Gtids = {}
    for key, intervals in one.items():
        for first, last in intervals:
            for start, end in other.get(key, []):
                if end < first or start > last:
                    continue
                if start > first:
                    rest.setdefault(key, []).append((first, start - 1))
                first = end + 1
            if first <= last:
                rest.setdefault(key, []).append((first, last))
    return rest


def count(gtids: Gtids) -> int:
    return sum(last - first + 1 for intervals in gtids.values() for first, last in intervals)


def show(gtids: Gtids) -> str:
    def ranges(intervals: list[tuple[int, int]]) -> str:
        return ":".join(f"{first}-{last}" if last > first else str(first) for first, last in intervals)

    return ",".join(f"{key}:{ranges(intervals)}" for key, intervals in sorted(gtids.items()))
