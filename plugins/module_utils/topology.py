# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The four stages as one declarative table, and what an inventory makes of one: nodes, and edges (who talks to whom).

Pure: groups and hostvars go in, data comes out. The preflight, the diagrams and the firewall read the same model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TIERS = ("loadbalancers", "webservers", "appservers", "databases")
#: Who is at the other end where it is no host: visitors, administrators, a monitoring service, the shared address.
SPECIALS = ("client", "admin", "monitoring", "vip")
#: TCP ports where the inventory does not set them.
PORTS = {
    "site_http_port": 80,
    "site_app_port": 8000,
    "site_database_port": 3306,
    "site_database_read_port": 3307,
    "site_database_check_port": 9200,
}
HTTPS, SSH = 443, 22


class TopologyError(ValueError):
    """One sentence: what cannot be built into a topology, and what could."""


@dataclass(frozen=True)
class Node:
    """A host.

    Attributes:
        name: its inventory name.
        address: where the other hosts reach it: an IP address or a host name.
        tiers: the groups it is in, in the order of TIERS.
    """

    name: str
    address: str
    tiers: tuple[str, ...]


@dataclass(frozen=True)
class Edge:
    """One kind of traffic that must be possible between two ends.

    Attributes:
        source: name of a node, or one of SPECIALS.
        destination: the same. "vip" is whichever load balancer holds the shared address.
        port: TCP port at the destination; None where the protocol has none.
        protocol: "tcp", "vrrp" (IP protocol 112), or "unix" (a socket; source and destination are one host).
        purpose: what for, as a noun: "dynamic pages".
        tls: whether it is encrypted.
        source_tier: which of the source's components talks; "" for a special or for the host as a whole.
        destination_tier: which of the destination's components listens; likewise.
        speaks: what is spoken over TCP: "http", "mysql" or "ssh".
    """

    source: str
    destination: str
    port: int | None
    protocol: str
    purpose: str
    tls: bool
    source_tier: str = ""
    destination_tier: str = ""
    speaks: str = "http"


@dataclass(frozen=True)
class Topology:
    """A stage with the hosts of an inventory.

    Attributes:
        stage: name of the stage.
        domain: host name of the site; "" if the inventory does not say.
        vip: the shared address; "" where the stage has none.
        nodes: by first tier, then in inventory order.
        edges: in the order in which a request meets them, then the rest.
    """

    stage: str
    domain: str
    vip: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Link:
    """Traffic between two tiers, from which edges between hosts are made.

    Ends are tiers, SPECIALS or "every" (all hosts).
    A local link stays on its host and takes a socket.
    """

    source: str
    destination: str
    port: str | int | None
    purpose: str
    tls: bool = False
    protocol: str = "tcp"
    local: bool = False
    speaks: str = "http"


@dataclass(frozen=True)
class Stage:
    """What a stage asks of an inventory.

    Attributes:
        title: what it is, in one phrase.
        hosts: fewest and most hosts of each group; None for any number.
        together: groups that must hold the same hosts.
        links: its traffic.
    """

    title: str
    hosts: Mapping[str, tuple[int, int | None]]
    together: tuple[str, ...]
    links: tuple[Link, ...]

    @property
    def vip(self) -> bool:
        """Whether the balancers share an address."""
        return any(link.destination == "vip" for link in self.links)


def _socket(source: str, destination: str, purpose: str) -> Link:
    return Link(source, destination, None, purpose, protocol="unix", local=True)


def _databases(balancer: str, checks_tls: bool = False) -> tuple[Link, ...]:
    """Any database may become the source of the others, so the balancers ask each which one it is."""
    return (
        Link("appservers", balancer, "site_database_port", "writes", tls=True, speaks="mysql"),
        Link("appservers", balancer, "site_database_read_port", "reads", tls=True, speaks="mysql"),
        Link(
            "loadbalancers",
            "databases",
            "site_database_port",
            "balanced reads and writes",
            tls=True,
            speaks="mysql",
        ),
        Link(
            "loadbalancers",
            "databases",
            "site_database_check_port",
            "the question which one is the source",
            tls=checks_tls,
        ),
        Link("databases", "databases", "site_database_port", "replication", tls=True, speaks="mysql"),
    )


_PAGES = _socket("webservers", "appservers", "dynamic pages")
_TWO_SERVERS = {"loadbalancers": (1, 1), "webservers": (2, None), "appservers": (2, None), "databases": (2, None)}
_SERVERS = ("webservers", "appservers", "databases")

STAGES: dict[str, Stage] = {
    "0-simple_web_stack": Stage(
        title="one server",
        hosts={"loadbalancers": (0, 0), "webservers": (1, 1), "appservers": (1, 1), "databases": (1, 1)},
        together=_SERVERS,
        links=(
            Link("client", "webservers", "site_http_port", "visitors' requests"),
            _PAGES,
            _socket("appservers", "databases", "reads and writes"),
        ),
    ),
    "1-distributed_web_infrastructure": Stage(
        title="two servers behind a balancer",
        hosts=_TWO_SERVERS,
        together=_SERVERS,
        links=(
            Link("client", "loadbalancers", "site_http_port", "visitors' requests"),
            Link("loadbalancers", "webservers", "site_http_port", "balanced requests"),
            _PAGES,
            *_databases("loadbalancers"),
        ),
    ),
    "2-secured_and_monitored_web_infrastructure": Stage(
        title="two servers behind a balancer, secured and monitored",
        hosts=_TWO_SERVERS,
        together=_SERVERS,
        links=(
            Link("client", "loadbalancers", HTTPS, "visitors' requests", tls=True),
            Link("client", "loadbalancers", "site_http_port", "redirection to HTTPS"),
            Link("loadbalancers", "webservers", HTTPS, "balanced requests", tls=True),
            _PAGES,
            *_databases("loadbalancers", checks_tls=True),
            Link("admin", "every", SSH, "administration", tls=True, speaks="ssh"),
            Link("every", "monitoring", HTTPS, "metrics and logs", tls=True),
        ),
    ),
    "3-scale_up": Stage(
        title="a tier for each component, two balancers with one address",
        hosts={"loadbalancers": (2, None), "webservers": (1, None), "appservers": (1, None), "databases": (2, None)},
        together=(),
        links=(
            Link("client", "vip", "site_http_port", "visitors' requests"),
            Link("loadbalancers", "webservers", "site_http_port", "balanced requests"),
            Link("webservers", "vip", "site_app_port", "dynamic pages"),
            Link("loadbalancers", "appservers", "site_app_port", "balanced dynamic pages"),
            *_databases("vip"),
            Link("loadbalancers", "loadbalancers", None, "election of the address's holder", protocol="vrrp"),
        ),
    ),
}


def address_of(name: str, hostvars: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return where the other hosts reach a host: its site_address, else its ansible_host, else its inventory name."""
    variables = hostvars[name]
    return variables.get("site_address") or variables.get("ansible_host") or name


def tier_addresses(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the address of each host by its inventory name, in the order of the names.

    Args:
        names: inventory names, as in ``groups['webservers']``.
        hostvars: variables by host; site_address and ansible_host are read.

    Raises:
        TopologyError: a name is no host of the inventory, or names is no list of names.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TopologyError(f"a list of host names is needed, as groups['webservers'], not {names!r}")
    names = list(names)
    for name in names:
        if not isinstance(name, str) or name not in hostvars:
            raise TopologyError(f"{name!r} is not a host of the inventory")
    return {name: str(address_of(name, hostvars)) for name in names}


def build(stage: str, groups: Mapping[str, list[str]], hostvars: Mapping[str, Mapping[str, Any]]) -> Topology:
    """Build the topology of an inventory, whether or not it fits the stage: judging it is the preflight's work.

    Args:
        stage: one of STAGES.
        groups: inventory names of the hosts of each group.
        hostvars: variables by host. Site-wide ones are taken from the first host that has them.

    Raises:
        TopologyError: the stage is unknown, a group lists an unknown host, or a port is no number.
    """
    if stage not in STAGES:
        raise TopologyError(f"{stage!r} is no stage; there are {', '.join(STAGES)}")
    order = [name for tier in TIERS for name in groups.get(tier, ())]
    addresses = tier_addresses(dict.fromkeys(order), hostvars)
    nodes = tuple(
        Node(name, address, tuple(tier for tier in TIERS if name in groups.get(tier, ())))
        for name, address in addresses.items()
    )
    site = _Site(hostvars[node.name] for node in nodes)
    members = {tier: list(groups.get(tier, ())) for tier in TIERS} | {special: [special] for special in SPECIALS}
    members["every"] = list(addresses)
    edges = [edge for link in STAGES[stage].links for edge in _edges(link, members, site)]
    vip = str(site.get("site_vip", "")) if STAGES[stage].vip else ""
    return Topology(stage, str(site.get("site_domain", "")), vip, nodes, tuple(edges))


def listeners(topology: Topology) -> dict[str, list[tuple[int, str]]]:
    """Return the TCP ports that each host must answer on for others: (port, tier that listens), without repetition."""
    found: dict[str, list[tuple[int, str]]] = {node.name: [] for node in topology.nodes}
    balancers = [node.name for node in topology.nodes if "loadbalancers" in node.tiers]
    for edge in topology.edges:
        for name in balancers if edge.destination == "vip" else [edge.destination]:
            listener = (edge.port, edge.destination_tier)
            if edge.protocol == "tcp" and name in found and edge.destination_tier and listener not in found[name]:
                found[name].append(listener)
    return found


class _Site:
    """Site-wide values: those of the first host that has them."""

    def __init__(self, variables: Iterable[Mapping[str, Any]]) -> None:
        self._variables = list(variables)

    def get(self, name: str, default: Any) -> Any:
        return next((values[name] for values in self._variables if values.get(name) is not None), default)

    def port(self, port: str | int | None) -> int | None:
        if not isinstance(port, str):
            return port
        value = self.get(port, PORTS[port])
        try:
            return int(value)
        except (TypeError, ValueError):
            raise TopologyError(f"{port} is {value!r}; it must be a number") from None


def _edges(link: Link, members: Mapping[str, list[str]], site: _Site) -> list[Edge]:
    port = site.port(link.port)
    tiers = {tier: tier for tier in TIERS} | {"vip": TIERS[0]}
    return [
        Edge(
            source,
            destination,
            port,
            link.protocol,
            link.purpose,
            link.tls,
            tiers.get(link.source, ""),
            tiers.get(link.destination, ""),
            link.speaks,
        )
        for source in members[link.source]
        for destination in members[link.destination]
        # A socket stays on its host, and nobody elects the balancer with itself.
        if (source == destination if link.local else source != destination or link.source != link.destination)
    ]
