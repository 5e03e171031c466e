# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a playbook wires and what an operator lists, joined."""

from __future__ import annotations

from collections.abc import Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.joined import joined as join


def joined(wired, listed, keys=("name",), defaults=None):
    """See the filter's documentation beside this file."""
    for entries in (wired, listed):
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            # Values may be secrets.
            raise AnsibleFilterError(f"joined: lists of dictionaries are needed, not {type(entries).__name__}")
    return join(wired, listed, keys, defaults)


class FilterModule:
    """Filters of lists that are filled from two sides."""

    def filters(self):
        return {"joined": joined}
