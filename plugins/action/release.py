# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's half of release: judge the source, give it an id, send it to hosts that lack it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import release as model

MODULE = "foobar.web_infrastructure.release"


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _result, args = self.validate_argument_spec(model.ARGUMENT_SPEC)
        source, entries = args["source"], []
        try:
            model.check_source(source)
            if source["type"] == "directory":
                source["path"] = self._loader.path_dwim(source["path"])
                entries = model.scan(Path(source["path"]), args["exclude"])
        except model.ReleaseError as error:
            raise AnsibleActionFail(str(error)) from error
        args["_id"] = model.release_id(source, entries, args["gunicorn"], args["python"])
        args["_digest"] = model.digest(entries)
        result = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        if result.pop("archive_wanted", False):
            result = self._build_from_archive(args, entries, task_vars)
        return result

    def _build_from_archive(self, args: dict, entries: list[model.Entry], task_vars: dict) -> dict:
        remote = self._connection._shell.join_path(self._make_tmp_path(), "source.tar.gz")
        with tempfile.TemporaryDirectory(dir=constants.DEFAULT_LOCAL_TMP) as local:
            archive = Path(local, "source.tar.gz")
            try:
                model.pack(Path(args["source"]["path"]), entries, archive)
            except OSError as error:
                raise AnsibleActionFail(f"gunicorn_flask_source.path: {error}; run again") from error
            self._transfer_file(str(archive), remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))
        try:
            return self._execute_module(
                module_name=MODULE, module_args=args | {"_archive": remote}, task_vars=task_vars
            )
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
