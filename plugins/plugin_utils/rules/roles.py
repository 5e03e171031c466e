# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules of each role, and the options of its argument_specs."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import (
    gunicorn_flask,
    haproxy_keepalived,
    mysql_replication,
    nginx,
    ufw_firewall,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Mistake, RoleValues, Rule
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.specs import DIRECTORY, all_options, options

__all__ = ["DIRECTORY", "RULES", "all_options", "find_mistakes", "options"]

RULES: Mapping[str, tuple[Rule, ...]] = {
    "gunicorn_flask": gunicorn_flask.RULES,
    "haproxy_keepalived": haproxy_keepalived.RULES,
    "mysql_replication": mysql_replication.RULES,
    "nginx": nginx.RULES,
    "ufw_firewall": ufw_firewall.RULES,
}


def find_mistakes(role: str, values: RoleValues) -> list[Mistake]:
    """Return what contradicts itself among the variables of a role on one host.

    Args:
        role: name of a role of this collection.
        values: its variables.
    """
    return [mistake for rule in RULES[role] for mistake in rule(values)]
