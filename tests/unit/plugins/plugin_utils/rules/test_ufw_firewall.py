"""Each rule of ufw_firewall is broken by a row, and none of them fails on values of a wrong shape."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles, ufw_firewall
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import RoleValues, lines

ROLE = "ufw_firewall"
WWW = {"name": "www", "ports": [80], "sources": ["any"]}
OUT = {"name": "relay", "ports": [587], "destinations": ["203.0.113.25"]}


def defaults() -> dict:
    return {name: option.get("default") for name, option in roles.options(ROLE).items()}


def find(**variables) -> list[str]:
    """Return the lines about variables that are sound but for these, without the common prefix."""
    sound = {"admin_networks": ["198.18.0.0/24", "fd00::/64"], "rules": [WWW], "egress": [OUT]} | variables
    values = defaults() | {f"{ROLE}_{name}": value for name, value in sound.items()}
    found = lines(roles.find_mistakes(ROLE, RoleValues("lb1", values)))
    return [line.removeprefix(f"{ROLE}_").replace(" (on lb1)", "") for line in found]


def www(**changes) -> dict:
    return {"rules": [WWW | changes]}


def out(**changes) -> dict:
    return {"egress": [OUT | changes]}


NAMES = "write an address, or a network such as 198.51.100.0/24; ufw looks up no names"
RANGE = "choose one from 1 to 65535, or a range such as 6000-6010"
MISTAKES = [
    (
        ufw_firewall.admin_networks_are_networks,
        {"admin_networks": []},
        "admin_networks: is empty, so nobody could log in; list where administrators come from",
    ),
    (
        ufw_firewall.admin_networks_are_networks,
        {"admin_networks": ["office.example"]},
        f"admin_networks: 'office.example' is a host name; {NAMES}",
    ),
    (
        ufw_firewall.admin_networks_are_networks,
        {"admin_networks": ["198.18.0.0/33"]},
        f"admin_networks: '198.18.0.0/33' is no address; {NAMES}",
    ),
    (
        ufw_firewall.ends_are_addresses,
        www(sources=["web1.example"]),
        f"rules, 'www': 'web1.example' is a host name; {NAMES}",
    ),
    (
        ufw_firewall.ends_are_addresses,
        www(sources=["198.18.0.300"]),
        f"rules, 'www': '198.18.0.300' is no address; {NAMES}",
    ),
    (
        ufw_firewall.ends_are_addresses,
        www(sources=["0.0.0.0/0"]),
        "rules, 'www': '0.0.0.0/0' is all of one version of IP; write any, which is for IPv4 and IPv6 alike",
    ),
    (
        ufw_firewall.ends_are_addresses,
        www(sources=[]),
        "rules, 'www': sources is empty, so it is for nobody; list them, or write any",
    ),
    (
        ufw_firewall.ends_are_addresses,
        {"service_egress": [{"name": "web", "ports": [80], "destinations": ["web1"]}]},
        f"service_egress, 'web': 'web1' is a host name; {NAMES}",
    ),
    (ufw_firewall.ports_are_ports, www(ports=[0]), f"rules, 'www': 0 is no port; {RANGE}"),
    (ufw_firewall.ports_are_ports, out(ports=["90-80"]), f"egress, 'relay': 90-80 is no port; {RANGE}"),
    (ufw_firewall.ports_are_ports, {"ssh_ports": ["ssh"]}, f"ssh_ports: ssh is no port; {RANGE}"),
    (
        ufw_firewall.ports_fit_the_protocol,
        www(ports=[]),
        "rules, 'www': tcp without ports is all of it; name its ports, or all of them as 1-65535",
    ),
    (
        ufw_firewall.ports_fit_the_protocol,
        www(protocol="vrrp"),
        "rules, 'www': vrrp has no ports; leave them out",
    ),
    (
        ufw_firewall.names_are_comments,
        www(name="the shop's"),
        "rules, 'the shop's': \"the shop's\" is no name; use letters, digits, spaces and any of _ . , : / ( ) + -",
    ),
    (
        ufw_firewall.names_are_comments,
        www(name="ssh"),
        "rules, 'ssh': the role has a rule of that name itself; give it another name",
    ),
    (
        ufw_firewall.names_are_unique,
        {"rules": [WWW, WWW]},
        "rules: the name 'www' is taken twice; give each entry its own",
    ),
    (
        ufw_firewall.interfaces_are_names,
        out(interface="eth0:1"),
        "egress, 'relay': 'eth0:1' is no interface; name one as in `ip link`",
    ),
    (
        ufw_firewall.rescue_has_its_time,
        {"rescue_seconds": 5},
        "rescue_seconds: 5 seconds are no time for a rescue; choose 20 to 3600: a fresh connection has to succeed in "
        "half of it",
    ),
]


@pytest.mark.parametrize(
    ("rule", "variables", "line"), MISTAKES, ids=[f"{row[0].__name__}-{row[2][:60]}" for row in MISTAKES]
)
def test_a_mistake_is_said_in_one_line(rule, variables, line):
    assert find(**variables) == [line]
    values = defaults() | {f"{ROLE}_{name}": value for name, value in variables.items()}
    assert list(rule(RoleValues("lb1", values)))


def test_every_rule_is_broken_by_a_row():
    assert {row[0] for row in MISTAKES} == set(ufw_firewall.RULES)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"admin_networks": ["0.0.0.0/0", "::/0"]},
        {"admin_networks": ["any"]},
        www(ports=["6000-6010", "25"], protocol="any", action="limit", interface="eth1"),
        www(ports=[], protocol="vrrp", sources=["198.18.0.1"]),
        www(ports=[], protocol="any"),
        # The operator's entry takes the place of the wired one.
        {"service_rules": [WWW | {"sources": ["web1"]}]},
    ],
)
def test_sound_variables_have_no_mistakes(variables):
    assert find(**variables) == []


ODD = [None, "", "x", 0, -1, True, 1.5, [], {}, [None], [[]], [{}], ["x"], {"a": "b"}]


@pytest.mark.parametrize("name", roles.options(ROLE))
def test_no_rule_raises_on_odd_values(name):
    for value in ODD:
        roles.find_mistakes(ROLE, RoleValues("lb1", defaults() | {name: value}))
        roles.find_mistakes(ROLE, RoleValues("lb1", {name: value}))


@pytest.mark.parametrize("key", ["name", "ports", "protocol", "sources", "destinations", "action", "interface"])
def test_no_rule_raises_on_odd_parts(key):
    for noun, value in itertools.product(("rules", "service_rules", "egress", "service_egress"), ODD):
        entries = [{"name": "a", key: value}, {key: value}, {"name": value, key: [{"name": value}]}]
        roles.find_mistakes(ROLE, RoleValues("lb1", defaults() | {f"{ROLE}_{noun}": entries}))


def test_no_rule_raises_without_variables():
    assert roles.find_mistakes(ROLE, RoleValues("lb1", {})) == []
