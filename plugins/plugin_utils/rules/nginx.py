# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which variables of the role nginx contradict each other.

Types are checked by argument_specs: a rule passes over a value of the wrong one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Mistake, RoleValues, Rule
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import (
    header_mistakes,
    joined_entries,
    mappings,
    names,
    number,
    repeated,
    text,
    texts,
)

# With a unit: who writes 30 may mean minutes.
TIME = re.compile(r"([0-9]+(ms|s|m|h|d))+")
WHOLE_SECONDS = re.compile(r"[0-9]+(s|m|h|d)")
SIZE = re.compile(r"[0-9]+[kmgKMG]?")
RATE = re.compile(r"[1-9][0-9]*r/[sm]")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
STATIC_PATH = re.compile(r"/(.*/)?")
HEADER = re.compile(r"[A-Za-z0-9-]+")
COOKIE = re.compile(r"[A-Za-z0-9_.-]+")
# nginx takes a prefix length, no netmask.
NETWORK = re.compile(r"[0-9a-fA-F.:]+(/[0-9]+)?")
CACHE_PATH = re.compile(r"(?!/(etc/nginx|srv/www)(/|$))/[^/]+/[^/].*")

TIMES = ("nginx_client_header_timeout", "nginx_client_body_timeout", "nginx_send_timeout", "nginx_cache_inactive")
TARGETS = ("upstream", "root", "return")
OF_AN_UPSTREAM = ("cache", "websocket", "events", "proxy_connect_timeout", "proxy_read_timeout")
TIMED = ("client_body_timeout", "send_timeout", "proxy_connect_timeout", "proxy_read_timeout")
# What sets a directive of the level http.
VARIABLES = {
    "large_client_header_buffers": "nginx_header_kb (for all of a site: site_header_kb)",
    "proxy_buffer_size": "nginx_header_kb (for all of a site: site_header_kb)",
    "proxy_buffers": "nginx_header_kb (for all of a site: site_header_kb)",
    "client_max_body_size": "nginx_client_max_body_size",
    "client_header_timeout": "nginx_client_header_timeout",
    "client_body_timeout": "nginx_client_body_timeout",
    "send_timeout": "nginx_send_timeout",
    "proxy_connect_timeout": "nginx_proxy_connect_timeout",
    "proxy_read_timeout": "nginx_proxy_read_timeout",
    "proxy_send_timeout": "nginx_proxy_read_timeout",
    "gzip_comp_level": "nginx_gzip_comp_level",
    "gzip_min_length": "nginx_gzip_min_length",
    "gzip_types": "nginx_gzip_types",
    "gzip_static": "nginx_gzip_static",
}
# The memory of the cache has this name, and names of limits are names of memory too.
CACHE_ZONE = "answers"


# --- what the rules look at -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A site or one of its locations.

    Attributes:
        site: where the site is, as "nginx_sites, 'www'".
        location: "location '/' ", or "" for the site itself.
        options: its keys and values.
    """

    site: str
    location: str
    options: Mapping[str, Any]

    def mistake(self, wrong: str, right: str) -> Mistake:
        return Mistake(self.site, f"{self.location}{wrong}", right)


def _is_true(value: Any) -> bool:
    return isinstance(value, bool | int | str) and boolean(value, strict=False)


def _joined(values: RoleValues, noun: str) -> list[tuple[str, Mapping[str, Any]]]:
    return joined_entries(values, "nginx", noun)


def _sites(values: RoleValues) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for variable, site in _joined(values, "sites"):
        yield f"{variable}, '{site.get('name')}'", site


def _places(values: RoleValues) -> Iterator[Place]:
    """Every site, each with its locations."""
    for where, site in _sites(values):
        yield Place(where, "", site)
        for location in mappings(site.get("locations")):
            yield Place(where, f"location '{location.get('path')}' ", location)


def _locations(values: RoleValues) -> Iterator[Place]:
    return (place for place in _places(values) if place.location)


def _port(site: Mapping[str, Any]) -> int | None:
    return number(site.get("port", 80))


def _ports(values: RoleValues) -> set[int | None]:
    # Without any site the health path is answered on port 80.
    return {_port(site) for _where, site in _sites(values)} or {80}


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return NETWORK.fullmatch(text) is not None


# --- upstreams and sites ----------------------------------------------------------------------------------------------


def upstreams_have_names_of_their_own(values: RoleValues) -> Iterator[Mistake]:
    for name in repeated(names(entry for _variable, entry in _joined(values, "upstreams"))):
        yield Mistake("nginx_upstreams", f"the name '{name}' is used twice", "give each upstream its own")


def upstreams_have_servers(values: RoleValues) -> Iterator[Mistake]:
    for variable, upstream in _joined(values, "upstreams"):
        if upstream.get("servers") == {}:
            yield Mistake(f"{variable}, '{upstream.get('name')}'", "has no servers", "name at least one")


def sites_have_names_of_their_own(values: RoleValues) -> Iterator[Mistake]:
    for name in repeated(names(site for _where, site in _sites(values))):
        yield Mistake("nginx_sites", f"the name '{name}' is used twice", "give each site its own")


def site_names_are_file_names(values: RoleValues) -> Iterator[Mistake]:
    for variable, site in _joined(values, "sites"):
        name = text(site.get("name"))
        if name is not None and not FILE_NAME.fullmatch(name):
            right = "use letters, digits, dot, dash and underscore"
            yield Mistake(variable, f"'{name}' cannot be the name of a file", right)


def ports_have_one_default_site(values: RoleValues) -> Iterator[Mistake]:
    for port in repeated(_port(site) for _where, site in _sites(values) if _is_true(site.get("default"))):
        wrong = f"several sites are the default on port {port}"
        yield Mistake("nginx_sites", wrong, "keep default: true in one of them")


def status_port_is_free(values: RoleValues) -> Iterator[Mistake]:
    port = number(values.values.get("nginx_status_port"))
    if port is not None and port in _ports(values):
        yield Mistake("nginx_status_port", f"{port} is the port of a site too", "choose another one")


def server_names_stand_once_on_a_port(values: RoleValues) -> Iterator[Mistake]:
    served = [(name, _port(site)) for _where, site in _sites(values) for name in texts(site.get("server_names"))]
    for name, port in repeated(served):
        wrong = f"the server name '{name}' stands twice on port {port}"
        yield Mistake("nginx_sites", wrong, "keep it in one site")


def static_paths_are_directories(values: RoleValues) -> Iterator[Mistake]:
    for where, site in _sites(values):
        for path in map(text, (static.get("path") for static in mappings(site.get("static")))):
            if path is not None and not STATIC_PATH.fullmatch(path):
                wrong = f"the static path '{path}' needs a slash at both ends"
                yield Mistake(where, wrong, "write it as in /static/")


def locations_have_one_target(values: RoleValues) -> Iterator[Mistake]:
    for place in _locations(values):
        targets = [key for key in TARGETS if key in place.options]
        if len(targets) != 1:
            right = "give it exactly one of upstream, root and return"
            yield place.mistake(f"has {' and '.join(targets) or 'no target'}", right)


def locations_name_upstreams_that_exist(values: RoleValues) -> Iterator[Mistake]:
    # Without it nobody knows yet what a playbook wires.
    if "nginx_service_upstreams" not in values.values:
        return
    known = names(upstream for _variable, upstream in _joined(values, "upstreams"))
    for place in _locations(values):
        name = text(place.options.get("upstream"))
        if name is not None and name not in known:
            wrong = f"names the upstream '{name}', which nginx_upstreams does not define"
            yield place.mistake(wrong, f"it defines: {', '.join(known) or 'none'}")


# --- single values ----------------------------------------------------------------------------------------------------


def health_path_is_a_path(values: RoleValues) -> Iterator[Mistake]:
    path = text(values.values.get("nginx_health_path"))
    if path is not None and not path.startswith("/"):
        yield Mistake("nginx_health_path", f"'{path}' does not start with a slash", f"write '/{path}'")


def addresses_are_addresses(values: RoleValues) -> Iterator[Mistake]:
    for name in ("nginx_real_ip_from", "nginx_service_real_ip_from", "nginx_maintenance_allow"):
        for address in texts(values.values.get(name)):
            if not _is_network(address):
                right = "write one such as 192.0.2.7 or a network such as 192.0.2.0/24"
                yield Mistake(name, f"'{address}' is no address", right)


def cache_has_a_directory_of_its_own(values: RoleValues) -> Iterator[Mistake]:
    path = text(values.values.get("nginx_cache_path"))
    if path is not None and not CACHE_PATH.fullmatch(path):
        wrong = f"'{path}' is no place for a cache"
        yield Mistake("nginx_cache_path", wrong, "use a directory such as /var/cache/nginx")


def personal_headers_are_names(values: RoleValues) -> Iterator[Mistake]:
    for name in texts(values.values.get("nginx_cache_personal_headers")):
        if not HEADER.fullmatch(name):
            yield Mistake(
                "nginx_cache_personal_headers", f"'{name}' is no name of a header", "write one such as X-Api-Key"
            )


def times_have_units(values: RoleValues) -> Iterator[Mistake]:
    for name in TIMES:
        value = text(values.values.get(name))
        if value is not None and not TIME.fullmatch(value):
            yield Mistake(name, f"'{value}' is no time", "write one such as 500ms, 30s, 5m or 1h")


# --- limits -----------------------------------------------------------------------------------------------------------


def limits_have_names_of_their_own(values: RoleValues) -> Iterator[Mistake]:
    limits = [values.values.get(f"nginx_{kind}_limits") for kind in ("rate", "connection")]
    for name in repeated([*(name for listed in limits for name in names(mappings(listed))), CACHE_ZONE]):
        kept = name == CACHE_ZONE
        wrong = f"the name '{name}' is {'kept for the cache' if kept else 'used twice'}"
        right = "choose another one" if kept else "give each limit its own"
        yield Mistake("nginx_rate_limits, nginx_connection_limits", wrong, right)


def rates_are_rates(values: RoleValues) -> Iterator[Mistake]:
    for limit in mappings(values.values.get("nginx_rate_limits")):
        rate = text(limit.get("rate"))
        if rate is not None and not RATE.fullmatch(rate):
            where = f"nginx_rate_limits, '{limit.get('name')}'"
            yield Mistake(where, f"the rate '{rate}' is none", "write one such as 10r/s or 30r/m")


def places_name_limits_that_exist(values: RoleValues) -> Iterator[Mistake]:
    for kind in ("rate", "connection"):
        known = names(mappings(values.values.get(f"nginx_{kind}_limits")))
        for place in _places(values):
            for name in names(mappings(place.options.get(f"{kind}_limits"))):
                if name not in known:
                    wrong = f"names the {kind} limit '{name}', which nginx_{kind}_limits does not define"
                    yield place.mistake(wrong, f"it defines: {', '.join(known) or 'none'}")


# --- what only some locations can have, and what excludes each other there --------------------------------------------


def only_upstreams_are_cached_or_streamed(values: RoleValues) -> Iterator[Mistake]:
    for place in _locations(values):
        for key in OF_AN_UPSTREAM:
            if key in place.options and "upstream" not in place.options:
                yield place.mistake(f"has {key} but no upstream", f"name one, or leave {key} out")


def streams_are_not_cached(values: RoleValues) -> Iterator[Mistake]:
    for place in _locations(values):
        for key in ("websocket", "events"):
            if "cache" in place.options and _is_true(place.options.get(key)):
                right = "a stream cannot be kept, so give it a location of its own"
                yield place.mistake(f"has cache and {key}", right)


def caches_have_times_and_cookies(values: RoleValues) -> Iterator[Mistake]:
    for place in _locations(values):
        cache = place.options.get("cache")
        if not isinstance(cache, Mapping):
            continue
        for name in texts(cache.get("cookies")):
            if not COOKIE.fullmatch(name):
                right = "write the bare name of a cookie, such as session"
                yield place.mistake(f"has the cookie '{name}' under cache", right)
        valid, wait = text(cache.get("valid")), text(cache.get("wait"))
        if valid is not None and not WHOLE_SECONDS.fullmatch(valid):
            yield place.mistake(f"keeps answers for '{valid}'", "write whole seconds or more, such as 1s or 5m")
        if wait is not None and not TIME.fullmatch(wait):
            yield place.mistake(f"lets requests wait '{wait}' for each other", "write a time such as 200ms or 5s")


def places_have_times_and_sizes(values: RoleValues) -> Iterator[Mistake]:
    for place in _places(values):
        for key in TIMED:
            value = text(place.options.get(key))
            if value is not None and not TIME.fullmatch(value):
                yield place.mistake(f"has {key} '{value}'", "write a time such as 500ms, 30s, 5m or 1h")
        size = text(place.options.get("client_max_body_size"))
        if size is not None and not SIZE.fullmatch(size):
            yield place.mistake(f"has client_max_body_size '{size}'", "write a size such as 512k, 10m or 1g")


def raw_lines_repeat_nothing(values: RoleValues) -> Iterator[Mistake]:
    """nginx takes most directives once for each level, and would say no more than that one is duplicate."""
    for line in texts(values.values.get("nginx_http_extra")):
        for word in re.findall(r"(?:^|;)\s*(\w+)\s", line, re.M):
            if word in VARIABLES:
                wrong = f"'{word}' stands in the configuration already"
                yield Mistake("nginx_http_extra", wrong, f"set {VARIABLES[word]} instead")


def headers_have_a_size(values: RoleValues) -> Iterator[Mistake]:
    yield from header_mistakes("nginx_header_kb", values.values.get("nginx_header_kb"))


RULES: tuple[Rule, ...] = (
    upstreams_have_names_of_their_own,
    upstreams_have_servers,
    sites_have_names_of_their_own,
    site_names_are_file_names,
    ports_have_one_default_site,
    status_port_is_free,
    server_names_stand_once_on_a_port,
    static_paths_are_directories,
    locations_have_one_target,
    locations_name_upstreams_that_exist,
    health_path_is_a_path,
    addresses_are_addresses,
    cache_has_a_directory_of_its_own,
    personal_headers_are_names,
    times_have_units,
    limits_have_names_of_their_own,
    rates_are_rates,
    places_name_limits_that_exist,
    only_upstreams_are_cached_or_streamed,
    streams_are_not_cached,
    caches_have_times_and_cookies,
    places_have_times_and_sizes,
    raw_lines_repeat_nothing,
    headers_have_a_size,
)
