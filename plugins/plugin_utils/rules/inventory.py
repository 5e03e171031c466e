# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules that an inventory must keep, and a sentence for each one it breaks. Pure: nothing is asked of any host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import applications, site, wiring
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.addresses import HOST_NAME, ip_address
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import (
    Inventory,
    Mistake,
    Unreadable,
    lines,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import meant as likely
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import shape_mistakes, text
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import OPTIONS, PORTS, SECRETS
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import (
    EVERY,
    SPECIALS,
    STAGES,
    TIERS,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.topology import entries

OLDEST_CORE = (2, 20)
#: How much alike two names are where one is likely the other, misspelt: with the same prefix, and without any.
LIKELY, NEARLY = 0.8, 0.88


def find_mistakes(inventory: Inventory) -> list[str]:
    """Return all mistakes of an inventory, one line each; none if it keeps all rules."""
    if inventory.stage not in STAGES:
        return [f"stage: {inventory.stage!r} is no stage; there are {', '.join(STAGES)}"]
    found = [mistake for rule in RULES for mistake in rule(inventory)]
    return lines(found)


def find_version_mistakes(version: str) -> list[str]:
    """Return a line if the version of ansible-core is too old."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers >= OLDEST_CORE:
        return []
    return [f"ansible-core: this is {version}; {'.'.join(map(str, OLDEST_CORE))} or newer is needed"]


# --- groups and hosts -------------------------------------------------------------------------------------------------


def groups_exist(inventory: Inventory) -> Iterator[Mistake]:
    stage = STAGES[inventory.stage]
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
    """Groups of others are welcome: only one that looks like one of ours, with a host that is in none, is a mistake."""
    placed = set(inventory.hosts)
    missing = [tier for tier, (fewest, _most) in STAGES[inventory.stage].hosts.items() if fewest > 0]
    missing = [tier for tier in missing if not inventory.groups.get(tier)]
    for group, names in inventory.groups.items():
        if group in ("all", "ungrouped", *TIERS) or not names or placed & set(names):
            continue
        # Where one of ours is missing, a likeness says more.
        meant = likely(group, missing) or likely(group, TIERS, NEARLY)
        if meant:
            yield Mistake(group, "is an unknown group", f"did you mean {meant}?")


def groups_hold_the_same_hosts(inventory: Inventory) -> Iterator[Mistake]:
    together = [group for group in STAGES[inventory.stage].together if inventory.groups.get(group)]
    for group in together[1:]:
        first = together[0]
        if set(inventory.groups[group]) != set(inventory.groups[first]):
            odd = sorted(set(inventory.groups[group]) ^ set(inventory.groups[first]))
            yield Mistake(group, f"does not hold the same hosts as {first}", f"put {', '.join(odd)} in both")


def hosts_have_names_of_their_own(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts:
        if host in (*SPECIALS, EVERY):
            wrong = "is a name that the topology has for somebody who is no host"
            yield Mistake(host, wrong, "give the host another name in the inventory")


def addresses_are_unique(inventory: Inventory) -> Iterator[Mistake]:
    seen: dict[str, str] = {}
    for host in inventory.hosts:
        address = inventory.address(host)
        if not isinstance(address, str) or not (ip_address(address) or HOST_NAME.match(address)):
            wrong = f"its address {address!r} is neither an IP address nor a host name"
            yield Mistake(host, wrong, "set ansible_host (or site_address) like 198.18.0.21")
        elif address in seen:
            yield Mistake(host, f"has the address {address} of {seen[address]}", "give each host an address of its own")
        else:
            seen[address] = host


# --- variables and their values ---------------------------------------------------------------------------------------


def variables_can_be_read(inventory: Inventory) -> Iterator[Mistake]:
    """Only those that this collection reads: a template of somebody else's may need what only his playbook has."""
    ours = {*OPTIONS, *inventory.others, *(name for options in inventory.specs.values() for name in options)}
    ours |= {"ansible_host", "ansible_port"}
    for host in inventory.hosts:
        for name, value in inventory.hostvars[host].items():
            if isinstance(value, Unreadable) and name in ours:
                yield Mistake(name, f"cannot be read: {value}", "correct the template", host)


def variables_are_known(inventory: Inventory) -> Iterator[Mistake]:
    """Variables of others are welcome, such as nginx_exporter_version: only a likely misspelling is a mistake."""
    public = {name for options in inventory.specs.values() for name in options} | {*inventory.others, *OPTIONS}
    prefixes = [*(f"{role}_" for role in inventory.specs), "site_"]
    meanings: dict[str, str] = {}
    for host in inventory.hosts:
        for name in inventory.hostvars[host].keys() - public:
            if name not in meanings:
                prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
                # What follows the prefix has to be alike: the prefix alone would make everything so.
                known = {other.removeprefix(prefix): other for other in public if other.startswith(prefix)}
                meant = likely(name.removeprefix(prefix), known, LIKELY if prefix else NEARLY)
                meanings[name] = known.get(meant, "")
            if meanings[name]:
                yield Mistake(name, "is an unknown variable", f"did you mean {meanings[name]}?", host)


def values_fit_their_specs(inventory: Inventory) -> Iterator[Mistake]:
    options = [(OPTIONS, host) for host in inventory.hosts]
    options += [(inventory.specs.get(role, {}), host) for role, host in inventory.roles]
    for known, host in options:
        for name in known.keys() & inventory.hostvars[host].keys():
            yield from _value_fits(host, name, known[name], inventory.hostvars[host][name])


def values_of_further_applications_fit_their_specs(inventory: Inventory) -> Iterator[Mistake]:
    options = inventory.specs.get("gunicorn_flask", {})
    for entry in applications.all_entries(inventory):
        for name, value in entry.role.items():
            option = options.get(f"{applications.PREFIX}{name}")
            if option and name not in applications.NOT_OF_AN_ENTRY:
                yield from _value_fits(entry.host, f"{entry.place}, gunicorn_flask.{name}", option, value)


def _value_fits(host: str, name: str, option: Mapping[str, Any], value: Any) -> Iterator[Mistake]:
    # Ports have rules of their own, with better words.
    if isinstance(value, Unreadable) or name in PORTS:
        return
    empty = {"list": "[]", "dict": "{}"}.get(option.get("type", "str"))
    if value is None and empty and option.get("default", "") is not None:
        yield Mistake(name, "is empty", f"write {empty}, or leave it out", host)
        return
    # A variable that is not set has a rule of its own.
    if found := list(shape_mistakes(name, {**option, "required": False}, value, host)):
        yield from found
        return
    # What a secret has to be like, a rule of its own says.
    if name in SECRETS:
        return
    if value is None:
        return
    spec = {name: {key: part for key, part in option.items() if key not in ("required", "default", "stages")}}
    right = f"it must be a {option.get('type', 'str')} as its README says"
    try:
        result = ArgumentSpecValidator(spec).validate({name: value})
    except ArithmeticError:
        # Ansible reads one as a number, and then fails to make a whole one of it.
        yield Mistake(name, "holds a number without an end", right, host)
        return
    # The first says it; the rest follows from it.
    for message in result.error_messages[:1]:
        # Neither a secret value nor a nested one may come out with the message.
        said = str(remove_values(message, result._no_log_values)) if not option.get("no_log") else "has a wrong type"
        yield Mistake(name, " ".join(said.split()), right, host)


@dataclass(frozen=True)
class _Files:
    """Where an application comes from, and which static files it has, as one host has it."""

    host: str
    #: Of the source.
    variable: str
    source: Any
    #: Of the static files.
    place: str
    static: list[Mapping[str, Any]]

    @property
    def directory(self) -> str:
        """The directory of the controller that is the source; "" if it is another one."""
        source = self.source if isinstance(self.source, Mapping) else {}
        return str(source.get("path") or "") if source.get("type") == "directory" else ""


def _files(inventory: Inventory) -> Iterator[_Files]:
    """Those of all applications. Of the first, the source is a variable of application servers alone."""
    sources = [source for _host, source in inventory.values("gunicorn_flask_source")]
    for host in inventory.hosts:
        own = inventory.readable[host].get("gunicorn_flask_source")
        listed = inventory.readable[host].get("site_static")
        source = own if own is not None else next(iter(sources), None)
        yield _Files(host, "" if own is None else "gunicorn_flask_source", source, "site_static", entries(listed))
        for entry in applications.entries_of(inventory, host):
            place, source = entry.place, entry.role.get("source")
            static = entries(entry.values.get("static"))
            yield _Files(host, f"{place}, gunicorn_flask.source", source, f"{place}, static", static)


def directories_exist(inventory: Inventory) -> Iterator[Mistake]:
    for files in _files(inventory):
        if files.variable and files.directory:
            yield from _directory(inventory, files.host, files.variable, files.directory)
        yield from _static_directories(inventory, files.host, files.place, files.static)
    for host, listed in inventory.values("nginx_sites"):
        for entry in entries(listed):
            yield from _static_directories(inventory, host, "nginx_sites", entry.get("static"))


def static_files_come_from_one_place(inventory: Inventory) -> Iterator[Mistake]:
    for files in _files(inventory):
        for place in files.static:
            given = [key for key in ("release", "package", "directory") if place.get(key)]
            if len(given) != 1:
                wrong = f"{place.get('path')} has {' and '.join(given) or 'neither release nor package nor directory'}"
                yield Mistake(files.place, wrong, "give it exactly one of release, package and directory", files.host)


def static_files_are_in_the_source(inventory: Inventory) -> Iterator[Mistake]:
    """What can be seen before the release is built: a directory of the controller."""
    for files in _files(inventory):
        for place in files.static:
            path = text(place.get("release"))
            if path is not None and (path.startswith("/") or ".." in path.split("/")):
                wrong = f"{place.get('path')}: {path!r} leads out of the release"
                yield Mistake(files.place, wrong, "write it as in 'shop/static'", files.host)
            elif path is not None and files.directory and not inventory.is_directory(f"{files.directory}/{path}"):
                wrong = f"{place.get('path')}: there is no directory {path} in the source {files.directory}"
                yield Mistake(files.place, wrong, "give one that exists", files.host)


def _static_directories(inventory: Inventory, host: str, name: str, listed: Any) -> Iterator[Mistake]:
    for static in entries(listed):
        if str(static.get("directory", "")).startswith("/"):
            yield from _directory(inventory, host, name, static["directory"])


def _directory(inventory: Inventory, host: str, name: str, path: Any) -> Iterator[Mistake]:
    if not inventory.is_directory(str(path)):
        yield Mistake(name, f"there is no directory {path} on this machine", "give one that exists", host)


RULES = (
    groups_exist,
    groups_are_known,
    groups_hold_the_same_hosts,
    hosts_have_names_of_their_own,
    addresses_are_unique,
    variables_are_known,
    variables_can_be_read,
    *site.RULES,
    *applications.RULES,
    values_fit_their_specs,
    values_of_further_applications_fit_their_specs,
    directories_exist,
    static_files_come_from_one_place,
    static_files_are_in_the_source,
    *wiring.RULES,
)
