"""Rules in the words of ufw, and what differs from those that are there."""

from __future__ import annotations

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall.model import ANY, FirewallError, Rule

DEFAULTS = {name: option["default"] for name, option in model.ARGUMENT_SPEC.items() if "default" in option} | {
    "admin_networks": ["198.18.0.1", "fd00::1"]
}


def rule(**values) -> Rule:
    given = {"action": "allow", "direction": "in", "protocol": "tcp", "port": "80", "address": ANY}
    return Rule(**{"name": "www", **given, **values})


def there(*rules: Rule | str) -> list[model.Shown]:
    """What ufw would show of these."""
    lines = [one if isinstance(one, str) else str(model.Shown(one.words)) for one in rules]
    return model.shown("\n".join(["Added user rules (see 'ufw status' for running firewall):", *lines]))


#: What ufw 0.36.2 shows of each.
WORDS = [
    ({}, "allow 80/tcp"),
    ({"protocol": ANY, "port": "53"}, "allow 53"),
    ({"port": "6000:6010", "protocol": "udp"}, "allow 6000:6010/udp"),
    ({"action": "limit", "address": "198.18.0.1", "port": "22"}, "limit from 198.18.0.1 to any port 22 proto tcp"),
    ({"address": "fd00::/64"}, "allow from fd00::/64 to any port 80 proto tcp"),
    ({"interface": "eth1"}, "allow in on eth1 to any port 80 proto tcp"),
    ({"protocol": "vrrp", "port": "", "address": "198.18.0.2"}, "allow from 198.18.0.2 proto vrrp"),
    ({"protocol": "vrrp", "port": ""}, "allow to any proto vrrp"),
    ({"protocol": ANY, "port": "", "action": "deny"}, "deny to any"),
    ({"protocol": ANY, "port": "", "interface": "eth1", "action": "reject"}, "reject in on eth1"),
    ({"direction": "out"}, "allow out 80/tcp"),
    ({"direction": "out", "address": "198.18.0.2"}, "allow out to 198.18.0.2 port 80 proto tcp"),
    ({"direction": "out", "protocol": "vrrp", "port": ""}, "allow out to any proto vrrp"),
    ({"direction": "out", "interface": "eth1"}, "allow out on eth1 to any port 80 proto tcp"),
]


@pytest.mark.parametrize(("values", "words"), WORDS)
def test_a_rule_is_written_as_ufw_shows_it(values, words):
    one = rule(**values)
    assert " ".join(one.words) == f"{words} comment foobar: www"
    (shown,) = there(f"ufw {words} comment 'foobar: www'")
    assert (shown.words, shown.content, shown.action, shown.is_ours) == (one.words, one.content, one.action, True)
    assert shown.comes_in is (one.direction == "in")
    assert shown.only_version_6 is (one.versions == (6,))


def test_addresses_are_written_as_ufw_writes_them():
    assert model.address("198.18.0.7/24") == "198.18.0.0/24"
    assert model.address("198.18.0.7/32") == "198.18.0.7"
    assert model.address("FD00:0::7") == "fd00::7"
    assert model.address(ANY) == ANY
    for value in ("www.foobar.com", "198.18.0.300", "198.18.0.0/33", "", "0.0.0.0/0", "::/0"):
        with pytest.raises(FirewallError):
            model.address(value)


def test_ports_are_written_as_ufw_writes_them():
    assert (model.port("80"), model.port("6000-6010"), model.port("6000:6010")) == ("80", "6000:6010", "6000:6010")
    for value in ("0", "65536", "www", "", "80-80", "90-80", "1-2-3", "-1", "8O"):
        with pytest.raises(FirewallError, match="is no port"):
            model.port(value)


def test_everybody_is_said_in_one_or_two_words():
    assert model.networks(["0.0.0.0/0", "::/0"]) == [ANY]
    assert model.networks([ANY, "198.18.0.1"]) == [ANY]
    assert model.networks(["0.0.0.0/0"]) == ["0.0.0.0/1", "128.0.0.0/1"]


@pytest.mark.parametrize(
    ("source", "allowed", "within"),
    [
        ("198.18.0.1", ["198.18.0.0/24"], True),
        ("198.18.0.1", ["10.0.0.0/8", "fd00::/8"], False),
        ("::ffff:198.18.0.1", ["198.18.0.1"], True),
        ("fd00::1", ["0.0.0.0/0"], False),
        ("fd00::1", ["0.0.0.0/0", "::/0"], True),
    ],
)
def test_whether_an_administrator_is_in_the_networks(source, allowed, within):
    assert model.is_within(source, allowed) is within


def wish(**params) -> tuple[list[Rule], list[Rule]]:
    params = DEFAULTS | params
    ssh = model.ssh_rules(params, {22})
    return model.wanted(params, ssh), ssh


def entry(name: str, *sources: str, **values) -> dict:
    given = {"ports": ["80"], "protocol": "tcp", "interface": "", "action": "allow", "sources": list(sources) or [ANY]}
    return {"name": name, **given, **values}


def test_ssh_comes_first_and_is_limited():
    rules, ssh = wish(rules=[entry("www")], ssh_ports=["2222", "22"])
    assert rules[: len(ssh)] == ssh
    assert [(one.action, one.port, one.address) for one in ssh] == [
        ("limit", "22", "198.18.0.1"),
        ("limit", "22", "fd00::1"),
        ("limit", "2222", "198.18.0.1"),
        ("limit", "2222", "fd00::1"),
    ]
    assert {one.action for one in wish(ssh_rate_limit=False)[1]} == {"allow"}


def test_of_two_rules_for_the_same_packets_the_first_counts():
    again = entry("office", "198.18.0.1", ports=["22"], action="deny")
    rules, ssh = wish(rules=[entry("no", action="deny"), entry("mail", ports=["25"]), entry("yes"), again])
    # In its own place.
    assert [one.name for one in rules] == ["ssh", "ssh", "no", "mail"]
    assert rules[:2] == ssh


def test_a_range_of_both_protocols_is_two_rules():
    rules, ssh = wish(rules=[entry("ftp", ports=["6000-6010", "53"], protocol=ANY)])
    assert [one.content for one in rules[len(ssh) :]] == [("6000:6010/tcp",), ("6000:6010/udp",), ("53",)]


def test_what_is_wrong_says_where():
    with pytest.raises(FirewallError, match="rules, 'www': 'a.example' is no address"):
        wish(rules=[entry("www", "a.example")])


def test_from_nothing_all_is_added_with_ssh_first():
    rules, ssh = wish(rules=[entry("www")])
    plan = model.difference(rules, ssh, [])
    assert (plan.moved, plan.first, plan.deleted) == ((), tuple(reversed(ssh)), ())
    assert [one.name for one in plan.added] == ["www"]
    assert not model.difference(rules, ssh, there(*rules)).changed


def test_what_ufw_lists_behind_all_others_is_in_order():
    """Rules for IPv6 alone, whatever their place."""
    rules, ssh = wish(
        rules=[entry("no", "fd00::7", action="deny"), entry("www"), entry("some", "fd00::/8", ports=["81"])]
    )
    listed = sorted(there(*rules), key=lambda one: one.only_version_6)
    assert listed != there(*rules)
    assert not model.difference(rules, ssh, listed).changed


def test_what_is_ours_and_no_longer_wanted_goes_and_nothing_else():
    rules, ssh = wish()
    listed = there(
        *rules, rule(name="old"), "ufw allow 81/tcp comment 'foobar'", "ufw allow 82", "ufw allow 'Nginx Full'"
    )
    plan = model.difference(rules, ssh, listed)
    assert [one.comment for one in plan.deleted] == ["foobar: old"]
    assert (plan.moved, plan.first, plan.added) == ((), (), ())


def test_a_new_name_or_action_replaces_what_is_there():
    rules, ssh = wish(rules=[entry("www", action="limit")])
    plan = model.difference(rules, ssh, there(*ssh, rule(name="old")))
    assert [one.words for one in plan.added] == [("limit", "80/tcp", "comment", "foobar: www")]
    assert (plan.moved, plan.deleted) == ((), ())


def test_a_changed_limit_of_ssh_is_put_first_anew():
    rules, ssh = wish(ssh_rate_limit=False)
    old = wish()[1]
    plan = model.difference(rules, ssh, there(*old))
    assert {one.words for one in plan.moved} == {one.words for one in old}
    assert plan.first == tuple(reversed(ssh))


def test_ssh_goes_before_what_somebody_else_refuses():
    rules, ssh = wish()
    plan = model.difference(rules, ssh, there("ufw deny from 198.18.0.0/24", *rules))
    assert (len(plan.moved), plan.first) == (len(ssh), tuple(reversed(ssh)))
    # What is let in, what goes out and what is forwarded may stand there.
    before = ["ufw allow 81", "ufw deny out 25/tcp", "ufw route deny from any to 198.18.0.9"]
    assert not model.difference(rules, ssh, there(*before, *rules)).changed
    assert not model.difference(rules, ssh, there(*rules, "ufw deny from 198.18.0.0/24")).changed


def test_order_is_restored_where_it_matters():
    no, yes, other = entry("no", "198.18.0.7", action="deny"), entry("www"), entry("other", ports=["81"])
    rules, ssh = wish(rules=[no, yes, other])
    first, second, third = rules[len(ssh) :]
    plan = model.difference(rules, ssh, there(*ssh, second, first, third))
    assert {one.words for one in plan.moved} == {first.words, second.words, third.words}
    assert plan.added == (first, second, third)
    assert plan.deleted == ()
    # One that is new in the middle.
    plan = model.difference(rules, ssh, there(*ssh, first, third))
    assert plan.added == (second, third)
    assert [one.words for one in plan.moved] == [third.words]
    # One that is new at the end.
    plan = model.difference(rules, ssh, there(*ssh, first, second))
    assert (plan.moved, plan.added) == ((), (third,))
    # Where all are let in, none of them moves.
    rules, ssh = wish(rules=[yes, other])
    assert not model.difference(rules, ssh, there(*ssh, *reversed(rules[len(ssh) :]))).changed


def test_what_somebody_else_lets_in_already_stays_his():
    rules, ssh = wish(rules=[entry("www")])
    listed = there(*ssh, "ufw allow 80/tcp comment 'mine'")
    assert not model.difference(rules, ssh, listed).changed
    assert list(model.contradictions(rules, listed)) == []


def test_what_somebody_else_refuses_for_the_same_packets_is_a_contradiction():
    rules, ssh = wish(rules=[entry("www")])
    ((ours, theirs),) = model.contradictions(rules, there(*ssh, "ufw deny log 80/tcp", "ufw route deny 80/tcp"))
    assert (ours.name, str(theirs)) == ("www", "ufw deny log 80/tcp")


def test_a_lost_half_of_a_rule_is_found_by_counting():
    rules, _ssh = wish(rules=[entry("www"), entry("one", "198.18.0.7")])
    listed = there(*rules)
    assert model.missing_versions(rules, listed, {4: 3, 6: 2}) == []
    assert [one.name for one in model.missing_versions(rules, listed, {4: 3, 6: 1})] == ["www"]
