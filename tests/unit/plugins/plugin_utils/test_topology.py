"""Groups and hostvars become nodes and edges: what talks to what, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import topology
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.addresses import server_address

PROJECT = Path(__file__).resolve().parents[4]
TWO = {tier: ["s1", "s2"] for tier in ("webservers", "appservers", "databases")}
GROUPS = {
    "0-simple_web_stack": {tier: ["s1"] for tier in TWO},
    "1-distributed_web_infrastructure": {"loadbalancers": ["lb1"], **TWO},
    "2-secured_and_monitored_web_infrastructure": {"loadbalancers": ["lb1"], **TWO},
    "3-scale_up": {
        "loadbalancers": ["lb1", "lb2"],
        "webservers": ["web1"],
        "appservers": ["app1"],
        "databases": ["db1", "db2"],
    },
}
SSH = {
    "0-simple_web_stack": {"admin>s1:22"},
    "1-distributed_web_infrastructure": {"admin>lb1:22", "admin>s1:22", "admin>s2:22"},
    "3-scale_up": {f"admin>{name}:22" for name in ("lb1", "lb2", "web1", "app1", "db1", "db2")},
}
EDGES = {
    "0-simple_web_stack": {"client>s1:80", "s1>s1:unix"},
    "1-distributed_web_infrastructure": {
        *("client>lb1:80", "lb1>s1:80", "lb1>s2:80", "s1>s1:unix", "s2>s2:unix"),
        # From each application to HAProxy of its host, from there to each database.
        *("s1>s1:3306", "s2>s2:3306", "s1>s1:3307", "s2>s2:3307"),
        *("s1>s2:3306", "s2>s1:3306", "s1>s1:9200", "s1>s2:9200", "s2>s1:9200", "s2>s2:9200"),
    },
    "3-scale_up": {
        *("client>vip:80", "lb1>web1:80", "lb2>web1:80", "web1>lb1:8000", "web1>lb2:8000"),
        *("lb1>app1:8000", "lb2>app1:8000", "app1>app1:3306", "app1>app1:3307", "lb1>lb2:vrrp", "lb2>lb1:vrrp"),
        *("db1>db2:3306", "db2>db1:3306", *(f"app1>db{number}:{port}" for number in (1, 2) for port in (3306, 9200))),
    },
}


def model(stage: str, **site) -> topology.Topology:
    hosts = dict.fromkeys(name for names in GROUPS[stage].values() for name in names)
    hostvars = {name: {"ansible_host": f"198.18.0.{number}", **site} for number, name in enumerate(hosts, start=21)}
    return topology.build(stage, GROUPS[stage], hostvars)


def text(edge: topology.Edge) -> str:
    return f"{edge.source}>{edge.destination}:{edge.port or edge.protocol}"


@pytest.mark.parametrize("stage", EDGES)
def test_edges_are_exactly_these(stage):
    assert {text(edge) for edge in model(stage).edges} == EDGES[stage] | SSH[stage]


def test_the_secured_stage_encrypts_what_leaves_a_host():
    edges = model("2-secured_and_monitored_web_infrastructure").edges
    plain = {text(edge) for edge in edges if edge.trust == "none" and edge.protocol == "tcp"}
    # The redirection to HTTPS, and the challenge of the certificate authority.
    assert plain == {"client>lb1:80", "authority>lb1:80"}
    assert {"admin>s1:22", "s1>monitoring:443", "lb1>authority:443"} <= {text(edge) for edge in edges}
    assert {edge.trust for edge in edges if edge.source == "client" and edge.port == 443} == {"public"}


def test_the_secured_stage_has_all_ways_of_the_one_before():
    ways = [
        {(edge.link, edge.source, edge.destination) for edge in model(stage).edges}
        for stage in ("1-distributed_web_infrastructure", "2-secured_and_monitored_web_infrastructure")
    ]
    assert ways[0] < ways[1]


def test_ports_follow_the_inventory():
    edges = {text(edge) for edge in model("3-scale_up", site_app_port="9000", site_http_port=8080).edges}
    assert {"web1>lb1:9000", "lb1>app1:9000", "client>vip:8080"} <= edges
    edges = {text(edge) for edge in model("0-simple_web_stack", ansible_port=2222).edges}
    assert "admin>s1:2222" in edges


def test_each_host_listens_for_what_comes_to_it():
    listeners = topology.listeners(model("3-scale_up"))
    ports = {name: {link: edge.port for link, edge in found.items()} for name, found in listeners.items()}
    assert ports["lb2"] == {"www": 80, "application": 8000, "ssh": 22}
    assert ports["app1"] == {"app": 8000, "database_write": 3306, "database_read": 3307, "ssh": 22}
    assert ports["db1"] == {"database": 3306, "database_check": 9200, "replication": 3306, "ssh": 22}


@pytest.mark.parametrize("stage", GROUPS)
def test_the_view_of_each_host_is_its_part_of_the_whole(stage):
    """host_edges is made without the whole model, and must say the same."""
    whole = model(stage, site_vip="198.18.0.10")
    hosts = {node.name: node.address for node in whole.nodes}
    hostvars = {name: {"ansible_host": address, "site_vip": "198.18.0.10"} for name, address in hosts.items()}
    balancers = GROUPS[stage].get("loadbalancers", [])
    for host in hosts:
        view = topology.host_edges(stage, GROUPS[stage], hostvars, host)
        comes = {
            (edge.link, edge.source)
            for edge in whole.edges
            if edge.destination == host or (edge.destination == "vip" and host in balancers)
        }
        goes = {(edge.link, edge.destination, edge.port) for edge in whole.edges if edge.source == host}
        assert {(link, name) for link, there in view["listens"].items() for name in there["sources"]} == comes
        assert {(link, name, way["port"]) for link, way in view["connects"].items() for name in way["servers"]} == goes


def test_the_view_of_a_host_has_addresses():
    hostvars = {
        name: {"ansible_host": f"fd00::{n}"} for n, name in enumerate(("lb1", "lb2", "web1", "app1", "db1", "db2"))
    }
    view = topology.host_edges("3-scale_up", GROUPS["3-scale_up"], hostvars, "web1")
    assert view["connects"]["application"]["servers"] == {"lb1": "fd00::0", "lb2": "fd00::1"}
    assert view["connects"]["application"]["endpoints"]["lb2"] == "[fd00::1]:8000"
    view = topology.host_edges("3-scale_up", GROUPS["3-scale_up"], hostvars, "app1")
    assert view["listens"]["database_write"]["addresses"] == ["127.0.0.1"]
    assert view["connects"]["database_write"]["endpoints"] == {"app1": "127.0.0.1:3306"}


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        ("0-simple_web_stack", "site_stage is 0-simple_web_stack, which has 0 loadbalancers, and the inventory has 1"),
        ("3-scale_up", "site_stage is 3-scale_up, which has 2 or more loadbalancers, and the inventory has 1"),
        ("", "site_stage: '' is no stage; there are 0-simple_web_stack"),
    ],
)
def test_the_wiring_of_another_stage_is_refused(stage, complaint):
    groups = GROUPS["1-distributed_web_infrastructure"]
    with pytest.raises(topology.TopologyError, match=complaint):
        topology.host_edges(stage, groups, dict.fromkeys(("lb1", "s1", "s2"), {}), "s1")


def test_a_host_without_a_group_has_no_view():
    with pytest.raises(topology.TopologyError, match="'app9' is in none of the groups"):
        topology.host_edges(
            "3-scale_up",
            GROUPS["3-scale_up"],
            dict.fromkeys(("lb1", "lb2", "web1", "app1", "db1", "db2", "app9"), {}),
            "app9",
        )


ADDED = {
    "frontend": ({"haproxy_keepalived_frontends": [{"name": "shop", "port": 8080}]}, "client>lb1:8080"),
    "listen": ({"haproxy_keepalived_listens": [{"name": "mqtt", "port": 1883}]}, "client>lb1:1883"),
    "listen on loopback": (
        {"haproxy_keepalived_listens": [{"name": "probe", "port": 1883, "addresses": ["127.0.0.1"]}]},
        "lb1>lb1:1883",
    ),
    "backend of a known host": (
        {"haproxy_keepalived_backends": [{"name": "shop", "port": 8001, "servers": {"a": "198.18.0.22"}}]},
        "lb1>s1:8001",
    ),
    "backend elsewhere": (
        {"haproxy_keepalived_backends": [{"name": "shop", "port": 8001, "servers": {"a": "203.0.113.7"}}]},
        "lb1>203.0.113.7:8001",
    ),
    "site": ({"nginx_sites": [{"name": "shop", "port": 8081}]}, "lb1>s1:8081"),
}


@pytest.mark.parametrize("name", ADDED)
def test_what_an_operator_adds_is_an_edge(name):
    variables, wanted = ADDED[name]
    stage = "1-distributed_web_infrastructure"
    edges = {text(edge) for edge in model(stage, **variables).edges if edge.added}
    assert wanted in edges


@pytest.mark.parametrize(
    "variables",
    [
        {"haproxy_keepalived_frontends": [{"name": "www", "port": 80}, {"name": "x", "port": "none"}, 5]},
        {"haproxy_keepalived_backends": [{"name": "web", "port": 80, "servers": {}}, {"name": "x", "servers": []}]},
        {"nginx_sites": [{"name": "www", "port": 80}, {"name": "second", "port": 80}], "haproxy_keepalived_listens": 1},
    ],
)
def test_what_is_wired_already_or_ill_formed_adds_nothing(variables):
    assert not [edge for edge in model("1-distributed_web_infrastructure", **variables).edges if edge.added]


@pytest.mark.parametrize(
    ("variables", "address"),
    [({"site_address": "10.0.0.1", "ansible_host": "198.18.0.1"}, "10.0.0.1"), ({"ansible_host": "a"}, "a"), ({}, "h")],
)
def test_where_others_reach_a_host(variables, address):
    assert topology.tier_addresses(["h"], {"h": variables}) == {"h": address}


@pytest.mark.parametrize("names", ["web1", ["nobody"], 5])
def test_what_is_no_host_is_refused(names):
    with pytest.raises(topology.TopologyError):
        topology.tier_addresses(names, {"web1": {}})


@pytest.mark.parametrize(("stage", "site"), [("4-moon", {}), ("3-scale_up", {"site_http_port": "http"})])
def test_what_cannot_be_built_is_refused(stage, site):
    with pytest.raises(topology.TopologyError):
        topology.build(
            stage, GROUPS["3-scale_up"], {name: site for name in ("lb1", "lb2", "web1", "app1", "db1", "db2")}
        )


def test_the_filter_gives_addresses_in_the_order_of_the_names():
    program = Path(sys.executable).with_name("ansible")
    hostvars = "{'a': {'ansible_host': '1.1.1.1'}, 'b': {}}"
    expression = f"{{{{ (['b', 'a'] | foobar.web_infrastructure.tier_addresses({hostvars})).values() | join(',') }}}}"
    command = [program, "localhost", "-m", "ansible.builtin.debug", "-a", json.dumps({"msg": expression})]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert "msg: b,1.1.1.1" in done.stdout, done.stdout + done.stderr


@cache
def hosts_of(inventory: Path) -> dict[str, dict]:
    program = Path(sys.executable).with_name("ansible-inventory")
    done = subprocess.run([program, "-i", inventory, "--list"], cwd=PROJECT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["_meta"]["hostvars"]


@pytest.mark.parametrize("form", ["mermaid", "plantuml", "svg"])
@pytest.mark.parametrize("inventory", sorted((PROJECT / "inventories").glob("[0-9]*")), ids=lambda path: path.name)
def test_every_host_is_in_the_diagram(inventory, form):
    command = [sys.executable, PROJECT / "tools/diagram", inventory, inventory.name, "--format", form]
    drawn = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    hosts = hosts_of(inventory)
    assert hosts
    for name, values in hosts.items():
        assert name in drawn
        assert values["ansible_host"] in drawn


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("192.0.2.1", ("192.0.2.1", 80)),
        ("192.0.2.1:81", ("192.0.2.1", 81)),
        ("db.example:81", ("db.example", 81)),
        ("fd00::1", ("fd00::1", 80)),
        ("[fd00::1]", ("fd00::1", 80)),
        ("[fd00::1]:81", ("fd00::1", 81)),
    ],
)
def test_a_server_may_name_its_own_port(value, place):
    assert server_address(value, 80) == place
