# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What config_tree decides: is the wish sound, what differs from the live tree, what may be shown. No disk access."""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

MANIFEST = ".config_tree.json"
PENDING = ".config_tree.pending"
OWN_NAMES = frozenset((MANIFEST, PENDING))
DIFF_LIMIT = 100 * 1024
PAYLOAD_LIMIT = 32 * 1024 * 1024
# A template without an instance cannot run, and a pattern stands for units that nobody has named.
UNIT = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?\.(service|socket|timer|path|target|mount)")
MASK = "********"
#: When `check` runs besides where the tree differs.
OCCASIONS = ("unchanged", "check_mode")
HIDDEN = "not shown: secret or not readable by everyone\n"
BINARY = "not shown: binary or larger than 100 KiB\n"

ENTRY_SPEC = {
    "path": {"type": "str", "required": True},
    "src": {"type": "str"},
    "copy": {"type": "str"},
    "content": {"type": "raw"},
    "vars": {"type": "dict"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
    "secret": {"type": "bool", "default": False},
}
# What the action plugin tells the module of an entry beyond that.
MODULE_ENTRY_SPEC = ENTRY_SPEC | {"mtime": {"type": "int"}, "program": {"type": "bool", "default": False}}
COMPANION_SPEC = {
    "root": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict", "required": True, "options": ENTRY_SPEC},
}
MODULE_COMPANION_SPEC = COMPANION_SPEC | {"files": COMPANION_SPEC["files"] | {"options": MODULE_ENTRY_SPEC}}
ARGUMENT_SPEC = {
    "root": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict", "required": True, "options": ENTRY_SPEC},
    "absent": {"type": "list", "elements": "str", "default": []},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "raw", "default": "0644"},
    "directory_mode": {"type": "raw", "default": "0755"},
    "companions": {"type": "list", "elements": "dict", "default": [], "options": COMPANION_SPEC},
    "check": {"type": "list", "elements": "str", "default": []},
    "check_also": {"type": "list", "elements": "str", "choices": list(OCCASIONS), "default": []},
    "product": {"type": "str"},
    "apply": {"type": "list", "elements": "str", "default": []},
    "units": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 60},
}


class ConfigTreeError(Exception):
    """One sentence for the user: what is wrong and what is right. `outputs` goes into the task's result."""

    def __init__(self, message: str, **outputs: str) -> None:
        super().__init__(message)
        self.outputs = outputs


@dataclass(frozen=True)
class Entry:
    """What a path of the live tree is."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ino: int


@dataclass(frozen=True)
class Wanted:
    """A file that must be there. uid and gid are None where check mode met an owner that does not exist yet.

    mtime is given to a new file, but a file of another time is not a difference.
    """

    content: bytes
    mode: int
    uid: int | None
    gid: int | None
    secret: bool = False
    mtime: int | None = None
    program: bool = False


@dataclass(frozen=True)
class Manifest:
    """Which files and directories of a tree are ours."""

    files: frozenset[str] = frozenset()
    secret: frozenset[str] = frozenset()
    directories: frozenset[str] = frozenset()

    def dump(self) -> bytes:
        lists = {key: sorted(getattr(self, key)) for key in ("directories", "files", "secret")}
        return (json.dumps({"version": 1, **lists}, indent=1) + "\n").encode()

    @classmethod
    def load(cls, data: bytes) -> Manifest:
        """ValueError for anything that dump() did not write."""
        try:
            document = json.loads(data)
        except RecursionError:
            raise ValueError("lists in lists without an end") from None
        if not isinstance(document, dict) or document.get("version") != 1:
            raise ValueError("not version 1")
        lists = {key: document.get(key) for key in ("directories", "files", "secret")}
        for values in lists.values():
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise ValueError("a list of paths is missing")
        return cls(**{key: frozenset(values) for key, values in lists.items()})


@dataclass
class Plan:
    """How the next tree differs from the live one. Paths are relative to the root, `.` is the root."""

    manifest: Manifest
    added: set[str] = field(default_factory=set)
    altered: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    new_directories: set[str] = field(default_factory=set)
    altered_directories: set[str] = field(default_factory=set)
    dropped_directories: set[str] = field(default_factory=set)
    manifest_differs: bool = False

    @property
    def written(self) -> set[str]:
        return self.added | self.altered

    def additive(self, old: Manifest | None) -> Plan:
        """The same without what goes, which stays ours; as it is where something new takes the place of what goes."""
        kept = old or Manifest()
        places = {parent for path in self.written for parent in (path, *parents(path))} | self.new_directories
        if self.gone & places or any(set(parents(path)) & self.written for path in self.gone):
            return self
        manifest = Manifest(
            self.manifest.files | self.removed & kept.files,
            self.manifest.secret | self.removed & kept.secret,
            self.manifest.directories | self.dropped_directories & kept.directories,
        )
        return replace(
            self, manifest=manifest, removed=set(), dropped_directories=set(), manifest_differs=manifest != old
        )

    @property
    def gone(self) -> set[str]:
        return self.removed | self.dropped_directories

    @property
    def changed(self) -> bool:
        directories = self.new_directories | self.altered_directories | self.dropped_directories
        return bool(self.written or self.removed or directories or self.manifest_differs)


# --- is the wish sound ------------------------------------------------------------------------------------------------


def check_path(path: str, what: str) -> str:
    """A path relative to the root, in its only spelling."""
    if not path or "\0" in path or "\n" in path:
        raise ConfigTreeError(f"{what} is empty or holds a line break; give a path relative to root")
    if path.startswith(("/", "~")):
        raise ConfigTreeError(f"{what}: '{path}' is absolute; give it relative to root")
    if ".." in path.split("/"):
        raise ConfigTreeError(f"{what}: '{path}' climbs out of root; leave out '..'")
    if path == ".":
        raise ConfigTreeError(f"{what}: '.' is root itself, which only a copy of a directory can fill")
    if path != posixpath.normpath(path):
        raise ConfigTreeError(f"{what}: write '{posixpath.normpath(path)}' instead of '{path}'")
    if path in OWN_NAMES:
        raise ConfigTreeError(f"{what}: '{path}' is the name of a file that config_tree keeps for itself")
    return path


def parse_mode(value: object, what: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}|[0-7]{4}", value):
        return int(value, 8)
    raise ConfigTreeError(f'{what} must be a quoted octal number such as "0644", not {value!r}')


def check_root(root: str) -> str:
    clean = posixpath.normpath(root)
    if not root.startswith("/") or ".." in root.split("/") or clean.strip("/").count("/") < 1:
        raise ConfigTreeError(
            f"root: '{root}' must be an absolute path of at least two levels, without '..', such as /etc/nginx"
        )
    return clean


def check_roots(roots: Iterable[str]) -> None:
    """Trees of one transaction are apart from each other."""
    seen: list[str] = []
    for root in roots:
        for other in seen:
            if f"{root}/".startswith(f"{other}/") or f"{other}/".startswith(f"{root}/"):
                raise ConfigTreeError(
                    f"companions: '{root}' and '{other}' are not apart; give directories of their own"
                )
        seen.append(root)


def check_argv(value: object, what: str) -> None:
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) and word for word in value):
        raise ConfigTreeError(f"{what} must be a list of words such as [nginx, -t], not {value!r}")


def check_units(units: Iterable[str]) -> None:
    seen: set[str] = set()
    for unit in units:
        if not UNIT.fullmatch(unit):
            raise ConfigTreeError(f"units: '{unit}' is no full name of a unit; write one such as nginx.service")
        if unit in seen:
            raise ConfigTreeError(f"units: '{unit}' is listed twice; keep one")
        seen.add(unit)


def check_entries(entries: Iterable[Mapping]) -> None:
    """Each entry by itself: exactly one source, and a secret that stays one."""
    for number, entry in enumerate(entries, 1):
        path = entry["path"]
        what = f"files, entry {number}"
        sources = [key for key in ("src", "copy", "content") if entry.get(key) is not None]
        if len(sources) != 1:
            given = " and ".join(sources) or "none of them"
            raise ConfigTreeError(f"{what} ('{path}') needs exactly one of src, copy and content, it has {given}")
        if not (path == "." and sources == ["copy"]):
            check_path(path, f"{what}, path")
        if sources == ["content"] and not isinstance(entry["content"], str):
            kind = type(entry["content"]).__name__
            raise ConfigTreeError(f"{what} ('{path}'): content must be a string, not {kind}")
        if entry.get("vars") and sources != ["src"]:
            raise ConfigTreeError(f"{what} ('{path}'): vars are for a template (src), not for {sources[0]}")
        if entry.get("mode") is not None:
            mode = parse_mode(entry["mode"], f"{what} ('{path}'), mode")
            if entry.get("secret") and mode & 0o007:
                raise ConfigTreeError(f"{what} ('{path}') is secret, mode {mode:04o} is not: use \"0640\" or tighter")


def effective_mode(entry: Mapping, default: int) -> int:
    """A secret that states no mode gets the default one without the rights of others."""
    if entry.get("mode") is not None:
        return parse_mode(entry["mode"], "mode")
    return default & ~0o007 if entry.get("secret") else default


def check_layout(paths: Iterable[str], absent: Iterable[str]) -> None:
    """All paths together: each once, none a file and a directory at a time, none wanted and unwanted."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise ConfigTreeError(f"files: two entries make '{path}'; keep one")
        seen.add(check_path(path, "files, path"))
    for path in seen:
        for parent in parents(path):
            if parent in seen:
                raise ConfigTreeError(f"files: '{parent}' is a file, so '{path}' cannot be below it")
    for path in absent:
        check_path(path, "absent")
        if path in seen:
            raise ConfigTreeError(f"'{path}' is listed in files and in absent; keep one")
        if any(other.startswith(path + "/") for other in seen):
            raise ConfigTreeError(f"absent: '{path}' is a directory that files needs")


def parents(path: str) -> list[str]:
    """'a/b/c' -> ['a', 'a/b']"""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


# --- from the controller to the target --------------------------------------------------------------------------------


def pack(contents: Mapping[str, bytes]) -> str:
    size = sum(map(len, contents.values()))
    if size > PAYLOAD_LIMIT:
        raise ConfigTreeError(f"files hold {size >> 20} MiB; config_tree is for configuration, up to 32 MiB")
    document = {path: base64.b64encode(content).decode() for path, content in contents.items()}
    return base64.b64encode(zlib.compress(json.dumps(document).encode())).decode()


def unpack(payload: str) -> dict[str, bytes]:
    document = json.loads(zlib.decompress(base64.b64decode(payload)))
    return {path: base64.b64decode(content) for path, content in document.items()}


# --- what differs -----------------------------------------------------------------------------------------------------


def make_plan(
    wanted: Mapping[str, Wanted],
    live: Mapping[str, Entry] | None,
    manifest: Manifest | None,
    absent: Iterable[str],
    directory: Wanted,
    same_content: Callable[[str, Wanted], bool],
) -> Plan:
    """`live` is None where root is missing, `manifest` where the tree is not ours yet; `directory` is how ours look."""
    old = manifest or Manifest()
    here = live or {}
    removed = _removed(wanted, here, old, absent)
    needed = {parent for path in wanted for parent in parents(path)}
    dropped = _dropped_directories(wanted, here, old, removed, needed)
    new = {path for path in needed if path not in here or here[path].kind != "dir"}
    _refuse_obstacles(wanted, here, removed, dropped, new)

    ours = (new | old.directories & needed | _kept(old, here, needed, dropped)) - dropped
    unlisted = {path for path in ours if path not in new}
    altered_directories = {path for path in unlisted if not _same_owner_and_mode(here[path], directory)}
    if live is None:
        new.add(".")
    elif not _same_owner_and_mode(here["."], directory):
        altered_directories.add(".")

    plan = Plan(
        manifest=Manifest(
            frozenset(wanted), frozenset(p for p, file in wanted.items() if file.secret), frozenset(ours)
        ),
        removed=removed,
        new_directories=new,
        altered_directories=altered_directories,
        dropped_directories=dropped,
    )
    for path, file in wanted.items():
        entry = here.get(path)
        if entry is None:
            plan.added.add(path)
        elif entry.kind != "file" or not _same_owner_and_mode(entry, file) or not same_content(path, file):
            plan.altered.add(path)
    plan.manifest_differs = manifest != plan.manifest
    return plan


def same_tree(before: Mapping[str, Entry], after: Mapping[str, Entry] | None, plan: Plan) -> bool:
    """Has nobody touched the live tree meanwhile? What both trees share is one inode: writing into that is no loss."""
    if after is None or before.keys() != after.keys():
        return False
    replaced = plan.written | plan.removed
    return all(
        _fingerprint(before[path], path in replaced) == _fingerprint(after[path], path in replaced) for path in before
    )


def _fingerprint(entry: Entry, replaced: bool) -> Entry | tuple:
    if entry.kind == "dir":
        return entry.kind, entry.mode, entry.uid, entry.gid
    return entry if replaced else (entry.kind, entry.ino)


def _removed(wanted: Mapping[str, Wanted], here: Mapping[str, Entry], old: Manifest, absent: Iterable[str]) -> set[str]:
    stale = {path for path in old.files if path not in wanted and path in here and here[path].kind != "dir"}
    unwanted = {path for path in absent if path in here}
    for path in sorted(unwanted):
        if here[path].kind == "dir":
            raise ConfigTreeError(f"absent: '{path}' is a directory; list the files in it")
    return stale | unwanted


def _dropped_directories(
    wanted: Mapping[str, Wanted], here: Mapping[str, Entry], old: Manifest, removed: set[str], needed: set[str]
) -> set[str]:
    """Directories that are empty now and that we made and nobody needs, or that stand where a file belongs."""
    candidates = {
        path
        for path, entry in here.items()
        if entry.kind == "dir" and (path in wanted or path in old.directories - needed)
    }
    candidates |= {path for path in here if here[path].kind == "dir" and any(up in wanted for up in parents(path))}
    keepers = {path for path, entry in here.items() if entry.kind != "dir" and path not in removed}
    keepers |= {path for path, entry in here.items() if entry.kind == "dir" and path not in candidates}
    occupied = {parent for path in keepers for parent in parents(path)}
    return candidates - occupied


def _kept(old: Manifest, here: Mapping[str, Entry], needed: set[str], dropped: set[str]) -> set[str]:
    """Directories of ours that hold foreign files now: still ours, so that they go when those are gone."""
    return {path for path in old.directories - needed - dropped if path in here and here[path].kind == "dir"}


def _refuse_obstacles(
    wanted: Mapping[str, Wanted], here: Mapping[str, Entry], removed: set[str], dropped: set[str], new: set[str]
) -> None:
    for path in sorted(wanted):
        if path in here and here[path].kind == "dir" and path not in dropped:
            raise ConfigTreeError(
                f"'{path}' must be a file, but is a directory that holds other things; move them away"
            )
    for path in sorted(new):
        if path in here and path not in removed:
            kind = "symbolic link" if here[path].kind == "link" else "file"
            raise ConfigTreeError(f"'{path}' must be a directory, but is a {kind} of somebody else; move it away")


def _same_owner_and_mode(entry: Entry, wish: Wanted) -> bool:
    return (entry.mode, entry.uid, entry.gid) == (wish.mode, wish.uid, wish.gid)


# --- what may be shown ------------------------------------------------------------------------------------------------


def file_diff(
    path: str, before: bytes | None, after: bytes | None, hide_before: bool, hide_after: bool, program: bool = False
) -> dict[str, str]:
    """A program of this collection is named, with what tells one version from another."""
    if program:
        before, after = _named(before), _named(after)
    old, new = _showable(before, hide_before), _showable(after, hide_after)
    if old == new and before != after:
        old, new = f"before, {old}", f"after, {new}"
    return {
        "before": old,
        "after": new,
        "before_header": path if before is not None else f"{path} (missing)",
        "after_header": path if after is not None else f"{path} (removed)",
    }


def attribute_diff(path: str, before: str, after: str) -> dict[str, str]:
    return {"before": before + "\n", "after": after + "\n", "before_header": path, "after_header": path}


def _named(content: bytes | None) -> bytes | None:
    if content is None:
        return None
    count, version = len(content.splitlines()), hashlib.sha256(content).hexdigest()[:12]
    return f"not shown: a program of this collection, {count} lines, version {version}\n".encode()


def _showable(content: bytes | None, hide: bool) -> str:
    if content is None:
        return ""
    if hide:
        return HIDDEN
    if len(content) > DIFF_LIMIT or b"\0" in content:
        return BINARY
    try:
        return content.decode()
    except UnicodeDecodeError:
        return BINARY


def mask(output: str, secrets: Iterable[bytes], known: Iterable[str] = ()) -> str:
    """A product quotes what it dislikes. Parts of `known` (paths, say) stay, they are no secrets."""
    needles: set[str] = set()
    for content in secrets:
        for line in content.decode(errors="replace").splitlines():
            needles |= _secret_parts(line.strip())
    needles -= {piece for text in known for piece in _pieces(text)}
    for needle in sorted(needles, key=len, reverse=True):
        output = output.replace(needle, MASK)
    return output


def _secret_parts(line: str) -> set[str]:
    words = [word.rstrip(";,").strip("\"'") for word in line.split()]
    quoted = [first or second for first, second in re.findall(r""""([^"]+)"|'([^']+)'""", line)]
    pieces = _pieces(line)
    # What may be a value as a whole, of pieces that are too short for secrets of their own.
    value = re.sub(r"^[^\s=:]+[\s=:]+", "", line).rstrip(";,").strip("\"'")
    # The first of several words is a keyword, which the user must see; unless it looks like anything else than a word.
    keyword = pieces[0] if len(pieces) > 1 and re.fullmatch("[A-Za-z_-]+", pieces[0]) else None
    candidates = {line, line.rstrip(";,"), value, *words, *quoted, *pieces}
    return {part for part in candidates if len(part) >= 4 and part not in (keyword, f"{keyword}:", f"{keyword}=")}


def _pieces(text: str) -> list[str]:
    return [piece for piece in re.split(r"[\s\"'=:;,@/(){}\[\]<>]+", text) if piece]


def tail(output: str, lines: int = 40) -> str:
    kept = output.strip().splitlines()[-lines:]
    return "\n".join(kept)
