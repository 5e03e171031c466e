"""What the playbooks tell the firewall is what the topology says: each host's rules, rendered from its inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import topology
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import RoleValues

PROJECT = Path(__file__).resolve().parents[2]
SECURED = "2-secured_and_monitored_web_infrastructure"
#: The inventory of each stage. That of the secured one has the hosts of the one before.
STAGES = {
    "0-simple_web_stack": "0-simple_web_stack",
    "1-distributed_web_infrastructure": "1-distributed_web_infrastructure",
    SECURED: "1-distributed_web_infrastructure",
    "3-scale_up": "3-scale_up",
}
#: What an operator adds, by group.
SHOP = {"name": "shop", "port": 8080, "default_backend": "web"}
ADDED = {
    "all": {
        "site_applications": [{"name": "blog", "domains": ["blog.foobar.com"], "port": 8001, "gunicorn_flask": {}}]
    },
    "loadbalancers": {"haproxy_keepalived_frontends": [SHOP]},
}
SECRETS = {"site_database_password": "of-the-application", "site_replication_password": "of-the-copies"}


def arguments(stage: str, place: Path, added: bool) -> list[str]:
    for group, values in ADDED.items() if added else ():
        (place / "group_vars").mkdir(exist_ok=True)
        (place / f"group_vars/{group}.yml").write_text(yaml.safe_dump(values))
    (place / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"loadbalancers": {}}}}))
    inventories = [PROJECT / "inventories" / STAGES[stage], place]
    variables = json.dumps(SECRETS | {"site_stage": stage})
    return [*(f"--inventory={path}" for path in inventories), f"--extra-vars={variables}"]


def run(program: str, *words: str | Path, **settings: str) -> dict:
    command = [Path(sys.executable).with_name(program), *words]
    done = subprocess.run(command, cwd=PROJECT, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


class Rendered:
    """The rules of each host, and the model that they are compared with."""

    def __init__(self, stage: str, place: Path, added: bool) -> None:
        words = arguments(stage, place, added)
        names = ("ufw_firewall_service_rules", "ufw_firewall_service_egress")
        play = {
            "hosts": "all",
            "gather_facts": False,
            "vars_files": [
                *(str(PROJECT / f"playbooks/vars/{name}.yml") for name in ("site", "firewall")),
                str(PROJECT / "roles/gunicorn_flask/vars/published.yml"),
            ],
            "tasks": [{"ansible.builtin.debug": {"msg": {name: f"{{{{ {name} }}}}" for name in names}}}],
        }
        playbook = place / "render.yml"
        playbook.write_text(yaml.safe_dump([play]))
        said = run("ansible-playbook", *words, playbook, ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
        self.hosts = {host: result["msg"] for host, result in said["plays"][0]["tasks"][0]["hosts"].items()}
        listed = run("ansible-inventory", *words, "--list")
        hostvars = listed.pop("_meta")["hostvars"]
        groups = {name: group.get("hosts", []) for name, group in listed.items()}
        self.model = topology.build(stage, groups, hostvars)
        self.addresses = {node.name: node.address for node in self.model.nodes}

    def rules(self, host: str) -> set[tuple]:
        return opened(self.hosts[host]["ufw_firewall_service_rules"], "sources")

    def egress(self, host: str) -> set[tuple]:
        return opened(self.hosts[host]["ufw_firewall_service_egress"], "destinations")

    def edges(self) -> Iterable[tuple[topology.Edge, str, str]]:
        """Each edge between two hosts, or a host and somebody else, with both of its ends."""
        balancers = [node.name for node in self.model.nodes if "loadbalancers" in node.tiers]
        for edge in self.model.edges:
            for end in balancers if edge.destination == "vip" else [edge.destination]:
                if not edge.local and edge.protocol != "unix" and edge.source != end:
                    yield edge, edge.source, end

    def address(self, end: str) -> str:
        return self.addresses.get(end, self.model.vip if end == "vip" else "any")


def opened(entries: list[dict], ends: str) -> set[tuple]:
    return {
        (entry["protocol"], port, end) for entry in entries for port in entry["ports"] or [""] for end in entry[ends]
    }


def number(edge: topology.Edge) -> str:
    return str(edge.port) if edge.port else ""


@pytest.fixture(scope="module", params=[(stage, added) for stage in STAGES for added in (False, True)], ids=str)
def rendered(request, tmp_path_factory):
    stage, added = request.param
    return Rendered(stage, tmp_path_factory.mktemp("firewall"), added)


def test_what_comes_in_is_the_edges_that_end_at_the_host(rendered):
    """But for SSH, which is the role's own."""
    for host in rendered.hosts:
        expected = {
            (edge.protocol, number(edge), rendered.address(source))
            for edge, source, end in rendered.edges()
            if end == host and edge.speaks != "ssh"
        }
        assert expected
        # Who is let in from everywhere needs no rule of his own.
        everywhere = {(protocol, port) for protocol, port, end in expected if end == "any"}
        assert rendered.rules(host) == {one for one in expected if one[2] == "any" or one[:2] not in everywhere}, host


def test_what_goes_out_is_the_edges_that_begin_at_the_host_and_what_each_needs(rendered):
    needed = {
        *(("any", "53", "any"), ("udp", "123", "any"), ("tcp", "80", "any"), ("tcp", "443", "any")),
        *(("udp", "67", "any"), ("udp", "547", "any")),
    }
    for host in rendered.hosts:
        expected = {
            (edge.protocol, number(edge), rendered.address(end))
            for edge, source, end in rendered.edges()
            if source == host
        }
        assert rendered.egress(host) == expected | needed, host


def test_the_role_takes_what_is_wired(rendered):
    defaults = {name: option.get("default") for name, option in roles.options("ufw_firewall").items()}
    for host, wired in rendered.hosts.items():
        values = defaults | wired | {"ufw_firewall_admin_networks": ["198.18.0.1"]}
        assert roles.find_mistakes("ufw_firewall", RoleValues(host, values)) == []
