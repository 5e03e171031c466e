"""Who is the source, what a switchover and a failover refuse."""

from __future__ import annotations

import pytest
from mysql_replication import gtids
from mysql_replication.gtids import parse
from mysql_replication.local import Failure, Loss, Undecided
from mysql_replication.plans import View, choose_source, plan_failover, plan_switchover

MEMBERS = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}


def view(executed: str = "x:1-5", *, source: str = "", writable: bool = False, **more) -> View:
    return View(
        uuid=more.pop("uuid", "x"),
        read_only=not writable,
        executed=parse(executed),
        source=MEMBERS.get(source, ""),
        databases=more.pop("databases", 1),
        running=bool(source) and not more.get("error"),
        **more,
    )


# --- who is the source


def test_the_open_one_is_the_source_wherever_it_stands_in_the_list():
    assert choose_source(MEMBERS, {"a": view(source="b"), "b": view(writable=True), "c": None}) == "b"


def test_a_replica_that_somebody_made_writable_is_no_source():
    assert choose_source(MEMBERS, {"a": view(writable=True), "b": view(source="a", writable=True), "c": None}) == "a"


def test_of_two_open_ones_the_one_that_was_promoted_later_counts():
    assert choose_source(MEMBERS, {"a": view(writable=True), "b": view(writable=True, term=1), "c": None}) == "b"
    with pytest.raises(Failure, match="a and b are writable"):
        choose_source(MEMBERS, {"a": view(writable=True), "b": view(writable=True), "c": None})


def test_without_an_open_one_everybody_is_asked_first():
    with pytest.raises(Undecided, match="no member is writable, and c cannot be asked"):
        choose_source(MEMBERS, {"a": view(), "b": view(source="a"), "c": None})


@pytest.mark.parametrize(
    ("views", "source"),
    [
        # A new group: the first of the list, whatever transactions the empty servers have.
        ([view("x:1", databases=0), view("y:1-9", databases=0), view("", databases=0)], "a"),
        # The one that the others follow.
        ([view(source="b"), view(), view(source="b")], "b"),
        # Between two that follow nobody: the one that has everything, then the one that is followed.
        ([view("x:1-5"), view("x:1-5,y:1"), view(source="b")], "b"),
        ([view(), view(), view(source="b")], "b"),
        # The old source has come back with less than what has been written since.
        ([view("x:1-5"), view("x:1-9"), view("x:1-7", source="b")], "b"),
    ],
)
def test_a_closed_group_opens_the_one_that_has_everything(views, source):
    assert choose_source(MEMBERS, dict(zip(MEMBERS, views, strict=True))) == source


def test_members_that_have_parted_are_left_to_a_person():
    with pytest.raises(Failure, match="each has transactions that another one lacks: a has x:1-5,y:1"):
        choose_source(MEMBERS, {"a": view("x:1-5,y:1"), "b": view("x:1-6"), "c": view(source="a")})


# --- switchover


def group(**changes: View | None) -> dict[str, View | None]:
    return {"a": view(writable=True), "b": view(source="a"), "c": view(source="a")} | changes


def test_a_switchover_names_the_one_that_hands_over():
    assert plan_switchover(MEMBERS, group(), "b") == "a"
    assert plan_switchover(MEMBERS, group(), "a") == "a"
    # An interrupted one is taken up again.
    assert plan_switchover(MEMBERS, group(a=view()), "b") == "a"
    assert plan_switchover(MEMBERS, group(b=view()), "b") == "a"


@pytest.mark.parametrize(
    ("to", "changes", "words"),
    [
        ("d", {}, "'d' is no member"),
        ("b", {"c": None}, "c cannot be asked"),
        ("b", {"b": view(source="a", error="no way")}, "b does not replicate from a: no way"),
        ("b", {"b": view("x:1-5,y:1", source="a")}, "b has transactions that a does not have: y:1"),
    ],
)
def test_a_switchover_that_cannot_end_well_is_not_begun(to, changes, words):
    with pytest.raises(Failure, match=words):
        plan_switchover(MEMBERS, group(**changes), to)


def test_what_the_source_has_written_meanwhile_is_not_foreign():
    later = group(b=view("x:1-7", source="a", uuid="y"))
    assert plan_switchover(MEMBERS, later, "b") == "a"


# --- failover


def plan(views, fenced=(), accepted=(), blocks=True):
    return plan_failover(MEMBERS, views, list(fenced), list(accepted), blocks)


def test_a_replica_of_a_source_that_acknowledged_alone_is_promoted_only_if_the_loss_is_accepted():
    """Without a replica that keeps up nothing waits, whatever the policy; the source does not close itself either."""
    dead = {"a": None, "b": view(source="a", alone=True), "c": view(source="a", alone=True)}
    with pytest.raises(Failure, match="a may have acknowledged writes that no replica has .no replica was known"):
        plan(dead)
    assert plan(dead, accepted=["a"]) == "b"
    with pytest.raises(Loss) as refused:
        plan(dead)
    assert refused.value.names == "a"
    # One that was away has not learned of it.
    with pytest.raises(Loss):
        plan(dead | {"c": view(source="a")})


def test_a_replica_that_was_away_while_another_was_copied_is_promoted_only_if_the_loss_is_accepted():
    """The source may have acknowledged alone so long, and the copy is not finished."""
    dead = {"a": None, "b": view(source="a"), "c": view("", source="a", databases=0)}
    with pytest.raises(Failure, match="a may have acknowledged writes that no replica has"):
        plan(dead)
    assert plan(dead, accepted=["a"]) == "b"
    assert plan(dead | {"c": view(source="a")}) in ("b", "c")


def test_the_most_advanced_replica_is_promoted_with_what_it_has_only_received():
    dead = group(a=None, b=view("x:1-4", source="a"), c=view("x:1-3", source="a", received=parse("x:4-5")))
    assert plan(dead) == "c"


def test_an_open_source_is_not_replaced():
    assert plan(group()) == "a"
    assert plan(group(a=None, b=view(writable=True, term=1))) == "b"


@pytest.mark.parametrize(
    ("views", "options", "words", "names"),
    [
        (group(a=None, c=None), {}, "c cannot be asked", "c"),
        (group(a=None), {"blocks": False}, "a may have acknowledged .* may still be writable", "a"),
        (group(a=None), {"blocks": False, "fenced": ["a"]}, "a may have acknowledged", "a"),
        (group(a=None, c=view("x:1-2,y:1", source="a")), {}, "c has transactions that b does not have: y:1", "c"),
    ],
)
def test_what_could_lose_data_is_refused_and_accepted_by_name(views, options, words, names):
    with pytest.raises(Failure, match=f"{words}.*mysql_failover_accept_loss={names}$"):
        plan(views, **options)
    assert plan(views, accepted=[names], **options) == "b"


def test_a_closed_source_whose_replicas_are_given_up_opens_itself():
    alone = group(a=view(), b=None, c=None)
    with pytest.raises(Failure, match="mysql_failover_accept_loss=b,c$"):
        plan(alone)
    assert plan(alone, accepted=["b", "c"]) == "a"


def test_a_failover_is_not_for_a_group_that_is_all_there():
    with pytest.raises(Failure, match="all members answer, so a is opened without a failover"):
        plan(group(a=view()))
    with pytest.raises(Failure, match="'d' is no member"):
        plan(group(), accepted=["d"])


def test_a_replica_may_have_what_the_source_is_still_committing():
    """It has acknowledged the transaction; the source waits for that, or for its turn, before it commits."""
    source = View(uuid="x", read_only=False, executed=parse("x:1-7"), owned=parse("x:8"))
    assert gtids.subtract(parse("x:1-8"), source.begun) == {}
    assert gtids.show(gtids.subtract(parse("x:1-9"), source.begun)) == "x:9"
