"""Whom the role check answers: this host, the members, and whom the role lists. Everybody, where it lists nobody.

The list is read again while the service runs, so that a change of it interrupts no balancer. A name in it is resolved
here; where the resolver is away, its last answer counts.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import syslog
import threading
import time
from itertools import chain
from pathlib import Path

from mysql_replication.local import log

SETTINGS = Path(__file__).resolve().parent / "members.json"

# --- seconds
LOOK_S = 1
# A name may get another address.
RESOLVE_S = 60
RESOLVE_AGAIN_S = 5
# So long the start waits for names, and no longer: others are known by their addresses.
FIRST_S = 2
# Between two lines about strangers.
TELL_S = 60

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

THIS_HOST = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))


def parse_address(text: str) -> Address:
    """An address without its interface. One of IPv4 that is written as one of IPv6 is the same host."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def parse_network(text: str) -> Network | None:
    """A network, or an address as one; None for a name."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))


class Admission:
    """Who is answered, and a line in the journal about those who are not.

    Attributes:
        networks: those that are listed by address; None where everybody is answered.
        names: those that are listed by name.
        known: what the names have been resolved to.
        refused: how many connections were closed, the last of them from `stranger`.
    """

    def __init__(self, settings: Path = SETTINGS) -> None:
        self.settings = settings
        self.text = self.problem = ""
        self.networks: tuple[Network, ...] | None = None
        self.names: tuple[str, ...] = ()
        self.known: dict[str, tuple[Network, ...]] = {}
        self.unknown: set[str] = set()
        self.refused, self.told = 0, (0, -float(TELL_S))
        self.stranger = ""
        self.names_changed, self.names_tried = threading.Event(), threading.Event()

    def start(self) -> None:
        self.read()
        # Apart: a resolver that does not answer must not keep the list from being read.
        for work in (self.keep_list, self.keep_names):
            threading.Thread(target=work, daemon=True).start()
        self.names_tried.wait(FIRST_S)

    def admits(self, text: str) -> bool:
        """Whether somebody who comes from this address is answered."""
        networks = self.networks
        if networks is None:
            return True
        address = parse_address(text)
        named = (self.known.get(name, ()) for name in self.names)
        return any(address in network for network in chain(networks, *named))

    def refuse(self, text: str) -> None:
        """Count a connection that is closed. The thread of the list says it: the journal may be slow."""
        self.stranger = text
        self.refused += 1

    def tell(self) -> None:
        number, when = self.told
        refused, now = self.refused, time.monotonic()
        if refused > number and now - when >= TELL_S:
            self.told = refused, now
            log(
                f"role check: {refused - number} connections closed, the last from {self.stranger}, which is neither a "
                "member nor in mysql_replication_check_clients",
                syslog.LOG_WARNING,
            )

    # --- the list

    def read(self) -> None:
        text = self.settings.read_text()
        if text == self.text:
            return
        settings = json.loads(text)
        listed = settings["check_clients"]
        networks = {client: parse_network(client) for client in [*settings["members"].values(), *listed]}
        found = (*THIS_HOST, *(network for network in networks.values() if network is not None))
        self.names = tuple(client for client, network in networks.items() if network is None)
        self.networks = found if listed else None
        self.text = text
        self.names_changed.set()

    def keep_list(self) -> None:
        while True:
            time.sleep(LOOK_S)
            self.look()
            self.tell()

    def look(self) -> None:
        """Read the list again. Where that is not possible, the last one counts, and the journal has one line."""
        problem = ""
        try:
            self.read()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problem = str(error)
            if problem != self.problem:
                log(f"role check: {self.settings} cannot be read: {problem}", syslog.LOG_WARNING)
        self.problem = problem

    # --- names

    def keep_names(self) -> None:
        while True:
            self.names_changed.clear()
            self.resolve()
            self.names_tried.set()
            self.names_changed.wait(RESOLVE_AGAIN_S if self.unknown else RESOLVE_S)

    def resolve(self) -> None:
        """Ask for each name; what is known of one stays while there is no answer."""
        names = self.names
        for name in names:
            try:
                answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except (OSError, ValueError) as problem:
                if name not in self.unknown:
                    self.unknown.add(name)
                    log(f"role check: {name} cannot be resolved: {problem}", syslog.LOG_WARNING)
                continue
            self.unknown.discard(name)
            # As a whole: others go through it meanwhile.
            found = tuple(ipaddress.ip_network(parse_address(answer[4][0])) for answer in answers)
            self.known = {**self.known, name: found}
        self.unknown &= set(names)
        self.known = {name: found for name, found in self.known.items() if name in names}
