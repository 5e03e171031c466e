# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which variables of the role haproxy_keepalived contradict each other."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.joined import joined
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.addresses import server_address
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Mistake, RoleValues, Rule
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import header_mistakes

EVERYWHERE = ["0.0.0.0", "[::]"]  # noqa: S104 - the default of addresses
SECTION_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
USER_NAME = re.compile(r"[A-Za-z0-9_.:@-]+")
PASSWORD_HASH = re.compile(r"\$[0-9a-z]+\$\S+")
# What HAProxy takes in mode http alone. In mode tcp it warns and goes on.
HTTP_ONLY = re.compile(
    r"http-(request|response|after|error|reuse|send)"
    r"|option (httplog|httpclose|http-|forwardfor|idle-close)"
    r"|(errorfile|redirect|cookie|capture|retry-on)\s"
)
MOST_BALANCERS = 24
# The default of a prefix is one of IPv4: as one of IPv6 it would be the way to a part of the internet.
SHORTEST_IPV6_PREFIX = 48


# --- values as they are, whatever their types: shapes are refused by argument_specs -----------------------------------


@dataclass(frozen=True)
class Section:
    """An entry of one of the lists, and the variable that it stands in."""

    variable: str
    entry: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.entry.get("name", ""))

    @property
    def place(self) -> str:
        return f"{self.variable}, '{self.name}'"

    @property
    def mode(self) -> str:
        return str(self.entry.get("mode", "http"))

    @property
    def servers(self) -> Mapping[Any, Any]:
        return _mapping(self.entry.get("servers"))

    @property
    def check(self) -> Mapping[str, Any]:
        return _mapping(self.entry.get("check"))

    @property
    def raw(self) -> list[str]:
        return [str(line) for key in ("extra", "lines") for line in _list(self.entry.get(key))]

    @property
    def routes(self) -> list[Mapping[str, Any]]:
        return _mappings(self.entry.get("routes"))

    @property
    def targets(self) -> list[tuple[str, str]]:
        """Key and backend of everything that this frontend forwards to."""
        found = [("default_backend", self.entry.get("default_backend"))]
        found += [("routes", route.get("backend")) for route in self.routes]
        return [(key, backend) for key, backend in found if isinstance(backend, str)]

    @property
    def listened(self) -> list[str]:
        """Every address:port that a frontend or listen is bound to."""
        port = _number(self.entry.get("port"))
        addresses = _list(self.entry.get("addresses", EVERYWHERE))
        return [f"{address}:{port}" for address in addresses] if port is not None else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, Mapping)]


def _number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value) else None


def _address(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _sections(values: RoleValues, noun: str) -> list[Section]:
    """Entries of the playbook and of the operator, joined as the role joins them."""
    variable, service = f"haproxy_keepalived_{noun}", f"haproxy_keepalived_service_{noun}"
    listed = _mappings(values.values.get(variable))
    wired = _mappings(values.values.get(service))
    own = {id(entry) for entry in listed}
    return [Section(variable if id(entry) in own else service, entry) for entry in joined(wired, listed)]


def _frontends(values: RoleValues) -> list[Section]:
    return _sections(values, "frontends")


def _backends(values: RoleValues) -> list[Section]:
    return _sections(values, "backends")


def _listens(values: RoleValues) -> list[Section]:
    return [
        Section("haproxy_keepalived_listens", entry)
        for entry in _mappings(values.values.get("haproxy_keepalived_listens"))
    ]


def _users(values: RoleValues) -> list[Mapping[str, Any]]:
    lists = _mappings(values.values.get("haproxy_keepalived_userlists"))
    return [user for userlist in lists for user in _mappings(userlist.get("users"))]


def _wiring_is_known(values: RoleValues) -> bool:
    """Whether the entries of the playbook are there; without them nobody can say that a name is unknown."""
    return all(f"haproxy_keepalived_service_{noun}" in values.values for noun in ("frontends", "backends"))


def _names(sections: Iterable[Section]) -> list[str]:
    return [section.name for section in sections if "name" in section.entry]


def _repeated(items: Iterable[Any]) -> list[Any]:
    return [item for item, times in Counter(items).items() if times > 1]


# --- frontends and backends -------------------------------------------------------------------------------------------


def backends_exist(values: RoleValues) -> Iterator[Mistake]:
    if not _wiring_is_known(values):
        return
    known = [backend.name for backend in _backends(values)]
    for frontend in _frontends(values):
        for key, backend in frontend.targets:
            if backend not in known:
                wrong = f"the {key} '{backend}' is not among haproxy_keepalived_backends"
                yield Mistake(frontend.place, wrong, f"they are: {', '.join(known) or 'none'}", values.host)


def modes_agree(values: RoleValues) -> Iterator[Mistake]:
    modes = {backend.name: backend.mode for backend in _backends(values)}
    for frontend in _frontends(values):
        for _key, backend in frontend.targets:
            if modes.get(backend, frontend.mode) != frontend.mode:
                wrong = f"has mode {frontend.mode}, and its backend '{backend}' has mode {modes[backend]}"
                yield Mistake(frontend.place, wrong, "give both the same", values.host)


def trusted_is_for_http(values: RoleValues) -> Iterator[Mistake]:
    for frontend in _frontends(values):
        if frontend.mode == "tcp" and frontend.entry.get("trusted"):
            wrong = "trusted is about headers, which mode tcp does not see"
            yield Mistake(frontend.place, wrong, "leave it out", values.host)


def frontends_admit_somebody(values: RoleValues) -> Iterator[Mistake]:
    for frontend in _frontends(values):
        limit = _number(frontend.entry.get("maxconn"))
        if limit is not None and limit < 1:
            wrong = f"maxconn: {limit} lets nobody in"
            yield Mistake(frontend.place, wrong, "choose at least 1, or leave it out", values.host)


def raw_lines_fit_the_mode(values: RoleValues) -> Iterator[Mistake]:
    for section in _frontends(values) + _backends(values):
        for line in section.raw if section.mode == "tcp" else ():
            if HTTP_ONLY.match(line):
                wrong = f"the extra line '{line}' is for mode http, and HAProxy would ignore it in mode tcp"
                yield Mistake(section.place, wrong, "leave it out", values.host)


def backends_have_servers(values: RoleValues) -> Iterator[Mistake]:
    for backend in _backends(values):
        if not backend.servers:
            yield Mistake(backend.place, "has no servers", "name at least one", values.host)
        elif backend.entry.get("balance") == "active-passive" and len(backend.servers) == 1:
            wrong = "has balance active-passive and one server, so nobody takes over"
            yield Mistake(backend.place, wrong, "name a second one, or leave balance out", values.host)


def servers_differ(values: RoleValues) -> Iterator[Mistake]:
    for backend in _backends(values):
        port = _number(backend.entry.get("port"))
        places = [server_address(str(value), port) for value in backend.servers.values()]
        for place in _repeated(places):
            address = place[0] if place[1] in (port, None) else f"{place[0]}:{place[1]}"
            yield Mistake(backend.place, f"{address} is the address of two servers", "give each its own", values.host)


def servers_have_names(values: RoleValues) -> Iterator[Mistake]:
    for backend in _backends(values):
        for name in map(str, backend.servers):
            if not SECTION_NAME.fullmatch(name):
                wrong = f"'{name}' is no name of a server"
                yield Mistake(backend.place, wrong, "use letters, digits and any of _ . : -", values.host)


def backends_are_used(values: RoleValues) -> Iterator[Mistake]:
    if not _wiring_is_known(values):
        return
    frontends = _frontends(values)
    named = {backend for frontend in frontends for _key, backend in frontend.targets}
    raw = [line for section in frontends + _listens(values) for line in section.raw]
    for name in ("haproxy_keepalived_sections_extra", "haproxy_keepalived_defaults_extra"):
        raw += map(str, _list(values.values.get(name)))
    text = "\n".join(raw)
    if re.search(r"use_backend\s+%", text):
        return
    for backend in _backends(values):
        by_hand = rf"(default_backend|use_backend)\s+{re.escape(backend.name)}(\s|$)"
        if backend.name not in named and not re.search(by_hand, text):
            right = "name it in default_backend or routes, or leave it out"
            yield Mistake(backend.place, "no frontend leads to it", right, values.host)


def queues_have_a_limit(values: RoleValues) -> Iterator[Mistake]:
    for backend in _backends(values):
        limit, queue = (_number(backend.entry.get(key, 0)) or 0 for key in ("maxconn", "maxqueue"))
        if min(limit, queue) < 0:
            wrong = "maxconn and maxqueue cannot be negative"
            yield Mistake(backend.place, wrong, "choose 0 for no limit", values.host)
        elif queue and not limit:
            wrong = "maxqueue without maxconn limits nothing, because nobody waits"
            yield Mistake(backend.place, wrong, "set maxconn as well", values.host)


def checks_are_possible(values: RoleValues) -> Iterator[Mistake]:
    for backend in _backends(values):
        numbers = {key: _number(backend.check.get(key)) for key in ("interval", "fastinter", "fall", "rise")}
        for key, number in numbers.items():
            if number is not None and number < 1:
                yield Mistake(backend.place, f"check.{key}: {number} is too small", "choose at least 1", values.host)
        path = backend.check.get("path", "/")
        if not re.fullmatch(r"/\S*", str(path)):
            wrong = f"check.path: '{path}' is no path"
            yield Mistake(backend.place, wrong, "write one as in /health", values.host)
        interval = numbers["interval"] or _number(values.values.get("haproxy_keepalived_check_interval"))
        if numbers["fastinter"] and interval and numbers["fastinter"] > interval > 0:
            wrong = f"check.fastinter: {numbers['fastinter']} is longer than the interval of {interval}"
            yield Mistake(backend.place, wrong, "choose a shorter one", values.host)


def checks_in_general_are_possible(values: RoleValues) -> Iterator[Mistake]:
    for key in ("interval", "fall", "rise"):
        variable = f"haproxy_keepalived_check_{key}"
        number = _number(values.values.get(variable))
        if number is not None and number < 1:
            yield Mistake(variable, f"{number} is too small", "choose at least 1", values.host)


# --- names and ports --------------------------------------------------------------------------------------------------


def names_are_unique(values: RoleValues) -> Iterator[Mistake]:
    listens, lists = _listens(values), _mappings(values.values.get("haproxy_keepalived_userlists"))
    taken = {
        "haproxy_keepalived_frontends": [*_names(_frontends(values) + listens), "stats"],
        "haproxy_keepalived_backends": _names(_backends(values) + listens),
        "haproxy_keepalived_userlists": _names(Section("", userlist) for userlist in lists),
    }
    for variable, names in taken.items():
        for name in _repeated(names):
            own = " (the role itself has one)" if name == "stats" and variable.endswith("frontends") else ""
            right = "give each frontend, backend, listen and userlist a name of its own"
            yield Mistake(variable, f"the name '{name}' is taken twice{own}", right, values.host)
        for name in dict.fromkeys(names):
            if not SECTION_NAME.fullmatch(name):
                yield Mistake(variable, f"'{name}' is no name", "use letters, digits and any of _ . : -", values.host)


def addresses_are_free(values: RoleValues) -> Iterator[Mistake]:
    fronts = _frontends(values) + _listens(values)
    for address in _repeated(address for front in fronts for address in front.listened):
        wrong = f"{address} is listened on twice"
        yield Mistake("haproxy_keepalived_frontends", wrong, "give each frontend a port of its own", values.host)
    stats = _number(values.values.get("haproxy_keepalived_stats_port"))
    if stats is not None and stats in [_number(front.entry.get("port")) for front in fronts]:
        wrong = f"{stats} is the port of a frontend too"
        yield Mistake("haproxy_keepalived_stats_port", wrong, "choose another one", values.host)


def ports_are_ports(values: RoleValues) -> Iterator[Mistake]:
    ports = [("haproxy_keepalived_stats_port", values.values.get("haproxy_keepalived_stats_port"))]
    for section in _frontends(values) + _listens(values) + _backends(values):
        ports.append((f"{section.place}: port", section.entry.get("port")))
        ports.append((f"{section.place}: check.port", section.check.get("port")))
    for place, value in ports:
        port = _number(value)
        if port is not None and not 1 <= port <= 65535:
            yield Mistake(place, f"{port} is no port", "choose one from 1 to 65535", values.host)


# --- users ------------------------------------------------------------------------------------------------------------


def passwords_are_hashes(values: RoleValues) -> Iterator[Mistake]:
    for user in _users(values):
        if not PASSWORD_HASH.fullmatch(str(user.get("password", ""))):
            wrong = f"the password of '{user.get('name')}' is no hash"
            right = "write what openssl passwd -5 prints"
            yield Mistake("haproxy_keepalived_userlists", wrong, right, values.host)


def users_have_names(values: RoleValues) -> Iterator[Mistake]:
    for user in _users(values):
        names = [user.get("name", ""), *_list(user.get("groups"))]
        if not all(USER_NAME.fullmatch(str(name)) for name in names):
            wrong = f"'{user.get('name')}' or a group of it is no name"
            right = "use letters, digits and any of _ . : @ -"
            yield Mistake("haproxy_keepalived_userlists", wrong, right, values.host)


# --- the shared address -----------------------------------------------------------------------------------------------


def vip_mistakes(
    vip: Any,
    prefix: Any,
    balancers: Mapping[str, Any],
    *,
    others: Mapping[str, Any] | None = None,
    names: tuple[str, str] = ("haproxy_keepalived_vip", "haproxy_keepalived_vip_prefix"),
    host: str = "",
) -> Iterator[Mistake]:
    """Find what is wrong with a shared address, for this role and for an inventory that wires it.

    Args:
        vip: the address, IPv4 or IPv6. Nothing is found where it is empty.
        prefix: length of the prefix of its network.
        balancers: address of each balancer by name.
        others: addresses of other hosts by name.
        names: what the variables of the address and of its prefix are called.
        host: whose variables they are.
    """
    if vip is None or vip == "":
        return
    address = _address(vip)
    if address is None:
        yield Mistake(names[0], f"'{vip}' is no IP address", "write one as in 198.18.0.10 or fd00::10", host)
        return
    length = _number(prefix)
    if length is None or not 1 <= length <= address.max_prefixlen:
        right = f"choose one from 1 to {address.max_prefixlen}"
        yield Mistake(names[1], f"{prefix} is no length of a prefix", right, host)
    elif address.version == 6 and length < SHORTEST_IPV6_PREFIX:
        wrong = f"{length} is the length of no IPv6 network that hosts share"
        yield Mistake(names[1], wrong, f"set that of {vip}, which usually is 64", host)
    for name, value in {**(others or {}), **balancers}.items():
        if _address(value) == address:
            yield Mistake(names[0], f"{vip} is the address of '{name}'", "choose one that no host has", host)
    for name, value in balancers.items():
        own = _address(value)
        if own and own.version != address.version:
            wrong = f"{vip} has another version of IP than {value}, the address of '{name}'"
            yield Mistake(names[0], wrong, "give the VIP and all balancers the same", host)


def vip_network_mistakes(
    vip: Any,
    prefix: Any,
    balancers: Mapping[str, Any],
    *,
    names: tuple[str, str] = ("haproxy_keepalived_vip", "haproxy_keepalived_vip_prefix"),
    host: str = "",
) -> Iterator[Mistake]:
    """Find the balancers in whose network a shared address is not.

    For an inventory whose hosts have one network. The role alone may have the VIP on another interface than the address
    that the balancers talk to each other with. Arguments are those of `vip_mistakes`, which finds what is none at all.
    """
    address, length = _address(vip), _number(prefix)
    if address is None or length is None or not 1 <= length < address.max_prefixlen:
        return
    for name, value in balancers.items():
        own = _address(value)
        if own is None or own.version != address.version:
            continue
        network = ipaddress.ip_network(f"{own}/{length}", strict=False)
        if address not in network:
            right = f"choose a free address in it, or correct {names[1]}"
            yield Mistake(names[0], f"{vip} is outside {network}, the network of '{name}'", right, host)


def _shares_an_address(values: RoleValues) -> bool:
    return values.values.get("haproxy_keepalived_vip") not in (None, "")


def _peers(values: RoleValues) -> Mapping[str, Any]:
    return {str(name): address for name, address in _mapping(values.values.get("haproxy_keepalived_peers")).items()}


def vip_fits(values: RoleValues) -> Iterator[Mistake]:
    yield from vip_mistakes(
        values.values.get("haproxy_keepalived_vip"),
        values.values.get("haproxy_keepalived_vip_prefix"),
        _peers(values),
        host=values.host,
    )


def peers_are_complete(values: RoleValues) -> Iterator[Mistake]:
    variable = "haproxy_keepalived_peers"
    if not _shares_an_address(values) or variable not in values.values:
        return
    peers = _peers(values)
    for address in _repeated(map(str, peers.values())):
        yield Mistake(variable, f"{address} stands there twice", "give each balancer its own", values.host)
    for name, address in peers.items():
        if _address(address) is None:
            wrong = f"'{address}' of '{name}' is no IP address"
            yield Mistake(variable, wrong, "write one as in 198.18.0.11, no name", values.host)
    if len(peers) < 2:
        wrong = f"has {len(peers)} balancers, and a shared address takes two"
        yield Mistake(variable, wrong, "name them all, or leave haproxy_keepalived_vip empty", values.host)
    elif len(peers) > MOST_BALANCERS:
        yield Mistake(variable, f"has {len(peers)} balancers", f"name {MOST_BALANCERS} at most", values.host)
    elif values.host not in peers:
        right = "name all balancers, each by its inventory name"
        yield Mistake(variable, f"'{values.host}' itself is missing", right, values.host)


def an_interface_has_the_own_address(values: RoleValues) -> Iterator[Mistake]:
    address = _address(_peers(values).get(values.host))
    if values.facts is None or address is None or not _shares_an_address(values):
        return
    if values.values.get("haproxy_keepalived_interface") or address in _addresses_of(values.facts):
        return
    wrong = f"no interface of '{values.host}' has the address {address}"
    right = "write the one it has, and gather the facts of the network"
    yield Mistake("haproxy_keepalived_peers", wrong, right, values.host)


def _addresses_of(facts: Mapping[str, Any]) -> set[Any]:
    """All addresses of a host. Its facts have an underscore where the name of an interface has a dash."""
    found = []
    for name in _list(facts.get("interfaces")):
        interface = _mapping(facts.get(str(name).replace("-", "_")))
        found += [interface.get("ipv4"), *_list(interface.get("ipv4_secondaries")), *_list(interface.get("ipv6"))]
    return {_address(_mapping(one).get("address")) for one in found} - {None}


def vrrp_numbers_fit(values: RoleValues) -> Iterator[Mistake]:
    if not _shares_an_address(values):
        return
    number = _number(values.values.get("haproxy_keepalived_router_id"))
    if number is not None and not 0 <= number <= 255:
        right = "choose one from 1 to 255, or 0 to have it computed"
        yield Mistake("haproxy_keepalived_router_id", f"{number} is out of range", right, values.host)
    interval = values.values.get("haproxy_keepalived_advert_interval")
    if isinstance(interval, int | float) and not 0.01 <= interval <= 40.95:
        right = "choose one from 0.01 to 40.95"
        yield Mistake("haproxy_keepalived_advert_interval", f"{interval} is out of range", right, values.host)


def headers_have_a_size(values: RoleValues) -> Iterator[Mistake]:
    yield from header_mistakes(
        "haproxy_keepalived_header_kb", values.values.get("haproxy_keepalived_header_kb"), values.host
    )


RULES: tuple[Rule, ...] = (
    backends_exist,
    modes_agree,
    trusted_is_for_http,
    frontends_admit_somebody,
    raw_lines_fit_the_mode,
    backends_have_servers,
    servers_differ,
    servers_have_names,
    backends_are_used,
    queues_have_a_limit,
    checks_are_possible,
    checks_in_general_are_possible,
    names_are_unique,
    addresses_are_free,
    ports_are_ports,
    passwords_are_hashes,
    users_have_names,
    vip_fits,
    peers_are_complete,
    an_interface_has_the_own_address,
    vrrp_numbers_fit,
    headers_have_a_size,
)
