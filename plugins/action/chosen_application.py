# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Refuses a choice of applications that cannot be meant, on the controller."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import preloaded  # noqa: F401
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.applications import choice_mistakes
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import lines


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {
                "names": {"type": "list", "elements": "str", "required": True},
                "chosen": {"type": "str", "default": ""},
            }
        )
        found = lines(choice_mistakes(args["names"], args["chosen"], load_extra_vars(self._loader)))
        result["changed"] = False
        if found:
            result["failed"] = True
            result["msg"] = "\n".join(["Nothing has been touched.", *found])
        return result
