# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Addresses of databases."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import database_url as urls


def database_url(database):
    """See the filter's documentation beside this file."""
    try:
        return urls.database_url(database)
    except KeyError as error:
        raise AnsibleFilterError(
            f"database_url: {error.args[0]} is missing; user, password and name are needed"
        ) from error


class FilterModule:
    """Filters for databases."""

    def filters(self):
        return {"database_url": database_url}
