"""Groups and hostvars become nodes and edges: what talks to what, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import topology

PROJECT = Path(__file__).resolve().parents[2]
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
EDGES = {
    "0-simple_web_stack": {"client>s1:80", "s1>s1:unix"},
    "1-distributed_web_infrastructure": {
        *("client>lb1:80", "lb1>s1:80", "lb1>s2:80", "s1>s1:unix", "s2>s2:unix"),
        *("s1>lb1:3306", "s2>lb1:3306", "s1>lb1:3307", "s2>lb1:3307"),
        *("lb1>s1:3306", "lb1>s2:3306", "lb1>s1:9200", "lb1>s2:9200", "s1>s2:3306", "s2>s1:3306"),
    },
    "3-scale_up": {
        *("client>vip:80", "lb1>web1:80", "lb2>web1:80", "web1>vip:8000", "lb1>app1:8000", "lb2>app1:8000"),
        *("app1>vip:3306", "app1>vip:3307", "lb1>lb2:vrrp", "lb2>lb1:vrrp", "db1>db2:3306", "db2>db1:3306"),
        *(f"lb{balancer}>db{number}:{port}" for balancer in (1, 2) for number in (1, 2) for port in (3306, 9200)),
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
    assert {text(edge) for edge in model(stage).edges} == EDGES[stage]


def test_the_secured_stage_encrypts_what_leaves_a_host():
    edges = model("2-secured_and_monitored_web_infrastructure").edges
    plain = {text(edge) for edge in edges if not edge.tls and edge.protocol == "tcp"}
    assert plain == {"client>lb1:80"}
    assert {"admin>s1:22", "admin>lb1:22", "s1>monitoring:443"} <= {text(edge) for edge in edges}


def test_ports_follow_the_inventory():
    edges = {text(edge) for edge in model("3-scale_up", site_app_port="9000", site_http_port=8080).edges}
    assert {"web1>vip:9000", "lb1>app1:9000", "client>vip:8080"} <= edges


def test_balancers_listen_for_every_tier_behind_them():
    ports = topology.listeners(model("3-scale_up"))
    assert [port for port, _tier in ports["lb2"]] == [80, 8000, 3306, 3307]
    assert [port for port, _tier in ports["db1"]] == [3306, 9200]


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


@pytest.mark.parametrize("form", ["mermaid", "plantuml", "svg"])
@pytest.mark.parametrize("inventory", sorted((PROJECT / "inventories").glob("[0-9]*")), ids=lambda path: path.name)
def test_every_host_is_in_the_diagram(inventory, form):
    command = [sys.executable, PROJECT / "tools/diagram", inventory, inventory.name, "--format", form]
    drawn = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    listed = subprocess.run(
        [Path(sys.executable).with_name("ansible-inventory"), "-i", inventory, "--list"],
        cwd=PROJECT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    hosts = json.loads(listed)["_meta"]["hostvars"]
    assert hosts
    for name, values in hosts.items():
        assert name in drawn
        assert values["ansible_host"] in drawn
