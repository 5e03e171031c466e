# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which entries of site_applications contradict each other, the first application, or what a stage fixes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.addresses import HOST_NAME, port_number
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Inventory, Mistake
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.mysql_replication import (
    DATABASE,
    LONGEST_USER,
    user_mistakes,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import (
    mappings,
    meant,
    secret_mistakes,
    text,
    texts,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import APPLICATIONS, outlines
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import OF_EACH_APPLICATION, STAGES

PREFIX = "gunicorn_flask_"
#: What an entry may not say of the role, and who says it.
NOT_OF_AN_ENTRY = {
    "name": "it is the name of the entry",
    "absent": "applications to remove stand in gunicorn_flask_absent",
    "listen": "the stage fixes it",
    "header_kb": "site_header_kb says so, for all of the site",
    "runs_migrations": "the stage fixes it",
    "runs_timers": "the stage fixes it",
    "service_environment": "the playbook fills it; environment adds to it",
    "service_requires": "the playbook fills it; requires adds to it",
}


@dataclass(frozen=True)
class Entry:
    """An entry of site_applications on one host, and where a mistake in it stands."""

    host: str
    number: int
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.values.get("name", ""))

    @property
    def place(self) -> str:
        return f"{APPLICATIONS}, '{self.name}'"

    @property
    def role(self) -> Mapping[str, Any]:
        """What it says of variables of the role."""
        value = self.values.get("gunicorn_flask")
        return value if isinstance(value, Mapping) else {}

    @property
    def database(self) -> Mapping[str, Any]:
        value = self.values.get("database")
        return value if isinstance(value, Mapping) else {}


def entries_of(inventory: Inventory, host: str) -> list[Entry]:
    """Return the further applications as a host has them.

    Args:
        inventory: the inventory that is checked.
        host: inventory name of one of its hosts.
    """
    listed = inventory.hostvars[host].get(APPLICATIONS)
    # An entry that is none keeps its number.
    pairs = enumerate(listed) if isinstance(listed, list) else ()
    return [Entry(host, number, values) for number, values in pairs if isinstance(values, Mapping)]


def all_entries(inventory: Inventory) -> Iterator[Entry]:
    """Each entry on each host."""
    for host in inventory.hosts:
        yield from entries_of(inventory, host)


def names_are_unique(inventory: Inventory) -> Iterator[Mistake]:
    right = "give each application a name of its own"
    first = _first(inventory, f"{PREFIX}name")
    yield from _taken_twice(inventory, lambda entry: [(entry.place, entry.name)], first, right)


def domains_are_unique(inventory: Inventory) -> Iterator[Mistake]:
    def found(entry: Entry) -> list[tuple[str, str]]:
        return [(f"{entry.place}, domains", name.lower()) for name in texts(entry.values.get("domains"))]

    first = {name.lower(): variable for name, variable in _first(inventory, "site_domain").items()}
    yield from _taken_twice(inventory, found, first, "a name leads visitors to one application")


def databases_are_their_own(inventory: Inventory) -> Iterator[Mistake]:
    for key in ("name", "user"):

        def found(entry: Entry, key: str = key) -> list[tuple[str, str]]:
            value = text(entry.database.get(key))
            return [] if value is None else [(f"{entry.place}, database.{key}", value)]

        first = _first(inventory, f"site_database_{key}")
        yield from _taken_twice(inventory, found, first, "give each application one of its own")


def _first(inventory: Inventory, variable: str) -> dict[str, str]:
    """What the first application has, and where that stands."""
    return {str(value): variable for _host, value in inventory.values(variable)}


def _taken_twice(
    inventory: Inventory,
    found: Callable[[Entry], list[tuple[str, str]]],
    first: Mapping[str, str],
    right: str,
) -> Iterator[Mistake]:
    """Find what several applications of a host have.

    Args:
        inventory: the inventory that is checked.
        found: what an entry has: for each, where it stands and the value.
        first: what the first application has, and where that stands.
        right: what would be right.
    """
    for host in inventory.hosts:
        seen = dict(first)
        for entry in entries_of(inventory, host):
            for place, value in found(entry):
                if value in seen:
                    yield Mistake(place, f"'{value}' is in {seen[value]} as well", right, host)
                seen.setdefault(value, place)


def domains_are_host_names(inventory: Inventory) -> Iterator[Mistake]:
    for entry in all_entries(inventory):
        domains = texts(entry.values.get("domains"))
        if entry.values.get("domains") == []:
            yield Mistake(f"{entry.place}, domains", "is empty", "give it one at least: shop.foobar.com", entry.host)
        for domain in domains:
            if not HOST_NAME.match(domain) or "." not in domain:
                yield Mistake(
                    f"{entry.place}, domains", f"{domain!r} is no host name", "shop.foobar.com is one", entry.host
                )


def ports_are_ports(inventory: Inventory) -> Iterator[Mistake]:
    links = STAGES[inventory.stage].links
    needed = any(link.name in OF_EACH_APPLICATION and link.port is not None for link in links)
    for entry in all_entries(inventory):
        port = entry.values.get("port")
        if port is None and needed:
            right = f"{inventory.stage} needs one that nothing else on the site has, such as 8001"
            yield Mistake(f"{entry.place}, port", "is not set", right, entry.host)
        elif port is not None and not port_number(port):
            yield Mistake(
                f"{entry.place}, port", f"{port!r} is no port", "a number from 1 to 65535 is right", entry.host
            )


def databases_have_names(inventory: Inventory) -> Iterator[Mistake]:
    for entry in all_entries(inventory):
        name, user = text(entry.database.get("name")), text(entry.database.get("user"))
        if name is not None and not DATABASE.fullmatch(name):
            right = "letters, digits, $, _ and -, at most 64 of them"
            yield Mistake(f"{entry.place}, database.name", f"{name!r} is no name for a database", right, entry.host)
        if user is not None and not 0 < len(user) <= LONGEST_USER:
            wrong = f"{user!r} has {len(user)} characters"
            yield Mistake(f"{entry.place}, database.user", wrong, f"MySQL takes 1 to {LONGEST_USER}", entry.host)
        if user is not None:
            yield from user_mistakes(f"{entry.place}, database.user", user, entry.host)
        password = entry.database.get("password")
        if password is not None:
            yield from secret_mistakes(f"{entry.place}, database.password", password, entry.host)


def variables_of_the_role_are_known(inventory: Inventory) -> Iterator[Mistake]:
    options = inventory.specs.get("gunicorn_flask", {})
    known = [name.removeprefix(PREFIX) for name in options]
    free = [name for name in known if name not in NOT_OF_AN_ENTRY]
    for entry in all_entries(inventory):
        for name in map(str, entry.role):
            place = f"{entry.place}, gunicorn_flask.{name}"
            if name in NOT_OF_AN_ENTRY:
                yield Mistake(place, f"cannot be set here: {NOT_OF_AN_ENTRY[name]}", "leave it out", entry.host)
            elif name not in known:
                likely = meant(name.removeprefix(PREFIX), free)
                right = f"did you mean {likely}?" if likely else "the README of gunicorn_flask names those there are"
                yield Mistake(place, "is an unknown variable of the role", right, entry.host)
        for name in free:
            required = options[f"{PREFIX}{name}"].get("required")
            if required and isinstance(entry.values.get("gunicorn_flask"), Mapping) and entry.role.get(name) is None:
                right = "set it; the README of gunicorn_flask says what it is"
                yield Mistake(f"{entry.place}, gunicorn_flask.{name}", "is not set", right, entry.host)


def units_are_their_own(inventory: Inventory) -> Iterator[Mistake]:
    """The name of a service or timer follows that of its application: two of them may come to the same unit."""
    for host in inventory.groups.get("appservers", ()):
        seen: dict[str, _Unit] = {}
        for unit in _units(inventory, host):
            other = seen.setdefault(unit.name, unit)
            # Of one application: a rule of the role has a sentence for it.
            if other.application != unit.application:
                wrong = f"its unit {unit.name}.service is that of {other.owner} as well"
                yield Mistake(unit.place, wrong, "choose another name for one of them", host)


@dataclass(frozen=True)
class _Unit:
    """What systemd knows something by, without .service, .socket or .timer."""

    name: str
    application: str
    #: In words.
    owner: str
    place: str


def _units(inventory: Inventory, host: str) -> Iterator[_Unit]:
    """Those of all applications of a host."""
    variables = inventory.readable[host]
    first = {name.removeprefix(PREFIX): value for name, value in variables.items() if name.startswith(PREFIX)}
    named = [(str(variables.get(f"{PREFIX}name")), f"{PREFIX}name", PREFIX, first)]
    for entry in entries_of(inventory, host):
        named.append((entry.name, entry.place, f"{entry.place}, gunicorn_flask.", dict(entry.role)))
    for name, place, prefix, role in named:
        yield _Unit(name, name, f"the application {name}", place)
        for kind in ("service", "timer"):
            for helper in mappings(role.get(f"{kind}s")):
                own = text(helper.get("name"))
                if own is not None:
                    yield _Unit(f"{name}-{own}", name, f"the {kind} {own} of {name}", f"{prefix}{kind}s, '{own}'")


def what_is_removed_is_not_listed(inventory: Inventory) -> Iterator[Mistake]:
    for host, listed in inventory.values("gunicorn_flask_absent"):
        here = {entry.name for entry in entries_of(inventory, host)}
        for gone in mappings(listed):
            if text(gone.get("name")) in here:
                wrong = f"'{gone['name']}' is listed in {APPLICATIONS}"
                yield Mistake("gunicorn_flask_absent", wrong, "take it out of one of them", host)


def a_stage_is_for_all_applications(inventory: Inventory) -> Iterator[Mistake]:
    for host, name in inventory.values("site_application"):
        if name != "":
            wrong = f"is '{name}', and a stage is for all applications"
            yield Mistake("site_application", wrong, "leave it out, or run deploy or rollback with it", host)


def choice_mistakes(names: Sequence[str], chosen: str, given: Iterable[str]) -> Iterator[Mistake]:
    """Find what is wrong with the choice of one application or all.

    Args:
        names: names of all applications, the first one first.
        chosen: the one that is meant; "" for all.
        given: names of the variables of the command line, which count for each application of a run.
    """
    there = f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
    if chosen and chosen not in names:
        yield Mistake("site_application", f"there is no application '{chosen}'", there)
    elif len(names) > 1 and not chosen:
        for name in given:
            if name.startswith(PREFIX):
                wrong = f"with -e it would be for each application, and {there}"
                yield Mistake(name, wrong, "say which one with -e site_application, in deploy and rollback")


def a_command_line_is_for_one_application(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.groups.get("appservers", ())[:1]:
        further = [entry.name for entry in entries_of(inventory, host)]
        first = str(inventory.readable[host].get("gunicorn_flask_name"))
        yield from choice_mistakes([first, *further], "", inventory.given)


def hosts_have_the_same(inventory: Inventory) -> Iterator[Mistake]:
    seen: dict[str, str] = {}
    for host in inventory.hosts:
        # The rest may name what a playbook publishes, another value for each application server.
        value = inventory.readable[host].get(APPLICATIONS)
        if APPLICATIONS in inventory.readable[host] or APPLICATIONS not in inventory.hostvars[host]:
            seen.setdefault(str(outlines(value or [])), host)
    if len(seen) > 1:
        one, other, *_rest = seen.values()
        yield Mistake(APPLICATIONS, f"{one} and {other} have different values", "set it once, in group_vars/all")


RULES = (
    names_are_unique,
    domains_are_unique,
    databases_are_their_own,
    domains_are_host_names,
    ports_are_ports,
    databases_have_names,
    variables_of_the_role_are_known,
    units_are_their_own,
    what_is_removed_is_not_listed,
    a_stage_is_for_all_applications,
    a_command_line_is_for_one_application,
    hosts_have_the_same,
)
