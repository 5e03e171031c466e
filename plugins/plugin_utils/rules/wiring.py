# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of an inventory contradicts the wiring of its stage: ports, values that it fixes, names that it uses. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import topology
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.addresses import port_number
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.applications import entries_of
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import (
    Inventory,
    Mistake,
    Unreadable,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import texts
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import APPLICATIONS, Site
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import COMPONENTS, STAGES

#: What a playbook fills beside what an operator lists: the second variable of each such pair.
SERVICE = "_service_"
#: Ports on 127.0.0.1 that roles open for the monitoring of their host.
OWN_LISTENERS = {"haproxy_keepalived_stats_port": "haproxy_keepalived", "nginx_status_port": "nginx"}


def listeners_do_not_clash(inventory: Inventory) -> Iterator[Mistake]:
    try:
        model = topology.build(inventory.stage, inventory.groups, inventory.readable)
    except topology.TopologyError:
        # A port that is none has a rule of its own.
        return
    variables = {link.name: link.port for link in STAGES[inventory.stage].links}
    site = Site(inventory.readable[name] for name in inventory.hosts)
    for _first, name, link in topology.further_links(STAGES[inventory.stage], site):
        variables[link.name] = f"{APPLICATIONS}, '{name}', port"
    for host, listeners in topology.listeners(model).items():
        taken: list[tuple[str, topology.Edge]] = []
        for name, edge in {**listeners, **_own_listeners(inventory, host)}.items():
            for other_name, other in taken:
                if not _overlap(edge, other):
                    continue
                one, two = variables.get(other_name, other_name), variables.get(name, name)
                same = edge.destination_component == other.destination_component
                # What a role has for itself, its own rules compare with what it listens on besides.
                if same and (one == two or name in OWN_LISTENERS):
                    continue
                if str(one).startswith(APPLICATIONS) and not str(two).startswith(APPLICATIONS):
                    # What the stage has was there first.
                    one, two = two, one
                if isinstance(two, str) and one != two:
                    one = "ansible_port" if isinstance(one, int) else one
                    wrong = f"is {edge.port}, as {one} is"
                    yield Mistake(two, wrong, f"{host} listens on both: make them differ")
                else:
                    programs = " and ".join(_program(part) for part in (other, edge))
                    yield Mistake(host, f"port {edge.port} is wanted by {programs}", "give them different ports")
            taken.append((name, edge))


def _own_listeners(inventory: Inventory, host: str) -> dict[str, topology.Edge]:
    """What programs of a host listen on for its own monitoring, on the loopback interface."""
    found = {}
    for variable, role in OWN_LISTENERS.items():
        components = [name for name in _components(inventory, host) if COMPONENTS[name].role == role]
        default = inventory.specs.get(role, {}).get(variable, {}).get("default")
        port = port_number(inventory.readable[host].get(variable) or default)
        if components and port:
            found[variable] = topology.Edge(
                variable, host, host, port, "tcp", "monitoring", "none", "", components[0], local=True
            )
    return found


def _overlap(one: topology.Edge, two: topology.Edge) -> bool:
    """Whether two listeners of a host collide. MySQL listens on the host's own address alone, others on all."""
    apart = {one.local, two.local} == {True, False}
    return one.port == two.port and not (apart and "database" in (one.destination_component, two.destination_component))


def _program(edge: topology.Edge) -> str:
    component = COMPONENTS.get(edge.destination_component)
    return component.program if component else edge.speaks


# --- values that a stage fixes ----------------------------------------------------------------------------------------


def fixed_values_stay(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts:
        for name, (value, reason) in fixed_values(inventory, host).items():
            given = inventory.hostvars[host].get(name)
            if given is None or isinstance(given, Unreadable) or _equal(given, value):
                continue
            if name.endswith("_password"):
                wrong = f"is not what {inventory.stage} makes of it"
            else:
                wrong = f"is {given}, and {inventory.stage} makes it {value}"
            yield Mistake(name, wrong, f"{reason}; take it out of the inventory", host)


def _equal(given: Any, fixed: Any) -> bool:
    """Whether a value of an inventory, a text perhaps, is what a stage makes of it."""
    if isinstance(fixed, bool):
        return str(given).lower() in (("true", "yes", "on", "1") if fixed else ("false", "no", "off", "0"))
    if isinstance(fixed, Mapping):
        texts = {str(key): str(part) for key, part in fixed.items()}
        return isinstance(given, Mapping) and {str(key): str(part) for key, part in given.items()} == texts
    return str(given) == str(fixed)


def fixed_values(inventory: Inventory, host: str) -> dict[str, tuple[Any, str]]:
    """Return the variables of roles that the stage fixes on a host, each with its value and the reason.

    Args:
        inventory: the inventory that is checked.
        host: inventory name of one of its hosts.
    """
    stage, groups = STAGES[inventory.stage], inventory.groups
    variables = inventory.readable
    site = Site([variables[host], *(variables[name] for name in inventory.hosts)])
    links = {link.name: link for link in stage.links}
    found: dict[str, tuple[Any, str]] = {}

    def addresses(tier: str) -> dict[str, str]:
        return topology.tier_addresses(groups.get(tier, ()), variables)

    if host in groups.get("appservers", ()):
        first = groups["appservers"][0]
        found["gunicorn_flask_runs_migrations"] = (host == first, f"{first} migrates for all")
        found["gunicorn_flask_runs_timers"] = (host == first, f"{first} runs what runs once for all")
        if "pages" in links:
            name = variables[host].get("gunicorn_flask_name")
            found["gunicorn_flask_listen"] = (f"/run/{name}/{name}.sock", "nginx of the same host asks there")
        else:
            anywhere = topology.anywhere(str(inventory.address(host)))
            found["gunicorn_flask_listen"] = (f"{anywhere}:{site.get('site_app_port')}", "site_app_port says so")
    roles_here = {COMPONENTS[name].role for name in _components(inventory, host)}
    for role in ("gunicorn_flask", "haproxy_keepalived", "nginx"):
        if role in roles_here:
            found[f"{role}_header_kb"] = (site.get("site_header_kb"), "site_header_kb says so, for all of the site")
    if host in groups.get("databases", ()):
        found["mysql_replication_ends_rotation"] = (False, "the stage ends it when all applications are deployed")
        if "replication" not in links:
            found["mysql_replication_mode"] = ("standalone", "there is one database")
        else:
            members = addresses("databases")
            copies = "the databases copy one another"
            found |= {
                "mysql_replication_mode": ("source_replica", copies),
                "mysql_replication_members": (members, "they are the hosts of the group databases"),
                "mysql_replication_address": (members[host], "site_address or ansible_host says so"),
                "mysql_replication_bind_address": (members[host], "site_address or ansible_host says so"),
                "mysql_replication_network": (site.get("site_network"), "site_network says so"),
                "mysql_replication_password": (
                    site.get("site_replication_password"),
                    "it is site_replication_password",
                ),
                "mysql_replication_port": (site.get("site_database_port"), "site_database_port says so"),
                "mysql_replication_check_port": (
                    site.get("site_database_check_port"),
                    "site_database_check_port says so",
                ),
            }
    if "haproxy_keepalived" in roles_here:
        shared = "vrrp" in links and host in groups.get("loadbalancers", ())
        who = "the balancers share site_vip" if shared else "this host shares no address"
        found |= {
            "haproxy_keepalived_vip": (site.get("site_vip") if shared else "", who),
            "haproxy_keepalived_peers": (addresses("loadbalancers") if shared else {}, who),
        }
        if shared:
            found["haproxy_keepalived_vip_prefix"] = (site.get("site_vip_prefix"), "site_vip_prefix says so")
    return found


def _components(inventory: Inventory, host: str) -> list[str]:
    components = STAGES[inventory.stage].components
    return [component.name for component in components if host in inventory.groups.get(component.tier, ())]


def lists_of_the_playbooks_are_theirs(inventory: Inventory) -> Iterator[Mistake]:
    known = {name for options in inventory.specs.values() for name in options if SERVICE in name}
    for host in inventory.hosts:
        for name in known & inventory.hostvars[host].keys():
            right = f"list yours in {name.replace(SERVICE, '_')}, which adds to it"
            yield Mistake(name, "is filled by the playbook", right, host)


def replaced_entries_listen_where_others_come(inventory: Inventory) -> Iterator[Mistake]:
    """An entry of an operator with the name of a wired one takes its place, so it has to do its work."""
    try:
        model = topology.build(inventory.stage, inventory.groups, inventory.readable)
    except topology.TopologyError:
        return
    for host, listeners in topology.listeners(model).items():
        # A site has the first name of its application.
        domains = (texts(entry.values.get("domains")) for entry in entries_of(inventory, host))
        further = [names[0] for names in domains if names]
        wired = {name: edge for name, edge in listeners.items() if not edge.added}
        places = {
            "haproxy_keepalived_frontends": {name: edge.port for name, edge in wired.items()},
            "nginx_sites": dict.fromkeys([model.domain, *further], wired["web"].port) if "web" in wired else {},
        }
        for variable, ports in places.items():
            for entry in topology.entries(inventory.hostvars[host].get(variable)):
                name, port = str(entry.get("name")), port_number(entry.get("port", 80))
                if port and port != ports.get(name, port):
                    wrong = f"takes the place of the wired one and listens on {port}, where nobody comes"
                    right = f"listen on {ports[name]}, or give it another name"
                    yield Mistake(f"{variable}, '{name}'", wrong, right, host)


# --- the rules of the roles -------------------------------------------------------------------------------------------


def variables_of_roles_are_there(inventory: Inventory) -> Iterator[Mistake]:
    for role, host in inventory.roles:
        for name, option in inventory.specs.get(role, {}).items():
            if option.get("required") and inventory.hostvars[host].get(name) is None:
                right = f"set it; the README of {role} says what it is"
                yield Mistake(name, "is not set", right, host)


def variables_of_roles_fit_together(inventory: Inventory) -> Iterator[Mistake]:
    for role, values in inventory.role_values:
        for mistake in roles.find_mistakes(role, values):
            place = f"{APPLICATIONS}, '{values.application}', {mistake.place}" if values.application else mistake.place
            yield Mistake(place, mistake.wrong, mistake.right, values.host)


RULES = (
    listeners_do_not_clash,
    fixed_values_stay,
    lists_of_the_playbooks_are_theirs,
    replaced_entries_listen_where_others_come,
    variables_of_roles_are_there,
    variables_of_roles_fit_together,
)
