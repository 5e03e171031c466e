# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The topology model for templates and playbooks."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import topology


def tier_addresses(names, hostvars):
    """See the filter's documentation beside this file."""
    try:
        return topology.tier_addresses(names, hostvars)
    except topology.TopologyError as error:
        raise AnsibleFilterError(f"tier_addresses: {error}") from error


class FilterModule:
    """Filters of the topology model."""

    def filters(self):
        return {"tier_addresses": tier_addresses}
