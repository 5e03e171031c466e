"""Good variables give no mistake; each rule of nginx, broken, gives its sentence."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import nginx, roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import RoleValues, lines

SITE: dict[str, Any] = {
    "name": "www",
    "server_names": ["www.example", "example"],
    "port": "80",
    "static": [{"path": "/static/", "directory": "files/static"}, {"path": "/", "directory": "files/root"}],
    "locations": [
        {"path": "/", "upstream": "application", "cache": {"valid": "1s", "wait": "5s", "cookies": ["session"]}},
        {"path": "/wired", "upstream": "wired", "events": True, "proxy_read_timeout": "1h30m"},
        {"path": "/old", "return": "301 /new"},
        {"path": "/files/", "root": "/srv", "rate_limits": [{"name": "login"}], "client_max_body_size": 1024},
    ],
    "connection_limits": [{"name": "downloads", "connections": 2}],
    "client_max_body_size": "10m",
}
DEFAULTS = {name: option["default"] for name, option in roles.options("nginx").items() if "default" in option}
GOOD = DEFAULTS | {
    "nginx_service_sites": [{"name": "wired", "server_names": ["wired.example"], "port": 8080, "default": True}],
    "nginx_sites": [SITE],
    "nginx_service_upstreams": [{"name": "wired", "servers": {"a": "198.18.0.11:8000", "b": "198.18.0.12:8000"}}],
    "nginx_upstreams": [{"name": "application", "servers": {"local": "unix:/run/a.sock"}}],
    "nginx_service_real_ip_from": ["198.18.0.11"],
    "nginx_real_ip_from": ["fd5a::/64", "192.0.2.7/24"],
    "nginx_rate_limits": [{"name": "login", "rate": "30r/m"}],
    "nginx_connection_limits": [{"name": "downloads"}],
    "nginx_maintenance_allow": ["192.0.2.7", "2001:db8::/32"],
}
NO_ADDRESS = "is no address; write one such as 192.0.2.7 or a network such as 192.0.2.0/24"


def site(**changes: Any) -> dict[str, Any]:
    return {"nginx_sites": [SITE | changes]}


def location(**options: Any) -> dict[str, Any]:
    return site(locations=[{"path": "/x", **options}])


def forwarding(**options: Any) -> dict[str, Any]:
    return location(upstream="application", **options)


def told(values: Mapping[str, Any]) -> list[str]:
    return lines(roles.find_mistakes("nginx", RoleValues("web1", values)))


def test_good_values_are_no_mistake():
    assert told(GOOD) == []


def test_defaults_are_no_mistake():
    assert told(DEFAULTS) == []


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    (
        "headers_have_a_size",
        {"nginx_header_kb": "1"},
        "nginx_header_kb: 1 is no size for headers; choose 4 to 256 kilobytes",
    ),
    (
        "raw_lines_repeat_nothing",
        {"nginx_http_extra": ["map $a $b {\n  default 1;\n}", "gzip_vary on; proxy_buffer_size 32k;"]},
        "nginx_http_extra: 'proxy_buffer_size' stands in the configuration already; set nginx_header_kb (for all of a "
        "site: site_header_kb) instead",
    ),
    (
        "upstreams_have_names_of_their_own",
        {"nginx_upstreams": [{"name": "application", "servers": {"a": "a:1"}}] * 2},
        "nginx_upstreams: the name 'application' is used twice; give each upstream its own",
    ),
    (
        "upstreams_have_servers",
        {"nginx_upstreams": [{"name": "application", "servers": {}}]},
        "nginx_upstreams, 'application': has no servers; name at least one",
    ),
    (
        "upstreams_have_servers",
        {"nginx_service_upstreams": [{"name": "wired", "servers": {}}]},
        "nginx_service_upstreams, 'wired': has no servers; name at least one",
    ),
    (
        "sites_have_names_of_their_own",
        {"nginx_sites": [SITE, SITE | {"server_names": ["other.example"]}]},
        "nginx_sites: the name 'www' is used twice; give each site its own",
    ),
    (
        "site_names_are_file_names",
        site(name="../www"),
        "nginx_sites: '../www' cannot be the name of a file; use letters, digits, dot, dash and underscore",
    ),
    (
        "ports_have_one_default_site",
        site(port=8080, default="yes"),
        "nginx_sites: several sites are the default on port 8080; keep default: true in one of them",
    ),
    (
        "status_port_is_free",
        {"nginx_status_port": 8080},
        "nginx_status_port: 8080 is the port of a site too; choose another one",
    ),
    (
        "status_port_is_free",
        {"nginx_status_port": "80", "nginx_sites": [], "nginx_service_sites": []},
        "nginx_status_port: 80 is the port of a site too; choose another one",
    ),
    (
        "server_names_stand_once_on_a_port",
        site(port=8080, server_names=["wired.example"]),
        "nginx_sites: the server name 'wired.example' stands twice on port 8080; keep it in one site",
    ),
    (
        "static_paths_are_directories",
        site(static=[{"path": "static", "directory": "x"}]),
        "nginx_sites, 'www': the static path 'static' needs a slash at both ends; write it as in /static/",
    ),
    (
        "locations_have_one_target",
        location(),
        "nginx_sites, 'www': location '/x' has no target; give it exactly one of upstream, root and return",
    ),
    (
        "locations_have_one_target",
        forwarding(root="/srv"),
        "nginx_sites, 'www': location '/x' has upstream and root; give it exactly one of upstream, root and return",
    ),
    (
        "locations_name_upstreams_that_exist",
        location(upstream="ap"),
        "nginx_sites, 'www': location '/x' names the upstream 'ap', which nginx_upstreams does not define; "
        "it defines: wired, application",
    ),
    (
        "health_path_is_a_path",
        {"nginx_health_path": "health"},
        "nginx_health_path: 'health' does not start with a slash; write '/health'",
    ),
    (
        "addresses_are_addresses",
        {"nginx_maintenance_allow": ["office.example"]},
        f"nginx_maintenance_allow: 'office.example' {NO_ADDRESS}",
    ),
    (
        "addresses_are_addresses",
        {"nginx_real_ip_from": ["198.18.0.0/255.255.255.0"]},
        f"nginx_real_ip_from: '198.18.0.0/255.255.255.0' {NO_ADDRESS}",
    ),
    (
        "addresses_are_addresses",
        {"nginx_service_real_ip_from": ["198.18.0.256"]},
        f"nginx_service_real_ip_from: '198.18.0.256' {NO_ADDRESS}",
    ),
    (
        "cache_has_a_directory_of_its_own",
        {"nginx_cache_path": "/etc/nginx/cache"},
        "nginx_cache_path: '/etc/nginx/cache' is no place for a cache; use a directory such as /var/cache/nginx",
    ),
    (
        "cache_has_a_directory_of_its_own",
        {"nginx_cache_path": "/cache"},
        "nginx_cache_path: '/cache' is no place for a cache; use a directory such as /var/cache/nginx",
    ),
    (
        "personal_headers_are_names",
        {"nginx_cache_personal_headers": ["X-Api-Key", "X-Key: 1"]},
        "nginx_cache_personal_headers: 'X-Key: 1' is no name of a header; write one such as X-Api-Key",
    ),
    *(
        (
            "times_have_units",
            {name: "half a minute"},
            f"{name}: 'half a minute' is no time; write one such as 500ms, 30s, 5m or 1h",
        )
        for name in nginx.TIMES
    ),
    (
        "limits_have_names_of_their_own",
        {"nginx_connection_limits": [{"name": "login"}, {"name": "downloads"}]},
        "nginx_rate_limits, nginx_connection_limits: the name 'login' is used twice; give each limit its own",
    ),
    (
        "limits_have_names_of_their_own",
        {"nginx_connection_limits": [{"name": "answers"}, {"name": "downloads"}]},
        "nginx_rate_limits, nginx_connection_limits: the name 'answers' is kept for the cache; choose another one",
    ),
    (
        "rates_are_rates",
        {"nginx_rate_limits": [{"name": "login", "rate": "5/s"}]},
        "nginx_rate_limits, 'login': the rate '5/s' is none; write one such as 10r/s or 30r/m",
    ),
    (
        "places_name_limits_that_exist",
        location(root="/srv", rate_limits=[{"name": "logon"}]),
        "nginx_sites, 'www': location '/x' names the rate limit 'logon', which nginx_rate_limits does not define; "
        "it defines: login",
    ),
    (
        "places_name_limits_that_exist",
        site(connection_limits=[{"name": "none", "connections": 1}]),
        "nginx_sites, 'www': names the connection limit 'none', which nginx_connection_limits does not define; "
        "it defines: downloads",
    ),
    *(
        (
            "only_upstreams_are_cached_or_streamed",
            location(root="/srv", **{key: value}),
            f"nginx_sites, 'www': location '/x' has {key} but no upstream; name one, or leave {key} out",
        )
        for key, value in {
            "cache": {},
            "websocket": True,
            "events": True,
            "proxy_connect_timeout": "1s",
            "proxy_read_timeout": "1s",
        }.items()
    ),
    *(
        (
            "streams_are_not_cached",
            forwarding(cache={}, **{key: True}),
            f"nginx_sites, 'www': location '/x' has cache and {key}; "
            "a stream cannot be kept, so give it a location of its own",
        )
        for key in ("websocket", "events")
    ),
    (
        "caches_have_times_and_cookies",
        forwarding(cache={"cookies": ["a=b"]}),
        "nginx_sites, 'www': location '/x' has the cookie 'a=b' under cache; "
        "write the bare name of a cookie, such as session",
    ),
    (
        "caches_have_times_and_cookies",
        forwarding(cache={"valid": "500ms"}),
        "nginx_sites, 'www': location '/x' keeps answers for '500ms'; write whole seconds or more, such as 1s or 5m",
    ),
    (
        "caches_have_times_and_cookies",
        forwarding(cache={"wait": "briefly"}),
        "nginx_sites, 'www': location '/x' lets requests wait 'briefly' for each other; "
        "write a time such as 200ms or 5s",
    ),
    *(
        (
            "places_have_times_and_sizes",
            forwarding(**{key: "30"}),
            f"nginx_sites, 'www': location '/x' has {key} '30'; write a time such as 500ms, 30s, 5m or 1h",
        )
        for key in nginx.TIMED
    ),
    (
        "places_have_times_and_sizes",
        site(client_body_timeout="30"),
        "nginx_sites, 'www': has client_body_timeout '30'; write a time such as 500ms, 30s, 5m or 1h",
    ),
    (
        "places_have_times_and_sizes",
        site(client_max_body_size="10 MB"),
        "nginx_sites, 'www': has client_max_body_size '10 MB'; write a size such as 512k, 10m or 1g",
    ),
]


@pytest.mark.parametrize(("rule", "changes", "sentence"), BROKEN, ids=[sentence for _rule, _, sentence in BROKEN])
def test_a_broken_rule_gives_its_sentence(rule, changes, sentence):
    values = GOOD | changes
    assert told(values) == [sentence]
    assert lines(getattr(nginx, rule)(RoleValues("web1", values))) == [sentence]


def test_every_rule_is_broken_by_a_test():
    assert {rule.__name__ for rule in nginx.RULES} == {rule for rule, _changes, _sentence in BROKEN}


def test_entry_of_the_inventory_replaces_the_wired_one_before_the_rules_look():
    listed = {"name": "wired", "server_names": ["mine.example"], "port": 8080, "default": True}
    assert told(GOOD | {"nginx_sites": [SITE, listed]}) == []
    broken = copy.deepcopy(listed) | {"locations": [{"path": "/"}]}
    assert told(GOOD | {"nginx_sites": [SITE, broken]})[0].startswith("nginx_sites, 'wired': location '/' has no")
    wired = [broken]
    assert told(GOOD | {"nginx_service_sites": wired})[0].startswith("nginx_service_sites, 'wired': location '/'")


def test_upstream_of_a_playbook_that_is_not_known_yet_is_not_missed():
    values = {name: value for name, value in GOOD.items() if name != "nginx_service_upstreams"}
    assert told(values) == []


ODD: list[Any] = [None, True, -1, 2.5, "", "\n", b"x", [], [None], [[]], [{}], [{"name": None}], [{"name": []}], {}]
ODD += [[1], {"a": None}, [{"name": {}, "port": [], "locations": {}, "static": [None], "server_names": {}}]]
ODD += [
    [{"name": "a", "port": "x", "default": [], "locations": [None, {"path": 1, "cache": []}], "server_names": [[]]}]
]
ODD += [[{"name": "a", "locations": [{"upstream": [], "cache": {"cookies": {}, "valid": []}, "events": {}}]}]]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("name", sorted(GOOD))
def test_no_rule_raises_on_an_odd_type(name, odd):
    told(GOOD | {name: odd})
    told({name: odd})
