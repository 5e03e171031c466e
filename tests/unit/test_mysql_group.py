"""The programs of a group: sets of transactions, who is the source, what a switchover and a failover refuse."""

from __future__ import annotations

import pytest
from test_mysql_programs import load

replication, check = load("replication"), load("check")
Failure, Undecided, View = replication.Failure, replication.Undecided, replication.View
parse = replication.parse_gtids
MEMBERS = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}


def view(executed: str = "x:1-5", *, source: str = "", open: bool = False, **more) -> View:
    return View(
        uuid=more.pop("uuid", "x"),
        read_only=not open,
        executed=parse(executed),
        source=MEMBERS.get(source, ""),
        databases=more.pop("databases", 1),
        running=bool(source) and not more.get("error"),
        **more,
    )


# --- sets of transactions


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
    assert replication.show_gtids(replication.subtract(parse(one), parse(other))) == rest


def test_a_union_has_both_and_a_count_counts():
    both = replication.union(parse("x:1-3"), parse("x:4-5,y:1"))
    assert replication.show_gtids(both) == "x:1-5,y:1"
    assert replication.count(both) == 6


# --- who is the source


def test_the_open_one_is_the_source_wherever_it_stands_in_the_list():
    assert replication.choose_source(MEMBERS, {"a": view(source="b"), "b": view(open=True), "c": None}) == "b"


def test_a_replica_that_somebody_made_writable_is_no_source():
    assert (
        replication.choose_source(MEMBERS, {"a": view(open=True), "b": view(source="a", open=True), "c": None}) == "a"
    )


def test_of_two_open_ones_the_one_that_was_promoted_later_counts():
    assert replication.choose_source(MEMBERS, {"a": view(open=True), "b": view(open=True, epoch=1), "c": None}) == "b"
    with pytest.raises(Failure, match="a and b are writable"):
        replication.choose_source(MEMBERS, {"a": view(open=True), "b": view(open=True), "c": None})


def test_without_an_open_one_everybody_is_asked_first():
    with pytest.raises(Undecided, match="no member is writable, and c cannot be asked"):
        replication.choose_source(MEMBERS, {"a": view(), "b": view(source="a"), "c": None})


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
    assert replication.choose_source(MEMBERS, dict(zip(MEMBERS, views, strict=True))) == source


def test_members_that_have_parted_are_left_to_a_person():
    with pytest.raises(Failure, match="each has transactions that another one lacks: a has x:1-5,y:1"):
        replication.choose_source(MEMBERS, {"a": view("x:1-5,y:1"), "b": view("x:1-6"), "c": view(source="a")})


# --- switchover


def group(**changes: View | None) -> dict[str, View | None]:
    return {"a": view(open=True), "b": view(source="a"), "c": view(source="a")} | changes


def test_a_switchover_names_the_one_that_hands_over():
    assert replication.plan_switchover(MEMBERS, group(), "b") == "a"
    assert replication.plan_switchover(MEMBERS, group(), "a") == "a"
    # An interrupted one is taken up again.
    assert replication.plan_switchover(MEMBERS, group(a=view()), "b") == "a"
    assert replication.plan_switchover(MEMBERS, group(b=view()), "b") == "a"


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
        replication.plan_switchover(MEMBERS, group(**changes), to)


def test_what_the_source_has_written_meanwhile_is_not_foreign():
    later = group(b=view("x:1-7", source="a", uuid="y"))
    assert replication.plan_switchover(MEMBERS, later, "b") == "a"


# --- failover


def plan(views, fenced=(), accepted=(), blocks=True):
    return replication.plan_failover(MEMBERS, views, list(fenced), list(accepted), blocks)


def test_the_most_advanced_replica_is_promoted_with_what_it_has_only_received():
    dead = group(a=None, b=view("x:1-4", source="a"), c=view("x:1-3", source="a", received=parse("x:4-5")))
    assert plan(dead) == "c"


def test_an_open_source_is_not_replaced():
    assert plan(group()) == "a"
    assert plan(group(a=None, b=view(open=True, epoch=1))) == "b"


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


# --- the role check


def channel(**changes) -> dict:
    return {
        "Source_Host": "192.0.2.1",
        "Replica_IO_Running": "Yes",
        "Replica_SQL_Running": "Yes",
        "Last_IO_Error": "",
        "Last_SQL_Error": "",
        "Seconds_Behind_Source": 0,
    } | changes


@pytest.mark.parametrize(
    ("read_only", "channel", "answers"),
    [
        (False, None, (True, False, True)),
        (True, None, (False, False, False)),
        (True, channel(), (False, True, True)),
        (False, channel(), (False, False, False)),
        (True, channel(Seconds_Behind_Source=10), (False, True, True)),
        (True, channel(Seconds_Behind_Source=11), (False, False, False)),
        (True, channel(Seconds_Behind_Source=None), (False, False, False)),
        (True, channel(Replica_IO_Running="Connecting"), (False, False, False)),
        (True, channel(Replica_SQL_Running="No"), (False, False, False)),
    ],
)
def test_a_member_is_what_it_answers(read_only, channel, answers):
    paths = ("/source", "/replica", "/readable")
    assert tuple(check.judge(path, read_only, lambda: channel, 10)[0] for path in paths) == answers
    assert check.judge("/any", read_only, lambda: channel, 10)[0]


def test_a_closed_source_says_so_while_its_channel_is_being_changed():
    def keeps_waiting():
        pytest.fail("asked for the channel, and would wait until it is changed")

    assert check.judge("/source", True, keeps_waiting, 10) == (False, "closed for writing")


def test_a_refusal_says_why():
    def why(path, read_only, channel):
        return check.judge(path, read_only, lambda: channel, 10)[1]

    assert why("/source", False, channel()) == "replica of 192.0.2.1, although it is writable"
    assert why("/replica", True, channel(Seconds_Behind_Source=60)) == "60 s behind its source, more than 10 s"
    broken = channel(Replica_SQL_Running="No", Last_SQL_Error="duplicate key")
    assert why("/readable", True, broken) == "Replica_SQL_Running is No: duplicate key"
