# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's half of config_tree: check the arguments, render everything, hand it over in one execution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import generate_ansible_template_vars, trust_as_template
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import model
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import (
    preloaded,  # noqa: F401
    specs,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.typed import typed

COLLECTION = "foobar.web_infrastructure."
MODULE = f"{COLLECTION}config_tree"
#: Where templates find the variables of a role as they were given.
GIVEN = "__config_tree_given"


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        try:
            args = self._checked_arguments()
            variables = typed_variables(task_vars)
            files, contents = self._collect(args, args["files"], args["root"], variables)
            model.check_layout((file["path"] for file in files), args["absent"])
            companions = []
            for companion in args["companions"]:
                root = companion["root"]
                listed, others = self._collect(args, companion["files"], root, variables)
                model.check_layout((file["path"] for file in listed), [])
                companions.append({"root": root, "files": listed})
                contents |= {f"{root}/{path}": content for path, content in others.items()}
            payload = model.pack(contents)
        except model.ConfigTreeError as error:
            raise AnsibleActionFail(f"config_tree: {error}") from error
        module_args = {key: args[key] for key in model.ARGUMENT_SPEC}
        module_args |= {"files": files, "companions": companions, "_contents": payload}
        return self._execute_module(module_name=MODULE, module_args=module_args, task_vars=task_vars)

    def _checked_arguments(self) -> dict:
        for key in ("check", "apply"):
            model.check_argv(self._task.args.get(key, []), key)
        _result, args = self.validate_argument_spec(model.ARGUMENT_SPEC)
        args["root"] = model.check_root(args["root"])
        for key in ("mode", "directory_mode"):
            model.parse_mode(args[key], key)
        if args["timeout"] < 1:
            raise model.ConfigTreeError(f"timeout must be at least 1 second, not {args['timeout']}")
        model.check_units(args["units"])
        model.check_entries(args["files"])
        for companion in args["companions"]:
            companion["root"] = model.check_root(companion["root"])
            model.check_entries(companion["files"])
        model.check_roots([args["root"], *(companion["root"] for companion in args["companions"])])
        return args

    def _collect(self, args: dict, entries: list, root: str, task_vars: dict) -> tuple[list[dict], dict[str, bytes]]:
        """Every entry as plain files: what the module needs to know about each, and the contents apart from that."""
        files: list[dict] = []
        contents: dict[str, bytes] = {}
        default_mode = model.parse_mode(args["mode"], "mode")
        for entry in entries:
            attributes = {
                "owner": entry["owner"] or args["owner"],
                "group": entry["group"] or args["group"],
                "mode": f"{model.effective_mode(entry, default_mode):04o}",
                "secret": entry["secret"],
            }
            attributes["program"] = self._is_program(entry, attributes["mode"], task_vars)
            for path, content, mtime in self._contents(entry, root, task_vars):
                files.append({"path": path, "mtime": mtime, **attributes})
                contents[path] = content
        return files, contents

    def _is_program(self, entry: dict, mode: str, task_vars: dict) -> bool:
        """Whether a file comes with the role: one that it copies, or a template of something that is executed."""
        role = task_vars.get("role_path")
        if not role or (entry["copy"] is None and not int(mode, 8) & 0o111):
            return False
        source = self._find("files", entry["copy"]) if entry["copy"] is not None else entry["src"]
        return source is not None and (entry["copy"] is None or Path(source).is_relative_to(role))

    def _contents(self, entry: dict, root: str, task_vars: dict) -> list[tuple[str, bytes, int | None]]:
        if entry["content"] is not None:
            return [(entry["path"], str(entry["content"]).encode(), None)]
        if entry["copy"] is not None:
            return self._local_files(entry["path"], entry["copy"])
        return [(entry["path"], self._render(entry, f"{root}/{entry['path']}", task_vars), None)]

    def _find(self, folder: str, name: str) -> str:
        try:
            return self._find_needle(folder, name)
        except AnsibleError as error:
            raise model.ConfigTreeError(f"'{name}' is not to be found: {error}") from error

    # --- templates, as ansible.builtin.template renders them, with lstrip_blocks on

    def _render(self, entry: dict, destination: str, task_vars: dict) -> bytes:
        source = self._find("templates", entry["src"])
        # The search path and ansible_managed of the task, then the entry's own variables: the nearest wins.
        variables = task_vars | generate_ansible_template_vars(entry["src"], source, destination)
        if "ansible_managed" in task_vars:
            variables["ansible_managed"] = task_vars["ansible_managed"]
        variables |= entry["vars"] or {}
        templar = self._templar.copy_with_new_env(
            searchpath=self._search_path(source, task_vars), available_variables=variables
        )
        try:
            text = templar.template(
                trust_as_template(self._loader.get_text_file_contents(source)),
                escape_backslashes=False,
                overrides={"trim_blocks": True, "lstrip_blocks": True},
            )
        except AnsibleError as error:
            raise AnsibleActionFail(f"config_tree: template {source} for {destination}: {error}") from error
        return b"" if text is None else str(text).encode()

    def _search_path(self, source: str, task_vars: dict) -> list[str]:
        places = [*task_vars.get("ansible_search_path", []), self._loader.get_basedir(), str(Path(source).parent)]
        return [path for place in places for path in (f"{place}/templates", place)]

    # --- verbatim copies

    def _local_files(self, path: str, name: str) -> list[tuple[str, bytes, int]]:
        """Path, content and time: hosts that serve the same file must agree on its Last-Modified and ETag."""
        source = Path(self._find("files", name))
        if not source.is_dir():
            if path == ".":
                raise model.ConfigTreeError(f"path '.' stands for a whole directory, but {source} is a file")
            return [(path, self._read(source), int(source.stat().st_mtime))]
        found = []
        for file in _walk(source):
            relative = file.relative_to(source).as_posix()
            place = relative if path == "." else f"{path}/{relative}"
            found.append((place, self._read(file), int(file.stat().st_mtime)))
        return found

    def _read(self, file: Path) -> bytes:
        """Vault-encrypted files are decrypted, as the copy module does."""
        real = self._loader.get_real_file(str(file))
        try:
            return Path(real).read_bytes()
        finally:
            self._loader.cleanup_tmp_file(real)


def typed_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a task, those of the role that it stands in as the types that its argument_specs declare.

    What comes with ``-e`` is text, and nothing that a role does could replace it. Templates stay as lazy as they are.
    """
    name = str(variables.get("ansible_role_name") or "")
    role = name.removeprefix(COLLECTION)
    if name == role or role not in specs.ROLES:
        return dict(variables)
    found = dict(variables)
    given = {}
    for name, option in specs.all_options(role).items():
        if name not in variables:
            continue
        if _is_final(variables[name]):
            found[name] = typed(variables[name], option)
        else:
            given[name] = variables[name]
            found[name] = trust_as_template(f"{{{{ {GIVEN}['{name}'] | {COLLECTION}typed('{name}') }}}}")
    return found | {GIVEN: given}


def _is_final(value: Any) -> bool:
    """Whether there is no template in a value, so that it can be converted at once."""
    if isinstance(value, str):
        return "{" not in value
    if isinstance(value, list | tuple):
        return all(map(_is_final, value))
    if isinstance(value, Mapping):
        return all(map(_is_final, value.values()))
    return value is None or isinstance(value, bool | int | float)


def _walk(folder: Path, base: Path | None = None, above: tuple[Path, ...] = ()) -> list[Path]:
    """All files below, sorted. A link may lead to another place below, not out of the directory, not into a circle."""
    base = base or folder.resolve()
    above = (*above, folder.resolve())
    found: list[Path] = []
    for item in sorted(folder.iterdir()):
        target = item.resolve()
        if not target.exists():
            raise model.ConfigTreeError(f"{item} is a link to nowhere")
        if base not in (target, *target.parents):
            raise model.ConfigTreeError(f"{item} is a link out of the copied directory {base}")
        if target in above:
            raise model.ConfigTreeError(f"{item} is a link into a circle")
        if target.is_dir():
            found += _walk(item, base, above)
        else:
            found.append(item)
    return found
