# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an inventory makes of a stage: nodes, and edges (who talks to whom).

Pure: groups and hostvars go in, data comes out. The preflight, the playbooks' wiring, the diagrams and the firewall
read the same model.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import stages
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.read_once import ReadOnce
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.addresses import (
    port_number,
    server_address,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import APPLICATIONS, Site
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import (
    COMPONENTS,
    EVERY,
    SPECIALS,
    TIERS,
    Link,
    Stage,
)

LOOPBACK = "127.0.0.1"


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
        link: name of the link it was made from; of what an operator adds, the variable and the entry:
            "haproxy_keepalived_frontends, 'shop'".
        source: name of a node, one of SPECIALS, or an address outside of the inventory.
        destination: the same. "vip" is whichever load balancer holds the shared address.
        port: TCP port at the destination; None where the protocol has none.
        protocol: "tcp", "vrrp" (IP protocol 112), or "unix" (a socket; source and destination are one host).
        purpose: what for, as a noun: "dynamic pages".
        trust: one of stages.TRUSTS.
        source_component: which of the source's programs talks; "" for a special or for the host as a whole.
        destination_component: which of the destination's programs listens; likewise.
        speaks: what is spoken over TCP: "http", "mysql" or "ssh".
        local: whether it stays on the host: by its loopback interface, or a socket.
        added: whether an operator has added it to what the stage has.
    """

    link: str
    source: str
    destination: str
    port: int | None
    protocol: str
    purpose: str
    trust: str
    source_component: str = ""
    destination_component: str = ""
    speaks: str = "http"
    local: bool = False
    added: bool = False


@dataclass(frozen=True)
class Topology:
    """A stage with the hosts of an inventory.

    Attributes:
        stage: name of the stage.
        domain: host name of the site; "" if the inventory does not say.
        vip: the shared address; "" where the stage has none.
        nodes: by first tier, then in inventory order.
        edges: in the order in which a request meets them, then what operators have added.
    """

    stage: str
    domain: str
    vip: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


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
        stage: one of stages.STAGES.
        groups: inventory names of the hosts of each group.
        hostvars: variables by host. Site-wide ones are taken from the first host that has them.

    Raises:
        TopologyError: the stage is unknown, a group lists an unknown host, or a port is no number.
    """
    model = _Model(stage, groups, hostvars)
    addresses = tier_addresses(model.hosts, hostvars)
    nodes = tuple(Node(name, address, model.tiers(name)) for name, address in addresses.items())
    edges = [edge for link in model.links for edge in model.edges(link)]
    for name in model.hosts:
        edges += added(model.stage, model.tiers(name), name, hostvars[name], edges, addresses)
    vip = str(model.site.get("site_vip") or "") if model.stage.vip else ""
    return Topology(stage, str(model.site.get("site_domain") or ""), vip, nodes, tuple(edges))


def further_links(stage: Stage, site: Site) -> list[tuple[Link, str, Link]]:
    """Return what further applications add to the links of a stage: whose link, the application, and its own link.

    Entries that lack what a link needs are refused elsewhere, and add nothing.

    Args:
        stage: the stage.
        site: values of the site.
    """
    found = []
    for entry in entries(site.get(APPLICATIONS)):
        name, port = str(entry.get("name") or ""), port_number(entry.get("port"))
        for link in stage.links:
            if name and link.name in stages.OF_EACH_APPLICATION and (port or link.port is None):
                found.append((link, name, stages.of_application(link, name, port)))
    return found


def host_edges(
    stage: str, groups: Mapping[str, list[str]], hostvars: Mapping[str, Mapping[str, Any]], host: str
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what one host listens on, and where it goes, by the names of the links.

    Args:
        stage: one of stages.STAGES.
        groups: inventory names of the hosts of each group.
        hostvars: variables by host. Those of the host itself and the addresses of its neighbours are read.
        host: its inventory name.

    Returns:
        ``listens`` has, by link: ``component``, ``port``, ``protocol``, ``purpose``, ``trust``, ``speaks``, ``local``,
        ``addresses`` (on which it listens; empty for all), ``anywhere`` (what stands for all of the host's version of
        IP) and ``sources``: the address of each host that comes by its
        name, and names of specials with "".
        ``connects`` has the same, with ``servers`` and ``endpoints`` in place of ``sources`` and ``addresses``: the
        address of each host that it goes to, by its name, and the same with the port, as "198.18.0.11:8000".

    Raises:
        TopologyError: the stage or the host is unknown, the balancers are not as many as the stage has, or a port is no
            number.
    """
    model = _Model(stage, groups, hostvars, first=host)
    fewest, most = model.stage.hosts["loadbalancers"]
    if not fewest <= (here := len(model.balancers)) <= (here if most is None else most):
        right = f"{fewest} or more" if most is None else str(most)
        raise TopologyError(f"site_stage is {stage}, which has {right} loadbalancers, and the inventory has {here}")
    if host not in model.hosts:
        raise TopologyError(f"{host!r} is in none of the groups {', '.join(TIERS)}")
    edges = [edge for link in model.links for edge in model.edges(link, host)]
    extra = added(model.stage, model.tiers(host), host, hostvars[host], edges, {})
    found: dict[str, dict[str, dict[str, Any]]] = {"listens": {}, "connects": {}}
    for edge in [*edges, *extra]:
        facts = {
            "port": edge.port,
            "protocol": edge.protocol,
            "purpose": edge.purpose,
            "trust": edge.trust,
            "speaks": edge.speaks,
            "local": edge.local,
        }
        here = model.balancers if edge.destination == "vip" else [edge.destination]
        if host in here and (edge.destination_component or not edge.added):
            addresses = [LOOPBACK] if edge.local and edge.protocol == "tcp" else []
            listener = {"component": edge.destination_component, **facts, "addresses": addresses, "sources": {}}
            listener["anywhere"] = anywhere(model.address(host))
            listener = found["listens"].setdefault(edge.link, listener)
            listener["sources"][edge.source] = model.address(edge.source)
        if edge.source == host:
            way = {"component": edge.source_component, **facts, "servers": {}, "endpoints": {}}
            way = found["connects"].setdefault(edge.link, way)
            address = LOOPBACK if edge.local else model.address(edge.destination)
            way["servers"][edge.destination] = address
            way["endpoints"][edge.destination] = (
                f"[{address}]:{edge.port}" if ":" in address else f"{address}:{edge.port}"
            )
    return found


def listeners(topology: Topology) -> dict[str, dict[str, Edge]]:
    """Return the listeners of each host: by link, an edge that leads there."""
    found: dict[str, dict[str, Edge]] = {node.name: {} for node in topology.nodes}
    balancers = [node.name for node in topology.nodes if "loadbalancers" in node.tiers]
    for edge in topology.edges:
        # A backend of an operator says who comes, and nothing of who listens.
        if edge.protocol != "tcp" or (edge.added and not edge.destination_component):
            continue
        for name in balancers if edge.destination == "vip" else [edge.destination]:
            if name in found:
                found[name].setdefault(edge.link, edge)
    return found


class _Model:
    """The parts of a stage and an inventory. What is expensive, the variables of a host, is read on demand."""

    def __init__(
        self,
        stage: str,
        groups: Mapping[str, list[str]],
        hostvars: Mapping[str, Mapping[str, Any]],
        first: str = "",
    ) -> None:
        try:
            self.stage: Stage = stages.stage(stage)
        except stages.StageError as error:
            raise TopologyError(f"site_stage: {error}") from None
        self._groups = groups
        self._hostvars = ReadOnce(hostvars)
        #: Names of all hosts, each once, by their first tier.
        self.hosts = list(dict.fromkeys(name for tier in TIERS for name in groups.get(tier, ())))
        self.balancers = list(groups.get("loadbalancers", ()))
        for name in self.hosts:
            if name not in hostvars:
                raise TopologyError(f"{name!r} is not a host of the inventory")
        order = [first, *self.hosts] if first in self.hosts else self.hosts
        self.site = Site(_Lazy(self._hostvars, name) for name in dict.fromkeys(order))
        self._addresses: dict[str, str] = {}

    @cached_property
    def links(self) -> list[Link]:
        """Those of the stage, each followed by what it is for further applications."""
        further = further_links(self.stage, self.site)
        return [
            found
            for link in self.stage.links
            for found in (link, *(other for first, _name, other in further if first is link))
        ]

    def tiers(self, name: str) -> tuple[str, ...]:
        return tuple(tier for tier in TIERS if name in self._groups.get(tier, ()))

    def address(self, name: str) -> str:
        """Where a host is reached; "" for a special but the shared address, and an address as it is."""
        if name == "vip":
            return str(self.site.get("site_vip") or "")
        if name in SPECIALS:
            return ""
        if name not in self._addresses:
            self._addresses[name] = str(address_of(name, self._hostvars)) if name in self._hostvars else name
        return self._addresses[name]

    def port(self, link: Link, destination: str) -> int | None:
        port: Any = link.port
        if isinstance(port, str):
            port = self.site.get(port)
        elif link.speaks == "ssh" and destination in self._hostvars:
            variables = self._hostvars[destination]
            # Where a host is administered by another address than its own, its port there is that of a forwarder.
            forwarded = variables.get("site_address") and variables.get("site_address") != variables.get("ansible_host")
            port = port if forwarded else variables.get("ansible_port") or port
        if port is None:
            return None
        try:
            return int(port)
        except (TypeError, ValueError):
            name = link.port if isinstance(link.port, str) else "ansible_port"
            raise TopologyError(f"{name} is {port!r}; it must be a number") from None

    def _members(self, end: str) -> list[str]:
        if end in SPECIALS:
            return [end]
        return self.hosts if end == EVERY else list(self._groups.get(COMPONENTS[end].tier, ()))

    def edges(self, link: Link, host: str = "") -> Iterator[Edge]:
        """The edges of a link; only those of one host if it is given."""
        sources, destinations = self._members(link.source), self._members(link.destination)
        reached = self.balancers if link.destination == "vip" else destinations
        components = {name: name for name in COMPONENTS} | {"vip": "balancer"}
        for source in sources if not host or host in reached else [name for name in sources if name == host]:
            for destination in destinations:
                if host not in ("", source, destination) and link.destination != "vip":
                    continue
                # A local link stays on its host, and nobody replicates from or elects itself.
                if source != destination if link.local else source == destination and link.source == link.destination:
                    continue
                yield Edge(
                    link.name,
                    source,
                    destination,
                    self.port(link, destination),
                    link.protocol,
                    link.purpose,
                    link.trust,
                    components.get(link.source, ""),
                    components.get(link.destination, ""),
                    link.speaks,
                    link.local,
                )


class _Lazy(Mapping):
    """The variables of a host, read when they are asked for."""

    def __init__(self, hostvars: Mapping[str, Mapping[str, Any]], name: str) -> None:
        self._hostvars, self._name = hostvars, name

    def __getitem__(self, key: str) -> Any:
        return self._hostvars[self._name][key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hostvars[self._name])

    def __len__(self) -> int:
        return len(self._hostvars[self._name])

    def get(self, key: str, default: Any = None) -> Any:
        return self._hostvars[self._name].get(key, default)


# --- what operators add -----------------------------------------------------------------------------------------------


def added(
    stage: Stage,
    tiers: tuple[str, ...],
    host: str,
    variables: Mapping[str, Any],
    wired: Iterable[Edge],
    addresses: Mapping[str, str],
) -> list[Edge]:
    """Return the edges that an operator adds on one host: sites, frontends, listens and backends of his own.

    What has the name of a wired entry takes its place, and what is ill-formed is refused elsewhere: neither is an edge.

    Args:
        stage: the stage.
        tiers: the groups of the host.
        host: its inventory name.
        variables: its variables.
        wired: the edges of the stage.
        addresses: address of each host, to find out whose an address is.
    """
    owners = {address: name for name, address in addresses.items()}
    links = {edge.link for edge in wired}
    here = (edge for edge in wired if edge.destination in (host, "vip"))
    taken = {(edge.destination_component, edge.port, edge.local) for edge in here}
    edges = []

    def listen(name: str, entry: Mapping[str, Any], component: str, sources: Iterable[str]) -> None:
        port = port_number(entry.get("port", 80))
        local = _on_loopback(entry.get("addresses"))
        # Sites may share a port, which is one listener.
        if port is None or (component, port, local) in taken:
            return
        taken.add((component, port, local))
        place = f"{name}, '{entry.get('name', '')}'"
        for source in [host] if local else sources:
            talks = "" if source in SPECIALS or local else "balancer"
            edges.append(
                Edge(place, source, host, port, "tcp", place, "none", talks, component, local=local, added=True)
            )

    proxies = [component.name for component in stage.components if component.role == "haproxy_keepalived"]
    proxy = next((name for name in proxies if COMPONENTS[name].tier in tiers), "")
    if proxy:
        for name in ("haproxy_keepalived_frontends", "haproxy_keepalived_listens"):
            for entry in entries(variables.get(name)):
                if str(entry.get("name")) not in links:
                    listen(name, entry, proxy, ["client"])
        for entry in entries(variables.get("haproxy_keepalived_backends")):
            servers = entry.get("servers")
            port = port_number(entry.get("port"))
            if str(entry.get("name")) in links or port is None or not isinstance(servers, Mapping):
                continue
            place = f"haproxy_keepalived_backends, '{entry.get('name', '')}'"
            for value in servers.values():
                address, own = server_address(str(value), port)
                end = owners.get(address, address)
                edges.append(Edge(place, host, end, own, "tcp", place, "none", proxy, added=True))
    if "webservers" in tiers:
        # Where there are balancers, visitors come by way of them.
        sources = dict.fromkeys(edge.source for edge in wired if edge.source_component == "balancer") or ["client"]
        for entry in entries(variables.get("nginx_sites")):
            listen("nginx_sites", entry, "web", sources)
    return edges


def anywhere(address: str) -> str:
    """Return what a program listens on to be reached at an address: all of that version of IP.

    Args:
        address: of the host, an IP address or a name.
    """
    return "[::]" if ":" in address else "0.0.0.0"  # noqa: S104 - the firewall says who comes


def entries(value: Any) -> list[Mapping[str, Any]]:
    """Return the well-formed entries of a list of dictionaries; none if it is no list."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list | tuple) else []


def _on_loopback(addresses: Any) -> bool:
    if not isinstance(addresses, list) or not addresses:
        return False
    try:
        return all(ipaddress.ip_address(str(address).strip("[]")).is_loopback for address in addresses)
    except ValueError:
        return False
