# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's half of release_static: what the host has read becomes directories here."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import model, static

MODULE = "foobar.web_infrastructure.release_static"


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(static.ARGUMENT_SPEC)
        # Validated once more on the host, where a key without a value counts as given.
        args["places"] = [{key: value for key, value in place.items() if value} for place in args["places"]]
        result = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars or {})
        packed = result.pop("packed", "")
        # Ansible removes it with its other temporary files at the end of the run.
        folder = tempfile.mkdtemp(prefix="foobar_static_", dir=constants.DEFAULT_LOCAL_TMP)
        try:
            places = [place["path"] for place in args["places"]]
            result["directories"] = static.write(static.unpack(packed, places), Path(folder)) if packed else {}
        except (model.ReleaseError, ValueError, OSError) as error:
            raise AnsibleActionFail(f"{args['variable']}: {error}") from error
        return result
