# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's half of release: check the source, give it an id, send it to hosts that lack it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import model
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import (
    preloaded,  # noqa: F401
    release_fetch,
)

MODULE = "foobar.web_infrastructure.release"


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    # Only a host that lacks the release gets something: that it has a directory for it is seen to then.
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _result, args = self.validate_argument_spec(model.ARGUMENT_SPEC)
        try:
            return self._ensure(args, task_vars)
        except model.ReleaseError as error:
            raise AnsibleActionFail(str(error)) from error

    def _ensure(self, args: dict[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        source = dict(args["source"])
        entries: list[model.Entry] = []
        if args["release"]:
            args |= {"_id": "", "_digest": ""}
        else:
            model.check_source(source)
            if source.get("path"):
                source["path"] = self._loader.path_dwim(source["path"])
            if source["type"] in ("git", "archive"):
                content = release_fetch.content_id(source, args["exclude"], self._folder)
            else:
                entries = self._scan(source, args) if source["type"] == "directory" else []
                content = model.digest(entries)
            args["_id"] = model.release_id(source, content, args["gunicorn"], args["python"])
            args["_digest"] = model.digest(entries)
        # Where it comes from is no business of the host, and an address may hold a password.
        args["source"] = source | {"url": None, "revision": None}
        result = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        if not result.pop("archive_wanted", False):
            return result
        if source["type"] != "directory":
            source["path"] = str(release_fetch.fetch(source, self._folder))
            entries = self._scan(source, args)
            args["_digest"] = model.digest(entries)
        return result if self._task.check_mode else self._build(args, source["path"], entries, task_vars)

    @property
    def _folder(self) -> Path:
        """Shared by all hosts of a run, removed at its end."""
        return Path(constants.DEFAULT_LOCAL_TMP, "foobar_release")

    def _scan(self, source: Mapping[str, Any], args: Mapping[str, Any]) -> list[model.Entry]:
        entries = model.scan(Path(source["path"]), args["exclude"])
        model.refuse_pointers(Path(source["path"]), entries)
        return entries

    def _build(
        self, args: dict[str, Any], path: str, entries: list[model.Entry], task_vars: Mapping[str, Any]
    ) -> dict[str, Any]:
        remote = self._connection._shell.join_path(self._make_tmp_path(), "source.tar.gz")
        with tempfile.TemporaryDirectory(dir=constants.DEFAULT_LOCAL_TMP) as local:
            archive = Path(local, "source.tar.gz")
            try:
                model.pack(Path(path), entries, archive)
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
