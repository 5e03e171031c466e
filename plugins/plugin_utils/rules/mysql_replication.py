# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which variables of the role mysql_replication contradict each other."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.joined import joined
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.mysql import account_host, server_id
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.addresses import HOST_NAME
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Mistake, RoleValues, Rule
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import PLAIN_PASSWORD, texts

SYSTEM_USERS = ("", "root", "debian-sys-maint", "mysql.infoschema", "mysql.session", "mysql.sys")
# The role's own, made without a password of the operator's.
ROLE_USERS = ("mysql_replication_check",)
SYSTEM_SCHEMAS = ("information_schema", "mysql", "performance_schema", "sys")
EVERYWHERE = ("0.0.0.0", "*", "::")  # noqa: S104 - compared, not bound
# localhost, an address, a network, or a pattern of addresses.
HOST = re.compile(r"localhost|[0-9a-fA-F:.%_/]+")
# A dot would part it from a table, a percent sign is a pattern in a grant, the rest needs quotes in an address.
DATABASE = re.compile(r"[0-9A-Za-z$_][0-9A-Za-z$_-]{0,63}")
LONGEST_USER = 32
# Lists part accounts by them, or an account its user from its host, or programs read them as something else.
NOT_OF_A_USER = re.compile(r"[\s,;@%'\"`\\\x00-\x1f\x7f]")
OLDER_RELEASES = ("buster", "bullseye", "bookworm")
NEWER_SUITES = ("trixie", "forky", "sid", "testing", "unstable")
REPOSITORY_KEYS = ("name", "uris", "suites", "signed_by")
ADDRESS_OF_A_KEY = re.compile(r"https?://")
# Of version 4, with or without the spaces that people read it by.
FINGERPRINT = re.compile(r"(\s*[0-9A-Fa-f]){40}\s*")


# --- values whose shape the argument_specs judge: here only those that have it ----------------------------------------


def entries(values: RoleValues, noun: str, keys: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """What a playbook and the operator list, joined; entries without a name are left out."""

    def listed(name: str) -> list[Mapping[str, Any]]:
        value = values.values.get(name)
        found = value if isinstance(value, list) else []
        return [entry for entry in found if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)]

    wired = listed(f"mysql_replication_service_{noun}")
    return joined(wired, listed(f"mysql_replication_{noun}"), keys, {"host": "localhost"})


def number(value: Any) -> int | None:
    """An int, also one that is written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def twice(names: Iterable[str]) -> list[str]:
    listed = list(names)
    return [name for name in dict.fromkeys(listed) if listed.count(name) > 1]


def members(values: RoleValues) -> dict[str, str]:
    found = values.values.get("mysql_replication_members")
    return {str(name): str(address) for name, address in found.items()} if isinstance(found, Mapping) else {}


def is_member(values: RoleValues) -> bool:
    return values.values.get("mysql_replication_mode") not in (None, "standalone")


def parsed_network(values: RoleValues) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    text = values.values.get("mysql_replication_network")
    if not isinstance(text, str) or "/" not in text:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def parsed_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


# --- one server -------------------------------------------------------------------------------------------------------


def repository_is_whole(values: RoleValues) -> Iterator[Mistake]:
    repository = values.values.get("mysql_replication_apt_repository")
    if not isinstance(repository, Mapping) or not repository:
        return
    for key in REPOSITORY_KEYS:
        if key not in repository:
            yield Mistake(
                "mysql_replication_apt_repository",
                f"{key} is missing",
                "give it, or {} for the host's own repositories",
                values.host,
            )


def key_is_proved(values: RoleValues) -> Iterator[Mistake]:
    repository = values.values.get("mysql_replication_apt_repository")
    if not isinstance(repository, Mapping) or not isinstance(repository.get("signed_by"), str):
        return
    place, wanted = "mysql_replication_apt_repository.fingerprints", repository.get("fingerprints")
    if not ADDRESS_OF_A_KEY.match(repository["signed_by"]):
        if wanted:
            right = "leave them out, or give signed_by as the address of the key"
            yield Mistake(place, "only a key that is fetched is held to them", right, values.host)
        return
    if not wanted:
        wrong = f"whatever key {repository['signed_by']} gives would be trusted"
        yield Mistake(place, wrong, "give that of the key, as its makers publish it", values.host)
    for fingerprint in wanted if isinstance(wanted, list) else []:
        if not FINGERPRINT.fullmatch(str(fingerprint)):
            wrong = f"'{fingerprint}' is no fingerprint"
            right = "give all 40 hexadecimal digits, such as BCA4 3417 C3B4 85DD 128E C6D4 B7B3 B788 A8D3 785C"
            yield Mistake(place, wrong, right, values.host)


def packages_fit_the_release(values: RoleValues) -> Iterator[Mistake]:
    """They would be found, and then not be installed: the C library of an older Debian is too old for them."""
    repository, facts = values.values.get("mysql_replication_apt_repository"), values.facts or {}
    suites = repository.get("suites") if isinstance(repository, Mapping) else None
    if facts.get("distribution_release") not in OLDER_RELEASES or not isinstance(suites, list):
        return
    release = facts["distribution_release"]
    for suite in suites:
        if suite in NEWER_SUITES:
            yield Mistake(
                "mysql_replication_apt_repository",
                f"{values.host} is Debian {release}, and MySQL of {suite} needs a newer C library",
                "take Debian 13 for it, or MySQL's own repository, which is the default",
                values.host,
            )


def users_are_named_once(values: RoleValues) -> Iterator[Mistake]:
    users = entries(values, "users", ("name", "host"))
    for account in twice(f"{user['name']}@{user.get('host', 'localhost')}" for user in users):
        yield Mistake("mysql_replication_users", f"{account} is listed twice", "keep one", values.host)


def users_are_not_the_servers(values: RoleValues) -> Iterator[Mistake]:
    replication = values.values.get("mysql_replication_user")
    for user in entries(values, "users", ("name", "host")):
        name = user["name"]
        owner = ""
        if name in SYSTEM_USERS:
            owner = "the server"
        elif name in ROLE_USERS or (is_member(values) and name == replication):
            owner = "this role"
        if owner:
            wrong = f"'{name}' is an account of {owner}'s own"
            yield Mistake("mysql_replication_users", wrong, "choose another name", values.host)


def users_have_passwords(values: RoleValues) -> Iterator[Mistake]:
    for user in entries(values, "users", ("name", "host")):
        if user.get("password", "x") in ("", None):
            wrong = f"the password of {user['name']} is empty"
            yield Mistake("mysql_replication_users", wrong, "give it one", values.host)


def users_come_from_addresses(values: RoleValues) -> Iterator[Mistake]:
    for user in entries(values, "users", ("name", "host")):
        host = user.get("host", "localhost")
        if isinstance(host, str) and not HOST.fullmatch(host):
            yield Mistake(
                "mysql_replication_users",
                f"the host '{host}' of {user['name']} is a name, and names are not resolved",
                "give localhost (the socket), an address or a network such as 198.18.0.0/24",
                values.host,
            )
        elif isinstance(host, str) and (problem := unknown_to_accounts(host)):
            right = "give a network such as fd5a:f00b:a5::/64"
            yield Mistake("mysql_replication_users", f"the host of {user['name']}: {problem}", right, values.host)


def unknown_to_accounts(network: str) -> str:
    """Why accounts of MySQL cannot know the hosts of a network; "" where they can."""
    try:
        account_host(network)
    except ValueError as error:
        return str(error)
    return ""


def databases_are_named_once(values: RoleValues) -> Iterator[Mistake]:
    names = [database["name"] for database in entries(values, "databases", ("name",))]
    for name in twice(names):
        yield Mistake("mysql_replication_databases", f"'{name}' is listed twice", "keep one", values.host)
    for name in dict.fromkeys(names):
        if name in SYSTEM_SCHEMAS:
            wrong = f"'{name}' belongs to the server"
            yield Mistake("mysql_replication_databases", wrong, "choose another name", values.host)


def databases_have_plain_names(values: RoleValues) -> Iterator[Mistake]:
    for database in entries(values, "databases", ("name",)):
        if not DATABASE.fullmatch(database["name"]):
            wrong = f"'{database['name']}' is no name for a database"
            right = "letters, digits, $, _ and -, at most 64 of them"
            yield Mistake("mysql_replication_databases", wrong, right, values.host)


def users_have_names_that_fit(values: RoleValues) -> Iterator[Mistake]:
    for user in entries(values, "users", ("name", "host")):
        if len(user["name"]) > LONGEST_USER:
            wrong = f"'{user['name']}' has {len(user['name'])} characters"
            yield Mistake("mysql_replication_users", wrong, f"MySQL takes {LONGEST_USER} at most", values.host)
    name = values.values.get("mysql_replication_user")
    if is_member(values) and isinstance(name, str) and not 1 <= len(name) <= LONGEST_USER:
        wrong = f"'{name}' has {len(name)} characters"
        yield Mistake("mysql_replication_user", wrong, f"give it 1 to {LONGEST_USER}", values.host)


def user_mistakes(place: str, name: str, host: str) -> Iterator[Mistake]:
    """Find what is in the name of an account that nobody can mean.

    Args:
        place: where the name stands.
        name: the name, without the host that the account comes from.
        host: whose variable it is.
    """
    if NOT_OF_A_USER.search(name):
        right = "leave out spaces, quotes, commas and the signs ; @ % \\"
        yield Mistake(place, f"{name!r} is no name for an account", right, host)


def users_have_plain_names(values: RoleValues) -> Iterator[Mistake]:
    for user in entries(values, "users", ("name", "host")):
        yield from user_mistakes("mysql_replication_users", user["name"], values.host)
    name = values.values.get("mysql_replication_user")
    if is_member(values) and isinstance(name, str):
        yield from user_mistakes("mysql_replication_user", name, values.host)


def privileges_name_databases(values: RoleValues) -> Iterator[Mistake]:
    """As patterns they would let an account into databases that nobody has named."""
    for user in entries(values, "users", ("name", "host")):
        privileges = user.get("privileges")
        for place in privileges if isinstance(privileges, Mapping) else ():
            name = str(place).rpartition(".")[0].rpartition(" ")[2].strip("`").replace("\\_", "_")
            if "." not in str(place) or not (name == "*" or DATABASE.fullmatch(name)):
                wrong = f"'{place}' in the privileges of {user['name']} names no database and table"
                right = "write guestbook.* or guestbook.entries; each database by its name, not as a pattern"
                yield Mistake("mysql_replication_users", wrong, right, values.host)


def options_are_one_line(values: RoleValues) -> Iterator[Mistake]:
    options = values.values.get("mysql_replication_options")
    for name, value in options.items() if isinstance(options, Mapping) else ():
        if re.search(r"[\r\n\0]", f"{name}{value}"):
            wrong = f"the value of {str(name).split()[0]} has a line break"
            yield Mistake("mysql_replication_options", wrong, "an option is one line", values.host)


def memory_fits(values: RoleValues) -> Iterator[Mistake]:
    percent = number(values.values.get("mysql_replication_memory_percent"))
    if percent is not None and not 1 <= percent <= 80:
        wrong = f"{percent} is not between 1 and 80"
        yield Mistake("mysql_replication_memory_percent", wrong, "give a share of the host's memory", values.host)
    pool = number(values.values.get("mysql_replication_buffer_pool_mb"))
    total = number((values.facts or {}).get("memtotal_mb"))
    if pool is not None and total is not None and pool > total * 0.9:
        yield Mistake(
            "mysql_replication_buffer_pool_mb",
            f"{pool} MB do not fit into the {total} MB of {values.host}",
            "give less, or 0 for a share",
            values.host,
        )


def port_of_the_check_is_its_own(values: RoleValues) -> Iterator[Mistake]:
    port = number(values.values.get("mysql_replication_port"))
    if is_member(values) and port is not None and port == number(values.values.get("mysql_replication_check_port")):
        wrong = f"{port} is the port of MySQL too"
        yield Mistake("mysql_replication_check_port", wrong, "give the role check one of its own", values.host)


def clients_of_the_check_are_hosts(values: RoleValues) -> Iterator[Mistake]:
    for name in ("mysql_replication_check_clients", "mysql_replication_service_check_clients"):
        for client in texts(values.values.get(name)):
            if not is_client(client):
                wrong = f"'{client}' is neither an address nor a network nor the name of a host"
                right = "write one such as 192.0.2.7, 192.0.2.0/24 or monitoring.example.com"
                yield Mistake(name, wrong, right, values.host)


def is_client(text: str) -> bool:
    address, slash, prefix = text.partition("/")
    # An interface is another one on each host, and a mask is written as a number of bits.
    if "%" in text or (slash and not prefix.isdigit()):
        return False
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        # What ends in a number is no name, but an address that is mistyped.
        return bool(HOST_NAME.match(text)) and not address.rpartition(".")[2].isdigit()
    return True


# --- members ----------------------------------------------------------------------------------------------------------


def members_are_hosts(values: RoleValues) -> Iterator[Mistake]:
    if not is_member(values):
        return
    place, listed = "mysql_replication_members", members(values)
    if len(listed) < 2:
        wrong = f"it lists {', '.join(listed) or 'nobody'}"
        yield Mistake(place, f"a source and a replica are needed; {wrong}", "list all members", values.host)
    for name in listed:
        if values.hostvars and name not in values.hostvars:
            yield Mistake(place, f"{name} is no host of the inventory", "give its name there", values.host)
    address = str(values.values.get("mysql_replication_address", ""))
    if address and listed.get(values.host, "") != address:
        yield Mistake(
            place,
            f"{values.host} is not in it with its own address",
            f"{values.host} has to be in it with the address {address} (mysql_replication_address)",
            values.host,
        )


def members_have_addresses(values: RoleValues) -> Iterator[Mistake]:
    if not is_member(values):
        return
    place, addresses = "mysql_replication_members", list(members(values).values())
    for address in twice(addresses):
        yield Mistake(place, f"{address} is listed twice", "each member has an address of its own", values.host)
    for address in dict.fromkeys(addresses):
        if parsed_address(address) is None:
            wrong = f"'{address}' is a name, and names are not resolved"
            yield Mistake(place, wrong, "give an address", values.host)


def members_have_server_ids(values: RoleValues) -> Iterator[Mistake]:
    if not is_member(values):
        return
    ids: dict[int, list[str]] = {}
    for name, address in members(values).items():
        given = values.values.get("mysql_replication_server_id")
        if name != values.host:
            # Ansible's own mapping cannot be asked for a host that does not exist.
            given = values.hostvars[name].get("mysql_replication_server_id") if name in values.hostvars else None
        ids.setdefault(server_id(address, number(given) or 0), []).append(name)
    for one, names in ids.items():
        if len(names) > 1:
            yield Mistake(
                "mysql_replication_server_id",
                f"{' and '.join(names)} have the same, {one}",
                "give each one of its own, or 0 to make it of the address",
                values.host,
            )


def members_have_a_password(values: RoleValues) -> Iterator[Mistake]:
    password = values.values.get("mysql_replication_password")
    if is_member(values) and not (isinstance(password, str) and 1 <= len(password) <= 32):
        yield Mistake(
            "mysql_replication_password",
            "the account of replication has none, or one of more than 32 characters",
            "give the account of replication a password of 1 to 32 characters, from Ansible Vault",
            values.host,
        )
    elif is_member(values) and not PLAIN_PASSWORD.fullmatch(password):
        wrong = "it has characters that the members' driver sends in another way than MySQL stores them"
        yield Mistake("mysql_replication_password", wrong, "take letters, digits and signs of ASCII", values.host)


def members_are_in_the_network(values: RoleValues) -> Iterator[Mistake]:
    if not is_member(values):
        return
    text, network = values.values.get("mysql_replication_network"), parsed_network(values)
    if network is None:
        yield Mistake(
            "mysql_replication_network",
            f"'{text or ''}' is no network",
            "give the one that the members are in, such as 198.18.0.0/24",
            values.host,
        )
        return
    if problem := unknown_to_accounts(text):
        right = "give the one that the members are in, such as fd5a:f00b:a5::/64"
        yield Mistake("mysql_replication_network", problem, right, values.host)
        return
    outside = [
        f"{name} ({address})"
        for name, address in members(values).items()
        if (parsed := parsed_address(address)) is not None and parsed not in network
    ]
    if outside:
        wrong = f"{text} does not contain {', '.join(outside)}"
        yield Mistake("mysql_replication_network", wrong, "give the one that all members are in", values.host)


def members_can_be_reached(values: RoleValues) -> Iterator[Mistake]:
    listening = values.values.get("mysql_replication_bind_address")
    address = values.values.get("mysql_replication_address")
    if not is_member(values) or not isinstance(listening, str) or not address:
        return
    if not {*EVERYWHERE, str(address)} & {part.strip() for part in listening.split(",")}:
        wrong = f"the other members cannot reach {listening}"
        yield Mistake("mysql_replication_bind_address", wrong, f"add {address}", values.host)


RULES: tuple[Rule, ...] = (
    repository_is_whole,
    key_is_proved,
    packages_fit_the_release,
    users_are_named_once,
    users_are_not_the_servers,
    users_have_passwords,
    users_come_from_addresses,
    databases_are_named_once,
    databases_have_plain_names,
    users_have_names_that_fit,
    users_have_plain_names,
    privileges_name_databases,
    options_are_one_line,
    memory_fits,
    port_of_the_check_is_its_own,
    clients_of_the_check_are_hosts,
    members_are_hosts,
    members_have_addresses,
    members_have_server_ids,
    members_have_a_password,
    members_are_in_the_network,
    members_can_be_reached,
)
