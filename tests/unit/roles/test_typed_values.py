"""A value has the effect of its declared type, however it arrives: as a number or as its text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import specs

#: What the roles are given: every list and dictionary whose options have types, with a value for each of these.
LIMITS = {
    "rate_limits": [{"name": "slow", "burst": 3, "delay": False}],
    "connection_limits": [{"name": "few", "connections": 4}],
}
SITE = {
    "name": "www",
    "server_names": ["www.foobar.com"],
    "port": 8080,
    "default": False,
    "root": "/srv/www/www",
    "maintenance": False,
    "static": [{"path": "/static/", "directory": "/nowhere", "cache_control": "no-cache", "extra": ["expires 1h;"]}],
    "locations": [
        {
            "path": "/",
            "upstream": "one",
            "cache": {"valid": "1s", "wait": "5s", "cookies": ["session"]},
            "websocket": False,
            "events": False,
            **LIMITS,
            "proxy_connect_timeout": "1s",
            "proxy_read_timeout": "1s",
            "client_max_body_size": "1m",
            "client_body_timeout": "1s",
            "send_timeout": "1s",
            "extra": ["allow all;"],
        },
        {"path": "/files/", "root": "/srv/files"},
        {"path": "/gone/", "return": "410"},
    ],
    **LIMITS,
    "client_max_body_size": "1m",
    "client_body_timeout": "1s",
    "send_timeout": "1s",
    "extra": ["ssi on;"],
}
UPSTREAM = {"name": "one", "servers": {"a": "192.0.2.1:80"}, "keepalive": 8, "extra": ["least_conn;"]}
FRONTEND = {
    "name": "www",
    "port": 80,
    "addresses": ["127.0.0.1"],
    "mode": "http",
    "trusted": False,
    "default_backend": "web",
    "routes": [{"condition": "{ path / }", "backend": "web"}],
    "maxconn": 50,
    "extra": ["http-request deny"],
}
BACKEND = {
    "name": "web",
    "mode": "http",
    "balance": "leastconn",
    "servers": {"a": "192.0.2.1"},
    "port": 80,
    "check": {
        **{"path": "/", "host": "www", "expect": 204, "port": 81},
        **{"interval": 300, "fastinter": 100, "fall": 3, "rise": 3},
    },
    "maxconn": 9,
    "maxqueue": 9,
    "end_sessions": False,
    "extra": ["timeout server 5m"],
}
USER = {"name": "shop", "host": "192.0.2.0/24", "password": "p", "require_tls": True, "privileges": {"shop.*": ["ALL"]}}
RULE = {"name": "www", "ports": ["80"], "protocol": "udp", "interface": "eth1"}
GIVEN: dict[str, dict[str, Any]] = {
    "nginx": {
        "nginx_sites": [SITE],
        "nginx_service_sites": [SITE | {"name": "wired", "port": 8090}],
        "nginx_upstreams": [UPSTREAM],
        "nginx_service_upstreams": [UPSTREAM | {"name": "wired"}],
        "nginx_rate_limits": [{"name": "slow", "rate": "1r/s", "key": "$host", "size": "1m"}],
        "nginx_connection_limits": [{"name": "few", "key": "$host", "size": "1m"}],
    },
    "haproxy_keepalived": {
        "haproxy_keepalived_frontends": [FRONTEND, {"name": "bare", "port": 90, "default_backend": "web"}],
        "haproxy_keepalived_service_frontends": [FRONTEND | {"name": "wired", "port": 88}],
        "haproxy_keepalived_backends": [BACKEND, {"name": "bare", "servers": {"a": "192.0.2.1"}, "port": 80}],
        "haproxy_keepalived_service_backends": [BACKEND | {"name": "wired"}],
        "haproxy_keepalived_listens": [
            {"name": "mail", "port": 25, "addresses": ["127.0.0.1"], "mode": "tcp", "lines": ["server a 192.0.2.9:25"]}
        ],
        "haproxy_keepalived_userlists": [
            {"name": "staff", "users": [{"name": "me", "password": "$5$x", "groups": ["all"]}]}
        ],
        "haproxy_keepalived_vip": "192.0.2.9",
        "haproxy_keepalived_interface": "eth0",
        "haproxy_keepalived_peers": {"one": "192.0.2.1", "two": "192.0.2.2"},
    },
    "mysql_replication": {
        "mysql_replication_mode": "source_replica",
        "mysql_replication_address": "192.0.2.1",
        "mysql_replication_network": "192.0.2.0/24",
        "mysql_replication_members": {"one": "192.0.2.1", "two": "192.0.2.2"},
        "mysql_replication_password": "p",
        "mysql_replication_semi_sync_policy": "degrade",
        "mysql_replication_databases": [{"name": "shop", "encoding": "utf8mb4", "collation": "utf8mb4_bin"}],
        "mysql_replication_service_databases": [{"name": "wired", "encoding": "utf8mb4", "collation": "utf8mb4_bin"}],
        "mysql_replication_users": [USER],
        "mysql_replication_service_users": [USER | {"name": "wired"}],
        "mysql_replication_apt_repository": {
            **{"name": "mysql", "types": ["deb"], "uris": ["http://mirror.example"], "suites": ["sid"]},
            **{"components": ["main"], "signed_by": "/etc/key.asc", "fingerprints": ["A8"], "check_valid_until": False},
            "pins": [{"packages": ["mysql-*"], "pin": "release n=sid", "priority": 600}],
        },
    },
    "ufw_firewall": {
        "ufw_firewall_admin_networks": ["198.18.0.1"],
        "ufw_firewall_rules": [RULE | {"sources": ["any"], "action": "limit"}],
        "ufw_firewall_service_rules": [RULE | {"name": "wired", "sources": ["any"], "action": "limit"}],
        "ufw_firewall_ssh_ports": ["2222"],
        "ufw_firewall_outgoing": "deny",
        "ufw_firewall_egress": [RULE | {"destinations": ["any"], "action": "deny"}],
        "ufw_firewall_service_egress": [RULE | {"name": "wired", "destinations": ["any"], "action": "deny"}],
    },
    "gunicorn_flask": {
        "gunicorn_flask_name": "shop",
        "gunicorn_flask_source": {
            **{"type": "git", "url": "https://git.example/shop", "revision": "1", "subdirectory": "web"},
            **{"path": "/home/me/shop", "checksum": "sha256:1", "requirement": "shop", "requirements": "r.txt"},
            "packages": ["x"],
        },
        "gunicorn_flask_wsgi": "shop:app",
        "gunicorn_flask_absent": [{"name": "old", "data": False}],
        "gunicorn_flask_migrate": ["migrate"],
        "gunicorn_flask_files": [{"path": "a.ini", "content": "a", "mode": "0640", "secret": False, "variable": "A"}],
        "gunicorn_flask_services": [
            {"name": "worker", "command": ["work"], "stop_timeout": 9, "trial": True, "unit_extra": ["Nice=1"]}
        ],
        "gunicorn_flask_timers": [
            {
                **{"name": "nightly", "command": ["report"], "schedule": "daily", "everywhere": True, "timeout": 60},
                "unit_extra": ["Nice=1"],
            }
        ],
    },
}
#: Texts with a form, which their rules hold: none of them is a number.
FORMS = {"haproxy_keepalived_vip"}
#: Numbers that are rendered as what follows from them.
DERIVED = {
    "haproxy_keepalived": ["haproxy_keepalived_header_kb"],
    "mysql_replication": ["mysql_replication_binlog_expire_days", "mysql_replication_memory_percent"],
}


def rendered(role: str, cases: list[dict[str, Any]]) -> list[str]:
    """What the role makes of each of these."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("rendering.py")],
        input=json.dumps({"role": role, "given": cases}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def leaves(options: Mapping[str, Any], given: Any, path: tuple = ()) -> Iterator[tuple[tuple, Mapping[str, Any]]]:
    """Every place of a value with a type, in the variables and in the entries that are given of them."""
    for name, option in options.items():
        here = (*path, name)
        value = given.get(name) if isinstance(given, Mapping) else None
        if option["type"] == "list":
            for number, entry in enumerate(value or []):
                yield from leaves(option.get("options") or {}, entry, (*here, number))
            if option.get("elements") == "str" and value:
                yield (*here, 0), {"type": "str"}
        elif option["type"] == "dict":
            yield from leaves(option.get("options") or {} if value else {}, value, here)
        else:
            yield here, option


def named(path: tuple) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def with_value(given: dict[str, Any], path: tuple, value: Any) -> dict[str, Any]:
    copied = json.loads(json.dumps(given))
    place: Any = copied
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return copied


every_role = pytest.mark.parametrize("role", sorted(GIVEN))


def places(role: str, kinds: tuple[str, ...]) -> list[tuple[tuple, dict[str, Any]]]:
    return [(path, option) for path, option in leaves(specs.options(role), GIVEN[role]) if option["type"] in kinds]


def test_every_role_and_every_option_with_a_type_is_tried():
    assert sorted(GIVEN) == sorted(specs.ROLES)
    for role in specs.ROLES:
        tried = {named(path) for path, _option in places(role, ("int", "float", "bool"))}
        assert tried == set(_names(specs.options(role))), role


def _names(options: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, option in options.items():
        if option["type"] in ("int", "float", "bool"):
            yield f"{above}{name}"
        yield from _names(option.get("options") or {}, f"{above}{name}.")


def with_values(role: str, kinds: tuple[str, ...], value_of: Callable[[int, str], Any]) -> dict[str, Any]:
    """What the role is given, with another value at each place of these types."""
    given = GIVEN[role]
    for number, (path, option) in enumerate(places(role, kinds)):
        given = with_value(given, path, value_of(number, option["type"]))
    return given


def number_of(number: int, kind: str) -> Any:
    """A value that no other place has."""
    return {"int": 20001 + number, "float": 0.5 + number, "bool": bool(number % 2)}[kind]


#: How somebody writes a bool; a number is written in one way.
TEXTS: list[Callable[[Any], str]] = [
    str,
    lambda value: str(value).lower(),
    lambda value: ("no", "yes")[value] if isinstance(value, bool) else str(value),
]


@every_role
def test_a_text_has_the_effect_of_the_number(role):
    kinds = ("int", "float", "bool")
    # Each bool once with each of its values.
    for turn in (0, 1):
        right = with_values(role, kinds, lambda number, kind, turn=turn: number_of(number + turn, kind))
        cases = []
        for text_of in TEXTS:
            for path, _option in places(role, kinds):
                cases.append((named(path), with_value(right, path, text_of(_at(right, path)))))
        whole = [with_values(role, kinds, lambda n, k, turn=turn, f=f: f(number_of(n + turn, k))) for f in TEXTS]
        made = rendered(role, [right, *whole])
        if len(set(made)) == 1:
            continue
        # One after the other, to say which.
        made = rendered(role, [right, *(given for _name, given in cases)])
        names = [name for (name, _given), text in zip(cases, made[1:], strict=True) if text != made[0]]
        assert sorted(set(names)) == []


def _at(given: Any, path: tuple) -> Any:
    for part in path:
        given = given[part]
    return given


@every_role
def test_every_number_is_rendered(role):
    """What has no effect at all would pass above whatever its type."""
    (text,) = rendered(role, [with_values(role, ("int", "float", "bool"), number_of)])
    numbers = {
        named(path): str(number_of(number, option["type"]))
        for number, (path, option) in enumerate(places(role, ("int", "float", "bool")))
        if option["type"] != "bool"
    }
    assert sorted(name for name, number in numbers.items() if number not in text) == sorted(DERIVED.get(role, ()))


@every_role
def test_a_number_has_the_effect_of_its_text_where_a_text_is_declared(role):
    given = {True: GIVEN[role], False: GIVEN[role]}
    cases = []
    for number, (path, option) in enumerate(places(role, ("str", "path"))):
        # A choice and what has a form are no numbers: they are refused.
        if "choices" in option or named(path) in FORMS:
            continue
        given = {
            as_text: with_value(one, path, str(4001 + number) if as_text else 4001 + number)
            for as_text, one in given.items()
        }
        cases.append((path, 4001 + number))
    texts, numbers = rendered(role, [given[True], given[False]])
    assert [line for line in texts.splitlines() if "failed: " in line and "is undefined" not in line] == []
    if texts != numbers:
        # One after the other, to say which.
        made = rendered(role, [with_value(given[True], path, number) for path, number in cases])
        assert sorted({named(path) for (path, _number), text in zip(cases, made, strict=True) if text != texts}) == []
