# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which values of a site contradict each other or the hosts. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.addresses import (
    HOST_NAME,
    ip_address,
    port_number,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.haproxy_keepalived import (
    vip_mistakes,
    vip_network_mistakes,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import (
    Inventory,
    Mistake,
    Unreadable,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.mysql_replication import (
    DATABASE,
    LONGEST_USER,
    unknown_to_accounts,
    user_mistakes,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import (
    header_mistakes,
    secret_mistakes,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import (
    APPLICATIONS,
    OF_A_PLAY,
    OPTIONS,
    PORTS,
    SECRETS,
    Site,
    used_in,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import STAGES

LONGEST_REPLICATION_PASSWORD = 32


def stage_is_the_playbooks(inventory: Inventory) -> Iterator[Mistake]:
    for host, value in inventory.values("site_stage"):
        if value != inventory.stage:
            wrong = f"is {value}, and this is the playbook of {inventory.stage}"
            yield Mistake(
                "site_stage", wrong, "run the stage's own playbook, or make the inventory one of this stage", host
            )


def site_values_are_there(inventory: Inventory) -> Iterator[Mistake]:
    for name in used_in(inventory.stage):
        option = OPTIONS[name]
        if not option.get("required"):
            continue
        for host in inventory.hosts:
            value = inventory.hostvars[host].get(name)
            if value is None or value == "":
                right = (
                    "with ansible-vault, in group_vars/all/secrets.yml"
                    if name in SECRETS
                    else _plain(option["description"])
                )
                yield Mistake(name, "is not set" if value is None else "is empty", f"set it: {right}", host)


def _plain(description: str) -> str:
    """A description without the markup of ansible-doc and the full stop."""
    return re.sub(r"\b[VC]\(([^)]*)\)", r"\1", " ".join(description.split())).rstrip(".")


def site_values_agree(inventory: Inventory) -> Iterator[Mistake]:
    for name in used_in(inventory.stage):
        # What the playbooks publish is another value for each application server.
        if name in ("site_address", "site_application", OF_A_PLAY, APPLICATIONS):
            continue
        values: dict[str, str] = {}
        for host in inventory.hosts:
            value = inventory.hostvars[host].get(name)
            if isinstance(value, Unreadable):
                continue
            # A required one that is missing has a rule of its own.
            if value is None and OPTIONS[name].get("required"):
                continue
            values.setdefault(str(OPTIONS[name].get("default") if value is None else value), host)
        if len(values) > 1:
            one, other, *_rest = values.values()
            yield Mistake(name, f"{one} and {other} have different values", "set it once, in group_vars/all")


def ports_are_ports(inventory: Inventory) -> Iterator[Mistake]:
    for name in PORTS:
        for host, value in inventory.values(name):
            if not port_number(value):
                yield Mistake(name, f"{value!r} is no port", "a number from 1 to 65535 is right", host)


def headers_have_a_size(inventory: Inventory) -> Iterator[Mistake]:
    for host, value in inventory.values("site_header_kb"):
        yield from header_mistakes("site_header_kb", value, host)


def domain_is_a_host_name(inventory: Inventory) -> Iterator[Mistake]:
    for host, value in inventory.values("site_domain"):
        if not HOST_NAME.match(str(value)) or "." not in str(value):
            yield Mistake("site_domain", f"{value!r} is no host name", "www.foobar.com is one", host)


def vip_fits(inventory: Inventory) -> Iterator[Mistake]:
    if not STAGES[inventory.stage].vip:
        return
    addresses = {host: inventory.address(host) for host in inventory.hosts}
    balancers = {host: addresses.pop(host) for host in inventory.groups.get("loadbalancers", ())}
    names = ("site_vip", "site_vip_prefix")
    for host, vip in inventory.values("site_vip"):
        prefix = Site([inventory.hostvars[host]]).get("site_vip_prefix")
        yield from vip_mistakes(vip, prefix, balancers, others=addresses, names=names, host=host)
        yield from vip_network_mistakes(vip, prefix, balancers, names=names, host=host)


def network_holds_the_hosts(inventory: Inventory) -> Iterator[Mistake]:
    for host, value in inventory.values("site_network"):
        try:
            network = ipaddress.ip_network(str(value))
        except ValueError as error:
            if value != "":
                yield Mistake("site_network", f"{value!r} is no network: {error}", "198.18.0.0/24 is one", host)
            continue
        if "site_network" in used_in(inventory.stage) and (problem := unknown_to_accounts(str(value))):
            yield Mistake("site_network", problem, "give that of the hosts, such as fd5a:f00b:a5::/64", host)
            continue
        # Who reaches a database: applications, and the other databases.
        groups = ("appservers", "databases")
        for member in dict.fromkeys(host for group in groups for host in inventory.groups.get(group, ())):
            address = ip_address(inventory.address(member))
            if address and address not in network:
                wrong = f"{member} ({address}) is outside {network}, where the database admits nobody else"
                yield Mistake("site_network", wrong, "widen it", host)


def secrets_are_secret(inventory: Inventory) -> Iterator[Mistake]:
    for name in SECRETS:
        for host, value in inventory.values(name):
            longest = LONGEST_REPLICATION_PASSWORD if name == "site_replication_password" else 0
            yield from secret_mistakes(name, value, host, longest)


def database_has_a_name_of_its_own(inventory: Inventory) -> Iterator[Mistake]:
    for host, value in inventory.values("site_database_name"):
        if value != "" and not DATABASE.fullmatch(str(value)):
            right = "letters, digits, $, _ and -, at most 64 of them"
            yield Mistake("site_database_name", f"{value!r} is no name for a database", right, host)
    for host, value in inventory.values("site_database_user"):
        if len(str(value)) > LONGEST_USER:
            wrong = f"{value!r} has {len(str(value))} characters"
            yield Mistake("site_database_user", wrong, f"MySQL takes {LONGEST_USER} at most", host)
        yield from user_mistakes("site_database_user", str(value), host)


def addresses_that_programs_need_are_no_names(inventory: Inventory) -> Iterator[Mistake]:
    """nginx believes balancers by their addresses, and MySQL resolves no names."""
    if "loadbalancers" not in inventory.groups:
        return
    for group, what in (("loadbalancers", "web servers believe balancers"), ("databases", "databases know each other")):
        for host in inventory.groups.get(group, ()):
            address = inventory.address(host)
            if isinstance(address, str) and HOST_NAME.match(address) and not ip_address(address):
                wrong = f"its address is the name {address}, and {what} by IP addresses alone"
                yield Mistake(host, wrong, "set site_address to one")


RULES = (
    stage_is_the_playbooks,
    addresses_that_programs_need_are_no_names,
    site_values_are_there,
    site_values_agree,
    ports_are_ports,
    headers_have_a_size,
    domain_is_a_host_name,
    vip_fits,
    network_holds_the_hosts,
    secrets_are_secret,
    database_has_a_name_of_its_own,
)
