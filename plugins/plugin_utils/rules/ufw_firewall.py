# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which variables of the role ufw_firewall contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import model
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.addresses import HOST_NAME
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Mistake, RoleValues, Rule
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import (
    joined_entries,
    mappings,
    names,
    number,
    repeated,
    text,
    texts,
)

#: What the ends of a rule are called.
ENDS = {"rules": "sources", "egress": "destinations"}
#: ufw takes no apostrophe in a comment.
NAME = re.compile(r"[\w .,:/()+-]+")
INTERFACE = re.compile(r"[A-Za-z0-9_.,=%@+-]{1,15}")
FEWEST_SECONDS, MOST_SECONDS = 20, 3600


def _entries(values: RoleValues) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """What an entry is, where it stands, and the entry."""
    for noun in ENDS:
        for variable, entry in joined_entries(values, "ufw_firewall", noun):
            yield noun, f"{variable}, '{text(entry.get('name')) or ''}'", entry


def _address_mistake(place: str, value: str, host: str) -> Iterator[Mistake]:
    try:
        model.address(value)
    except model.FirewallError:
        kind = "a host name" if HOST_NAME.match(value) and re.search("[A-Za-z]", value) else "no address"
        right = "write an address, or a network such as 198.51.100.0/24; ufw looks up no names"
        if "/" in value and value.rpartition("/")[2] == "0":
            kind, right = "all of one version of IP", "write any, which is for IPv4 and IPv6 alike"
        yield Mistake(place, f"{value!r} is {kind}", right, host)


def admin_networks_are_networks(values: RoleValues) -> Iterator[Mistake]:
    name = "ufw_firewall_admin_networks"
    listed = values.values.get(name)
    if listed == []:
        yield Mistake(name, "is empty, so nobody could log in", "list where administrators come from", values.host)
    for value in texts(listed):
        # Everybody has to be said, and may be.
        if value not in ("0.0.0.0/0", "::/0"):
            yield from _address_mistake(name, value, values.host)


def ends_are_addresses(values: RoleValues) -> Iterator[Mistake]:
    for noun, place, entry in _entries(values):
        ends = entry.get(ENDS[noun])
        if ends == []:
            yield Mistake(place, f"{ENDS[noun]} is empty, so it is for nobody", "list them, or write any", values.host)
        for value in texts(ends):
            yield from _address_mistake(place, value, values.host)


def ports_are_ports(values: RoleValues) -> Iterator[Mistake]:
    places = [(place, entry.get("ports")) for _noun, place, entry in _entries(values)]
    for place, ports in [*places, ("ufw_firewall_ssh_ports", values.values.get("ufw_firewall_ssh_ports"))]:
        for value in texts(ports):
            try:
                model.port(value)
            except model.FirewallError:
                right = "choose one from 1 to 65535, or a range such as 6000-6010"
                yield Mistake(place, f"{value} is no port", right, values.host)


def ports_fit_the_protocol(values: RoleValues) -> Iterator[Mistake]:
    for _noun, place, entry in _entries(values):
        protocol, ports = entry.get("protocol", "tcp"), texts(entry.get("ports"))
        if protocol in ("tcp", "udp") and not ports:
            right = "name its ports, or all of them as 1-65535"
            yield Mistake(place, f"{protocol} without ports is all of it", right, values.host)
        elif protocol in model.PROTOCOLS and protocol not in model.WITH_PORTS and ports:
            yield Mistake(place, f"{protocol} has no ports", "leave them out", values.host)


def names_are_comments(values: RoleValues) -> Iterator[Mistake]:
    for noun, place, entry in _entries(values):
        name = text(entry.get("name"))
        if name is not None and not NAME.fullmatch(name):
            right = "use letters, digits, spaces and any of _ . , : / ( ) + -"
            yield Mistake(place, f"{name!r} is no name", right, values.host)
        elif name == model.SSH_NAME and noun == "rules":
            yield Mistake(place, "the role has a rule of that name itself", "give it another name", values.host)


def names_are_unique(values: RoleValues) -> Iterator[Mistake]:
    for noun in ENDS:
        name = f"ufw_firewall_{noun}"
        for one in repeated(names(mappings(values.values.get(name)))):
            yield Mistake(name, f"the name '{one}' is taken twice", "give each entry its own", values.host)


def interfaces_are_names(values: RoleValues) -> Iterator[Mistake]:
    for _noun, place, entry in _entries(values):
        name = text(entry.get("interface"))
        if name and not INTERFACE.fullmatch(name):
            yield Mistake(place, f"{name!r} is no interface", "name one as in `ip link`", values.host)


def rescue_has_its_time(values: RoleValues) -> Iterator[Mistake]:
    name = "ufw_firewall_rescue_seconds"
    seconds = number(values.values.get(name))
    if seconds is not None and not FEWEST_SECONDS <= seconds <= MOST_SECONDS:
        right = f"choose {FEWEST_SECONDS} to {MOST_SECONDS}: a fresh connection has to succeed in half of it"
        yield Mistake(name, f"{seconds} seconds are no time for a rescue", right, values.host)


RULES: tuple[Rule, ...] = (
    admin_networks_are_networks,
    ends_are_addresses,
    ports_are_ports,
    ports_fit_the_protocol,
    names_are_comments,
    names_are_unique,
    interfaces_are_names,
    rescue_has_its_time,
)
