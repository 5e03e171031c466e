# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The four stages as one table: which groups they need, which programs run where, and who talks to whom. Pure data.

A later stage is made from an earlier one, so what they share stands once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

TIERS = ("loadbalancers", "webservers", "appservers", "databases")
#: Who is at the other end where it is no host of the site, and the address that the balancers share.
SPECIALS = ("client", "admin", "monitoring", "authority", "vip")
#: What an end is called that is all hosts.
EVERY = "every"
#: How far the two ends of a connection can trust it: in plain text; encrypted, without knowing the other end;
#: encrypted, and the other end proves who it is with a certificate of the site's own authority (or a host key);
#: the same with a certificate that the whole world trusts.
TRUSTS = ("none", "encrypted", "internal", "public")
HTTPS, SSH = 443, 22
#: Links that each application of a site has for itself.
OF_EACH_APPLICATION = ("pages", "application", "app")


class StageError(ValueError):
    """One sentence: which stage there is not, and which there are."""


@dataclass(frozen=True)
class Component:
    """A program that runs on each host of a group.

    Attributes:
        name: how links call it.
        program: what people call it.
        tier: the group.
        role: role of this collection that installs it.
    """

    name: str
    program: str
    tier: str
    role: str


#: In the order in which a request meets them.
COMPONENTS = {
    component.name: component
    for component in (
        Component("balancer", "HAProxy", "loadbalancers", "haproxy_keepalived"),
        Component("web", "nginx", "webservers", "nginx"),
        Component("application", "gunicorn", "appservers", "gunicorn_flask"),
        Component("router", "HAProxy", "appservers", "haproxy_keepalived"),
        Component("database", "MySQL", "databases", "mysql_replication"),
    )
}


@dataclass(frozen=True)
class Link:
    """Traffic between two kinds of ends, from which edges between hosts are made.

    Attributes:
        name: what the playbooks call the listener at the destination: a frontend, an upstream, a server's service.
        source: a component, one of SPECIALS, or EVERY.
        destination: the same.
        port: a number, the name of the site variable that holds it, or None where the protocol has none.
        purpose: what for, as a noun: "dynamic pages".
        trust: one of TRUSTS.
        protocol: "tcp", "vrrp" (IP protocol 112), or "unix" (a socket).
        local: whether it stays on its host, and there on the loopback interface or a socket.
        speaks: what is spoken over TCP: "http", "mysql" or "ssh".
    """

    name: str
    source: str
    destination: str
    port: str | int | None
    purpose: str
    trust: str = "none"
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
        further: names of components that are no end of a link.
    """

    title: str
    hosts: Mapping[str, tuple[int, int | None]]
    together: tuple[str, ...]
    links: tuple[Link, ...]
    further: tuple[str, ...] = ()

    @property
    def vip(self) -> bool:
        """Whether the balancers share an address."""
        return any(link.destination == "vip" for link in self.links)

    @property
    def components(self) -> tuple[Component, ...]:
        """The programs that it runs, in the order in which a request meets them."""
        ends = {end for link in self.links for end in (link.source, link.destination)}
        ends |= {"balancer", *self.further} if self.vip else {*self.further}
        return tuple(component for name, component in COMPONENTS.items() if name in ends)


_SSH = Link("ssh", "admin", EVERY, SSH, "administration", trust="internal", speaks="ssh")
_PAGES_BY_SOCKET = Link("pages", "web", "application", None, "dynamic pages", protocol="unix", local=True)
_MYSQL = {"trust": "encrypted", "speaks": "mysql"}
#: Any database may become the source of the others, so each application host asks all of them which one it is.
_DATABASES = (
    Link("database_write", "application", "router", "site_database_port", "writes", **_MYSQL, local=True),
    Link("database_read", "application", "router", "site_database_read_port", "reads", **_MYSQL, local=True),
    Link("database", "router", "database", "site_database_port", "reads and writes", **_MYSQL),
    Link("database_check", "router", "database", "site_database_check_port", "the question which one is the source"),
    Link("replication", "database", "database", "site_database_port", "replication", **_MYSQL),
)
_SERVERS = ("webservers", "appservers", "databases")


def secured(stage: Stage, title: str) -> Stage:
    """Return a stage with HTTPS from visitors to databases, a certificate authority, and monitoring.

    Args:
        stage: the same stage in plain text.
        title: what it is then.
    """
    links: list[Link] = []
    for link in stage.links:
        if link.local or link.protocol != "tcp" or link.speaks == "ssh":
            links.append(link)
        elif link.source == "client":
            links += [
                replace(link, port=HTTPS, trust="public"),
                replace(link, name=f"{link.name}_redirect", purpose="redirection to HTTPS"),
                replace(link, name="acme", source="authority", purpose="challenge of the certificate"),
            ]
        elif link.name == "web":
            links.append(replace(link, port=HTTPS, trust="internal"))
        else:
            links.append(replace(link, trust="internal"))
    orders = Link("certificates", "balancer", "authority", HTTPS, "certificates", trust="public")
    telemetry = Link("telemetry", EVERY, "monitoring", HTTPS, "metrics and logs", trust="public")
    return replace(stage, title=title, links=(*links, orders, telemetry))


_ONE_SERVER = Stage(
    title="one server",
    hosts={"loadbalancers": (0, 0), "webservers": (1, 1), "appservers": (1, 1), "databases": (1, 1)},
    together=_SERVERS,
    links=(
        Link("web", "client", "web", "site_http_port", "visitors' requests"),
        _PAGES_BY_SOCKET,
        Link("database", "application", "database", None, "reads and writes", protocol="unix", local=True),
        _SSH,
    ),
)
_TWO_SERVERS = Stage(
    title="two servers behind a balancer",
    hosts={"loadbalancers": (1, 1), "webservers": (2, None), "appservers": (2, None), "databases": (2, None)},
    together=_SERVERS,
    links=(
        Link("www", "client", "balancer", "site_http_port", "visitors' requests"),
        Link("web", "balancer", "web", "site_http_port", "balanced requests"),
        _PAGES_BY_SOCKET,
        *_DATABASES,
        _SSH,
    ),
)
_TIERS_APART = Stage(
    title="a tier for each component, two balancers with one address",
    hosts={"loadbalancers": (2, None), "webservers": (1, None), "appservers": (1, None), "databases": (2, None)},
    together=(),
    links=(
        Link("www", "client", "vip", "site_http_port", "visitors' requests"),
        Link("web", "balancer", "web", "site_http_port", "balanced requests"),
        # Through the balancers' own addresses: a move of the shared one is no matter of the tiers.
        Link("application", "web", "balancer", "site_app_port", "dynamic pages"),
        Link("app", "balancer", "application", "site_app_port", "balanced dynamic pages"),
        *_DATABASES,
        Link("vrrp", "balancer", "balancer", None, "election of the address's holder", protocol="vrrp"),
        _SSH,
    ),
)

STAGES: dict[str, Stage] = {
    "0-simple_web_stack": _ONE_SERVER,
    "1-distributed_web_infrastructure": _TWO_SERVERS,
    "2-secured_and_monitored_web_infrastructure": secured(
        _TWO_SERVERS, "two servers behind a balancer, secured and monitored"
    ),
    "3-scale_up": _TIERS_APART,
}


def of_application(link: Link, name: str, port: int | None) -> Link:
    """Return a link of OF_EACH_APPLICATION as a further application has it.

    Args:
        link: the link of the first application.
        name: what the further one is called.
        port: its TCP port.
    """
    own = None if link.port is None else port
    return replace(link, name=f"{link.name}_{name}", port=own, purpose=f"{link.purpose} of {name}")


def stage(name: str) -> Stage:
    """Return a stage by its name.

    Raises:
        StageError: there is no such stage.
    """
    if name not in STAGES:
        raise StageError(f"{name!r} is no stage; there are {', '.join(STAGES)}")
    return STAGES[name]
