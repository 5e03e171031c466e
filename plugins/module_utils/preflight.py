# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules that an inventory must keep, and a sentence for each one it breaks. Pure: nothing is asked of any host."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import topology

#: Site-wide variables, as argument_specs describe those of roles. ``stages`` are those that need the variable.
SITE: dict[str, dict[str, Any]] = {
    "site_address": {"type": "str", "description": "Where other hosts reach this one. Example 198.18.0.21"},
    "site_application_environment": {"type": "dict", "no_log": True, "description": "Example {FLAG: on}"},
    "site_database_check_port": {
        "type": "int",
        "stages": "123",
        "description": "Where each database says whether it is the source. Example 9200",
    },
    "site_database_name": {"type": "str", "stages": "0123", "description": "Schema. Example guestbook"},
    "site_database_password": {"type": "str", "stages": "0123", "no_log": True, "description": "Of the application"},
    "site_database_port": {"type": "int", "stages": "123", "description": "Example 3306"},
    "site_database_read_port": {"type": "int", "stages": "123", "description": "Of the balancers. Example 3307"},
    "site_database_user": {"type": "str", "stages": "0123", "description": "Account. Example guestbook"},
    "site_domain": {"type": "str", "stages": "0123", "description": "Example www.foobar.com"},
    "site_http_port": {"type": "int", "stages": "0123", "description": "Example 80"},
    "site_app_port": {"type": "int", "stages": "3", "description": "Example 8000"},
    "site_network": {"type": "str", "stages": "123", "description": "Network of all hosts. Example 198.18.0.0/24"},
    "site_replication_password": {
        "type": "str",
        "stages": "123",
        "no_log": True,
        "description": "With which the databases read from each other",
    },
    "site_balance": {
        "type": "str",
        "choices": ["roundrobin", "leastconn", "active-passive"],
        "description": "How web servers share requests. Example roundrobin",
    },
    "site_drain_timeout": {"type": "int", "description": "Seconds that a deployment waits for visitors. Example 30"},
    "site_vip": {"type": "str", "stages": "3", "description": "The balancers' common address. Example 198.18.0.10"},
    "site_vip_prefix": {"type": "int", "stages": "3", "description": "Length of its network prefix. Example 24"},
}
SECRETS = ("site_database_password", "site_replication_password")
SHORTEST_SECRET = 12
PLACEHOLDER = re.compile(r"(?i)^(change[-_ ]?me|password|secret|example|default|test|todo|xxx)[-_!.0-9]*$")
HOST_NAME = re.compile(r"(?i)^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$")
OLDEST_CORE = (2, 20)


class Unreadable(str):
    """Stands for a value that could not be read: why."""

    __slots__ = ()


@dataclass(frozen=True)
class Mistake:
    """One broken rule.

    Attributes:
        place: the host, variable or group it was found at.
        wrong: what is wrong.
        right: what would be right.
        host: the host whose variable it is; "" where that is no matter.
    """

    place: str
    wrong: str
    right: str
    host: str = ""


@dataclass(frozen=True)
class Inventory:
    """What the rules look at.

    Attributes:
        stage: name of the stage.
        groups: inventory names of each group.
        hostvars: by host, the variables that the operator has set; values that cannot be read are Unreadable.
        roles: names of the roles that each group gets.
        specs: options of each role of the collection, as its argument_specs have them.
        is_directory: whether a path is a directory of the controller.
    """

    stage: str
    groups: Mapping[str, list[str]]
    hostvars: Mapping[str, Mapping[str, Any]]
    roles: Mapping[str, list[str]]
    specs: Mapping[str, Mapping[str, Mapping[str, Any]]]
    is_directory: Callable[[str], bool]

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts in any tier, each once."""
        return list(dict.fromkeys(name for tier in topology.TIERS for name in self.groups.get(tier, ())))

    def values(self, name: str) -> Iterator[tuple[str, Any]]:
        """Host and value wherever the variable is set and can be read."""
        for host in self.hosts:
            value = self.hostvars[host].get(name)
            if value is not None and not isinstance(value, Unreadable):
                yield host, value


def judge(inventory: Inventory) -> list[str]:
    """Return all mistakes of an inventory, one line each; none if it keeps all rules."""
    if inventory.stage not in topology.STAGES:
        return [f"stage: {inventory.stage!r} is no stage; there are {', '.join(topology.STAGES)}"]
    found = [mistake for rule in RULES for mistake in rule(inventory)]
    return _joined(found)


def judge_version(version: str) -> list[str]:
    """Return a line if the version of ansible-core is too old."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers >= OLDEST_CORE:
        return []
    return [f"ansible-core: this is {version}; {'.'.join(map(str, OLDEST_CORE))} or newer is needed"]


def _joined(mistakes: Iterable[Mistake]) -> list[str]:
    """One line for each mistake; one that a group variable causes on many hosts stands once."""
    hosts: dict[tuple[str, str, str], list[str]] = {}
    for mistake in mistakes:
        hosts.setdefault((mistake.place, mistake.wrong, mistake.right), []).append(mistake.host)
    lines = []
    for (place, wrong, right), names in hosts.items():
        names = [name for name in names if name]
        where = f" (on {', '.join(names)})" if 0 < len(names) <= 2 else f" (on {len(names)} hosts)" if names else ""
        lines.append(f"{place}{where}: {wrong}; {right}")
    return lines


def _meant(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known name that is likely meant; "" if none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, cutoff)), "")


# --- groups and hosts -------------------------------------------------------------------------------------------------


def groups_exist(inventory: Inventory) -> Iterator[Mistake]:
    stage = topology.STAGES[inventory.stage]
    for group, (fewest, most) in stage.hosts.items():
        here = len(inventory.groups.get(group, ()))
        if here == 0 and fewest > 0:
            wrong = "has no hosts" if group in inventory.groups else "there is no such group"
            yield Mistake(group, wrong, f"{inventory.stage} needs at least {fewest} in it")
        elif here < fewest:
            yield Mistake(group, f"has {here} host", f"{inventory.stage} needs at least {fewest}")
        elif most is not None and here > most:
            right = f"{inventory.stage} has {most}" if most else f"{inventory.stage} has none: take the group out"
            yield Mistake(group, f"has {here} hosts", right)


def groups_are_known(inventory: Inventory) -> Iterator[Mistake]:
    placed = set(inventory.hosts)
    strangers = {name for names in inventory.groups.values() for name in names} - placed
    for group, names in inventory.groups.items():
        if group in ("all", "ungrouped", *topology.TIERS) or not strangers & set(names):
            continue
        if placed & set(names):
            continue
        meant = _meant(group, topology.TIERS)
        hint = f"did you mean {meant}?" if meant else f"hosts belong to {', '.join(topology.TIERS)}"
        yield Mistake(group, "is an unknown group", hint)
        strangers -= set(names)
    for name in sorted(strangers):
        yield Mistake(name, "is in none of the known groups", f"put it in one of {', '.join(topology.TIERS)}")


def groups_hold_the_same_hosts(inventory: Inventory) -> Iterator[Mistake]:
    together = [group for group in topology.STAGES[inventory.stage].together if inventory.groups.get(group)]
    for group in together[1:]:
        first = together[0]
        if set(inventory.groups[group]) != set(inventory.groups[first]):
            odd = sorted(set(inventory.groups[group]) ^ set(inventory.groups[first]))
            yield Mistake(group, f"does not hold the same hosts as {first}", f"put {', '.join(odd)} in both")


def addresses_are_unique(inventory: Inventory) -> Iterator[Mistake]:
    seen: dict[str, str] = {}
    for host in inventory.hosts:
        address = _address(inventory, host)
        if not isinstance(address, str) or not (_ip(address) or HOST_NAME.match(address)):
            wrong = f"its address {address!r} is neither an IP address nor a host name"
            yield Mistake(host, wrong, "set ansible_host (or site_address) like 198.18.0.21")
        elif address in seen:
            yield Mistake(host, f"has the address {address} of {seen[address]}", "give each host an address of its own")
        else:
            seen[address] = host


def _address(inventory: Inventory, host: str) -> Any:
    return topology.address_of(host, inventory.hostvars)


def _ip(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(str(value))
    except ValueError:
        return None


# --- site-wide values -------------------------------------------------------------------------------------------------


def site_values_are_there(inventory: Inventory) -> Iterator[Mistake]:
    for name, option in SITE.items():
        if inventory.stage[0] not in option.get("stages", ""):
            continue
        for host in inventory.hosts:
            value = inventory.hostvars[host].get(name)
            if value is None or value == "":
                right = "make setup makes it, or ansible-vault" if name in SECRETS else option["description"]
                yield Mistake(name, "is not set" if value is None else "is empty", f"set it: {right}", host)


def site_values_agree(inventory: Inventory) -> Iterator[Mistake]:
    for name, option in SITE.items():
        if name == "site_address" or not option.get("stages"):
            continue
        values: dict[str, str] = {}
        for host, value in inventory.values(name):
            values.setdefault(str(value), host)
        if len(values) > 1:
            one, other, *_rest = values.values()
            yield Mistake(name, f"{one} and {other} have different values", "set it once, in group_vars/all")


def ports_are_ports(inventory: Inventory) -> Iterator[Mistake]:
    for name in topology.PORTS:
        for host, value in inventory.values(name):
            if not _port(value):
                yield Mistake(name, f"{value!r} is no port", "a number from 1 to 65535 is right", host)


def _port(value: Any) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535 else None


def ports_do_not_clash(inventory: Inventory) -> Iterator[Mistake]:
    if any(True for _mistake in ports_are_ports(inventory)):
        return
    model = topology.build(inventory.stage, inventory.groups, inventory.hostvars)
    for host, listeners in topology.listeners(model).items():
        owners: dict[int, str] = {}
        for port, tier in listeners:
            if port in owners and (owners[port] != tier or tier == "loadbalancers"):
                yield Mistake(host, f"port {port} is wanted by {owners[port]} and {tier}", "give them different ports")
            owners[port] = tier


def nobody_listens_twice_on_a_port(inventory: Inventory) -> Iterator[Mistake]:
    links = topology.STAGES[inventory.stage].links
    for who, ends in {"balancers": ("loadbalancers", "vip"), "databases": ("databases",)}.items():
        names = dict.fromkeys(link.port for link in links if link.destination in ends and link.port in topology.PORTS)
        owners: dict[str, str] = {}
        for name in names:
            for host, value in inventory.values(name):
                owner = owners.setdefault(str(value), name)
                if owner != name:
                    wrong = f"is {value}, as {owner} is"
                    yield Mistake(name, wrong, f"the {who} listen on both: make them differ", host)


def domain_is_a_host_name(inventory: Inventory) -> Iterator[Mistake]:
    for host, value in inventory.values("site_domain"):
        if not HOST_NAME.match(str(value)) or "." not in str(value):
            yield Mistake("site_domain", f"{value!r} is no host name", "www.foobar.com is one", host)


def vip_fits(inventory: Inventory) -> Iterator[Mistake]:
    if not topology.STAGES[inventory.stage].vip:
        return
    owners = {_ip(_address(inventory, host)): host for host in inventory.hosts}
    prefixes = dict(inventory.values("site_vip_prefix"))
    for host, value in inventory.values("site_vip"):
        if not (vip := _ip(value)):
            if value != "":
                wrong = f"{value!r} is no IP address"
                yield Mistake("site_vip", wrong, "give a free address of the balancers' network", host)
            continue
        if vip in owners:
            wrong = f"{value} is the address of {owners[vip]}"
            yield Mistake("site_vip", wrong, "give an address that no host has", host)
        longest = vip.max_prefixlen
        prefix = str(prefixes.get(host, longest))
        if not prefix.isdigit() or not 1 <= int(prefix) <= longest:
            wrong = f"{prefix} is no prefix length"
            yield Mistake("site_vip_prefix", wrong, f"a number from 1 to {longest} is right, often 24", host)
            continue
        for balancer in inventory.groups.get("loadbalancers", ()):
            address = _ip(_address(inventory, balancer))
            if address and address.version == vip.version:
                network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
                if vip not in network:
                    wrong = f"{value} is outside {network}, the network of {balancer}"
                    yield Mistake("site_vip", wrong, "give a free address in it, or correct site_vip_prefix", host)


def network_holds_the_hosts(inventory: Inventory) -> Iterator[Mistake]:
    for host, value in inventory.values("site_network"):
        try:
            network = ipaddress.ip_network(str(value))
        except ValueError as error:
            if value != "":
                yield Mistake("site_network", f"{value!r} is no network: {error}", "198.18.0.0/24 is one", host)
            continue
        # Requests reach a database by way of the balancers, and copies of it from the other databases.
        groups = ("loadbalancers", "appservers", "databases")
        for member in dict.fromkeys(host for group in groups for host in inventory.groups.get(group, ())):
            address = _ip(_address(inventory, member))
            if address and address not in network:
                wrong = f"{member} ({address}) is outside {network}, where the database admits nobody else"
                yield Mistake("site_network", wrong, "widen it", host)


def secrets_are_secret(inventory: Inventory) -> Iterator[Mistake]:
    for name in SECRETS:
        for host, value in inventory.values(name):
            if PLACEHOLDER.match(str(value)):
                yield Mistake(name, "is a placeholder", "make a random one, for example: openssl rand -base64 24", host)
            elif 0 < len(str(value)) < SHORTEST_SECRET:
                right = f"{SHORTEST_SECRET} or more are needed"
                yield Mistake(name, f"has only {len(str(value))} characters", right, host)


# --- variables and their values ---------------------------------------------------------------------------------------


def variables_can_be_read(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts:
        for name, value in inventory.hostvars[host].items():
            if isinstance(value, Unreadable):
                yield Mistake(name, f"cannot be read: {value}", "correct the template", host)


def variables_are_known(inventory: Inventory) -> Iterator[Mistake]:
    public = {name: role for role, options in inventory.specs.items() for name in options}
    known = [*public, *SITE]
    prefixes = [*(f"{role}_" for role in inventory.specs), "site_"]
    for host in inventory.hosts:
        for name in inventory.hostvars[host]:
            if name in public or name in SITE:
                continue
            ours = any(name.startswith(prefix) for prefix in prefixes)
            meant = _meant(name, known, 0.6 if ours else 0.88)
            if ours or meant:
                hint = f"did you mean {meant}?" if meant else "the README of its role lists the variables"
                yield Mistake(name, "is an unknown variable", hint, host)


def values_fit_their_specs(inventory: Inventory) -> Iterator[Mistake]:
    for group, roles in inventory.roles.items():
        for host in inventory.groups.get(group, ()):
            for options in [SITE, *(inventory.specs.get(role, {}) for role in roles)]:
                for name in options.keys() & inventory.hostvars[host].keys():
                    yield from _value_fits(host, name, options[name], inventory.hostvars[host][name])


def _value_fits(host: str, name: str, option: Mapping[str, Any], value: Any) -> Iterator[Mistake]:
    # Ports and secrets have rules of their own, with better words.
    if value is None or isinstance(value, Unreadable) or name in topology.PORTS or name in SECRETS:
        return
    spec = {name: {key: part for key, part in option.items() if key not in ("required", "default", "stages")}}
    result = ArgumentSpecValidator(spec).validate({name: value})
    # The first says it; the rest follows from it.
    for message in result.error_messages[:1]:
        # Neither a secret value nor a nested one may come out with the message.
        said = str(remove_values(message, result._no_log_values)) if not option.get("no_log") else "has a wrong type"
        yield Mistake(
            name, " ".join(said.split()), f"it must be a {option.get('type', 'str')} as its README says", host
        )


def directories_exist(inventory: Inventory) -> Iterator[Mistake]:
    for host, source in inventory.values("gunicorn_flask_source"):
        if isinstance(source, Mapping) and source.get("type") == "directory" and source.get("path"):
            yield from _directory(inventory, host, "gunicorn_flask_source", source["path"])
    for host, sites in inventory.values("nginx_sites"):
        for site in sites if isinstance(sites, list) else []:
            for static in site.get("static") or [] if isinstance(site, Mapping) else []:
                if isinstance(static, Mapping) and str(static.get("directory", "")).startswith("/"):
                    yield from _directory(inventory, host, "nginx_sites", static["directory"])


def _directory(inventory: Inventory, host: str, name: str, path: Any) -> Iterator[Mistake]:
    if not inventory.is_directory(str(path)):
        yield Mistake(name, f"there is no directory {path} on this machine", "give one that exists", host)


RULES = (
    groups_exist,
    groups_are_known,
    groups_hold_the_same_hosts,
    addresses_are_unique,
    variables_are_known,
    variables_can_be_read,
    site_values_are_there,
    site_values_agree,
    ports_are_ports,
    ports_do_not_clash,
    nobody_listens_twice_on_a_port,
    domain_is_a_host_name,
    vip_fits,
    network_holds_the_hosts,
    secrets_are_secret,
    values_fit_their_specs,
    directories_exist,
)
