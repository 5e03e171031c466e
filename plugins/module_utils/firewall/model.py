# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the firewall is to be in the words of ufw, and how that differs from what it is. No host is asked."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: The comments of our rules begin with it. Rules without it are somebody else's.
TAG = "foobar: "
SSH_NAME = "ssh"
ANY = "any"
#: Protocols that have ports; "any" is both of them where a port is given.
WITH_PORTS = ("tcp", "udp", ANY)
PROTOCOLS = (*WITH_PORTS, "vrrp", "esp", "ah", "gre")
POLICIES = ("allow", "deny", "reject")
LEVELS = ("off", "low", "medium", "high", "full")

_ENTRY = {
    "name": {"type": "str", "required": True},
    "ports": {"type": "list", "elements": "str", "default": []},
    "protocol": {"type": "str", "choices": list(PROTOCOLS), "default": "tcp"},
    "interface": {"type": "str", "default": ""},
}
ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "enabled": {"type": "bool", "default": True},
    "admin_networks": {"type": "list", "elements": "str", "required": True},
    "ssh_ports": {"type": "list", "elements": "str", "default": []},
    "ssh_rate_limit": {"type": "bool", "default": True},
    "rules": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": _ENTRY
        | {
            "sources": {"type": "list", "elements": "str", "required": True},
            "action": {"type": "str", "choices": ["allow", "limit", "deny", "reject"], "default": "allow"},
        },
    },
    "egress": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": _ENTRY
        | {
            "destinations": {"type": "list", "elements": "str", "required": True},
            "action": {"type": "str", "choices": list(POLICIES), "default": "allow"},
        },
    },
    "incoming": {"type": "str", "choices": ["deny", "reject"], "default": "deny"},
    "outgoing": {"type": "str", "choices": list(POLICIES), "default": "allow"},
    "routed": {"type": "str", "choices": list(POLICIES), "default": "deny"},
    "logging": {"type": "str", "choices": list(LEVELS), "default": "low"},
    "rescue_seconds": {"type": "int", "default": 60},
    "variables": {"type": "str", "default": ""},
}


class FirewallError(Exception):
    """One sentence for the user: what is wrong and what is right."""


@dataclass(frozen=True)
class Rule:
    """One rule as ufw keeps it.

    Attributes:
        name: what it is called in its comment.
        action: "allow", "limit", "deny" or "reject".
        direction: "in" or "out".
        protocol: one of PROTOCOLS.
        port: "443", "6000:6010", or "" for all.
        address: of the other end, as ufw writes it, or ANY for all of both versions of IP.
        interface: "" for all.
    """

    name: str
    action: str
    direction: str
    protocol: str
    port: str
    address: str
    interface: str = ""

    @property
    def comment(self) -> str:
        return f"{TAG}{self.name}"

    @property
    def content(self) -> tuple[str, ...]:
        """What packets it is for, in the words of ``ufw show added``. ufw has one rule for each."""
        on = ("on", self.interface) if self.interface else ()
        if self.address == ANY and self.port and not on:
            ports = self.port if self.protocol == ANY else f"{self.port}/{self.protocol}"
            return ("out", ports) if self.direction == "out" else (ports,)
        words = (self.direction, *on) if on or self.direction == "out" else ()
        ends = {"from": self.address, "to": ANY} if self.direction == "in" else {"from": ANY, "to": self.address}
        for end, address in ends.items():
            port = self.port if end == "to" else ""
            if address != ANY or port:
                words += (end, address, *(("port", port) if port else ()))
        if not {"from", "to"} & {*words} and not on:
            words += ("to", ANY)
        return words if self.protocol == ANY else (*words, "proto", self.protocol)

    @property
    def words(self) -> tuple[str, ...]:
        """As ``ufw show added`` has it."""
        return (self.action, *self.content, "comment", self.comment)

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of IP that it is for."""
        return (4, 6) if self.address == ANY else (ipaddress.ip_network(self.address).version,)


@dataclass(frozen=True)
class Shown:
    """A line of ``ufw show added``, ours or somebody else's."""

    words: tuple[str, ...]

    @property
    def comment(self) -> str:
        return self.words[-1] if len(self.words) > 2 and self.words[-2] == "comment" else ""

    @property
    def is_ours(self) -> bool:
        return self.comment.startswith(TAG) and not self.is_routed

    @property
    def is_routed(self) -> bool:
        return self.words[0] == "route"

    @property
    def action(self) -> str:
        return self.words[1] if self.is_routed else self.words[0]

    @property
    def content(self) -> tuple[str, ...]:
        """As Rule.content; whether it is logged is no matter of that."""
        words = self.words[:-2] if self.comment else self.words
        return tuple(word for word in words[0 if self.is_routed else 1 :] if word not in ("log", "log-all"))

    @property
    def comes_in(self) -> bool:
        return not self.is_routed and "out" not in self.words[1:2]

    @property
    def only_version_6(self) -> bool:
        """Whether it is for IPv6 alone. The list has these behind all others, whatever their place."""
        return any(_version(word) == 6 for word in self.content)

    def __str__(self) -> str:
        return f"ufw {shlex.join(self.words)}"


@dataclass(frozen=True)
class Plan:
    """What is to be done to the rules, in this order.

    Attributes:
        moved: rules of ours that go because they are put elsewhere.
        first: rules that go before all others, the last one of these first.
        added: rules that go behind the others. ufw replaces what it has for the same packets.
        deleted: rules of ours that are no longer wanted.
    """

    moved: tuple[Shown, ...]
    first: tuple[Rule, ...]
    added: tuple[Rule, ...]
    deleted: tuple[Shown, ...]

    @property
    def changed(self) -> bool:
        return bool(self.first or self.added or self.deleted)


# --- what is wanted ---------------------------------------------------------------------------------------------------


def address(value: str) -> str:
    """Return an address or a network as ufw writes it: "198.18.0.7/24" is "198.18.0.0/24".

    Raises:
        FirewallError: it is neither.
    """
    if value == ANY:
        return ANY
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        right = f"write an address, a network such as 198.51.100.0/24, or {ANY}; ufw looks up no names"
        raise FirewallError(f"{value!r} is no address: {right}") from None
    # All of one version of IP: ufw shows it as it shows all of both.
    if network.prefixlen == 0:
        raise FirewallError(f"{value} is all of IPv{network.version}: write {ANY}, which is for IPv4 and IPv6 alike")
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def port(value: str) -> str:
    """Return a port or a range of ports as ufw writes it: "6000-6010" is "6000:6010".

    Raises:
        FirewallError: it is neither.
    """
    parts = value.replace(":", "-").split("-")
    numbers = [int(part) for part in parts if part.isascii() and part.isdecimal() and 1 <= int(part) <= 65535]
    if len(numbers) != len(parts) or len(parts) > 2 or numbers != sorted(set(numbers)):
        raise FirewallError(f"{value!r} is no port: choose 1 to 65535, or a range such as 6000-6010")
    return ":".join(map(str, numbers))


def networks(values: Iterable[str]) -> list[str]:
    """Return the networks of the administrators as ufw writes them; all of both versions of IP are ANY."""
    values = list(values)
    whole = {value for value in values if value in (ANY, "0.0.0.0/0", "::/0")}
    if ANY in whole or len(whole) == 2:
        return [ANY]
    # All of one version alone: its two halves, which ufw can tell from all of both.
    halves = {"0.0.0.0/0": ["0.0.0.0/1", "128.0.0.0/1"], "::/0": ["::/1", "8000::/1"]}
    return [address(one) for value in values for one in halves.get(value, [value])]


def ssh_rules(params: Mapping[str, Any], ports: Iterable[int]) -> list[Rule]:
    """Return the rules that keep SSH open for the administrators.

    Args:
        params: arguments of the module.
        ports: where the SSH server is asked on this host.
    """
    action = "limit" if params["ssh_rate_limit"] else "allow"
    with _named("admin_networks"):
        allowed = networks(params["admin_networks"])
    with _named("ssh_ports"):
        every = dict.fromkeys([*map(str, sorted(ports)), *map(port, params["ssh_ports"])])
    return [Rule(SSH_NAME, action, "in", "tcp", number, network) for number in every for network in allowed]


@contextmanager
def _named(option: str) -> Iterator[None]:
    """What is wrong in it begins with the option."""
    try:
        yield
    except FirewallError as error:
        raise FirewallError(f"{option}: {error}") from None


def wanted(params: Mapping[str, Any], ssh: Sequence[Rule]) -> list[Rule]:
    """Return all rules in their order, SSH first; of two for the same packets the first, as for the packets.

    Args:
        params: arguments of the module.
        ssh: what ssh_rules has returned.
    """
    found: dict[tuple[str, ...], Rule] = {}
    for rule in [*ssh, *_listed(params)]:
        found.setdefault(rule.content, rule)
    return list(found.values())


def _listed(params: Mapping[str, Any]) -> Iterator[Rule]:
    kinds = (("rules", "in", "sources"), ("egress", "out", "destinations"))
    for variable, direction, ends in kinds:
        for entry in params[variable]:
            name, action, interface = entry["name"], entry["action"], entry["interface"]
            with _named(f"{variable}, '{name}'"):
                numbers, addresses = [*map(port, entry["ports"])] or [""], [*map(address, entry[ends])]
            for number in numbers:
                for end in addresses:
                    for protocol in _protocols(entry["protocol"], number):
                        yield Rule(name, action, direction, protocol, number, end, interface)


def _protocols(protocol: str, number: str) -> tuple[str, ...]:
    """ufw has one rule for TCP and UDP of a port, and none for a range."""
    return ("tcp", "udp") if protocol == ANY and ":" in number else (protocol,)


def is_within(source: str, allowed: Iterable[str]) -> bool:
    """Return whether an address, as the host sees it, is in one of the networks of the administrators."""
    address_of = ipaddress.ip_address(source)
    address_of = getattr(address_of, "ipv4_mapped", None) or address_of
    return any(one == ANY or address_of in ipaddress.ip_network(one) for one in networks(allowed))


# --- what differs -----------------------------------------------------------------------------------------------------


def shown(said: str) -> list[Shown]:
    """Return the rules of ``ufw show added``."""
    found = []
    for line in said.splitlines():
        if line.startswith("ufw "):
            try:
                words = shlex.split(line)[1:]
            except ValueError:
                # A comment with a quote in it, which ufw does not take today.
                words = line.split()[1:]
            found.append(Shown(tuple(words)))
    return found


def contradictions(rules: Iterable[Rule], there: Iterable[Shown]) -> Iterator[tuple[Rule, Shown]]:
    """Find rules of somebody else for the same packets with another action: ufw keeps one for each."""
    theirs = {one.content: one for one in there if not one.is_ours and not one.is_routed}
    for rule in rules:
        other = theirs.get(rule.content)
        if other and other.action != rule.action:
            yield rule, other


def difference(rules: Sequence[Rule], ssh: Sequence[Rule], there: Sequence[Shown]) -> Plan:
    """Return what makes of the rules that are there those that are wanted.

    Args:
        rules: what wanted has returned.
        ssh: those of them that keep SSH open.
        there: the rules of the host.
    """
    theirs = {one.content for one in there if not one.is_ours and not one.is_routed}
    # What somebody else lets in already stays his.
    needed = [rule for rule in rules if rule.content not in theirs]
    first, others = [rule for rule in needed if rule in ssh], [rule for rule in needed if rule not in ssh]
    ours = [one for one in there if one.is_ours]
    words = {one.words for one in ours}
    stands_first = _stand_first(first, there)
    kept = len(others) if _in_order(others, ours) else _prefix(others, ours)
    stay = {rule.words for rule in others[:kept]} | ({rule.words for rule in first} if stands_first else set())
    before = tuple(rule for rule in reversed(first) if rule.words not in words & stay)
    added = tuple(rule for rule in others if rule.words not in words & stay)
    going = [one for one in ours if one.words not in stay]
    contents, again = {rule.content for rule in before}, {rule.words for rule in added}
    moved = tuple(one for one in going if one.content in contents or one.words in again)
    made = contents | {rule.content for rule in added}
    return Plan(moved, before, added, tuple(one for one in going if one.content not in made))


def _version(word: str) -> int:
    """The version of IP of an address or a network; 0 if it is none."""
    try:
        return ipaddress.ip_network(word, strict=False).version
    except ValueError:
        return 0


def _stand_first(first: Sequence[Rule], there: Sequence[Shown]) -> bool:
    """Whether nothing that could refuse an administrator stands before the rules for SSH."""
    words = {rule.words for rule in first}
    for only_version_6 in (False, True):
        incoming = [one for one in there if one.comes_in and one.only_version_6 is only_version_6]
        last = max((number for number, one in enumerate(incoming) if one.words in words), default=-1)
        if any(one.action != "allow" for one in incoming[: last + 1] if one.words not in words):
            return False
    return True


def _in_order(others: Sequence[Rule], ours: Sequence[Shown]) -> bool:
    """Whether those that are there have an order that is right, and those that are not may follow them."""
    if len({rule.action for rule in others}) < 2:
        return True
    return _prefix(others, ours) == len([rule for rule in others if rule.words in {one.words for one in ours}])


def _prefix(others: Sequence[Rule], ours: Sequence[Shown]) -> int:
    """How many of the wanted rules, from the first on, are there in their order."""
    wanted_words = {rule.words for rule in others}
    versions: dict[bool, list[tuple[str, ...]]] = {False: [], True: []}
    for one in ours:
        if one.words in wanted_words:
            versions[one.only_version_6].append(one.words)
    for number, rule in enumerate(others):
        line = versions[Shown(rule.words).only_version_6]
        if not line or line.pop(0) != rule.words:
            return number
    return len(others)


def missing_versions(rules: Iterable[Rule], there: Sequence[Shown], counted: Mapping[int, int]) -> list[Rule]:
    """Return the rules for both versions of IP if one has lost some: ``ufw show added`` has one line for both.

    Args:
        rules: what wanted has returned.
        there: the rules of the host.
        counted: by version of IP, how many rules of ours the files of ufw have.
    """
    words = {one.words for one in there}
    ours = [rule for rule in rules if rule.words in words]
    if all(sum(version in rule.versions for rule in ours) == counted[version] for version in (4, 6)):
        return []
    return [rule for rule in ours if rule.address == ANY]
