"""A good inventory gives no mistake; each rule, broken, gives its one sentence."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import stages
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import inventory as preflight
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import (
    Inventory,
    RoleValues,
    Unreadable,
)

PROJECT = Path(__file__).resolve().parents[5]
SPECS = {
    "nginx": {
        "nginx_sites": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "port": {"type": "int"},
                "server_names": {"type": "list", "elements": "str"},
                "static": {"type": "list", "elements": "dict"},
            },
        },
        "nginx_service_sites": {"type": "list", "elements": "dict"},
        "nginx_status_port": {"type": "int", "default": 8081},
        "nginx_worker_connections": {"type": "int"},
    },
    "gunicorn_flask": {
        "gunicorn_flask_source": {"type": "dict", "options": {"type": {"type": "str"}, "path": {"type": "str"}}},
        "gunicorn_flask_environment": {"type": "dict", "no_log": True},
        "gunicorn_flask_listen": {"type": "str"},
        "gunicorn_flask_workers": {"type": "int"},
        "gunicorn_flask_wsgi": {"type": "str", "required": True},
    },
    "mysql_replication": {
        "mysql_replication_mode": {"type": "str", "choices": ["standalone", "source_replica"]},
        "mysql_replication_ends_rotation": {"type": "bool", "default": True},
        "mysql_replication_password": {"type": "str", "no_log": True},
        "mysql_replication_version": {"type": "str", "required": True},
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
APPLICATION = {
    "gunicorn_flask_name": "guestbook",
    "gunicorn_flask_wsgi": "guestbook.wsgi:app",
    "gunicorn_flask_source": {"type": "directory", "path": "/"},
}
SHOP = {
    "name": "shop",
    "domains": ["shop.foobar.com"],
    "port": 8001,
    "database": {"name": "shop", "user": "shop", "password": "a-long-and-random-one"},
    "environment": {"FEATURE": "every-one"},
    "static": [{"path": "/static/", "release": "static"}],
    "gunicorn_flask": {
        "source": {"type": "directory", "path": "/srv/app"},
        "wsgi": "shop:app",
    },
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


class Sample:
    """An inventory that a test may spoil before it is judged."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.groups = copy.deepcopy(HOSTS[stage])
        names = dict.fromkeys(name for hosts in self.groups.values() for name in hosts)
        self.groups["all"] = list(names)
        self.role_values: list[tuple[str, RoleValues]] = []
        self.others: list[str] = []
        self.given: list[str] = []
        self.hostvars = {
            name: {
                **SITE,
                "site_stage": stage,
                "mysql_replication_version": "9",
                "gunicorn_flask_wsgi": "guestbook.wsgi:app",
                "ansible_host": f"198.18.0.{number}",
            }
            for number, name in enumerate(names, start=21)
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
            self.hostvars.setdefault(
                host,
                {**self.hostvars["s1" if "s1" in self.hostvars else "db1"], "ansible_host": f"198.18.0.{90 + number}"},
            )
        return self

    def without(self, name: str) -> Sample:
        gone = self.groups.pop(name)
        self.groups["all"] = [host for host in self.groups["all"] if host not in gone]
        return self

    def mistakes(self) -> list[str]:
        known = {"/srv/app", "/srv/app/static", "/srv/static"}
        return preflight.find_mistakes(
            Inventory(
                self.stage,
                self.groups,
                self.hostvars,
                SPECS,
                known.__contains__,
                self.role_values,
                self.others,
                self.given,
            )
        )


def further(sample: Sample, **changes: object) -> Sample:
    """Add a further application, with a few values of its own; a value of None is left out."""
    entry = {key: value for key, value in (SHOP | changes).items() if value is not None}
    return sample.put("site_applications", [entry]).put("gunicorn_flask_name", "guestbook")


@pytest.fixture
def sample() -> Sample:
    return Sample("3-scale_up")


@pytest.mark.parametrize("stage", stages.STAGES)
def test_a_good_inventory_has_no_mistake(stage):
    good = Sample(stage).group("europe", *Sample(stage).groups["all"])
    good.put("gunicorn_flask_source", {"type": "directory", "path": "/srv/app"})
    good.put("nginx_sites", [{"name": "www", "static": [{"directory": "/srv/static"}]}])
    good.put("site_static", [{"path": "/static/", "release": "static"}, {"path": "/a/", "package": "admin/static"}])
    good.put("nginx_worker_connections", "4096").put("ansible_user", "ansible").put("my_own", 1)
    assert good.mistakes() == []


# The same name twice.
CONTRADICTION = [{"name": "www", "server_names": ["a"]}, {"name": "www", "server_names": ["b"]}]
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
    "another name for a group that is missing": (
        lambda s: s.without("loadbalancers").group("balancers", "lb1", "lb2"),
        "balancers: is an unknown group; did you mean loadbalancers?",
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
        "site_vip (on 8 hosts): is not set; set it: The address that the balancers share",
    ),
    "VIP is a name": (
        lambda s: s.put("site_vip", "vip.foobar.com"),
        "site_vip (on 8 hosts): 'vip.foobar.com' is no IP address; write one as in 198.18.0.10",
    ),
    "VIP of a host": (
        lambda s: s.put("site_vip", "198.18.0.23"),
        "site_vip (on 8 hosts): 198.18.0.23 is the address of 'web1'; choose one that no host has",
    ),
    "VIP elsewhere": (
        lambda s: s.put("site_vip", "198.18.7.10"),
        "site_vip (on 8 hosts): 198.18.7.10 is outside 198.18.0.0/24, the network of 'lb1'; choose a free",
    ),
    "prefix": (
        lambda s: s.put("site_vip_prefix", 99),
        "site_vip_prefix (on 8 hosts): 99 is no length of a prefix; choose one from 1 to 32",
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
        "site_app_port: is 80, as site_http_port is; lb1 listens on both: make them differ",
    ),
    "reads and writes on one port": (
        lambda s: s.put("site_database_read_port", 3306),
        "site_database_read_port: is 3306, as site_database_port is; app2 listens on both",
    ),
    "the check of the databases on their port": (
        lambda s: s.put("site_database_check_port", 3306),
        "site_database_check_port: is 3306, as site_database_port is; db1 listens on both",
    ),
    "a way to balance that there is not": (
        lambda s: s.put("site_balance", "random"),
        "site_balance (on 8 hosts): value of site_balance must be one of: roundrobin, leastconn, active-passive",
    ),
    "replication with a placeholder": (
        lambda s: s.put("site_replication_password", "changeme"),
        "site_replication_password (on 8 hosts): is a placeholder",
    ),
    "a database outside of the network": (
        lambda s: s.put("ansible_host", "198.18.9.1", "db2"),
        "db2 (198.18.9.1) is outside 198.18.0.0/24, where the database admits nobody else",
    ),
    "domain": (
        lambda s: s.put("site_domain", "www foobar"),
        "site_domain (on 8 hosts): 'www foobar' is no host name; www.foobar.com is one",
    ),
    "network": (
        lambda s: s.put("site_network", "198.18.0.0/33"),
        "site_network (on 8 hosts): '198.18.0.0/33' is no net",
    ),
    "all networks of IPv6": (
        lambda s: s.put("site_network", "::/0"),
        "site_network (on 8 hosts): the addresses of ::/0 have no beginning in common, by which MySQL could know them; "
        "give that of the hosts, such as fd5a:f00b:a5::/64",
    ),
    "hosts of IPv6 in a network of IPv4": (
        lambda s: s.put("ansible_host", "fd5a:f00b:a5::27", "db1"),
        "db1 (fd5a:f00b:a5::27) is outside 198.18.0.0/24, where the database admits nobody else; widen it",
    ),
    "an IPv6 address for balancers of IPv4": (
        lambda s: s.put("site_vip", "fd5a:f00b:a5::10").put("site_vip_prefix", 64),
        "site_vip (on 8 hosts): fd5a:f00b:a5::10 has another version of IP than 198.18.0.21, the address of 'lb1'",
    ),
    "an IPv6 address with the prefix of an IPv4 one": (
        lambda s: s.put("site_vip", "fd5a:f00b:a5::10"),
        "site_vip_prefix (on 8 hosts): 24 is the length of no IPv6 network that hosts share; set that of "
        "fd5a:f00b:a5::10, which usually is 64",
    ),
    "a database named by DNS": (
        lambda s: s.put("ansible_host", "db.example.com", "db1"),
        "db1: its address is the name db.example.com, and databases know each other by IP addresses alone; set",
    ),
    "network without the application": (
        lambda s: s.put("site_network", "198.18.0.0/29"),
        "app1 (198.18.0.25) is outside 198.18.0.0/29, where the database admits nobody else; widen it",
    ),
    "secret missing": (
        lambda s: s.drop("site_database_password"),
        "site_database_password (on 8 hosts): is not set; set it: with ansible-vault, in group_vars/all/secrets.yml",
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
    "secret that drivers send in different ways": (
        lambda s: s.put("site_database_password", "straße-und-häuser"),
        "site_database_password (on 8 hosts): has characters that the driver sends in another way than MySQL",
    ),
    "database with a dot": (
        lambda s: s.put("site_database_name", "web.shop"),
        "site_database_name (on 8 hosts): 'web.shop' is no name for a database; letters, digits, $, _ and -",
    ),
    "database user too long": (
        lambda s: s.put("site_database_user", "u" * 40),
        f"site_database_user (on 8 hosts): '{'u' * 40}' has 40 characters; MySQL takes 32 at most",
    ),
    "a database user that is two": (
        lambda s: s.put("site_database_user", "shop,mysql.sys"),
        "site_database_user (on 8 hosts): 'shop,mysql.sys' is no name for an account; leave out spaces, quotes, commas",
    ),
    "a number without an end": (
        lambda s: s.put("nginx_worker_connections", float("inf"), "web1"),
        "nginx_worker_connections (on web1): holds a number without an end; it must be a int as its README says",
    ),
    "a number without an end in a list": (
        lambda s: s.put("nginx_sites", [{"name": "www", "port": "inf"}], "web1"),
        "nginx_sites (on web1): holds a number without an end; it must be a list as its README says",
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
    "template": (
        lambda s: s.put("site_domain", Unreadable("'x' is undefined")),
        "site_domain (on 8 hosts): cannot be read: 'x' is undefined; correct the template",
    ),
    "type": (lambda s: s.put("nginx_worker_connections", "many", "web1"), "nginx_worker_connections (on web1): "),
    "choice": (
        lambda s: s.put("mysql_replication_mode", "galera"),
        "mysql_replication_mode (on db1, db2): value of mysql_replication_mode must be one of: standalone, source_",
    ),
    "typo in a nested key": (
        lambda s: s.put("nginx_sites", [{"name": "www", "statik": []}]),
        "nginx_sites (on web1, web2): nginx_sites.statik. Supported parameters include: name, port",
    ),
    "nested key missing": (
        lambda s: s.put("nginx_sites", [{}]),
        "nginx_sites (on web1, web2): missing required arguments: name found in nginx_sites",
    ),
    "a host with a name of the topology's own": (
        lambda s: s.group("webservers", "web1", "monitoring"),
        "monitoring: is a name that the topology has for somebody who is no host; give the host another name",
    ),
    "a balancer with a name for an address": (
        lambda s: s.put("ansible_host", "lb.example.com", "lb1"),
        "lb1: its address is the name lb.example.com, and web servers believe balancers by IP addresses alone; set",
    ),
    "a site value on some hosts only": (
        lambda s: s.put("site_balance", "leastconn", "web1", "web2"),
        "site_balance: lb1 and web1 have different values; set it once, in group_vars/all",
    ),
    "a password that MySQL does not take for replication": (
        lambda s: s.put("site_replication_password", "x" * 44),
        "site_replication_password (on 8 hosts): has 44 characters; MySQL takes 32 at most",
    ),
    "headers of no size": (
        lambda s: s.put("site_header_kb", 0),
        "site_header_kb (on 8 hosts): 0 is no size for headers; choose 4 to 256 kilobytes",
    ),
    "a size of headers for one role alone": (
        lambda s: s.put("nginx_header_kb", 64, "web1"),
        "nginx_header_kb (on web1): is 64, and 3-scale_up makes it 16; site_header_kb says so, for all of the site",
    ),
    "a list without entries": (
        lambda s: s.put("nginx_sites", None, "web1"),
        "nginx_sites (on web1): is empty; write [], or leave it out",
    ),
    "a text for a list": (
        lambda s: s.put("mysql_replication_users", "name=shop password=planted", "db1"),
        "mysql_replication_users (on db1): is no list; it must be a list as its README says",
    ),
    "a text for the names of a site": (
        lambda s: s.put("nginx_sites", [{"name": "www", "server_names": "second.foobar.com"}], "web1"),
        "nginx_sites, 'www', server_names (on web1): is no list; it must be a list as its README says",
    ),
    "a dictionary for a secret": (
        lambda s: s.put("site_database_password", {"planted": "canary"}),
        "site_database_password (on 8 hosts): is no text; it must be a str as its README says",
    ),
    "a value of the stage that is not added to": (
        lambda s: s.put("mysql_replication_ends_rotation", True, "db1"),
        "mysql_replication_ends_rotation (on db1): is True, and 3-scale_up makes it False",
    ),
    "a listen of the operator on the port of a loopback one": (
        lambda s: s.put("haproxy_keepalived_listens", [{"name": "db", "port": 3306}], "app1"),
        "haproxy_keepalived_listens, 'db': is 3306, as site_database_port is; app1 listens on both",
    ),
    "a port for reads that monitoring has": (
        lambda s: s.group("appservers", "web1", "app2").put("site_database_read_port", 8081),
        "nginx_status_port: is 8081, as site_database_read_port is; web1 listens on both",
    ),
    "another stage": (
        lambda s: s.put("site_stage", "0-simple_web_stack"),
        "site_stage (on 8 hosts): is 0-simple_web_stack, and this is the playbook of 3-scale_up; run the stage's own",
    ),
    "two programs of a host on one port": (
        lambda s: s.group("webservers", "lb1", "web2"),
        "lb1: port 80 is wanted by HAProxy and nginx; give them different ports",
    ),
    "SSH on the port of the site": (
        lambda s: s.put("ansible_port", 80, "web1"),
        "web1: port 80 is wanted by nginx and ssh; give them different ports",
    ),
    "a listen of the operator on a wired port": (
        lambda s: s.put(
            "haproxy_keepalived_listens", [{"name": "mail", "port": 8404}, {"name": "x", "port": 22}], "lb1"
        ),
        "haproxy_keepalived_listens, 'x': is 22, as ansible_port is; lb1 listens on both: make them differ",
    ),
    "a value that the stage fixes": (
        lambda s: s.put("mysql_replication_mode", "standalone", "db1", "db2"),
        "mysql_replication_mode (on db1, db2): is standalone, and 3-scale_up makes it source_replica; the",
    ),
    "an address that the stage fixes": (
        lambda s: s.put("gunicorn_flask_listen", "127.0.0.1:8000", "app1"),
        "gunicorn_flask_listen (on app1): is 127.0.0.1:8000, and 3-scale_up makes it 0.0.0.0:8000; site_",
    ),
    "a password that the stage fixes": (
        lambda s: s.put("mysql_replication_password", "planted-other-one", "db1"),
        "mysql_replication_password (on db1): is not what 3-scale_up makes of it; it is site_replication_password",
    ),
    "a list that the playbook fills": (
        lambda s: s.put("nginx_service_sites", [], "web1"),
        "nginx_service_sites (on web1): is filled by the playbook; list yours in nginx_sites, which adds to it",
    ),
    "a site of the wired name on another port": (
        lambda s: s.put("nginx_sites", [{"name": "www.foobar.com", "port": 8080}], "web1"),
        "nginx_sites, 'www.foobar.com' (on web1): takes the place of the wired one and listens on 8080, where "
        "nobody comes; listen on 80, or give it another name",
    ),
    "a frontend of the wired name on another port": (
        lambda s: s.put("haproxy_keepalived_frontends", [{"name": "application", "port": 8001}], "lb1"),
        "haproxy_keepalived_frontends, 'application' (on lb1): takes the place of the wired one and listens on 8001",
    ),
    "a variable that a role needs": (
        lambda s: s.drop("mysql_replication_version"),
        "mysql_replication_version (on db1, db2): is not set; set it; the README of mysql_replication says what it is",
    ),
    "a contradiction among the variables of a role": (
        lambda s: s.role_values.append(("nginx", RoleValues("web1", {"nginx_sites": CONTRADICTION}))),
        "nginx_sites",
    ),
    "application that is not there": (
        lambda s: s.put("gunicorn_flask_source", {"type": "directory", "path": "/nowhere"}),
        "gunicorn_flask_source (on 8 hosts): there is no directory /nowhere on this machine; give one that exists",
    ),
    "static files of nowhere": (
        lambda s: s.put("site_static", [{"path": "/static/"}]),
        "site_static (on 8 hosts): /static/ has neither release nor package nor directory; give it exactly one of",
    ),
    "static files of two places": (
        lambda s: s.put("site_static", [{"path": "/static/", "release": "a", "directory": "/srv/static"}]),
        "site_static (on 8 hosts): /static/ has release and directory; give it exactly one of release, package and",
    ),
    "static files that the source does not have": (
        lambda s: s.put("gunicorn_flask_source", {"type": "directory", "path": "/srv/app"}).put(
            "site_static", [{"path": "/static/", "release": "web/static"}]
        ),
        "/static/: there is no directory web/static in the source /srv/app; give one that exists",
    ),
    "static files out of the release": (
        lambda s: s.put("site_static", [{"path": "/static/", "release": "../static"}]),
        "/static/: '../static' leads out of the release; write it as in 'shop/static'",
    ),
    # --- further applications
    "an application of the first one's name": (
        lambda s: further(s, name="guestbook"),
        "site_applications, 'guestbook' (on 8 hosts): 'guestbook' is in gunicorn_flask_name as well; give each",
    ),
    "a domain of another application": (
        lambda s: further(s, domains=["shop.foobar.com", "WWW.foobar.com"]),
        "site_applications, 'shop', domains (on 8 hosts): 'www.foobar.com' is in site_domain as well; a name leads",
    ),
    "a database of another application": (
        lambda s: further(s, database=SHOP["database"] | {"name": "guestbook"}),
        "site_applications, 'shop', database.name (on 8 hosts): 'guestbook' is in site_database_name as well; give",
    ),
    "an account of another application": (
        lambda s: further(s, database=SHOP["database"] | {"user": "guestbook"}),
        "site_applications, 'shop', database.user (on 8 hosts): 'guestbook' is in site_database_user as well; give",
    ),
    "a port of the stage": (
        lambda s: further(s, port=8000),
        "site_applications, 'shop', port: is 8000, as site_app_port is; lb1 listens on both: make them differ",
    ),
    "a port of another component": (
        lambda s: further(s, port=3306),
        "site_applications, 'shop', port: is 3306, as site_database_port is; app1 listens on both: make them differ",
    ),
    "a domain that is none": (
        lambda s: further(s, domains=["shop"]),
        "site_applications, 'shop', domains (on 8 hosts): 'shop' is no host name; shop.foobar.com is one",
    ),
    "no domain": (
        lambda s: further(s, domains=[]),
        "site_applications, 'shop', domains (on 8 hosts): is empty; give it one at least: shop.foobar.com",
    ),
    "a text for domains": (
        lambda s: further(s, domains="shop.foobar.com"),
        "site_applications, 'shop', domains (on 8 hosts): is no list; it must be a list as its README says",
    ),
    "domains without a value": (
        lambda s: s.put("site_applications", [SHOP | {"domains": None}]),
        "site_applications, 'shop', domains (on 8 hosts): is empty; set it as its README says",
    ),
    "a domain without a value": (
        lambda s: further(s, domains=["shop.foobar.com", None]),
        "site_applications, 'shop', domains, entry 2 (on 8 hosts): is empty; set it as its README says",
    ),
    "an application that is a text": (
        lambda s: s.put("site_applications", ["name=shop"]),
        "site_applications, entry 1 (on 8 hosts): is no dictionary; it must be a dict as its README says",
    ),
    "a list for a password": (
        lambda s: further(s, database=SHOP["database"] | {"password": ["planted"]}),
        "site_applications, 'shop', database.password (on 8 hosts): is no text; it must be a str as its README",
    ),
    "a list for the path of a source": (
        lambda s: further(s, gunicorn_flask={"source": {"type": "directory", "path": ["/srv/app"]}, "wsgi": "a:b"}),
        "site_applications, 'shop', gunicorn_flask.source.path (on 8 hosts): is no text; it must be a str as its",
    ),
    "domains left out": (
        lambda s: further(s, domains=None),
        "site_applications (on 8 hosts): missing required arguments: domains found in site_applications",
    ),
    "no port": (
        lambda s: further(s, port=None),
        "site_applications, 'shop', port (on 8 hosts): is not set; 3-scale_up needs one that nothing else",
    ),
    "a port that is none": (
        lambda s: further(s, port=80000),
        "site_applications, 'shop', port (on 8 hosts): 80000 is no port; a number from 1 to 65535 is right",
    ),
    "a database with no name for one": (
        lambda s: further(s, database=SHOP["database"] | {"name": "my shop"}),
        "site_applications, 'shop', database.name (on 8 hosts): 'my shop' is no name for a database; letters",
    ),
    "an account with too long a name": (
        lambda s: further(s, database=SHOP["database"] | {"user": "s" * 33}),
        f"site_applications, 'shop', database.user (on 8 hosts): '{'s' * 33}' has 33 characters; MySQL takes",
    ),
    "an account that is two": (
        lambda s: further(s, database=SHOP["database"] | {"user": "shop,mysql.sys"}),
        "site_applications, 'shop', database.user (on 8 hosts): 'shop,mysql.sys' is no name for an account; leave out",
    ),
    "a password that is a placeholder": (
        lambda s: further(s, database=SHOP["database"] | {"password": "changeme"}),
        "site_applications, 'shop', database.password (on 8 hosts): is a placeholder; make a random one",
    ),
    "no callable": (
        lambda s: further(s, gunicorn_flask={"source": {"type": "directory", "path": "/srv/app"}}),
        "site_applications, 'shop', gunicorn_flask.wsgi (on 8 hosts): is not set; set it; the README of",
    ),
    "a source that is not there": (
        lambda s: further(s, gunicorn_flask={"source": {"type": "directory", "path": "/nowhere"}, "wsgi": "a:b"}),
        "site_applications, 'shop', gunicorn_flask.source (on 8 hosts): there is no directory /nowhere on this",
    ),
    "a misspelt variable of the role": (
        lambda s: further(s, gunicorn_flask=SHOP["gunicorn_flask"] | {"worker": 2}),
        "site_applications, 'shop', gunicorn_flask.worker (on 8 hosts): is an unknown variable of the role; did you "
        "mean workers?",
    ),
    "a variable of the role with its prefix": (
        lambda s: further(s, gunicorn_flask=SHOP["gunicorn_flask"] | {"gunicorn_flask_workers": 2}),
        "gunicorn_flask.gunicorn_flask_workers (on 8 hosts): is an unknown variable of the role; did you mean workers?",
    ),
    "a listener that the stage fixes": (
        lambda s: further(s, gunicorn_flask=SHOP["gunicorn_flask"] | {"listen": "127.0.0.1:8000"}),
        "site_applications, 'shop', gunicorn_flask.listen (on 8 hosts): cannot be set here: the stage fixes it; leave",
    ),
    "a value of the wrong type": (
        lambda s: further(s, gunicorn_flask=SHOP["gunicorn_flask"] | {"workers": "many"}),
        "site_applications, 'shop', gunicorn_flask.workers (on 8 hosts): ",
    ),
    "an unknown key of an entry": (
        lambda s: further(s, domain="shop.foobar.com"),
        "site_applications (on 8 hosts): site_applications.domain. Supported parameters include: ",
    ),
    "static files that a further source does not have": (
        lambda s: further(s, static=[{"path": "/static/", "release": "nowhere"}]),
        "site_applications, 'shop', static (on 8 hosts): /static/: there is no directory nowhere in the source",
    ),
    "a unit of two applications": (
        lambda s: further(s, name="guestbook-mail").put("gunicorn_flask_services", [{"name": "mail"}], "app1"),
        "site_applications, 'guestbook-mail' (on app1): its unit guestbook-mail.service is that of the service mail of "
        "guestbook as well; choose another name for one of them",
    ),
    "a unit of a service and of a timer": (
        lambda s: further(
            s, name="guestbook-api", gunicorn_flask=SHOP["gunicorn_flask"] | {"timers": [{"name": "worker"}]}
        ).put("gunicorn_flask_services", [{"name": "api-worker"}], "app1"),
        "site_applications, 'guestbook-api', gunicorn_flask.timers, 'worker' (on app1): its unit "
        "guestbook-api-worker.service is that of the service api-worker of guestbook as well; choose another name",
    ),
    "an application that is wanted and not": (
        lambda s: further(s).put("gunicorn_flask_absent", [{"name": "shop"}], "app1"),
        "gunicorn_flask_absent (on app1): 'shop' is listed in site_applications; take it out of one of them",
    ),
    "one application alone": (
        lambda s: s.put("site_application", "shop"),
        "site_application (on 8 hosts): is 'shop', and a stage is for all applications; leave it out, or run deploy",
    ),
    "a command line for all applications": (
        lambda s: further(s).given.append("gunicorn_flask_source"),
        "gunicorn_flask_source: with -e it would be for each application, and there are guestbook, shop; say which one",
    ),
    "applications of one host": (
        lambda s: s.put("site_applications", [SHOP], "app1"),
        "site_applications: lb1 and app1 have different values; set it once, in group_vars/all",
    ),
    "a contradiction among the variables of a further application": (
        lambda s: s.role_values.append(
            ("gunicorn_flask", RoleValues("app1", {"gunicorn_flask_wsgi": "no callable"}, application="shop"))
        ),
        "site_applications, 'shop', gunicorn_flask_wsgi (on app1): 'no callable' is not module:callable; write it as",
    ),
    "a site of a further application's name on another port": (
        lambda s: further(s).put("nginx_sites", [{"name": "shop.foobar.com", "port": 8080}], "web1"),
        "nginx_sites, 'shop.foobar.com' (on web1): takes the place of the wired one and listens on 8080, where",
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
    assert [line for line in sample.mistakes() if sentence in line], sample.mistakes()


def test_a_command_line_is_for_the_one_application_that_there_is(sample):
    sample.put("gunicorn_flask_name", "guestbook").given.append("gunicorn_flask_workers")
    assert sample.mistakes() == []


@pytest.mark.parametrize("stage", stages.STAGES)
def test_good_further_applications_have_no_mistake(stage):
    blog = {"name": "blog", "domains": ["blog.foobar.com", "b.foobar.com"], "port": "8002"}
    entries = [
        SHOP,
        blog | {"gunicorn_flask": {"source": {"type": "directory"}, "wsgi": "blog:app", "workers": "2"}},
    ]
    sample = further(Sample(stage)).put("site_applications", entries)
    assert sample.mistakes() == []


def test_two_further_applications_contradict_each_other(sample):
    further(sample).put("site_applications", [SHOP, SHOP])
    said = "\n".join(sample.mistakes())
    for place, value in (
        ("site_applications, 'shop'", "shop"),
        ("site_applications, 'shop', domains", "shop.foobar.com"),
        ("site_applications, 'shop', database.name", "shop"),
        ("site_applications, 'shop', database.user", "shop"),
    ):
        assert f"{place} (on 8 hosts): '{value}' is in {place} as well" in said
    sample.put("site_applications", [SHOP, SHOP | {"name": "blog", "domains": ["blog.foobar.com"], "database": {}}])
    said = "site_applications, 'blog', port: is 8001, as site_applications, 'shop', port is; lb1 listens on both"
    assert f"{said}: make them differ" in sample.mistakes()


def test_no_secret_of_a_further_application_is_in_a_sentence(sample):
    further(sample, database=SHOP["database"] | {"password": "planted"}, environment="planted")
    assert sample.mistakes()
    assert "planted" not in "\n".join(sample.mistakes())
    for wrong in (["planted-canary-value"], {"planted": "canary"}):
        further(sample, database=SHOP["database"] | {"password": wrong}).put("site_replication_password", wrong)
        said = "\n".join(sample.mistakes())
        assert said.count("is no text") == 2
        assert "planted" not in said


def test_every_rule_is_broken_by_a_test(monkeypatch):
    """Without a rule, some sentence of the table is missing: no other says it."""
    every, said_by = preflight.RULES, {}
    for rule in every:
        monkeypatch.setattr(preflight, "RULES", (rule,))
        for what, (spoil, sentence) in BROKEN.items():
            spoil(sample := Sample("3-scale_up"))
            if any(sentence in line for line in sample.mistakes()):
                said_by.setdefault(what, []).append(rule)
    alone = {rules[0] for rules in said_by.values() if len(rules) == 1}
    assert set(every) - alone <= {preflight.groups_hold_the_same_hosts}


def test_one_server_is_in_all_three_groups():
    spoiled = Sample("0-simple_web_stack").group("databases", "s2")
    assert "databases: does not hold the same hosts as webservers; put s1, s2 in both" in spoiled.mistakes()


def test_a_stage_without_balancers_says_so():
    spoiled = Sample("0-simple_web_stack").group("loadbalancers", "lb1")
    assert "loadbalancers: has 1 hosts; 0-simple_web_stack has none: take the group out" in spoiled.mistakes()


def test_a_site_of_the_operator_behind_a_backend_of_his_own_is_no_clash(sample):
    sample.put("nginx_sites", [{"name": "shop", "port": 8080}], "web1", "web2")
    backend = {
        "name": "shop",
        "port": 8080,
        "servers": {name: sample.hostvars[name]["ansible_host"] for name in ("web1", "web2")},
    }
    sample.put("haproxy_keepalived_backends", [backend], "lb1", "lb2")
    sample.put("haproxy_keepalived_frontends", [{"name": "shop", "port": 8088}], "lb1", "lb2")
    assert sample.mistakes() == []


@pytest.mark.parametrize(
    ("name", "value", "hosts"),
    [
        ("mysql_replication_mode", "source_replica", ["db1", "db2"]),
        ("mysql_replication_members", {"db2": "198.18.0.28", "db1": "198.18.0.27"}, ["db1", "db2"]),
        ("mysql_replication_port", "3306", ["db1"]),
        ("gunicorn_flask_runs_migrations", "yes", ["app1"]),
        ("gunicorn_flask_runs_timers", "yes", ["app1"]),
        ("haproxy_keepalived_vip", "198.18.0.10", ["lb1", "lb2"]),
    ],
)
def test_what_the_stage_fixes_may_stand_in_the_inventory_as_it_is(sample, name, value, hosts):
    # Known to their roles, of which this sample has a part.
    sample.others = [name]
    assert sample.put(name, value, *hosts).mistakes() == []


def test_templates_and_variables_of_others_are_no_matter(sample):
    sample.put("my_label", Unreadable("'item' is undefined"))
    sample.others = ["mysql_replication_backup_keep"]
    assert sample.put("mysql_replication_backup_keep", 14).mistakes() == []


OF_OTHERS = {
    "motd_text": "{{ ansible_facts['default_ipv4']['address'] }}",
    "nginx_exporter_version": "1.4",
    "nginx_exporter_port": 9113,
    "nginx_vhosts": [],
    "nginx_log_format": "x",
    "site_name": "Foobar",
    "site_admin_email": "root@foobar.com",
    "mysql_root_password": "x",
    "mysql_exporter_port": 9104,
    "haproxy_exporter_port": 9101,
    "keepalived_version": "2",
    "gunicorn_workers": 3,
}


@pytest.mark.parametrize("name", OF_OTHERS)
def test_variables_of_others_are_welcome(sample, name):
    sample.others = [name for role in roles.RULES for name in roles.all_options(role)]
    assert sample.put(name, OF_OTHERS[name]).mistakes() == []


def test_groups_and_hosts_of_others_are_welcome(sample):
    for group, host in {
        "monitoring": "watch1",
        "bastions": "jump1",
        "dbproxies": "p1",
        "ungrouped": "localhost",
    }.items():
        sample.group(group, host).group("all", *sample.groups["all"], host)
    assert sample.mistakes() == []


def test_odd_names_of_entries_do_not_end_the_report(sample):
    sample.put("haproxy_keepalived_frontends", [{"name": ["a"], "port": 81}], "lb1").put("site_vip", "x")
    sample.put("nginx_sites", [{"name": ["a"], "port": 81}], "web1")
    assert [line for line in sample.mistakes() if line.startswith("site_vip")]


def test_a_host_behind_a_forwarder_has_its_own_port_for_ssh(sample):
    sample.put("ansible_host", "127.0.0.1", "app1").put("site_address", "198.18.0.25", "app1")
    assert sample.put("ansible_port", 8000, "app1").mistakes() == []


def test_all_mistakes_are_reported_at_once(sample):
    sample.put("site_vip", "198.18.0.23").put("site_http_port", 0).put("nginx_sitez", 1).without("databases")
    assert len(sample.mistakes()) == 4


def test_no_secret_is_ever_printed(sample):
    sample.put("site_database_password", "planted-kX")
    sample.put("mysql_replication_users", [{"name": "a", "password": ["planted-canary-value"]}])
    sample.put("gunicorn_flask_environment", "planted-canary-value")
    lines = sample.mistakes()
    assert len(lines) >= 2
    assert "planted" not in "".join(lines)


@pytest.mark.parametrize(("version", "good"), [("2.19.4", False), ("2.20.0", True), ("2.21.5", True), ("3.0", True)])
def test_an_old_core_is_refused(version, good):
    assert (preflight.find_version_mistakes(version) == []) is good


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
        values = {**SITE, **APPLICATION, "site_stage": "3-scale_up", "ansible_port": 9, "ansible_timeout": 1}
        # What others have in a shared inventory, and do with it.
        values |= OF_OTHERS | {"vault_token": f"{{{{ lookup('pipe', 'touch {tmp_path}/read') }}}}"}
        hosts["monitoring"] = {"hosts": {"watch1": {}}}
        hosts["bastions"] = {"hosts": {"jump1": {"ansible_host": "{{ nowhere_at_all }}"}}}
        hosts["ungrouped"] = {"hosts": {"localhost": {"ansible_connection": "local"}}}
        # Variables of an inventory may be made from facts, and speak of other hosts.
        values["nginx_worker_processes"] = "{{ ansible_facts['processor_vcpus'] }}"
        values["nginx_real_ip_from"] = ["{{ hostvars['lb1']['ansible_host'] }}"]
        inventory = {"all": {"children": hosts, "vars": values}}
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


@pytest.mark.parametrize("options", [[], ["--limit=web1"], ["--limit=monitoring"]])
def test_a_good_inventory_goes_on_to_the_hosts(run, tmp_path, options):
    done = run(*options)
    assert "UNREACHABLE" in done.stdout
    assert "mistake" not in done.stdout
    assert not (tmp_path / "read").exists()


def test_an_environment_may_differ_between_hosts_as_the_published_addresses_do(sample):
    sample.put("site_application_environment", {"DB_HOST": "198.18.0.21"}, "app1")
    assert sample.mistakes() == []
