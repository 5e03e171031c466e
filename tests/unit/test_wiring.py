"""What the playbooks wire is what the topology says: each stage's configuration, rendered from its inventory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import topology
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import wiring
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Inventory
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import COMPONENTS, STAGES

PROJECT = Path(__file__).resolve().parents[2]
INVENTORIES = sorted((PROJECT / "inventories").glob("[0-9]*"))
ROLES = sorted(path.name for path in (PROJECT / "roles").iterdir())
SECRETS = {"site_database_password": "of-the-application", "site_replication_password": "of-the-copies"}
#: What else is rendered: values of roles that are no part of a template below.
VALUES = [
    *("gunicorn_flask_listen", "gunicorn_flask_runs_migrations", "gunicorn_flask_service_environment"),
    *("gunicorn_flask_runs_timers",),
    *("haproxy_keepalived_vip", "haproxy_keepalived_vip_prefix", "haproxy_keepalived_peers"),
    *("mysql_replication_mode", "mysql_replication_members", "mysql_replication_address"),
    *("mysql_replication_bind_address", "mysql_replication_network", "mysql_replication_password"),
    *("mysql_replication_port", "mysql_replication_check_port", "mysql_replication_ends_rotation"),
    *("__mysql_replication_databases", "__mysql_replication_users", "__gunicorn_flask_environment"),
    *("__mysql_replication_check_clients",),
    *("__nginx_real_ip_from", "__nginx_sites"),
    *("gunicorn_flask_header_kb", "haproxy_keepalived_header_kb", "nginx_header_kb"),
]
OF_THE_ROLE = list(
    yaml.safe_load((PROJECT / "roles/gunicorn_flask/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
)
TEMPLATES = {
    "haproxy_keepalived": ["haproxy.cfg"],
    "nginx": ["upstreams.conf"],
}


class Rendered:
    """The wiring of a stage: by host, the values and the configuration files of the roles that it gets there."""

    def __init__(self, stage: str, place: Path, extra: dict[str, dict], settings: dict[str, str] | None = None) -> None:
        self.stage = stage
        self.settings = settings or {}
        self.hosts = self._render(place, extra)

    def _render(self, place: Path, extra: dict[str, dict]) -> dict[str, dict]:
        defaults = {}
        for role in ROLES:
            defaults |= yaml.safe_load((PROJECT / f"roles/{role}/defaults/main.yml").read_text()) or {}
        # The lowest of all places for a variable, as the defaults of a role are.
        low = place / "defaults"
        (low / "group_vars").mkdir(parents=True)
        (low / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {}}}))
        (low / "group_vars/all.yml").write_text(yaml.safe_dump(defaults))
        high = place / "operator"
        (high / "group_vars").mkdir(parents=True)
        (high / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": dict.fromkeys(extra)}}))
        for group, values in extra.items():
            (high / f"group_vars/{group}.yml").write_text(yaml.safe_dump(values))
        playbook = place / "render.yml"
        playbook.write_text(yaml.safe_dump([self._play(place)], width=10000))
        # On the controller alone: nothing is sent to any host, the values are in what the callback prints.
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                *(f"--inventory={path}" for path in (low, PROJECT / "inventories" / self.stage, high)),
                f"--extra-vars={json.dumps(SECRETS)}",
                playbook,
            ],
            cwd=PROJECT,
            env=os.environ | self.settings | {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        tasks = json.loads(done.stdout)["plays"][0]["tasks"]
        found = {host: result["msg"] | {"further": []} for host, result in tasks[0]["hosts"].items()}
        # One task for each further application, on each host that runs it.
        for host, result in (pair for task in tasks[1:] for pair in task["hosts"].items()):
            if isinstance(result.get("msg"), dict):
                found[host]["further"].append(result["msg"])
        return found

    def _play(self, place: Path) -> dict:
        playbook = yaml.safe_load((PROJECT / f"playbooks/{self.stage}.yml").read_text())
        files = list(dict.fromkeys(file for play in playbook for file in play.get("vars_files", [])))
        components = STAGES[self.stage].components
        report = dict.fromkeys([*VALUES, *(name for files in TEMPLATES.values() for name in files)], "")
        for role in dict.fromkeys(component.role for component in components):
            tiers = [component.tier for component in components if component.role == role]
            here = " or ".join(f"inventory_hostname in groups['{tier}']" for tier in tiers)
            for name in (name for name in VALUES if name.lstrip("_").startswith(role)):
                report[name] = f"{{{{ {name} if {here} else '' }}}}"
            for name in TEMPLATES.get(role, []):
                path = PROJECT / f"roles/{role}/templates/{name}.j2"
                report[name] = f"{{{{ lookup('ansible.builtin.template', '{path}') if {here} else '' }}}}"
        report["sites.conf"] = "{{ __sites if inventory_hostname in groups['webservers'] else '' }}"
        task = {"ansible.builtin.debug": {"msg": "{{ __report }}"}}
        include = {
            "ansible.builtin.include_tasks": self._further(place),
            "loop": "{{ __chosen_further }}",
            "loop_control": {"loop_var": "__further_number"},
            "when": "inventory_hostname in groups['appservers']",
        }
        return {
            "hosts": ":".join(dict.fromkeys(component.tier for component in components)),
            "gather_facts": False,
            "vars_files": [
                *((str((PROJECT / "playbooks" / file).resolve())) for file in files),
                *(str(PROJECT / f"roles/{role}/vars/main.yml") for role in ROLES),
            ],
            "vars": {
                "__report": report,
                "__sites": f"{{{{ lookup('ansible.builtin.template', '{self._sites(place)}') }}}}",
                "ansible_facts": {"memtotal_mb": 2048, "distribution": "Debian", "distribution_release": "trixie"},
            },
            "tasks": [task, include],
        }

    @staticmethod
    def _further(place: Path) -> str:
        """Tasks that say what the role gets for a further application."""
        (task, *_rest) = yaml.safe_load((PROJECT / "playbooks/tasks/further_application.yml").read_text())
        path = place / "further.yml"
        report = {name: f"{{{{ {name} }}}}" for name in OF_THE_ROLE}
        path.write_text(yaml.safe_dump([{"ansible.builtin.debug": {"msg": report}, "vars": task["vars"]}]))
        return str(path)

    @staticmethod
    def _sites(place: Path) -> Path:
        # The role renders each site with variables of its own; here all of them stand in one text.
        template = (PROJECT / "roles/nginx/templates/site.conf.j2").read_text()
        path = place / "sites.conf.j2"
        path.write_text(
            "{% for site in __nginx_sites %}{% set site_number = loop.index %}\n" + template + "{% endfor %}\n"
        )
        return path

    # --- what the configuration says

    def listeners(self, host: str) -> set[tuple[str, int]]:
        """Program and TCP port of all that listens, but for what is for the host's own monitoring."""
        values = self.hosts[host]
        found = {("HAProxy", port) for port in self._binds(host) if port != 8404}
        found |= {("nginx", int(port)) for port in re.findall(r"^\s+listen .*?:(\d+)", values["sites.conf"], re.M)}
        for run in self.runs(host):
            if re.fullmatch(r"[0-9.]+:\d+", str(run["gunicorn_flask_listen"])):
                found.add(("gunicorn", int(run["gunicorn_flask_listen"].rpartition(":")[2])))
        if self.has(host, "database") and values["mysql_replication_mode"] != "standalone":
            assert values["mysql_replication_bind_address"] == values["mysql_replication_address"]
            found |= {("MySQL", values[f"mysql_replication_{name}"]) for name in ("port", "check_port")}
        return {(program, int(port)) for program, port in found}

    def _binds(self, host: str) -> list[int]:
        return [int(port) for port in re.findall(r"^\s+bind .*?:(\d+)", self.hosts[host]["haproxy.cfg"], re.M)]

    def loopback(self, host: str) -> set[int]:
        """Ports on which HAProxy answers its own host alone."""
        found = re.findall(r"^\s+bind 127\.0\.0\.1:(\d+)$", self.hosts[host]["haproxy.cfg"], re.M)
        return {int(port) for port in found} - {8404}

    def servers(self, host: str) -> set[tuple[str, str]]:
        """Program and address:port of every server that the configuration names."""
        values = self.hosts[host]
        found = set()
        for address, port, check in re.findall(
            r"^\s+server \S+ (\S+):(\d+) check(?: port (\d+))?", values["haproxy.cfg"], re.M
        ):
            found |= {("HAProxy", f"{address}:{number}") for number in (port, check) if number}
        ways = re.findall(r"^\s+server (\S+?)(?: .*)?; #", values["upstreams.conf"], re.M)
        found |= {("nginx", way) for way in ways if not way.startswith("unix:")}
        for run in self.runs(host):
            environment = run["gunicorn_flask_service_environment"]
            urls = [environment[name] for name in ("WRITE_DATABASE_URL", "READ_DATABASE_URL") if name in environment]
            ways = [re.search(r"@([^/]+)/", url)[1] for url in urls]
            found |= {("gunicorn", way) for way in ways if way != "localhost"}
        if self.has(host, "database"):
            members = values["mysql_replication_members"]
            port = values["mysql_replication_port"]
            found |= {("MySQL", f"{address}:{port}") for name, address in members.items() if name != host}
        return found

    def runs(self, host: str) -> list[dict]:
        """What the role gets for each application of a host."""
        values = self.hosts[host]
        return [values, *values["further"]] if self.has(host, "application") else []

    def has(self, host: str, component: str) -> bool:
        return host in self.groups[COMPONENTS[component].tier]

    @property
    def groups(self) -> dict[str, list[str]]:
        return _inventory(self.stage)[0]


@cache
def _listed(stage: str) -> str:
    program = Path(sys.executable).with_name("ansible-inventory")
    place = PROJECT / "inventories" / stage
    command = [program, f"--inventory={place}", "--list", f"--extra-vars={json.dumps(SECRETS)}"]
    return subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout


def _inventory(stage: str) -> tuple[dict[str, list[str]], dict[str, dict]]:
    listed = json.loads(_listed(stage))
    hostvars = listed.pop("_meta")["hostvars"]
    return {name: group.get("hosts", []) for name, group in listed.items()}, hostvars


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    """Return a function that renders a stage, once for each stage and what an operator adds."""
    made: dict[str, Rendered] = {}

    def of(stage: str, extra: dict[str, dict] | None = None) -> Rendered:
        key = stage + json.dumps(extra)
        if key not in made:
            made[key] = Rendered(stage, tmp_path_factory.mktemp(stage), extra or {})
        return made[key]

    return of


@pytest.fixture(scope="module", params=[path.name for path in INVENTORIES])
def stage(request) -> str:
    return request.param


def of_the_model(stage: str, extra: dict | None = None) -> topology.Topology:
    groups, hostvars = _inventory(stage)
    for group, values in (extra or {}).items():
        for host in hostvars if group == "all" else groups[group]:
            hostvars[host] |= values
    return topology.build(stage, groups, hostvars)


#: What somebody's ansible.cfg may say, all at once.
OTHER_SETTINGS = {
    "ANSIBLE_GATHERING": "explicit",
    "ANSIBLE_HASH_BEHAVIOUR": "merge",
    "ANSIBLE_INJECT_FACT_VARS": "true",
    "ANSIBLE_FORCE_HANDLERS": "true",
    "ANSIBLE_ANY_ERRORS_FATAL": "true",
    "ANSIBLE_JINJA2_NATIVE": "true",
    "ANSIBLE_FORKS": "1",
}


def test_the_wiring_is_the_same_whatever_an_ansible_cfg_says(render, tmp_path):
    usual = render("3-scale_up", EXTRA)
    assert Rendered("3-scale_up", tmp_path, EXTRA, OTHER_SETTINGS).hosts == usual.hosts


def listeners_of(model: topology.Topology, host: str) -> set[tuple[str, int]]:
    edges = topology.listeners(model)[host].values()
    return {(COMPONENTS[edge.destination_component].program, edge.port) for edge in edges if edge.destination_component}


def servers_of(model: topology.Topology, host: str) -> set[tuple[str, str]]:
    addresses = {node.name: node.address for node in model.nodes}
    return {
        (
            COMPONENTS[edge.source_component].program,
            f"{'127.0.0.1' if edge.local else addresses.get(edge.destination, edge.destination)}:{edge.port}",
        )
        for edge in model.edges
        if edge.source == host and edge.protocol == "tcp" and edge.source_component
    }


def test_listeners_are_the_edges_of_the_model(render, stage):
    rendered, model = render(stage), of_the_model(stage)
    for node in model.nodes:
        assert rendered.listeners(node.name) == listeners_of(model, node.name), node.name


def test_servers_are_the_edges_of_the_model(render, stage):
    rendered, model = render(stage), of_the_model(stage)
    for node in model.nodes:
        assert rendered.servers(node.name) == servers_of(model, node.name), node.name


def test_what_is_local_is_not_to_be_reached_from_outside(render, stage):
    rendered, model = render(stage), of_the_model(stage)
    for node in model.nodes:
        local = {edge.port for edge in topology.listeners(model)[node.name].values() if edge.local}
        assert rendered.loopback(node.name) == local, node.name


def test_what_the_preflight_takes_for_fixed_is_what_the_playbooks_wire(render, stage):
    groups, hostvars = _inventory(stage)
    inventory = Inventory(stage, groups, hostvars, {}, lambda path: True)
    rendered = render(stage)
    for host in hostvars:
        for name, (value, _reason) in wiring.fixed_values(inventory, host).items():
            assert str(rendered.hosts[host][name]) == str(value), (host, name)


def test_databases_answer_those_who_ask_which_one_is_the_source(render, stage):
    rendered, model = render(stage), of_the_model(stage)
    addresses = {node.name: node.address for node in model.nodes}
    for host in rendered.groups["databases"]:
        askers = {edge.source for edge in model.edges if edge.link == "database_check" and edge.destination == host}
        clients = rendered.hosts[host]["__mysql_replication_check_clients"]
        assert sorted(clients) == sorted(addresses[name] for name in askers)
        # Each host whose HAProxy has that port in its configuration, and nobody else.
        place = ":".join(str(rendered.hosts[host][f"mysql_replication_{name}"]) for name in ("address", "check_port"))
        assert askers == {name for name in rendered.hosts if ("HAProxy", place) in rendered.servers(name)}


def test_hosts_that_are_known_by_their_names_ask_by_their_names(render):
    named = render("3-scale_up", {"appservers": {"site_address": "{{ inventory_hostname }}.foobar.com"}})
    for host in named.groups["databases"]:
        names = [f"{name}.foobar.com" for name in named.groups["appservers"]]
        assert named.hosts[host]["__mysql_replication_check_clients"] == names


@pytest.mark.parametrize("stage", ["1-distributed_web_infrastructure", "3-scale_up"])
def test_one_lost_probe_takes_no_database_out(render, stage):
    """The second question comes at once, so a source that says no is out in 300 ms."""
    rendered = render(stage)
    for host in rendered.groups["appservers"]:
        backends = {
            name.removeprefix("backend "): dict(re.findall(r"\b(inter|fastinter|fall|rise) (\d+)", text))
            for name, text in sections(rendered.hosts[host]["haproxy.cfg"]).items()
            if name.startswith("backend database")
        }
        assert list(backends) == ["database_write", "database_read", "database_stale"]
        assert backends["database_write"] == {"inter": "200", "fastinter": "100", "fall": "2", "rise": "1"}
        for times in backends.values():
            assert int(times["fall"]) == 2 and int(times["fastinter"]) <= 200


#: By list: the group and the variable that an operator sets, and how it shows on the hosts of the group.
SHOP = {"name": "shop", "server_names": ["shop.foobar.com"], "locations": [{"path": "/", "upstream": "shop"}]}
EXTRA = {
    "all": {"site_application_environment": {"FEATURE": "yes", "URI": "{{ site_database_write_url }}"}},
    "appservers": {"gunicorn_flask_environment": {"PROXY_HOPS": "2", "MINE": "1"}},
    "databases": {
        "mysql_replication_databases": [{"name": "shop"}],
        "mysql_replication_users": [{"name": "shop", "host": "198.18.0.0/24", "password": "of-the-shop"}],
        "mysql_replication_check_clients": ["monitoring.foobar.com"],
    },
    "webservers": {
        "nginx_sites": [SHOP | {"port": 8080}],
        "nginx_upstreams": [{"name": "shop", "servers": {"one": "198.18.0.99:8001"}}],
        "nginx_real_ip_from": ["192.0.2.1"],
    },
    "loadbalancers": {
        "haproxy_keepalived_frontends": [{"name": "shop", "port": 8080, "default_backend": "shop"}],
        "haproxy_keepalived_backends": [{"name": "shop", "port": 8080, "servers": {"one": "198.18.0.98"}}],
        "haproxy_keepalived_listens": [
            {"name": "mail", "port": 2525, "mode": "tcp", "lines": ["server a 192.0.2.9:25"]}
        ],
    },
}


@pytest.fixture(scope="module", params=["1-distributed_web_infrastructure", "3-scale_up"])
def grown(request, render) -> tuple[Rendered, Rendered]:
    """A stage as it is, and with what an operator adds to every list that is wired."""
    return render(request.param), render(request.param, EXTRA)


def names(entries: list[dict]) -> list[str]:
    return [entry["name"] for entry in entries]


def test_a_database_and_an_account_of_the_operator_are_added(grown):
    bare, whole = grown
    for host in whole.groups["databases"]:
        for name in ("__mysql_replication_databases", "__mysql_replication_users"):
            assert names(whole.hosts[host][name]) == [*names(bare.hosts[host][name]), "shop"]
            assert names(bare.hosts[host][name]) == ["guestbook"]


def test_a_monitoring_of_the_operator_may_ask_the_databases(grown):
    bare, whole = grown
    for host in whole.groups["databases"]:
        wired, all_ = (stage.hosts[host]["__mysql_replication_check_clients"] for stage in (bare, whole))
        assert wired and all_ == [*wired, "monitoring.foobar.com"]


def test_the_operators_environment_is_added_and_wins(grown):
    bare, whole = grown
    for host in whole.groups["appservers"]:
        before, after = (stage.hosts[host]["__gunicorn_flask_environment"] for stage in (bare, whole))
        assert after == before | {
            "FEATURE": "yes",
            "MINE": "1",
            "PROXY_HOPS": "2",
            # What the playbook publishes for that.
            "URI": before["WRITE_DATABASE_URL"],
        }


def test_a_site_an_upstream_and_a_trusted_proxy_of_the_operator_are_added(grown):
    bare, whole = grown
    for host in whole.groups["webservers"]:
        assert names(whole.hosts[host]["__nginx_sites"]) == [*names(bare.hosts[host]["__nginx_sites"]), "shop"]
        assert "upstream application {" in whole.hosts[host]["upstreams.conf"]
        assert "upstream shop {" in whole.hosts[host]["upstreams.conf"]
        assert set(whole.hosts[host]["__nginx_real_ip_from"]) == {
            *bare.hosts[host]["__nginx_real_ip_from"],
            "192.0.2.1",
        }


def test_sections_of_haproxy_of_the_operator_are_added(grown):
    bare, whole = grown

    def sections(stage: Rendered, host: str) -> set[str]:
        return set(re.findall(r"^(?:frontend|backend|listen) \S+", stage.hosts[host]["haproxy.cfg"], re.M))

    for host in whole.groups["loadbalancers"]:
        added = sections(whole, host) - sections(bare, host)
        assert added == {"frontend shop", "backend shop", "listen mail"}
        assert sections(bare, host) < sections(whole, host)


def test_what_an_operator_adds_is_in_the_model_too(grown):
    _bare, whole = grown
    model = of_the_model(whole.stage, EXTRA)
    for node in model.nodes:
        assert whole.listeners(node.name) == listeners_of(model, node.name), node.name


def test_an_entry_of_the_operator_with_a_wired_name_takes_its_place(render):
    mine = {
        "name": "www.foobar.com",
        "server_names": ["www.foobar.com", "foobar.com"],
        "locations": [{"path": "/", "return": 204}],
    }
    whole = render("3-scale_up", {"webservers": {"nginx_sites": [mine]}})
    for host in whole.groups["webservers"]:
        assert [site["server_names"] for site in whole.hosts[host]["__nginx_sites"]] == [
            ["www.foobar.com", "foobar.com"]
        ]


# --- further applications ---------------------------------------------------------------------------------------------

BLOG = {
    "name": "blog",
    "domains": ["blog.foobar.com", "b.foobar.com"],
    "port": "8001",
    "database": {"name": "posts", "user": "writer", "password": "of-the-blog"},
    "static": [{"path": "/press/", "directory": "/srv/press"}],
    "environment": {
        "URI": "{{ site_database_write_url }}",
        "DB_NAME": "{{ site_database_read.name }}",
        "PROXY_HOPS": 2,
    },
    "gunicorn_flask": {
        "source": {"type": "directory", "path": "/srv/blog"},
        "wsgi": "blog:app",
        "health_path": "/alive",
        "timeout": 60,
    },
}
# Without a database.
CLOCK = {
    "name": "clock",
    "domains": ["clock.foobar.com"],
    "port": 8002,
    "gunicorn_flask": {"source": {"type": "pypi", "requirement": "clock==1"}, "wsgi": "clock:app"},
}
#: What an inventory says of the first application, too, is nothing to the others.
FURTHER = {
    "all": {"site_applications": [BLOG, CLOCK]},
    "appservers": {
        "gunicorn_flask_workers": 7,
        "gunicorn_flask_environment": {"MINE": "1"},
        "gunicorn_flask_migrate": ["migrate"],
        "gunicorn_flask_absent": [{"name": "old"}],
    },
}


@pytest.fixture(scope="module", params=["0-simple_web_stack", "1-distributed_web_infrastructure", "3-scale_up"])
def three(request, render) -> Rendered:
    """A stage with two further applications."""
    return render(request.param, FURTHER)


def test_listeners_and_servers_of_further_applications_are_the_edges_of_the_model(three):
    model = of_the_model(three.stage, FURTHER)
    for node in model.nodes:
        assert three.listeners(node.name) == listeners_of(model, node.name), node.name
        assert three.servers(node.name) == servers_of(model, node.name), node.name


def test_the_first_application_is_wired_as_without_others(three, render):
    # Of the roles' variables in FURTHER there is nothing in these.
    alone = render(three.stage)
    for host, values in three.hosts.items():
        for name in ("gunicorn_flask_listen", "gunicorn_flask_service_environment"):
            assert values[name] == alone.hosts[host][name]
        before, after = (sections(stage.hosts[host]["haproxy.cfg"]) for stage in (alone, three))
        # Limits follow the number of listeners.
        assert {name: text for name, text in after.items() if name in before and name != "global"} == {
            name: text for name, text in before.items() if name != "global"
        }


def sections(text: str) -> dict[str, str]:
    """Sections of a configuration of HAProxy by their first lines."""
    found = re.findall(r"^([a-z]+(?: \S+)?)$(.*?)(?=^[a-z]|\Z)", text, re.M | re.S)
    return {head: body.strip() for head, body in found}


def test_each_application_has_a_site_an_upstream_and_files_of_its_own(three):
    for host in three.groups["webservers"]:
        sites = {site["name"]: site for site in three.hosts[host]["__nginx_sites"]}
        assert list(sites) == ["www.foobar.com", "blog.foobar.com", "clock.foobar.com"]
        assert [site["default"] for site in sites.values()] == [True, False, False]
        assert sites["blog.foobar.com"]["server_names"] == BLOG["domains"]
        assert sites["blog.foobar.com"]["static"] == BLOG["static"]
        assert [site["locations"][0]["upstream"] for site in sites.values()] == [
            "application",
            "application_blog",
            "application_clock",
        ]
        upstreams = dict(re.findall(r"^upstream (\S+) \{(.*?)^\}", three.hosts[host]["upstreams.conf"], re.M | re.S))
        if three.stage == "3-scale_up":
            servers = set(re.findall(r"server (\S+?)(?: .*)?;", upstreams["application_blog"]))
            assert servers == {"198.18.0.11:8001", "198.18.0.12:8001"}
        else:
            assert "unix:/run/clock/clock.sock" in upstreams["application_clock"]


def test_each_application_has_a_backend_that_asks_for_its_own_health(render):
    three = render("3-scale_up", FURTHER)
    default = yaml.safe_load((PROJECT / "roles/gunicorn_flask/defaults/main.yml").read_text())
    wanted = {
        "app": ("/health", "www.foobar.com"),
        "app_blog": ("/alive", "blog.foobar.com"),
        "app_clock": (default["gunicorn_flask_health_path"], "clock.foobar.com"),
    }
    for host in three.groups["loadbalancers"]:
        text = three.hosts[host]["haproxy.cfg"]
        for name, (path, domain) in wanted.items():
            section = sections(text)[f"backend {name}"]
            assert f"uri {path} " in section and domain in section, section
        for name in ("application", "application_blog", "application_clock"):
            section = sections(text)[f"frontend {name}"]
            assert "http-request deny unless from_web" in section


def test_each_application_has_a_database_and_an_account_unless_it_wants_none(three):
    for host in three.groups["databases"]:
        assert names(three.hosts[host]["__mysql_replication_databases"]) == ["guestbook", "posts"]
        users = {user["name"]: user for user in three.hosts[host]["__mysql_replication_users"]}
        assert list(users) == ["guestbook", "writer"]
        assert users["writer"]["password"] == BLOG["database"]["password"]
        assert list(users["writer"]["privileges"]) == ["posts.*"]


def test_the_role_gets_for_a_further_application_what_its_entry_says(three):
    defaults = yaml.safe_load((PROJECT / "roles/gunicorn_flask/defaults/main.yml").read_text())
    wired = {"listen", "header_kb", "runs_migrations", "runs_timers", "service_environment", "service_requires"}
    for host in three.groups["appservers"]:
        blog, clock = three.hosts[host]["further"]
        for entry, run in ((BLOG, blog), (CLOCK, clock)):
            said = {f"gunicorn_flask_{name}": value for name, value in entry["gunicorn_flask"].items()}
            expected = defaults | said | {"gunicorn_flask_name": entry["name"]}
            for name in set(OF_THE_ROLE) - {f"gunicorn_flask_{name}" for name in wired}:
                assert run[name] == expected[name], name
        first = three.hosts[host]
        for run in (blog, clock):
            for name in ("header_kb", "runs_migrations", "runs_timers"):
                assert run[f"gunicorn_flask_{name}"] == first[f"gunicorn_flask_{name}"]
        if three.stage != "3-scale_up":
            assert blog["gunicorn_flask_listen"] == "/run/blog/blog.sock"


def test_a_further_application_has_its_own_database_in_its_environment(three):
    for host in three.groups["appservers"]:
        blog, clock = (run["gunicorn_flask_service_environment"] for run in three.hosts[host]["further"])
        assert blog["WRITE_DATABASE_URL"].startswith("mysql+pymysql://writer:of-the-blog@")
        assert "/posts?" in blog["READ_DATABASE_URL"]
        assert blog["URI"] == blog["WRITE_DATABASE_URL"]
        assert (blog["DB_NAME"], blog["PROXY_HOPS"]) == ("posts", 2)
        assert clock == {"PROXY_HOPS": "1"}
        assert three.hosts[host]["further"][1]["gunicorn_flask_service_requires"] == []
