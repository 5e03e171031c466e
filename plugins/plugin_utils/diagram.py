# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a picture of a topology shows, and two of its languages: Mermaid and PlantUML. Pure: equal input, equal text.

All pictures have the same panels and arrows: edges of one kind are one arrow, numbered in the order a request takes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import (
    COMPONENTS,
    STAGES,
    TIERS,
    Component,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.topology import Edge, Node, Topology

PEOPLE = {
    "client": "Visitors",
    "admin": "Administrators",
    "monitoring": "Monitoring service",
    "authority": "Certificate authority",
}
TITLES = {
    "loadbalancers": "Load balancers",
    "webservers": "Web servers",
    "appservers": "Application servers",
    "databases": "Databases",
}
#: Key of the frame around all hosts.
SITE = "site"


@dataclass(frozen=True)
class Panel:
    """The hosts that are in the same tiers."""

    tiers: tuple[str, ...]
    nodes: tuple[Node, ...]

    @property
    def key(self) -> str:
        """Its name in the source of a picture."""
        return "_".join(self.tiers)

    @property
    def title(self) -> str:
        """What stands above it: the tier, in the singular where there is one host."""
        title = TITLES[self.tiers[0]] if len(self.tiers) == 1 else "Servers"
        return title.removesuffix("s") if len(self.nodes) == 1 else title


@dataclass(frozen=True)
class Arrow:
    """Edges of one kind.

    Attributes:
        number: its place among the arrows, from 1.
        label: protocol and port, as "HTTP 80".
        purpose: what for.
        sentence: who talks to whom, what for and how.
        pairs: keys of what it joins: a special, a panel, a component as "host/component", or SITE.
        mutual: whether both ends may start.
    """

    number: int
    label: str
    purpose: str
    sentence: str
    pairs: tuple[tuple[str, str], ...]
    mutual: bool


def components(topology: Topology, tiers: tuple[str, ...]) -> list[Component]:
    """Return the components of a host in these tiers, in the order in which a request meets them."""
    return [component for component in STAGES[topology.stage].components if component.tier in tiers]


def program(topology: Topology, component: Component) -> str:
    """Return what a component is called: "HAProxy, keepalived" where balancers share an address."""
    return component.program + (", keepalived" if component.name == "balancer" and topology.vip else "")


def heading(topology: Topology) -> str:
    """Return the name of the stage and what it is."""
    return f"{topology.stage}: {STAGES[topology.stage].title}"


def panels(topology: Topology) -> list[Panel]:
    """Return the hosts grouped by their tiers, from the visitors' side to the data."""
    kinds = sorted({node.tiers for node in topology.nodes}, key=lambda tiers: [TIERS.index(tier) for tier in tiers])
    return [Panel(kind, tuple(node for node in topology.nodes if node.tiers == kind)) for kind in kinds]


def arrows(topology: Topology) -> list[Arrow]:
    """Return the arrows in the order of the topology's edges."""
    kinds: dict[tuple, list[Edge]] = {}
    known = {*PEOPLE, "vip", *(node.name for node in topology.nodes)}
    for edge in topology.edges:
        # What an operator adds may lead to a place that the inventory does not know.
        if edge.destination not in known:
            continue
        ends = tuple(name if name in (*PEOPLE, "vip") else component or SITE for name, component in _ends(edge))
        kinds.setdefault((*ends, edge.port, edge.protocol, edge.purpose, edge.trust), []).append(edge)
    return [
        _arrow(topology, number, kind[0], kind[1], edges) for number, (kind, edges) in enumerate(kinds.items(), start=1)
    ]


def _ends(edge: Edge) -> tuple[tuple[str, str], tuple[str, str]]:
    return (edge.source, edge.source_component), (edge.destination, edge.destination_component)


def _arrow(topology: Topology, number: int, source: str, destination: str, edges: list[Edge]) -> Arrow:
    pairs = dict.fromkeys(_pair(topology, edge) for edge in edges)
    mutual = any(pair[::-1] in pairs for pair in pairs)
    if mutual:
        pairs = {pair: None for pair in pairs if pair[::-1] not in pairs or pair[0] < pair[1]}
    label = _label(edges[0])
    who = f"{_spoken(topology, source)} → {_spoken(topology, destination)}"
    if mutual:
        who = f"{_spoken(topology, source)} ↔ {_spoken(topology, destination)}"
    purpose = edges[0].purpose
    return Arrow(number, label, purpose, f"{who}: {purpose}, {label}", tuple(pairs), mutual)


def _spoken(topology: Topology, end: str) -> str:
    spoken = {
        "vip": f"HAProxy at {topology.vip or 'the shared address'}",
        "router": "HAProxy of the application's host",
        SITE: "every host",
    }
    return ({name: component.program for name, component in COMPONENTS.items()} | PEOPLE | spoken)[end]


def _label(edge: Edge) -> str:
    if edge.protocol != "tcp":
        return {"unix": "local socket", "vrrp": "VRRP"}[edge.protocol]
    if edge.speaks == "mysql":
        return f"MySQL {edge.port}{', TLS' if edge.trust != 'none' else ''}"
    return f"{'SSH' if edge.speaks == 'ssh' else 'HTTPS' if edge.trust != 'none' else 'HTTP'} {edge.port}"


def _pair(topology: Topology, edge: Edge) -> tuple[str, str]:
    """What an edge joins: whole panels where that says enough, single components where it does not."""
    tiers = {node.name: node.tiers for node in topology.nodes}
    balancers = next((node.tiers for node in topology.nodes if TIERS[0] in node.tiers), ())
    (source, source_component), (destination, destination_component) = _ends(edge)
    places = [balancers if name == "vip" else tiers.get(name, ()) for name in (source, destination)]

    def key(name: str, component: str, place: tuple[str, ...]) -> str:
        if name in PEOPLE:
            return name
        if not component:
            return SITE
        several = len(place) > 1 and name != "vip"
        return f"{name}/{component}" if places[0] == places[1] or several else "_".join(place)

    return key(source, source_component, places[0]), key(destination, destination_component, places[1])


def to_mermaid(topology: Topology) -> str:
    """Return the topology as a Mermaid flowchart, which GitHub and GitLab show in Markdown."""
    keys = _keys(topology)
    lines = [f"%% {heading(topology)}. Made from the inventory: do not edit.", "flowchart TB"]
    lines += [f"  {name}([{_quoted(PEOPLE[name])}])" for name in _people(topology)]
    lines.append(f"  subgraph {SITE}[{_quoted(topology.domain or topology.stage)}]")
    for panel in panels(topology):
        lines.append(f"    subgraph {panel.key}[{_quoted(_panel_title(topology, panel))}]")
        programs = components(topology, panel.tiers)
        for node in panel.nodes:
            if len(programs) == 1:
                text = f"<b>{node.name}</b><br/>{node.address}<br/>{program(topology, programs[0])}"
                lines.append(f"      {keys[f'{node.name}/{programs[0].name}']}[{_quoted(text)}]")
                continue
            lines.append(f"      subgraph {keys[node.name]}[{_quoted(f'{node.name}<br/>{node.address}')}]")
            for component in programs:
                key = keys[f"{node.name}/{component.name}"]
                lines.append(f"        {key}[{_quoted(program(topology, component))}]")
            lines.append("      end")
        lines.append("    end")
    lines.append("  end")
    for arrow in arrows(topology):
        line = "<-->" if arrow.mutual else "-->"
        for source, destination in arrow.pairs:
            lines.append(f"  {keys[source]} {line}|{_quoted(_arrow_text(arrow))}| {keys[destination]}")
    return "\n".join(lines) + "\n"


def to_plantuml(topology: Topology) -> str:
    """Return the topology as a PlantUML deployment diagram."""
    keys = _keys(topology)
    lines = [
        "@startuml",
        "' Made from the inventory: do not edit.",
        f"title {heading(topology)}",
        "skinparam shadowing false",
        "skinparam rectangle<<site>> {",
        "  BorderStyle dashed",
        "}",
    ]
    lines += [f"actor {_quoted(PEOPLE[name])} as {name}" for name in _people(topology) if name != "monitoring"]
    if "monitoring" in _people(topology):
        lines.append(f"cloud {_quoted(PEOPLE['monitoring'])} as monitoring")
    lines.append(f"rectangle {_quoted(topology.domain or topology.stage)} <<site>> as {SITE} {{")
    for panel in panels(topology):
        lines.append(f"  frame {_quoted(_panel_title(topology, panel))} as {panel.key} {{")
        for node in panel.nodes:
            lines.append(f"    node {_quoted(f'{node.name} ({node.address})')} as {keys[node.name]} {{")
            for component in components(topology, panel.tiers):
                kind = "database" if component.name == "database" else "rectangle"
                key = keys[f"{node.name}/{component.name}"]
                lines.append(f"      {kind} {_quoted(program(topology, component))} as {key}")
            lines.append("    }")
        lines.append("  }")
    lines.append("}")
    for arrow in arrows(topology):
        line = "<-->" if arrow.mutual else "-->"
        for source, destination in arrow.pairs:
            lines.append(f"{keys[source]} {line} {keys[destination]} : {_arrow_text(arrow)}")
    return "\n".join([*lines, "@enduml"]) + "\n"


def _keys(topology: Topology) -> dict[str, str]:
    """An identifier for each thing that arrows join: host names may hold characters that identifiers may not."""
    keys = {name: name for name in (*PEOPLE, SITE, *(panel.key for panel in panels(topology)))}
    for number, node in enumerate(topology.nodes, start=1):
        keys[node.name] = f"host{number}"
        keys |= {
            f"{node.name}/{component.name}": f"host{number}_{component.name}"
            for component in components(topology, node.tiers)
        }
    return keys


def _people(topology: Topology) -> list[str]:
    ends = {end for edge in topology.edges for end in (edge.source, edge.destination)}
    return [name for name in PEOPLE if name in ends]


def _panel_title(topology: Topology, panel: Panel) -> str:
    shared = f", shared address {topology.vip}" if topology.vip and TIERS[0] in panel.tiers else ""
    return panel.title + shared


def _arrow_text(arrow: Arrow) -> str:
    return f"{arrow.number}. {arrow.purpose}, {arrow.label}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'
