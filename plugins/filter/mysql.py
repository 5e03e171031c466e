# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Passwords of MySQL's accounts, compared with what MySQL keeps of them."""

from __future__ import annotations

from ansible_collections.ansible.mysql.plugins.module_utils.implementations.mysql.hash import (
    mysql_sha256_password_hash,
)

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


class FilterModule:
    """Filters for accounts of MySQL."""

    def filters(self):
        return {"mysql_password_changes": mysql_password_changes}
