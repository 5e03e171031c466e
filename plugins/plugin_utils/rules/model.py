# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a rule finds, and what the rules of an inventory and of a role look at. Pure: nothing is asked of any host."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import STAGES, TIERS
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.topology import address_of


@dataclass(frozen=True)
class Mistake:
    """One broken rule.

    Attributes:
        place: the host, variable or group it was found at, as "nginx_sites, 'www'".
        wrong: what is wrong.
        right: what would be right.
        host: the host whose variable it is; "" where that is no matter.
    """

    place: str
    wrong: str
    right: str
    host: str = ""


@dataclass(frozen=True)
class RoleValues:
    """The public variables of a role as they are on one host.

    Attributes:
        host: its inventory name.
        values: every variable of the role's argument_specs with its final value: the default where nothing is set.
        facts: gathered facts, without the prefix ansible_; None where no host has been asked yet. A rule that needs
            facts finds nothing then.
        hostvars: variables of all hosts, for what has to differ between them.
        application: name of the entry of site_applications that they are of; "" for the role's own variables.
    """

    host: str
    values: Mapping[str, Any]
    facts: Mapping[str, Any] | None = None
    hostvars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    application: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


Rule = Callable[[RoleValues], Iterator[Mistake]]


class Unreadable(str):
    """Stands for a value that could not be read: why."""

    __slots__ = ()


@dataclass(frozen=True)
class Inventory:
    """What the rules of an inventory look at.

    Attributes:
        stage: name of the stage.
        groups: inventory names of each group.
        hostvars: by host, the variables that the operator has set; values that cannot be read are Unreadable.
        specs: options of each role of the collection, as its argument_specs have them.
        others: names of further variables of the roles: those of their other entry points.
        is_directory: whether a path is a directory of the controller.
        role_values: name of a role and its variables on one host, as far as they are known before a host is asked;
            for each role of each host.
        given: names of the variables that the command line gives.
    """

    stage: str
    groups: Mapping[str, list[str]]
    hostvars: Mapping[str, Mapping[str, Any]]
    specs: Mapping[str, Mapping[str, Mapping[str, Any]]]
    is_directory: Callable[[str], bool]
    role_values: Iterable[tuple[str, RoleValues]] = ()
    others: Collection[str] = ()
    given: Collection[str] = ()

    @cached_property
    def readable(self) -> dict[str, dict[str, Any]]:
        """By host, the variables whose values can be read."""
        return {
            host: {name: value for name, value in variables.items() if not isinstance(value, Unreadable)}
            for host, variables in self.hostvars.items()
        }

    def with_role_values(self, values: Iterable[tuple[str, RoleValues]]) -> Inventory:
        """Return the same inventory with the variables of its roles."""
        return replace(self, role_values=tuple(values))

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts in any tier, each once."""
        return list(dict.fromkeys(name for tier in TIERS for name in self.groups.get(tier, ())))

    @property
    def roles(self) -> list[tuple[str, str]]:
        """Role and host, for each role that the stage gives to a host."""
        components = STAGES[self.stage].components
        pairs = ((component.role, host) for component in components for host in self.groups.get(component.tier, ()))
        return list(dict.fromkeys(pairs))

    def values(self, name: str) -> Iterator[tuple[str, Any]]:
        """Host and value wherever the variable is set and can be read."""
        for host in self.hosts:
            value = self.hostvars[host].get(name)
            if value is not None and not isinstance(value, Unreadable):
                yield host, value

    def address(self, host: str) -> Any:
        """Where other hosts reach a host."""
        return address_of(host, self.hostvars)


def lines(mistakes: Iterable[Mistake]) -> list[str]:
    """One line for each mistake; one that a group variable causes on many hosts stands once."""
    hosts: dict[tuple[str, str, str], list[str]] = {}
    for mistake in mistakes:
        hosts.setdefault((mistake.place, mistake.wrong, mistake.right), []).append(mistake.host)
    found = []
    for (place, wrong, right), names in hosts.items():
        names = list(dict.fromkeys(name for name in names if name))
        where = f" (on {', '.join(names)})" if 0 < len(names) <= 2 else f" (on {len(names)} hosts)" if names else ""
        found.append(f"{place}{where}: {wrong}; {right}")
    return found
