"""A good inventory gives no mistake; each rule, broken, gives its one sentence."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import preflight, topology

PROJECT = Path(__file__).resolve().parents[2]
SPECS = {
    "nginx": {
        "nginx_sites": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, "static": {"type": "list", "elements": "dict"}},
        },
        "nginx_worker_connections": {"type": "int"},
    },
    "gunicorn_flask": {
        "gunicorn_flask_source": {"type": "dict", "options": {"type": {"type": "str"}, "path": {"type": "str"}}},
        "gunicorn_flask_environment": {"type": "dict", "no_log": True},
    },
    "mysql_replication": {
        "mysql_replication_mode": {"type": "str", "choices": ["standalone"]},
        "mysql_replication_users": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str"}, "password": {"type": "str", "no_log": True}},
        },
    },
}
SITE = {
    "site_domain": "www.foobar.com",
    "site_network": "198.18.0.0/24",
    "site_vip": "198.18.0.10",
    "site_vip_prefix": 24,
    "site_http_port": 80,
    "site_app_port": 8000,
    "site_database_port": 3306,
    "site_database_read_port": 3307,
    "site_database_check_port": 9200,
    "site_database_name": "guestbook",
    "site_database_user": "guestbook",
    "site_database_password": "a-long-and-random-one",
    "site_replication_password": "another-long-and-random-one",
}
HOSTS = {
    "0-simple_web_stack": {"webservers": ["s1"], "appservers": ["s1"], "databases": ["s1"]},
    "3-scale_up": {
        "loadbalancers": ["lb1", "lb2"],
        "webservers": ["web1", "web2"],
        "appservers": ["app1", "app2"],
        "databases": ["db1", "db2"],
    },
}
TWO_SERVERS = {"loadbalancers": ["lb1"], **dict.fromkeys(("webservers", "appservers", "databases"), ["s1", "s2"])}
HOSTS |= dict.fromkeys(("1-distributed_web_infrastructure", "2-secured_and_monitored_web_infrastructure"), TWO_SERVERS)
ROLES = {"webservers": ["nginx"], "appservers": ["gunicorn_flask"], "databases": ["mysql_replication"]}


class Sample:
    """An inventory that a test may spoil before it is judged."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.groups = copy.deepcopy(HOSTS[stage])
        names = dict.fromkeys(name for hosts in self.groups.values() for name in hosts)
        self.groups["all"] = list(names)
        self.hostvars = {
            name: {**SITE, "ansible_host": f"198.18.0.{number}"} for number, name in enumerate(names, start=21)
        }

    def put(self, name: str, value: object, *hosts: str) -> Sample:
        for host in hosts or self.hostvars:
            self.hostvars[host][name] = value
        return self

    def drop(self, name: str) -> Sample:
        for values in self.hostvars.values():
            del values[name]
        return self

    def group(self, name: str, *hosts: str) -> Sample:
        self.groups[name] = list(hosts)
        for number, host in enumerate(hosts):
            self.hostvars.setdefault(host, {**SITE, "ansible_host": f"198.18.0.{90 + number}"})
        return self

    def without(self, name: str) -> Sample:
        gone = self.groups.pop(name)
        self.groups["all"] = [host for host in self.groups["all"] if host not in gone]
        return self

    def judge(self) -> list[str]:
        known = {"/srv/app", "/srv/static"}
        return preflight.judge(
            preflight.Inventory(self.stage, self.groups, self.hostvars, ROLES, SPECS, known.__contains__)
        )


@pytest.fixture
def sample() -> Sample:
    return Sample("3-scale_up")


@pytest.mark.parametrize("stage", topology.STAGES)
def test_a_good_inventory_has_no_mistake(stage):
    good = Sample(stage).group("europe", *Sample(stage).groups["all"])
    good.put("gunicorn_flask_source", {"type": "directory", "path": "/srv/app"})
    good.put("nginx_sites", [{"name": "www", "static": [{"directory": "/srv/static"}]}])
    good.put("nginx_worker_connections", "4096").put("ansible_user", "ansible").put("my_own", 1)
    assert good.judge() == []


BROKEN = {
    "unknown stage": (
        lambda s: setattr(s, "stage", "4-moon"),
        "stage: '4-moon' is no stage; there are 0-simple_web_stack, 1-distributed",
    ),
    "missing group": (
        lambda s: s.without("databases"),
        "databases: there is no such group; 3-scale_up needs at least 2 in it",
    ),
    "empty group": (lambda s: s.group("databases"), "databases: has no hosts; 3-scale_up needs at least 2 in it"),
    "too few hosts": (
        lambda s: s.group("loadbalancers", "lb1"),
        "loadbalancers: has 1 host; 3-scale_up needs at least 2",
    ),
    "unknown group": (
        lambda s: s.group("webserver", "web9"),
        "webserver: is an unknown group; did you mean webservers?",
    ),
    "unknown group of no likeness": (
        lambda s: s.group("cache", "c1"),
        "cache: is an unknown group; hosts belong to loadbalancers, webservers, appservers, databases",
    ),
    "host in no group": (
        lambda s: s.group("all", "lost1", *s.groups["all"]),
        "lost1: is in none of the known groups; put it in one of loadbalancers",
    ),
    "one address twice": (
        lambda s: s.put("ansible_host", "198.18.0.21", "web2"),
        "web2: has the address 198.18.0.21 of lb1; give each host an address of its own",
    ),
    "one address twice, by site_address": (
        lambda s: s.put("site_address", "198.18.0.21", "web2"),
        "web2: has the address 198.18.0.21 of lb1",
    ),
    "no address": (
        lambda s: s.put("ansible_host", "not an address", "web2"),
        "web2: its address 'not an address' is neither an IP address nor a host name; set ansible_host",
    ),
    "no VIP": (
        lambda s: s.drop("site_vip"),
        "site_vip (on 8 hosts): is not set; set it: The balancers' common address",
    ),
    "VIP is a name": (
        lambda s: s.put("site_vip", "vip.foobar.com"),
        "site_vip (on 8 hosts): 'vip.foobar.com' is no IP address; give a free address",
    ),
    "VIP of a host": (
        lambda s: s.put("site_vip", "198.18.0.23"),
        "site_vip (on 8 hosts): 198.18.0.23 is the address of web1; give an address that no host has",
    ),
    "VIP elsewhere": (
        lambda s: s.put("site_vip", "198.18.7.10"),
        "site_vip (on 8 hosts): 198.18.7.10 is outside 198.18.0.0/24, the network of lb1; give a free address in it",
    ),
    "prefix": (
        lambda s: s.put("site_vip_prefix", 99),
        "site_vip_prefix (on 8 hosts): 99 is no prefix length; a number",
    ),
    "port out of range": (
        lambda s: s.put("site_http_port", 99999),
        "site_http_port (on 8 hosts): 99999 is no port; a number from 1 to 65535 is right",
    ),
    "port zero": (lambda s: s.put("site_app_port", 0), "site_app_port (on 8 hosts): 0 is no port"),
    "port is a word": (
        lambda s: s.put("site_database_port", "mysql"),
        "site_database_port (on 8 hosts): 'mysql' is no",
    ),
    "two listeners on one port": (
        lambda s: s.put("site_app_port", 80),
        "site_app_port (on 8 hosts): is 80, as site_http_port is; the balancers listen on both: make them differ",
    ),
    "reads and writes on one port": (
        lambda s: s.put("site_database_read_port", 3306),
        "site_database_read_port (on 8 hosts): is 3306, as site_database_port is; the balancers listen on both",
    ),
    "the check of the databases on their port": (
        lambda s: s.put("site_database_check_port", 3306),
        "site_database_check_port (on 8 hosts): is 3306, as site_database_port is; the databases listen on both",
    ),
    "a way to balance that there is not": (
        lambda s: s.put("site_balance", "random"),
        "site_balance (on 6 hosts): value of site_balance must be one of: roundrobin, leastconn, active-passive",
    ),
    "replication with a placeholder": (
        lambda s: s.put("site_replication_password", "changeme"),
        "site_replication_password (on 8 hosts): is a placeholder",
    ),
    "a balancer outside of the network": (
        lambda s: s.put("ansible_host", "198.18.9.1", "lb2"),
        "lb2 (198.18.9.1) is outside 198.18.0.0/24, where the database admits nobody else",
    ),
    "domain": (
        lambda s: s.put("site_domain", "www foobar"),
        "site_domain (on 8 hosts): 'www foobar' is no host name; www.foobar.com is one",
    ),
    "network": (
        lambda s: s.put("site_network", "198.18.0.0/33"),
        "site_network (on 8 hosts): '198.18.0.0/33' is no net",
    ),
    "network without the application": (
        lambda s: s.put("site_network", "198.18.0.0/29"),
        "app1 (198.18.0.25) is outside 198.18.0.0/29, where the database admits nobody else; widen it",
    ),
    "secret missing": (
        lambda s: s.drop("site_database_password"),
        "site_database_password (on 8 hosts): is not set; set it: make setup makes it, or ansible-vault",
    ),
    "secret empty": (lambda s: s.put("site_database_password", ""), "site_database_password (on 8 hosts): is empty"),
    "secret is a placeholder": (
        lambda s: s.put("site_database_password", "changeme-1234"),
        "site_database_password (on 8 hosts): is a placeholder; make a random one",
    ),
    "secret too short": (
        lambda s: s.put("site_database_password", "kX9#"),
        "site_database_password (on 8 hosts): has only 4 characters; 12 or more are needed",
    ),
    "two values of one": (
        lambda s: s.put("site_domain", "shop.foobar.com", "web2"),
        "site_domain: lb1 and web2 have different values; set it once, in group_vars/all",
    ),
    "typo behind a role's prefix": (
        lambda s: s.put("nginx_sitez", [], "web1", "web2"),
        "nginx_sitez (on web1, web2): is an unknown variable; did you mean nginx_sites?",
    ),
    "typo in the prefix": (
        lambda s: s.put("ngnix_sites", [], "web1"),
        "ngnix_sites (on web1): is an unknown variable; did you mean nginx_sites?",
    ),
    "typo of a site variable": (
        lambda s: s.put("site_domian", "x"),
        "site_domian (on 8 hosts): is an unknown variable; did you mean site_domain?",
    ),
    "unknown variable of no likeness": (
        lambda s: s.put("nginx_zzzzzzzzzzzzzzz", 1),
        "nginx_zzzzzzzzzzzzzzz (on 8 hosts): is an unknown variable; the README of its role lists the variables",
    ),
    "template": (
        lambda s: s.put("site_domain", preflight.Unreadable("'x' is undefined")),
        "site_domain (on 8 hosts): cannot be read: 'x' is undefined; correct the template",
    ),
    "type": (lambda s: s.put("nginx_worker_connections", "many", "web1"), "nginx_worker_connections (on web1): "),
    "choice": (
        lambda s: s.put("mysql_replication_mode", "galera"),
        "mysql_replication_mode (on db1, db2): value of mysql_replication_mode must be one of: standalone, got: galera",
    ),
    "typo in a nested key": (
        lambda s: s.put("nginx_sites", [{"name": "www", "statik": []}]),
        "nginx_sites (on web1, web2): nginx_sites.statik. Supported parameters include: name, static",
    ),
    "nested key missing": (
        lambda s: s.put("nginx_sites", [{}]),
        "nginx_sites (on web1, web2): missing required arguments: name found in nginx_sites",
    ),
    "application that is not there": (
        lambda s: s.put("gunicorn_flask_source", {"type": "directory", "path": "/nowhere"}),
        "gunicorn_flask_source (on 8 hosts): there is no directory /nowhere on this machine; give one that exists",
    ),
    "static files that are not there": (
        lambda s: s.put("nginx_sites", [{"name": "www", "static": [{"directory": "/nowhere"}]}]),
        "nginx_sites (on 8 hosts): there is no directory /nowhere on this machine",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_has_its_sentence(sample, name):
    spoil, sentence = BROKEN[name]
    spoil(sample)
    assert [line for line in sample.judge() if sentence in line], sample.judge()


def test_every_rule_is_broken_by_a_test(monkeypatch):
    """Without a rule, some sentence of the table is missing."""
    for rule in preflight.RULES:
        others = tuple(other for other in preflight.RULES if other is not rule)
        monkeypatch.setattr(preflight, "RULES", others)
        missed = False
        for spoil, sentence in BROKEN.values():
            spoil(sample := Sample("3-scale_up"))
            missed = missed or not any(sentence in line for line in sample.judge())
        assert missed or rule is preflight.groups_hold_the_same_hosts, rule.__name__


def test_one_server_is_in_all_three_groups():
    spoiled = Sample("0-simple_web_stack").group("databases", "s2")
    assert "databases: does not hold the same hosts as webservers; put s1, s2 in both" in spoiled.judge()


def test_a_stage_without_balancers_says_so():
    spoiled = Sample("0-simple_web_stack").group("loadbalancers", "lb1")
    assert "loadbalancers: has 1 hosts; 0-simple_web_stack has none: take the group out" in spoiled.judge()


def test_all_mistakes_are_reported_at_once(sample):
    sample.put("site_vip", "198.18.0.23").put("site_http_port", 0).put("nginx_sitez", 1).without("databases")
    assert len(sample.judge()) == 4


def test_no_secret_is_ever_printed(sample):
    sample.put("site_database_password", "planted-kX")
    sample.put("mysql_replication_users", [{"name": "a", "password": ["planted-canary-value"]}])
    sample.put("gunicorn_flask_environment", "planted-canary-value")
    lines = sample.judge()
    assert len(lines) >= 2
    assert "planted" not in "".join(lines)


@pytest.mark.parametrize(("version", "good"), [("2.19.4", False), ("2.20.0", True), ("2.21.5", True), ("3.0", True)])
def test_an_old_core_is_refused(version, good):
    assert (preflight.judge_version(version) == []) is good


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the preflight, and a play that would touch hosts, on hosts that cannot be reached."""

    def play(*options: str) -> subprocess.CompletedProcess:
        book = [
            {
                "hosts": "all",
                "gather_facts": False,
                "any_errors_fatal": True,
                "tasks": [{"foobar.web_infrastructure.preflight": {"stage": "3-scale_up"}, "run_once": True}],
            },
            {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]},
        ]
        (tmp_path / "play.yml").write_text(yaml.safe_dump(book))
        sample = Sample("3-scale_up")
        hosts = {
            group: {"hosts": {name: {"ansible_host": sample.hostvars[name]["ansible_host"]} for name in names}}
            for group, names in HOSTS["3-scale_up"].items()
        }
        inventory = {"all": {"children": hosts, "vars": {**SITE, "ansible_port": 9, "ansible_timeout": 1}}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
        program = Path(sys.executable).with_name("ansible-playbook")
        command = [program, "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", *options]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)

    return play


def test_mistakes_end_the_run_before_any_host_is_touched(run):
    done = run("-e", '{"site_vip": "198.18.0.23", "site_http_port": 99999, "site_domain": "{{ nowhere }}"}')
    assert done.returncode != 0
    assert "The inventory has 3 mistakes; no host has been touched." in done.stdout + done.stderr
    assert "'nowhere' is undefined" in done.stdout
    assert "ping" not in done.stdout
    assert "UNREACHABLE" not in done.stdout


def test_a_good_inventory_goes_on_to_the_hosts(run):
    done = run()
    assert "UNREACHABLE" in done.stdout
    assert "mistake" not in done.stdout
