"""Sets of transactions are sets: parsed, joined and parted as sets of single transactions are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mysql_replication import gtids

UUIDS = ("3e11fa47-71ca-11e1-9e33-c80aa9429562", "3e11fa47-71ca-11e1-9e33-c80aa9429563")
KEYS = st.sampled_from([*UUIDS, f"{UUIDS[0]}:backup", f"{UUIDS[0]}:_tag"])
NUMBERS = st.one_of(st.integers(1, 12), st.integers(1, 2**63 - 2))
SETS = st.dictionaries(KEYS, st.sets(st.integers(1, 12), min_size=1), max_size=3)

Model = dict[str, set[int]]


def written(model: Model) -> str:
    """As the server does not write it: each number by itself, spaces and line breaks between."""
    return ",\n ".join(f"{key.upper()}:{':'.join(map(str, numbers))}" for key, numbers in model.items())


def expanded(found: gtids.Gtids) -> Model:
    return {key: {n for first, last in spans for n in range(first, last + 1)} for key, spans in found.items()}


@given(SETS)
def test_a_set_is_what_was_written(model):
    found = gtids.parse(written(model))
    assert expanded(found) == model
    assert gtids.parse(gtids.show(found)) == found
    assert gtids.count(found) == sum(map(len, model.values()))


@given(SETS, SETS)
def test_two_sets_are_joined_and_parted_as_sets_are(one, other):
    first, second = gtids.parse(written(one)), gtids.parse(written(other))
    both = {key: one.get(key, set()) | other.get(key, set()) for key in one.keys() | other.keys()}
    rest = {key: numbers - other.get(key, set()) for key, numbers in one.items()}
    assert expanded(gtids.union(first, second)) == both
    assert expanded(gtids.subtract(first, second)) == {key: numbers for key, numbers in rest.items() if numbers}


@given(st.lists(st.tuples(KEYS, NUMBERS, NUMBERS), max_size=6))
def test_intervals_of_any_length_are_kept_apart_and_in_order(spans):
    text = ",".join(f"{key}:{min(one, two)}-{max(one, two)}" for key, one, two in spans)
    found = gtids.parse(text)
    for intervals in found.values():
        assert all(first <= last for first, last in intervals)
        assert all(one[1] + 1 < two[0] for one, two in zip(intervals, intervals[1:], strict=False))
    assert gtids.subtract(found, found) == {}
    assert gtids.union(found, found) == found


@given(st.dictionaries(KEYS, st.dictionaries(st.integers(1, 12), st.integers(0, 99), min_size=1), max_size=3))
def test_what_threads_own_is_the_set_without_the_threads(owned):
    text = ",".join(
        f"{key}:{':'.join(f'{number}#{thread}' for number, thread in threads.items())}"
        for key, threads in owned.items()
    )
    assert expanded(gtids.parse_owned(text)) == {key: set(threads) for key, threads in owned.items()}


@given(st.one_of(st.text(), st.text("0123456789-:,#ax \n", max_size=30), st.from_regex(r"\A(x|y)(:\d{1,3}-?\d?)+\Z")))
def test_another_text_is_no_set_or_one_that_is_sound(text):
    try:
        found = gtids.parse(text)
    except ValueError:
        return
    assert all(1 <= first <= last for intervals in found.values() for first, last in intervals)
    assert gtids.parse(gtids.show(found)) == found
