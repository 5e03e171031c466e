# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The topology model for templates and playbooks."""

from __future__ import annotations

import multiprocessing
from functools import wraps

from ansible.errors import AnsibleFilterError
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import site, topology
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.hostvars import rendered

#: Answers of this process. A worker lives for one task, in which no variable changes.
_ANSWERS: dict[tuple[int, str, str], dict] = {}


def _explained(function):
    @wraps(function)
    def explain(*arguments):
        try:
            return function(*arguments)
        except topology.TopologyError as error:
            raise AnsibleFilterError(f"{function.__name__}: {error}") from error

    return explain


@_explained
def tier_addresses(names, hostvars):
    """See the filter's documentation beside this file."""
    return topology.tier_addresses(names, rendered(hostvars))


@_explained
def host_edges(groups, hostvars, stage, host):
    """See the filter's documentation beside this file."""
    if multiprocessing.parent_process() is None:
        return topology.host_edges(stage, groups, rendered(hostvars), host)
    key = (id(hostvars), stage, host)
    if key not in _ANSWERS:
        _ANSWERS[key] = topology.host_edges(stage, groups, rendered(hostvars), host)
    return _ANSWERS[key]


@_explained
def site_values(hostvars, host):
    """See the filter's documentation beside this file."""
    if host not in hostvars:
        raise topology.TopologyError(f"{host!r} is not a host of the inventory")
    return site.values(rendered(hostvars)[host])


@_explained
def variable_of(hostvars, host, name, default=None):
    """See the filter's documentation beside this file."""
    if host not in hostvars:
        raise topology.TopologyError(f"{host!r} is not a host of the inventory")
    value = rendered(hostvars)[host].get(name)
    return default if value is None else value


class FilterModule:
    """Filters of the topology model."""

    def filters(self):
        return {
            "tier_addresses": tier_addresses,
            "host_edges": host_edges,
            "site_values": site_values,
            "variable_of": variable_of,
        }
