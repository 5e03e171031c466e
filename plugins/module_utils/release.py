# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release is made of: is the wish sound, what is in the source, which id does that give. Nothing is changed."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

# A release that an older way of building has made is not the same release.
RECIPE = 1
SOURCE_SPEC = {
    "type": {"type": "str", "required": True, "choices": ["directory", "pypi"]},
    "path": {"type": "path"},
    "requirements": {"type": "str", "default": "requirements.txt"},
    "requirement": {"type": "str"},
    "packages": {"type": "list", "elements": "str", "default": []},
}
ARGUMENT_SPEC = {
    "root": {"type": "path", "required": True},
    "source": {"type": "dict", "required": True, "options": SOURCE_SPEC},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "gunicorn": {"type": "str", "required": True},
    "python": {"type": "str", "default": "python3"},
}


class ReleaseError(Exception):
    """One sentence for the user: what is wrong and what is right."""


@dataclass(frozen=True, order=True)
class Entry:
    """A path of a source. `content` is a digest for a file, the target for a link and nothing for a directory."""

    path: str
    kind: str
    executable: bool = False
    content: str = ""


# --- is the wish sound ------------------------------------------------------------------------------------------------


def check_source(source: Mapping) -> None:
    kind = source["type"]
    needed, unfit = ("path", "requirement") if kind == "directory" else ("requirement", "path")
    if not source.get(needed):
        raise ReleaseError(f"gunicorn_flask_source: type {kind} needs '{needed}'")
    if source.get(unfit):
        raise ReleaseError(f"gunicorn_flask_source: '{unfit}' is not for type {kind}; leave it out")
    for word in [source.get("requirement") or "", *source["packages"]]:
        if word.startswith("-") or "\n" in word:
            raise ReleaseError(
                f"gunicorn_flask_source: '{word}' is not a requirement; write one such as 'httpbin==0.10.4'"
            )


# --- what is in a directory -------------------------------------------------------------------------------------------


def scan(root: Path, exclude: Sequence[str] = ()) -> list[Entry]:
    """Everything below, sorted by path. Compiled Python is left out: it is made anew on the host."""
    if not root.is_dir():
        raise ReleaseError(f"gunicorn_flask_source.path: there is no directory {root} on the controller")
    try:
        entries = sorted(_walk(root, root.resolve(), "", ("__pycache__", *exclude)))
    except PermissionError as error:
        raise ReleaseError(f"gunicorn_flask_source.path: {error.filename} cannot be read: {error.strerror}") from None
    if not any(entry.kind == "file" for entry in entries):
        raise ReleaseError(f"gunicorn_flask_source.path: {root} holds no file of an application")
    return entries


def _walk(root: Path, base: Path, prefix: str, exclude: Sequence[str]) -> Iterator[Entry]:
    with os.scandir(root / prefix) as items:
        for item in items:
            path = f"{prefix}{item.name}"
            if is_excluded(path, exclude):
                continue
            mode = item.stat(follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                yield Entry(path, "link", content=_link(root / path, base))
            elif stat.S_ISDIR(mode):
                yield Entry(path, "dir")
                yield from _walk(root, base, f"{path}/", exclude)
            elif stat.S_ISREG(mode):
                with (root / path).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                yield Entry(path, "file", bool(mode & stat.S_IXUSR), digest)
            else:
                raise ReleaseError(
                    f"gunicorn_flask_source.path: {root / path} is neither file nor directory nor link; exclude it"
                )


def is_excluded(path: str, exclude: Iterable[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(path, pattern) for pattern in exclude)


def _link(path: Path, base: Path) -> str:
    target = path.readlink()
    inside = not target.is_absolute() and base in path.resolve().parents
    if not inside or not path.exists():
        raise ReleaseError(
            f"gunicorn_flask_source.path: {path} is a link to {target}, which is nowhere on the host; exclude it"
        )
    return str(target)


def digest(entries: Iterable[Entry]) -> str:
    return _hash([astuple(entry) for entry in entries])


def release_id(source: Mapping, entries: Iterable[Entry], gunicorn: str, python: str) -> str:
    """The same code and the same requirements give the same id, on every controller."""
    wish = {key: source.get(key) for key in ("type", "requirements", "requirement", "packages")}
    return _hash([RECIPE, wish, digest(entries), gunicorn, python])[:12]


def _hash(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


# --- from the controller to the host ----------------------------------------------------------------------------------


def pack(root: Path, entries: Iterable[Entry], archive: Path) -> None:
    """Modes and owners do not depend on the controller. Times of change stay: web servers make ETags of them."""
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT, compresslevel=6) as tar:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode = 0o755 if entry.executable or entry.kind == "dir" else 0o644
            member.mtime = int((root / entry.path).lstat().st_mtime)
            if entry.kind == "file":
                content = (root / entry.path).read_bytes()
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.type = tarfile.DIRTYPE if entry.kind == "dir" else tarfile.SYMTYPE
                member.linkname = entry.content
                tar.addfile(member)


def unpack(archive: Path, target: Path) -> None:
    """Our own archive, so its paths are sound. Directories keep the time of now: Python's import looks at it."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            path = target / member.name
            if member.isdir():
                path.mkdir(mode=0o755)
            elif member.issym():
                path.symlink_to(member.linkname)
            else:
                with path.open("xb") as file:
                    shutil.copyfileobj(tar.extractfile(member), file)
                path.chmod(member.mode)
                os.utime(path, (member.mtime, member.mtime))
