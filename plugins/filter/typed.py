# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values as the type that argument_specs declare for them."""

from __future__ import annotations

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.specs import typed_variable


def typed(value, name):
    """See the filter's documentation beside this file."""
    return typed_variable(name, value)


class FilterModule:
    """Filters of variables of this collection."""

    def filters(self):
        return {"typed": typed}
