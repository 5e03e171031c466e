# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role mysql_replication computes of variables and of what MySQL says."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.ansible.mysql.plugins.module_utils.implementations.mysql.hash import (
    mysql_sha256_password_hash,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import mysql

SALT_LENGTH = 20


def mysql_password_changes(users, accounts):
    """See the filter's documentation beside this file."""
    known = {(account["user"], account["host"]): account for account in accounts}
    replaced, doubled = [], []
    for user in users:
        name, host = user["name"], user.get("host", "localhost")
        account = known.get((name, host.lower()))
        if account is None:
            continue
        if account["has_two"]:
            doubled.append([name, host])
        elif len(account["salt"]) == SALT_LENGTH:
            wanted = mysql_sha256_password_hash(user["password"], account["salt"])
            if wanted != account["hash"]:
                doubled.append([name, host])
                replaced.append([name, host, wanted])
    return {"replaced": replaced, "doubled": doubled}


def mysql_server_id(address, given=0):
    """See the filter's documentation beside this file."""
    return mysql.server_id(address, given)


def mysql_rights(privileges, literal=False):
    """See the filter's documentation beside this file."""
    return mysql.rights(privileges, literal)


def mysql_option(value):
    """See the filter's documentation beside this file."""
    return mysql.option(value)


def mysql_account_host(host):
    """See the filter's documentation beside this file."""
    try:
        return mysql.account_host(host)
    except ValueError as error:
        raise AnsibleFilterError(f"mysql_account_host: {error}") from error


class FilterModule:
    """Filters for servers and accounts of MySQL."""

    def filters(self):
        return {
            "mysql_account_host": mysql_account_host,
            "mysql_option": mysql_option,
            "mysql_password_changes": mysql_password_changes,
            "mysql_rights": mysql_rights,
            "mysql_server_id": mysql_server_id,
        }
