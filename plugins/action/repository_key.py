# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at the key that is there with one command, for which no Python has to start; the module does the rest."""

from __future__ import annotations

import base64
import binascii
import shlex

from ansible.plugins.action import ActionBase
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import repository_key

MODULE = "foobar.web_infrastructure.repository_key"


def decoded(said: str) -> bytes:
    """The file that base64 has printed; empty if that is something else."""
    try:
        return base64.b64decode(said.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(repository_key.ARGUMENT_SPEC)
        path, fingerprints = arguments["path"], arguments["fingerprints"]
        said = self._low_level_execute_command(shlex.join(["base64", "--wrap=0", path]))
        if repository_key.is_in_place(decoded(said["stdout"]), path, fingerprints):
            return {"changed": False}
        return self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)
