# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One run of config_tree on the target, from the arguments to the result."""

from __future__ import annotations

import grp
import pwd
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import model, tree, units
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.command import (
    PATH,
    Outcome,
    run_command,
)
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError

# The namespace keeps the mount from everybody else and ends with the command. Read-only: both trees share files.
IN_STAGED = [
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-c",
    'mount -o bind,ro "$0" "$1" && shift && exec "$@"',
]


class Run:
    """The arguments made fit for use, and the course of a run."""

    def __init__(self, params: Mapping[str, Any], check_mode: bool = False, want_diff: bool = False) -> None:
        self.tree = tree.Tree(params["root"])
        self.check = params["check"]
        self.apply = params["apply"]
        self.unit_names = params["units"]
        self.timeout = params["timeout"]
        self.absent = params["absent"]
        self.check_mode = check_mode
        self.want_diff = want_diff
        self.warnings: list[str] = []
        self.outputs: dict[str, str] = {}
        self.secrets: list[bytes] = []
        self.check_also = params.get("check_also") or []
        self.product = params.get("product") or next(iter(self.check), "")
        contents = model.unpack(params["_contents"])
        prefix = params.get("_prefix", "")
        self.units: list[units.Unit] = []
        self.wanted = {file["path"]: self._wanted(file, contents[prefix + file["path"]]) for file in params["files"]}
        directory = {"owner": params["owner"], "group": params["group"], "mode": params["directory_mode"]}
        self.directory = self._wanted(directory, b"")
        self.companions = [
            Companion(params, companion, check_mode, want_diff) for companion in params.get("companions") or []
        ]

    def execute(self) -> dict[str, Any]:
        with ExitStack() as locks:
            for one in [] if self.check_mode else [self, *self.companions]:
                locks.enter_context(host_lock.exclusive(one.tree.root))
            pending = self._prepare()
            for companion in self.companions:
                companion.pending = companion._prepare()
            self.units = units.read_units(self.unit_names)
            result = self._result(pending)
            if self.check_mode:
                self._predict()
                return result | self.outputs
            if self.check and "unchanged" in self.check_also and not self.plan.changed and not pending:
                self._check_unchanged()
            if not result["changed"]:
                return result | self.outputs
            self._find_commands()
            try:
                if self.plan.changed:
                    self._put_in_place()
                elif pending:
                    self._check_live()
                if self.plan.changed or pending:
                    self._apply()
            except (ConfigTreeError, OSError):
                for companion in self.companions:
                    companion.take_back()
                raise
            for companion in self.companions:
                companion.finish()
            result["started_units"] = self._bring_up(result["started_units"])
            return result | self.outputs

    def _prepare(self) -> bool:
        """Put in order what an earlier run has left, compare, and say whether an `apply` is outstanding."""
        if not self.check_mode:
            tree.finish_adoption(self.tree)
        tree.refuse_unsuitable(self.tree)
        pending = self.tree.pending() if self.check_mode else tree.heal(self.tree)
        self._compare()
        return pending

    # --- comparing

    def _wanted(self, file: Mapping[str, Any], content: bytes) -> model.Wanted:
        return model.Wanted(
            content=content,
            mode=int(file["mode"], 8),
            uid=self._id(file["owner"], "user", lambda name: pwd.getpwnam(name).pw_uid),
            gid=self._id(file["group"], "group", lambda name: grp.getgrnam(name).gr_gid),
            secret=file.get("secret", False),
            mtime=file.get("mtime"),
            program=file.get("program", False),
        )

    def _id(self, name: str, kind: str, lookup: Callable[[str], int]) -> int | None:
        if name.isdecimal():
            return int(name)
        try:
            return lookup(name)
        except KeyError:
            # In check mode an earlier task may only have promised to create it.
            if self.check_mode:
                return None
            raise ConfigTreeError(
                f"{self.tree.root}: there is no {kind} '{name}' on this host; create it first"
            ) from None

    def _compare(self) -> None:
        paths = self.tree
        self.live = tree.scan(paths.root)
        try:
            self.manifest = tree.load_manifest(paths.root)
        except ValueError as error:
            self.manifest = None
            self.warnings.append(
                f"{paths.root / model.MANIFEST} is damaged ({error}) and written anew; unlisted files stay"
            )
        try:
            self.plan = model.make_plan(
                self.wanted, self.live, self.manifest, self.absent, self.directory, self._same_content
            )
        except ConfigTreeError as error:
            raise ConfigTreeError(f"{paths.root}: {error}") from None
        once_secret = self.manifest.secret if self.manifest else frozenset()
        self.secrets = [file.content for file in self.wanted.values() if file.secret]
        self.secrets += [tree.read_live(paths.root, path, self.live or {}) or b"" for path in once_secret]

    def _same_content(self, path: str, file: model.Wanted) -> bool:
        if self.live is None or self.live[path].size != len(file.content):
            return False
        return (self.tree.root / path).read_bytes() == file.content

    def _result(self, pending: bool) -> dict[str, Any]:
        lacking = [unit.name for unit in self.units if not unit.good]
        beside = [companion.summary() for companion in self.companions]
        result: dict[str, Any] = {
            "changed": self.plan.changed or pending or bool(lacking) or any(one["changed"] for one in beside),
            "added": sorted(self.plan.added),
            "changed_files": sorted(self.plan.altered),
            "removed": sorted(self.plan.removed),
            "restored_pending": pending,
            "started_units": lacking,
        }
        if beside:
            result["companions"] = beside
        if self.want_diff:
            result["diff"] = [diff for one in (*self.companions, self) for diff in one._diffs()]
        return result

    def _diffs(self):
        live, plan, root = self.live or {}, self.plan, self.tree.root
        for path in sorted(plan.written | plan.removed):
            before = tree.read_live(root, path, live)
            file = self.wanted.get(path)
            after = file.content if file else None
            if before != after:
                program = file is not None and file.program
                yield model.file_diff(str(root / path), before, after, *self._hidden(path, file), program)
        for path in sorted(plan.altered | plan.altered_directories):
            wish = self.wanted.get(path, self.directory)
            old, new = _attributes(live[path]), _attributes(wish)
            if old != new:
                yield model.attribute_diff(str(root / path), old, new)
        for path in sorted(plan.new_directories):
            yield model.attribute_diff(str(root / path), "missing", _attributes(self.directory))
        for unit in self.units:
            if not unit.good:
                yield model.attribute_diff(unit.name, str(unit), unit.once_good)

    def _hidden(self, path: str, file: model.Wanted | None) -> tuple[bool, bool]:
        """Hide what is secret, what once was, and what somebody else keeps from others."""
        entry = (self.live or {}).get(path)
        managed = self.manifest is not None and path in self.manifest.files
        secret = (file is not None and file.secret) or (self.manifest is not None and path in self.manifest.secret)
        private = entry is not None and not managed and not entry.mode & 0o004
        return secret or private, secret

    # --- changing

    def _find_commands(self) -> None:
        for what, argv in (("check", self.check), ("apply", self.apply)):
            if not argv or self._has(argv[0]):
                continue
            raise ConfigTreeError(
                f"{self.tree.root}: {what}: there is no command '{argv[0]}' on this host; nothing has changed"
            )

    def _predict(self) -> None:
        """In check mode the product judges a copy of the new tree, where it is installed."""
        if not self.check or "check_mode" not in self.check_also or not self.plan.changed:
            return
        root = self.tree.root
        if not root.is_dir() or not self._has(self.product):
            self.warnings.append(
                f"{root}: check mode cannot say whether {self.product} takes the new configuration, it is not installed"
            )
            return
        with tempfile.TemporaryDirectory(prefix="config_tree.") as place:
            copy = Path(place, "tree")
            tree.sketch(copy, self.tree.root, self.plan, self.wanted, self.live, self.directory)
            outcome = self._judge(copy)
        self._note("check_output", outcome)
        if not outcome.ok:
            raise ConfigTreeError(
                f"{root}: the new configuration would be refused by {_quoted(self.check)}; nothing has changed. "
                f"It said: {self.outputs['check_output']}",
                **self.outputs,
            )

    def _judge(self, staged: Path) -> Outcome:
        """What `check` says of a tree that it finds at the root."""
        root = self.tree.root
        prefix = [*IN_STAGED, str(staged), str(root)]
        outcome = run_command([*prefix, *self.check], self.timeout)
        if not outcome.ok and not (probe := run_command([*prefix, "true"], self.timeout)).ok:
            raise ConfigTreeError(
                f"{root}: the new tree cannot be mounted for its check: {probe.said}; nothing has changed"
            )
        return outcome

    def _check_unchanged(self) -> None:
        """What others have put there is judged too: the next reload or restart would fail, and nobody would know."""
        outcome = run_command(self.check, self.timeout)
        self._note("check_output", outcome)
        if not outcome.ok:
            raise ConfigTreeError(
                f"{self.tree.root}: nothing of ours differs, but {_quoted(self.check)} refuses what is there now, so "
                f"the next reload or restart would fail: correct what others have put there. "
                f"It said: {self.outputs['check_output']}",
                **self.outputs,
            )

    def _has(self, command: str) -> bool:
        return bool(command.startswith(f"{self.tree.root}/") or shutil.which(command, path=PATH))

    def _put_in_place(self) -> None:
        paths = self.tree
        try:
            try:
                tree.refuse_immutable(paths, self.live or {})
                tree.stage(paths, self.plan, self.wanted, self.live, self.directory)
            except OSError as error:
                raise ConfigTreeError(
                    f"{paths.root}: the new tree cannot be built beside it: {error.strerror}; nothing has changed"
                ) from error
            self._check_staged()
            now = tree.scan(paths.root)
            if not (now is None if self.live is None else model.same_tree(self.live, now, self.plan)):
                raise ConfigTreeError(
                    f"{paths.root} was changed by somebody else during this run; that stays, ours is not made: "
                    "run again"
                )
            for companion in self.companions:
                companion.add()
            tree.swap(paths, existed=self.live is not None)
        except (ConfigTreeError, OSError):
            tree.sort_out_staged(paths)
            raise

    def _check_staged(self) -> None:
        if not self.check:
            return
        root = self.tree.root
        made = not root.exists()
        if made:
            root.mkdir(mode=0o755)  # only to have something to mount on
        try:
            outcome = self._judge(self.tree.staged)
        finally:
            if made:
                root.rmdir()
        self._note("check_output", outcome)
        if not outcome.ok:
            raise ConfigTreeError(
                f"{root}: the new configuration was refused by {_quoted(self.check)}; the running one is untouched. "
                f"It said: {self.outputs['check_output']}",
                **self.outputs,
            )

    def _check_live(self) -> None:
        """The tree is what it should be, but an earlier run could not finish it."""
        if not self.check:
            return
        outcome = run_command(self.check, self.timeout)
        self._note("check_output", outcome)
        if not outcome.ok:
            self._go_back(f"the configuration of an unfinished run is refused by {_quoted(self.check)}", "check_output")

    def _apply(self) -> None:
        if self.apply:
            with suppress(units.UnitError):  # what it needs of that, it says itself
                units.clear(self.unit_names, self.timeout)
            outcome = run_command(self.apply, self.timeout)
            self._note("apply_output", outcome)
            if not outcome.ok:
                self._go_back(f"{_quoted(self.apply)} failed with the new configuration", "apply_output")
        tree.confirm(self.tree)

    def _go_back(self, reason: str, output: str) -> None:
        root = self.tree.root
        message = f"{root}: {reason}"
        said = f"It said: {self.outputs[output]}"
        if not tree.is_marked(root):
            raise ConfigTreeError(f"{message}; it is the last one that worked, so it stays. {said}", **self.outputs)
        if not tree.can_roll_back(self.tree):
            tree.withdraw(self.tree)
            said += self._bring_back([unit.name for unit in self.units if unit.running])
            raise ConfigTreeError(f"{message}; there was none before, so it is taken out again. {said}", **self.outputs)
        tree.roll_back(self.tree)
        again = run_command(self.apply, self.timeout) if self.apply else Outcome(True, "")
        self._note("rollback_output", again)
        said += self._bring_back(self.unit_names)
        if not again.ok:
            raise ConfigTreeError(
                f"{message}; the old one is back in place, but {_quoted(self.apply)} fails with it too: "
                f"{self.outputs['rollback_output']}. {said}",
                **self.outputs,
            )
        tree.confirm(self.tree)
        raise ConfigTreeError(f"{message}; the old one is back in place and applied. {said}", **self.outputs)

    def _bring_up(self, lacking: Sequence[str]) -> list[str]:
        """Those that were down before and that `apply` has started count as well, as check mode has said."""
        try:
            started = units.bring_up(self.unit_names, self.timeout)
        except units.UnitError as error:
            said = self._masked(str(error))
            raise ConfigTreeError(
                f"{self.tree.root}: the configuration is in place, but {said}", **self.outputs
            ) from None
        return [name for name in self.unit_names if name in {*lacking, *started}]

    def _bring_back(self, names: Sequence[str]) -> str:
        """A run that fails leaves no service down. It fails anyway, so this only adds to its message."""
        try:
            units.bring_up(names, self.timeout)
        except ConfigTreeError as error:
            return f" And {self._masked(str(error))}"
        return ""

    def _note(self, key: str, outcome: Outcome) -> None:
        self.outputs[key] = model.tail(self._masked(outcome.said))

    def _masked(self, said: str) -> str:
        known = [str(self.tree.root), *self.wanted, *self.check, *self.apply, *self.unit_names]
        return model.mask(said, self.secrets, known)


class Companion(Run):
    """A second tree that the configuration refers to: new files come before it is live, old ones go when it works.

    What is new is put there beside what goes, with the mark of an unfinished run and the tree from before at hand. So
    each configuration finds its files, and a run that fails leaves them as they were.
    """

    def __init__(
        self, params: Mapping[str, Any], companion: Mapping[str, Any], check_mode: bool, want_diff: bool
    ) -> None:
        nothing = {"absent": [], "check": [], "apply": [], "units": [], "check_also": [], "companions": []}
        prefix = f"{companion['root']}/"
        super().__init__({**params, **companion, **nothing, "_prefix": prefix}, check_mode, want_diff)
        self.pending = False
        self.added = False

    def summary(self) -> dict[str, Any]:
        return {
            "root": str(self.tree.root),
            "changed": self.plan.changed or self.pending,
            "added": sorted(self.plan.added),
            "changed_files": sorted(self.plan.altered),
            "removed": sorted(self.plan.removed),
        }

    def add(self) -> None:
        """Put what is new in place; what is to go stays."""
        whole, self.plan = self.plan, self.plan.additive(self.manifest)
        try:
            if self.plan.changed:
                self._put_in_place()
                self.added = True
        finally:
            self.plan = whole

    def take_back(self) -> None:
        if not self.added:
            return
        self.added = False
        if tree.can_roll_back(self.tree):
            tree.roll_back(self.tree)
            tree.confirm(self.tree)
        else:
            tree.withdraw(self.tree)

    def finish(self) -> None:
        """The configuration works: what is no longer listed goes."""
        if self.added or self.pending:
            tree.confirm(self.tree)
            self._compare()
        if self.plan.changed:
            self._put_in_place()
            tree.confirm(self.tree)


def _attributes(wish: model.Entry | model.Wanted) -> str:
    kind = f"{wish.kind} " if isinstance(wish, model.Entry) and wish.kind not in ("file", "dir") else ""
    owner, group = ("unknown" if number is None else _name(number, lookup) for number, lookup in _ids(wish))
    return f"{kind}{wish.mode:04o} {owner}:{group}"


def _ids(wish: model.Entry | model.Wanted) -> tuple:
    return (wish.uid, lambda uid: pwd.getpwuid(uid).pw_name), (wish.gid, lambda gid: grp.getgrgid(gid).gr_name)


def _name(number: int, lookup: Callable[[int], str]) -> str:
    try:
        return lookup(number)
    except KeyError:
        return str(number)


def _quoted(argv: Sequence[str]) -> str:
    return f"`{shlex.join(argv)}`"
