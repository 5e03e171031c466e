"""Each rule of haproxy_keepalived is broken by a row, and none of them fails on values of a wrong shape."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import haproxy_keepalived, roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import RoleValues, lines

VIP = "198.18.0.10"
PEERS = {"lb1": "198.18.0.11", "lb2": "198.18.0.12"}
FACTS = {"interfaces": ["lo", "eth-0"], "eth_0": {"ipv4": {"address": "198.18.0.11"}}}
WEB = {"name": "web", "servers": {"web1": "198.18.0.21", "web2": "198.18.0.22"}, "port": 8000}
WWW = {"name": "www", "port": 80, "default_backend": "web"}
DB = {"name": "db", "mode": "tcp", "servers": {"db1": "198.18.0.41"}, "port": 3306}
WRITE = {"name": "write", "port": 3306, "mode": "tcp", "default_backend": "db"}
JANE = {"name": "jane", "password": "$5$salt$hash"}


def defaults() -> dict:
    return {name: option["default"] for name, option in roles.options("haproxy_keepalived").items()}


def find(facts=None, host="lb1", **variables) -> list[str]:
    """Return the lines about a configuration that is sound but for the variables given, without the common prefix."""
    sound = {
        "frontends": [WWW, WRITE],
        "backends": [WEB, DB],
        "vip": VIP,
        "peers": PEERS,
    }
    values = defaults() | {f"haproxy_keepalived_{name}": value for name, value in (sound | variables).items()}
    found = lines(roles.find_mistakes("haproxy_keepalived", RoleValues(host, values, facts)))
    return [line.removeprefix("haproxy_keepalived_").replace(f" (on {host})", "") for line in found]


def web(**changes) -> dict:
    return {"frontends": [WWW], "backends": [WEB | changes]}


def db(**changes) -> dict:
    return {"frontends": [WRITE], "backends": [DB | changes]}


def www(**changes) -> dict:
    return {"frontends": [WWW | changes], "backends": [WEB]}


def write(**changes) -> dict:
    return {"frontends": [WRITE | changes], "backends": [DB]}


def users(*entries, name="admins") -> dict:
    return {"userlists": [{"name": name, "users": list(entries)}]}


IPV6 = {"lb1": "fd00::11", "lb2": "fd00::12"}
MISTAKES = [
    (
        haproxy_keepalived.backends_exist,
        www(default_backend="wbe") | {"sections_extra": ["use_backend %[path]"]},
        "frontends, 'www': the default_backend 'wbe' is not among haproxy_keepalived_backends; they are: web",
    ),
    (
        haproxy_keepalived.backends_exist,
        {"frontends": [WWW | {"routes": [{"condition": "TRUE", "backend": "b"}]}], "backends": [WEB]},
        "frontends, 'www': the routes 'b' is not among haproxy_keepalived_backends; they are: web",
    ),
    (
        haproxy_keepalived.backends_exist,
        {"frontends": [WWW], "backends": []},
        "frontends, 'www': the default_backend 'web' is not among haproxy_keepalived_backends; they are: none",
    ),
    (
        haproxy_keepalived.modes_agree,
        {"frontends": [WWW | {"mode": "tcp"}], "backends": [WEB]},
        "frontends, 'www': has mode tcp, and its backend 'web' has mode http; give both the same",
    ),
    (
        haproxy_keepalived.trusted_is_for_http,
        write(trusted=True),
        "frontends, 'write': trusted is about headers, which mode tcp does not see; leave it out",
    ),
    (
        haproxy_keepalived.frontends_admit_somebody,
        www(maxconn=0),
        "frontends, 'www': maxconn: 0 lets nobody in; choose at least 1, or leave it out",
    ),
    (
        haproxy_keepalived.raw_lines_fit_the_mode,
        write(extra=["http-request deny"]),
        "frontends, 'write': the extra line 'http-request deny' is for mode http, and HAProxy would ignore it in "
        "mode tcp; leave it out",
    ),
    (
        haproxy_keepalived.raw_lines_fit_the_mode,
        db(extra=["option httpchk", "option forwardfor"]),
        "backends, 'db': the extra line 'option forwardfor' is for mode http, and HAProxy would ignore it in "
        "mode tcp; leave it out",
    ),
    (haproxy_keepalived.backends_have_servers, web(servers={}), "backends, 'web': has no servers; name at least one"),
    (
        haproxy_keepalived.backends_have_servers,
        db(balance="active-passive"),
        "backends, 'db': has balance active-passive and one server, so nobody takes over; name a second one, or leave "
        "balance out",
    ),
    (
        haproxy_keepalived.servers_differ,
        web(servers={"a": "198.18.0.21", "b": "198.18.0.21"}),
        "backends, 'web': 198.18.0.21 is the address of two servers; give each its own",
    ),
    (
        haproxy_keepalived.servers_differ,
        web(servers={"a": "198.18.0.21:81", "b": "198.18.0.21:82", "c": "198.18.0.21:81"}),
        "backends, 'web': 198.18.0.21:81 is the address of two servers; give each its own",
    ),
    (
        haproxy_keepalived.headers_have_a_size,
        {"header_kb": 1024},
        "header_kb: 1024 is no size for headers; choose 4 to 256 kilobytes",
    ),
    (
        haproxy_keepalived.servers_have_names,
        web(servers={"web 1": "198.18.0.21"}),
        "backends, 'web': 'web 1' is no name of a server; use letters, digits and any of _ . : -",
    ),
    (
        haproxy_keepalived.backends_are_used,
        {"frontends": [WWW], "backends": [WEB, WEB | {"name": "other"}]},
        "backends, 'other': no frontend leads to it; name it in default_backend or routes, or leave it out",
    ),
    (
        haproxy_keepalived.queues_have_a_limit,
        web(maxconn=-1),
        "backends, 'web': maxconn and maxqueue cannot be negative; choose 0 for no limit",
    ),
    (
        haproxy_keepalived.queues_have_a_limit,
        web(maxqueue=5),
        "backends, 'web': maxqueue without maxconn limits nothing, because nobody waits; set maxconn as well",
    ),
    *(
        (
            haproxy_keepalived.checks_are_possible,
            web(check={"path": "/", key: 0}),
            f"backends, 'web': check.{key}: 0 is too small; choose at least 1",
        )
        for key in ("interval", "fastinter", "fall", "rise")
    ),
    (
        haproxy_keepalived.checks_are_possible,
        web(check={"path": "health"}),
        "backends, 'web': check.path: 'health' is no path; write one as in /health",
    ),
    (
        haproxy_keepalived.checks_are_possible,
        web(check={"path": "/", "fastinter": 501}),
        "backends, 'web': check.fastinter: 501 is longer than the interval of 500; choose a shorter one",
    ),
    *(
        (
            haproxy_keepalived.checks_in_general_are_possible,
            {f"check_{key}": 0},
            f"check_{key}: 0 is too small; choose at least 1",
        )
        for key in ("interval", "fall", "rise")
    ),
    (
        haproxy_keepalived.names_are_unique,
        {"frontends": [WWW, WWW | {"port": 81}], "backends": [WEB]},
        "frontends: the name 'www' is taken twice; give each frontend, backend, listen and userlist a name of its own",
    ),
    (
        haproxy_keepalived.names_are_unique,
        www(name="stats"),
        "frontends: the name 'stats' is taken twice (the role itself has one); give each frontend, backend, listen and "
        "userlist a name of its own",
    ),
    (
        haproxy_keepalived.names_are_unique,
        web() | {"listens": [{"name": "web", "port": 25, "lines": []}]},
        "backends: the name 'web' is taken twice; give each frontend, backend, listen and userlist a name of its own",
    ),
    (
        haproxy_keepalived.names_are_unique,
        {"userlists": [{"name": "admins", "users": []}] * 2},
        "userlists: the name 'admins' is taken twice; give each frontend, backend, listen and userlist a name of its "
        "own",
    ),
    (
        haproxy_keepalived.names_are_unique,
        www(name="a name"),
        "frontends: 'a name' is no name; use letters, digits and any of _ . : -",
    ),
    (
        haproxy_keepalived.addresses_are_free,
        www() | {"listens": [{"name": "b", "port": 80, "addresses": ["[::]"], "lines": []}]},
        "frontends: [::]:80 is listened on twice; give each frontend a port of its own",
    ),
    (
        haproxy_keepalived.addresses_are_free,
        www(port=8404),
        "stats_port: 8404 is the port of a frontend too; choose another one",
    ),
    (
        haproxy_keepalived.ports_are_ports,
        {"stats_port": 0},
        "stats_port: 0 is no port; choose one from 1 to 65535",
    ),
    (
        haproxy_keepalived.ports_are_ports,
        www(port=65536),
        "frontends, 'www': port: 65536 is no port; choose one from 1 to 65535",
    ),
    (
        haproxy_keepalived.ports_are_ports,
        {"listens": [{"name": "b", "port": -1, "lines": []}]},
        "listens, 'b': port: -1 is no port; choose one from 1 to 65535",
    ),
    (
        haproxy_keepalived.ports_are_ports,
        web(check={"path": "/", "port": 70000}),
        "backends, 'web': check.port: 70000 is no port; choose one from 1 to 65535",
    ),
    (
        haproxy_keepalived.passwords_are_hashes,
        users(JANE | {"password": "letmein"}),
        "userlists: the password of 'jane' is no hash; write what openssl passwd -5 prints",
    ),
    (
        haproxy_keepalived.users_have_names,
        users(JANE | {"groups": ["a b"]}),
        "userlists: 'jane' or a group of it is no name; use letters, digits and any of _ . : @ -",
    ),
    (
        haproxy_keepalived.vip_fits,
        {"vip": "198.18.0"},
        "vip: '198.18.0' is no IP address; write one as in 198.18.0.10 or fd00::10",
    ),
    (
        haproxy_keepalived.vip_fits,
        {"vip_prefix": 33},
        "vip_prefix: 33 is no length of a prefix; choose one from 1 to 32",
    ),
    (
        haproxy_keepalived.vip_fits,
        {"vip": "fd00::10", "vip_prefix": 129, "peers": IPV6},
        "vip_prefix: 129 is no length of a prefix; choose one from 1 to 128",
    ),
    (
        haproxy_keepalived.vip_fits,
        {"vip": PEERS["lb2"]},
        "vip: 198.18.0.12 is the address of 'lb2'; choose one that no host has",
    ),
    (
        haproxy_keepalived.vip_fits,
        {"vip": "fd00::10", "vip_prefix": 64, "peers": PEERS | {"lb2": "fd00::12"}},
        "vip: fd00::10 has another version of IP than 198.18.0.11, the address of 'lb1'; give the VIP and all "
        "balancers the same",
    ),
    (
        haproxy_keepalived.peers_are_complete,
        {"peers": PEERS | {"lb3": "198.18.0.11"}},
        "peers: 198.18.0.11 stands there twice; give each balancer its own",
    ),
    (
        haproxy_keepalived.peers_are_complete,
        {"peers": PEERS | {"lb2": "lb2.foobar.com"}},
        "peers: 'lb2.foobar.com' of 'lb2' is no IP address; write one as in 198.18.0.11, no name",
    ),
    (
        haproxy_keepalived.peers_are_complete,
        {"peers": {"lb1": "198.18.0.11"}},
        "peers: has 1 balancers, and a shared address takes two; name them all, or leave haproxy_keepalived_vip empty",
    ),
    (
        haproxy_keepalived.peers_are_complete,
        {"peers": {f"lb{number}": f"198.18.0.{100 + number}" for number in range(25)}},
        "peers: has 25 balancers; name 24 at most",
    ),
    (
        haproxy_keepalived.peers_are_complete,
        {"peers": {"other1": "198.18.0.11", "other2": "198.18.0.12"}},
        "peers: 'lb1' itself is missing; name all balancers, each by its inventory name",
    ),
    (
        haproxy_keepalived.an_interface_has_the_own_address,
        {"peers": PEERS | {"lb1": "198.18.0.99"}, "facts": FACTS},
        "peers: no interface of 'lb1' has the address 198.18.0.99; write the one it has, and gather the facts of the "
        "network",
    ),
    (
        haproxy_keepalived.vrrp_numbers_fit,
        {"router_id": 256},
        "router_id: 256 is out of range; choose one from 1 to 255, or 0 to have it computed",
    ),
    (
        haproxy_keepalived.vrrp_numbers_fit,
        {"advert_interval": 0.001},
        "advert_interval: 0.001 is out of range; choose one from 0.01 to 40.95",
    ),
]


@pytest.mark.parametrize(
    ("rule", "variables", "line"), MISTAKES, ids=[f"{row[0].__name__}-{row[2][:60]}" for row in MISTAKES]
)
def test_a_mistake_is_said_in_one_line(rule, variables, line):
    assert line in find(**variables)
    values = defaults() | {
        f"haproxy_keepalived_{name}": value
        for name, value in ({"vip": VIP, "peers": PEERS} | variables).items()
        if name != "facts"
    }
    assert list(rule(RoleValues("lb1", values, variables.get("facts"))))


def test_every_rule_is_broken_by_a_row():
    assert {row[0] for row in MISTAKES} == set(haproxy_keepalived.RULES)


SOUND = {
    "defaults": {"frontends": [], "backends": [], "vip": "", "peers": {}},
    "pair": {"facts": FACTS},
    "second address": {
        "facts": FACTS | {"eth_0": {"ipv4": {"address": "1.2.3.4"}, "ipv4_secondaries": [{"address": PEERS["lb1"]}]}}
    },
    "ipv6": {
        "vip": "fd00::10",
        "vip_prefix": 64,
        "peers": IPV6,
        "facts": FACTS | {"eth_0": {"ipv6": [{"address": "fe80::1"}, {"address": "fd00::11"}]}},
    },
    "interface given": {"facts": {}, "interface": "eth1"},
    "no facts yet": {"facts": None},
    "numbers as text": {
        "frontends": [WWW | {"port": "80"}],
        "backends": [WEB | {"port": "8000"}],
        "stats_port": "8404",
    },
    "loopback only": {
        "frontends": [WRITE | {"addresses": ["127.0.0.1"]}],
        "backends": [DB | {"check": {"path": "/source", "port": 9200, "interval": 200, "fall": 1, "rise": 1}}],
        "vip": "",
        "peers": {},
    },
    "same port, other address": {
        "frontends": [WWW | {"addresses": ["198.18.0.11"]}, WWW | {"name": "b", "addresses": ["198.18.0.12"]}],
        "backends": [WEB],
    },
    "raw use_backend": {
        "frontends": [WWW | {"extra": ["use_backend other if TRUE"]}],
        "backends": [WEB, WEB | {"name": "other"}],
    },
    "computed use_backend": {
        "frontends": [WWW | {"extra": ["use_backend %[path]"]}],
        "backends": [WEB, WEB | {"name": "other"}],
    },
    "users": users(JANE | {"groups": ["operators"]}),
    "fastinter": web(check={"path": "/", "interval": 1000, "fastinter": 200}),
}


@pytest.mark.parametrize("variables", SOUND.values(), ids=SOUND.keys())
def test_a_sound_configuration_has_no_mistakes(variables):
    assert find(**variables) == []


def test_secrets_do_not_come_out():
    assert "letmein" not in str(find(**users(JANE | {"password": "letmein"})))


def test_wired_entries_count_and_the_operators_entry_wins():
    wired = {"service_frontends": [WWW], "service_backends": [WEB]}
    assert find(frontends=[], backends=[], **wired) == []
    # An operator's frontend may lead to a wired backend, and an operator's backend replaces a wired one.
    assert find(frontends=[WWW | {"name": "b", "port": 81}], backends=[], **wired) == []
    assert find(frontends=[], backends=[WEB | {"port": 0}], **wired) == [
        "backends, 'web': port: 0 is no port; choose one from 1 to 65535"
    ]
    assert find(frontends=[], backends=[], **wired | {"service_backends": [WEB | {"port": 0}]}) == [
        "service_backends, 'web': port: 0 is no port; choose one from 1 to 65535"
    ]


def test_without_the_wired_entries_no_name_is_called_unknown():
    values = {"haproxy_keepalived_frontends": [WWW], "haproxy_keepalived_backends": [WEB | {"name": "other"}]}
    assert roles.find_mistakes("haproxy_keepalived", RoleValues("lb1", values)) == []


def test_the_rules_of_a_vip_serve_an_inventory_too():
    found = haproxy_keepalived.vip_mistakes(
        "198.18.0.21", 24, PEERS, others={"web1": "198.18.0.21"}, names=("site_vip", "site_vip_prefix"), host="lb1"
    )
    assert lines(found) == ["site_vip (on lb1): 198.18.0.21 is the address of 'web1'; choose one that no host has"]
    for empty in ("", None):
        assert list(haproxy_keepalived.vip_mistakes(empty, "x", PEERS)) == []


def test_the_network_of_a_vip_is_judged_for_an_inventory_only():
    elsewhere = PEERS | {"lb2": "198.18.1.12"}
    assert find(peers=elsewhere) == []
    assert lines(
        haproxy_keepalived.vip_network_mistakes(VIP, 24, elsewhere, names=("site_vip", "site_vip_prefix"))
    ) == [
        "site_vip: 198.18.0.10 is outside 198.18.1.0/24, the network of 'lb2'; choose a free address in it, or correct "
        "site_vip_prefix"
    ]
    for vip, prefix in ((VIP, 32), (VIP, "x"), (VIP, 33), ("fd00::10", 64), ("", 24), (None, None)):
        assert list(haproxy_keepalived.vip_network_mistakes(vip, prefix, elsewhere)) == []


ODD = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "text",
    "12",
    [],
    [None],
    [[]],
    ["text"],
    [1],
    {},
    {"a": None},
    {1: []},
    [{}],
    [{"name": 3}],
]
KEYS = [
    "servers",
    "check",
    "port",
    "extra",
    "lines",
    "routes",
    "addresses",
    "mode",
    "default_backend",
    "maxconn",
    "users",
]


@pytest.mark.parametrize("name", roles.options("haproxy_keepalived"))
def test_no_rule_raises_on_odd_values(name):
    for facts, value in itertools.product((None, {}, {"interfaces": [1, "a"], "a": []}), ODD):
        roles.find_mistakes(
            "haproxy_keepalived", RoleValues("lb1", defaults() | {"haproxy_keepalived_vip": VIP, name: value}, facts)
        )
        roles.find_mistakes("haproxy_keepalived", RoleValues("lb1", {name: value}, facts))


@pytest.mark.parametrize("key", KEYS)
def test_no_rule_raises_on_odd_parts(key):
    lists = ("frontends", "backends", "service_frontends", "service_backends", "listens", "userlists")
    for noun, value in itertools.product(lists, ODD):
        entries = [{"name": "a", key: value}, {key: value}, {"name": value, key: [{"name": value, "password": value}]}]
        roles.find_mistakes(
            "haproxy_keepalived", RoleValues("lb1", defaults() | {f"haproxy_keepalived_{noun}": entries})
        )


def test_no_rule_raises_without_variables():
    assert roles.find_mistakes("haproxy_keepalived", RoleValues("lb1", {})) == []
