# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Refuses variables of a role that contradict each other, on the controller."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import preloaded  # noqa: F401
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.plain import plain
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import RoleValues, lines
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import shape_mistakes
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.specs import typed_variable


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {"role": {"type": "str", "required": True, "choices": list(roles.RULES)}}
        )
        task_vars = task_vars or {}
        role = args["role"]
        names = [name for name in task_vars if name.startswith(f"{role}_") and name != f"{role}_published"]
        templar = self._templar.copy_with_new_env(available_variables=task_vars)
        values = RoleValues(
            host=task_vars["inventory_hostname"],
            values={name: typed_variable(name, plain(templar.template(task_vars[name]))) for name in names},
            facts=task_vars.get("ansible_facts") or {},
            hostvars=task_vars["hostvars"],
        )
        options = roles.options(role)
        mistakes = [
            mistake
            for name in options
            if name in values.values
            for mistake in shape_mistakes(name, options[name], values[name], values.host)
        ]
        # The rules pass over what has another shape.
        found = lines([*mistakes, *roles.find_mistakes(role, values)])
        result["changed"] = False
        if found:
            result["failed"] = True
            result["msg"] = "\n".join([f"The variables of {role} do not fit together:", *found])
        return result
