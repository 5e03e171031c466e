# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A topology as SVG: a panel for each tier, from the visitors at the top to the data, and its arrows with a legend.

Pure, and without any program but this one. All lengths are pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from xml.sax.saxutils import escape

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import diagram
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.diagram import Arrow, Panel
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import STAGES, TIERS
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.topology import Topology

MARGIN, INSET, SIDE, GAP, LANE = 24, 20, 210, 76, 16
BOX_HEIGHT, BOX_GAP, LINK_GAP, PER_LINE = 62, 18, 108, 3
CHIP_HEIGHT, CHIP_GAP, HEAD = 30, 42, 60
# Of a letter of a label and of a purpose, on average.
WIDE, NARROW = 8, 6
PILL_WIDTH, PILL_HEIGHT, TITLE, LEGEND_LINE, BADGE = 172, 46, 78, 24, 10

# Border, tint of the panel, text: by the first tier of a panel.
COLORS = {
    "loadbalancers": ("#8b6fd6", "#f5f1fd", "#4f3a91"),
    "webservers": ("#3f9c6b", "#eef8f2", "#1f6541"),
    "appservers": ("#d08a2e", "#fdf5e9", "#875310"),
    "databases": ("#3b82c4", "#edf4fb", "#1d5488"),
}
SERVERS = ("#8a94a3", "#f5f7f9", "#3d4653")
INK, FAINT, LINE = "#1f2733", "#5b6675", "#44505f"
STYLE = f"""text {{ font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }}
.mono {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace }}
.arrow {{ fill: none; stroke: {LINE}; stroke-width: 1.6 }}"""


@dataclass
class Place:
    """A rectangle of the picture."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """Its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """Its lower edge."""
        return self.y + self.height

    @property
    def center(self) -> int:
        """Its middle, from left to right."""
        return self.x + self.width // 2

    @property
    def middle(self) -> int:
        """Its middle, from top to bottom."""
        return self.y + self.height // 2


@dataclass
class Canvas:
    """What is drawn, from the back to the front: panels, lines, boxes, lines inside of them, writing."""

    panels: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)
    writing: list[str] = field(default_factory=list)

    def text(self, x: int, y: int, text: str, size: int = 13, fill: str = INK, extra: str = "") -> None:
        """Write one line whose baseline is at y."""
        self.writing.append(f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" {extra}>{escape(text)}</text>')

    def line(self, points: list[tuple[int, int]], mutual: bool = False, inside: bool = False) -> None:
        """Draw an arrow through the points; dashed and with a head at both ends if mutual; over the boxes if inside."""
        path = "M" + " L".join(f"{x},{y}" for x, y in points)
        both = ' stroke-dasharray="5 4" marker-start="url(#head)"' if mutual else ""
        (self.inner if inside else self.lines).append(f'<path class="arrow" d="{path}" marker-end="url(#head)"{both}/>')

    def badge(self, x: int, y: int, number: int) -> None:
        """Put the number of an arrow on its line."""
        circle = f'<circle cx="{x}" cy="{y}" r="{BADGE}" fill="{LINE}"/>'
        if circle not in self.writing:
            self.writing.append(circle)
            self.text(x, y + 4, str(number), 11, "#ffffff", 'font-weight="700" text-anchor="middle"')

    def named(self, arrow: Arrow, x: int, y: int, spread: int = 0, room: int | None = None) -> None:
        """Put number, protocol and purpose of an arrow beside its line, with a gap of ``spread`` for another line.

        Where there is too little ``room`` to the right of the line, the number has to do: the legend tells the rest.
        """
        self.badge(x, y, arrow.number)
        if room is None or _fits(arrow, room):
            self.text(x + 18, y - 2 - spread, arrow.label, 13, INK, 'font-weight="600"')
            self.text(x + 18, y + 14 + spread, arrow.purpose, 12, FAINT)

    @staticmethod
    def box(place: Place, fill: str, stroke: str, radius: int, extra: str = "") -> str:
        """Return a rectangle with rounded corners."""
        return (
            f'<rect x="{place.x}" y="{place.y}" width="{place.width}" height="{place.height}" rx="{radius}" '
            f'fill="{fill}" stroke="{stroke}" {extra}/>'
        )


def _fits(arrow: Arrow, room: int) -> bool:
    """Whether label and purpose of an arrow can stand between its line and the next one."""
    return room >= 18 + max(WIDE * len(arrow.label), NARROW * len(arrow.purpose))


def to_svg(topology: Topology) -> str:
    """Return the topology as one SVG document with a white ground, legible on light and dark pages."""
    return _Picture(topology).draw()


class _Picture:
    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.panels = diagram.panels(topology)
        self.arrows = diagram.arrows(topology)
        self.canvas = Canvas()
        #: Where things are, by the keys that arrows use; hosts by their names.
        self.places: dict[str, Place] = {}
        self.rows = {panel.key: number for number, panel in enumerate(self.panels)}
        self.rows |= {node.name: self.rows["_".join(node.tiers)] for node in topology.nodes}
        #: Rows that an arrow leads from and to, once for each two panels.
        self.routes = [
            (arrow, *rows)
            for arrow in self.arrows
            for rows in dict.fromkeys(
                (self._row(source), self._row(destination)) for source, destination in arrow.pairs
            )
        ]
        self.lanes = sum(
            abs(source - destination) > 1 and source >= 0 <= destination for _, source, destination in self.routes
        )
        self.box_width = max([150, *(max(9 * len(node.name), 8 * len(node.address)) + 32 for node in topology.nodes)])
        self.gap = self._box_gap()
        self.width = max([440, *(self._panel_width(panel) for panel in self.panels)])

    def draw(self) -> str:
        lane = LANE * self.lanes + 4 if self.lanes else 0
        frame = Place(MARGIN, TITLE + PILL_HEIGHT + GAP - 16, self.width + 2 * INSET + lane, 0)
        y = frame.y + (50 if self.topology.domain else INSET)
        for panel in self.panels:
            self._panel(panel, Place(frame.x + INSET, y, self.width, self._panel_height(panel)))
            y += self._panel_height(panel) + GAP
        frame.height = y - GAP + INSET - frame.y
        self._frame(frame)
        self._people(frame)
        self._outer_arrows()
        self._inner_arrows()
        return self._document(frame.right + MARGIN, self._legend(frame.bottom + 36))

    def _row(self, key: str) -> int:
        """Which panel something is in, from the top; -1 for what is above all."""
        return self.rows.get(key.split("/")[0], -1)

    # --- panels

    def _box_gap(self) -> int:
        """Space between boxes, in all panels alike so that they stand in columns: wider where arrows pass."""
        ends = [[end.split("/")[0] for end in pair] for arrow in self.arrows for pair in arrow.pairs]
        return LINK_GAP if any(a != b and self._row(a) == self._row(b) >= 0 for a, b in ends) else BOX_GAP

    def _panel_width(self, panel: Panel) -> int:
        across = min(len(panel.nodes), PER_LINE)
        return SIDE + across * self.box_width + (across - 1) * self.gap + INSET

    def _box_height(self, panel: Panel) -> int:
        chips = len(diagram.components(self.topology, panel.tiers))
        return BOX_HEIGHT if chips == 1 else HEAD + chips * (CHIP_HEIGHT + CHIP_GAP) - CHIP_GAP + 16

    def _panel_height(self, panel: Panel) -> int:
        lines = -(-len(panel.nodes) // PER_LINE)
        return 2 * INSET + lines * (self._box_height(panel) + BOX_GAP) - BOX_GAP

    def _panel(self, panel: Panel, place: Place) -> None:
        border, tint, ink = COLORS[panel.tiers[0]] if len(panel.tiers) == 1 else SERVERS
        canvas = self.canvas
        self.places[panel.key] = place
        canvas.panels.append(canvas.box(place, tint, border, 10, 'stroke-opacity="0.55"'))
        canvas.text(place.x + INSET, place.y + 34, panel.title, 15, ink, 'font-weight="700"')
        programs = diagram.components(self.topology, panel.tiers)
        if len(programs) == 1:
            canvas.text(place.x + INSET, place.y + 54, diagram.program(self.topology, programs[0]), 12, FAINT)
        if self.topology.vip and TIERS[0] in panel.tiers:
            self._shared_address(place, ink)
        height = self._box_height(panel)
        for number, node in enumerate(panel.nodes):
            line, column = divmod(number, PER_LINE)
            x = place.x + SIDE + column * (self.box_width + self.gap)
            box = Place(x, place.y + INSET + line * (height + BOX_GAP), self.box_width, height)
            self.places[node.name] = box
            canvas.boxes.append(canvas.box(box, "#ffffff", border, 8))
            canvas.text(box.x + 14, box.y + 27, node.name, 14, INK, 'font-weight="600"')
            canvas.text(box.x + 14, box.y + 47, node.address, 12, FAINT, 'class="mono"')
            if len(programs) > 1:
                self._chips(panel, node.name, box)
            else:
                self.places[f"{node.name}/{programs[0].name}"] = box

    def _shared_address(self, place: Place, ink: str) -> None:
        text, canvas = f"VIP {self.topology.vip}", self.canvas
        chip = Place(place.x + INSET, place.bottom - 36, 8 * len(text) + 12, 24)
        canvas.boxes.append(canvas.box(chip, "#ffffff", ink, 12))
        canvas.text(chip.center, chip.y + 16, text, 12, ink, 'class="mono" font-weight="700" text-anchor="middle"')

    def _chips(self, panel: Panel, name: str, box: Place) -> None:
        for number, component in enumerate(diagram.components(self.topology, panel.tiers)):
            chip = Place(box.x + 14, box.y + HEAD + number * (CHIP_HEIGHT + CHIP_GAP), box.width - 28, CHIP_HEIGHT)
            self.places[f"{name}/{component.name}"] = chip
            border, tint, ink = COLORS[TIERS[0] if component.role == "haproxy_keepalived" else component.tier]
            self.canvas.boxes.append(self.canvas.box(chip, tint, border, 6))
            label = diagram.program(self.topology, component)
            self.canvas.text(chip.center, chip.y + 20, label, 13, ink, 'text-anchor="middle" font-weight="600"')

    # --- around the panels

    def _frame(self, frame: Place) -> None:
        canvas = self.canvas
        self.places[diagram.SITE] = frame
        canvas.panels.insert(0, canvas.box(frame, "#fcfcfd", "#c3cad3", 14, 'stroke-dasharray="6 5"'))
        canvas.text(MARGIN, 36, self.topology.stage, 20, INK, 'font-weight="700"')
        canvas.text(MARGIN, 57, STAGES[self.topology.stage].title, 14, FAINT)
        if self.topology.domain:
            canvas.text(frame.x + INSET, frame.y + 28, self.topology.domain, 14, FAINT, 'font-weight="600"')

    def _people(self, frame: Place) -> None:
        """Who is outside, each as wide as its arrows need, and these arrows."""
        outside = {
            name: [route for route in self.routes if name in route[0].pairs[0]]
            for name in ("admin", "client", "monitoring", "authority")
        }
        outside = {name: routes for name, routes in outside.items() if routes}
        slots = sum(len(routes) for routes in outside.values())
        slot, x = frame.width // slots, frame.x
        for name, routes in outside.items():
            share = slot * len(routes)
            width = max(PILL_WIDTH, share - 24 if len(routes) > 1 else 0)
            pill = Place(x + (share - width) // 2, TITLE, width, PILL_HEIGHT)
            self._pill(name, pill)
            for number, (arrow, source, destination) in enumerate(routes):
                row = max(source, destination)
                end = frame.y if row < 0 else self.places[self.panels[row].key].y
                at = pill.center if slots == 1 else max(pill.x, x + slot * number) + 24
                points = [(at, pill.bottom), (at, end)]
                self.canvas.line(points if arrow.pairs[0][0] == name else points[::-1])
                self.canvas.named(arrow, at, (pill.bottom + frame.y) // 2 - 4)
            x += share

    def _pill(self, name: str, pill: Place) -> None:
        canvas = self.canvas
        canvas.boxes.append(canvas.box(pill, "#eef1f5", "#9aa5b3", PILL_HEIGHT // 2))
        canvas.text(pill.center + 12, pill.y + 28, diagram.PEOPLE[name], 14, INK, 'text-anchor="middle"')
        x, y = pill.center - 4 * len(diagram.PEOPLE[name]) - 8, pill.y
        if name == "monitoring":
            path = f"M{x - 9},{y + 26} h5 l3,-11 l4,18 l3,-7 h4"
            canvas.writing.append(f'<path d="{path}" fill="none" stroke="{FAINT}" stroke-width="2"/>')
            return
        canvas.writing.append(f'<circle cx="{x}" cy="{y + 17}" r="6" fill="{FAINT}"/>')
        canvas.writing.append(f'<path d="M{x - 8},{y + 34} a8,9 0 0 1 16,0 z" fill="{FAINT}"/>')

    def _legend(self, y: int) -> int:
        for arrow in self.arrows:
            self.canvas.badge(MARGIN + 10, y - 4, arrow.number)
            self.canvas.text(MARGIN + 30, y, arrow.sentence, 13)
            y += LEGEND_LINE
        return y

    def _document(self, width: int, height: int) -> str:
        canvas = self.canvas
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                f'viewBox="0 0 {width} {height}" role="img">',
                f"<title>{escape(diagram.heading(self.topology))}</title>",
                "<!-- Made from the inventory: do not edit. -->",
                f"<style>\n{STYLE}\n</style>",
                '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
                f'orient="auto-start-reverse"><path d="M0,0.5 L10,5 L0,9.5 z" fill="{LINE}"/></marker></defs>',
                f'<rect width="{width}" height="{height}" rx="12" fill="#ffffff"/>',
                *canvas.panels,
                *canvas.lines,
                *canvas.boxes,
                *canvas.inner,
                *canvas.writing,
                "</svg>\n",
            ]
        )

    # --- arrows

    def _outer_arrows(self) -> None:
        """Arrows between panels: neighbours through the gap between them, others by a lane at the right."""
        by_gap: dict[int, list[tuple[Arrow, int, int]]] = {}
        for arrow, source, destination in self.routes:
            if source != destination and -1 not in (source, destination):
                near = abs(source - destination) == 1
                by_gap.setdefault(max(source, destination) if near else destination, []).append(
                    (arrow, source, destination)
                )
        lane = 0
        for gap, routes in by_gap.items():
            slot = (self.width - SIDE) // len(routes)
            below = self.places[self.panels[gap].key]
            # Of all or of none, so that it looks meant.
            room = slot if all(_fits(arrow, slot) for arrow, _source, _destination in routes) else 0
            for number, (arrow, source, destination) in enumerate(routes):
                x = below.x + SIDE + slot * number + max(slot // 2 - 70, 20)
                if abs(source - destination) > 1:
                    lane += 1
                    start = self.places[self.panels[source].key]
                    right, turn, y = start.right + LANE * lane, below.y - GAP // 2 + 6, start.middle + 12 * (lane - 1)
                    self.canvas.line([(start.right, y), (right, y), (right, turn), (x, turn), (x, below.y)])
                    self.canvas.named(arrow, x, turn, spread=5, room=room)
                else:
                    points = [(x, below.y - GAP), (x, below.y)]
                    self.canvas.line(points if source < destination else points[::-1])
                    self.canvas.named(arrow, x, below.y - GAP // 2, room=room)

    def _inner_arrows(self) -> None:
        """Arrows between components of the same panel."""
        order = [node.name for node in self.topology.nodes]
        for arrow in self.arrows:
            pairs = [pair for pair in arrow.pairs if self._row(pair[0]) == self._row(pair[1]) >= 0]
            if arrow.mutual:
                # Each with each would be a tangle: neighbours say enough.
                ends = sorted({end for pair in pairs for end in pair}, key=lambda end: order.index(end.split("/")[0]))
                pairs = list(pairwise(ends))
            for source, destination in pairs:
                self._inner_arrow(arrow, source, destination, self._shift(arrow, (source, destination)))

    def _shift(self, arrow: Arrow, pair: tuple[str, str]) -> int:
        """How far an arrow stands from the middle, so that those of the same two ends stand side by side."""
        alike = [other.number for other in self.arrows if pair in other.pairs]
        return 2 * (2 * alike.index(arrow.number) - len(alike) + 1) * BADGE

    def _inner_arrow(self, arrow: Arrow, source: str, destination: str, shift: int) -> None:
        start, end = self.places[source], self.places[destination]
        if start.x == end.x:
            down, middle = start.y < end.y, start.center + shift
            points = [(middle, start.bottom if down else start.y), (middle, end.y if down else end.bottom)]
            x, y = points[0][0], points[0][1] + (BADGE + 4 if down else -BADGE - 4)
        else:
            # From the side of one host to the side of the other, at the height of the components.
            boxes = [self.places[key.split("/")[0]] for key in (source, destination)]
            left = start.x < end.x
            x1, x2 = (boxes[0].right, boxes[1].x) if left else (boxes[0].x, boxes[1].right)
            points = [(x1, start.middle + shift // 2), (x2, end.middle + shift // 2)]
            # Near the source, for in the middle lines cross; level ones have the middle to themselves.
            share = 0.5 if start.middle == end.middle and abs(x2 - x1) == self.gap else 30 / abs(x2 - x1)
            x, y = round(x1 + (x2 - x1) * share), round(start.middle + (end.middle - start.middle) * share) + shift // 2
        self.canvas.line(points, arrow.mutual, inside=start.x == end.x)
        self.canvas.badge(x, y, arrow.number)
        if arrow.mutual and WIDE * len(arrow.label) <= self.gap:
            self.canvas.text(x, y - 18, arrow.label, 12, INK, 'text-anchor="middle" font-weight="600"')
