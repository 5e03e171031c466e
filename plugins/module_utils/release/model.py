# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release is made of: is the wish sound, what is in the source, which id does that give. Nothing is changed."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

# A release that an older way of building has made is not the same release.
RECIPE = 2
SOURCE_SPEC = {
    "type": {"type": "str", "required": True, "choices": ["directory", "git", "archive", "pypi"]},
    "path": {"type": "path"},
    "url": {"type": "str"},
    "revision": {"type": "str"},
    "checksum": {"type": "str"},
    "subdirectory": {"type": "str"},
    "submodules": {"type": "bool", "default": True},
    "build": {"type": "list", "elements": "str", "default": []},
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
    "release": {"type": "str", "default": ""},
    "config": {"type": "path"},
    "user": {"type": "str"},
    "units": {"type": "list", "elements": "str", "default": []},
}
# What each type of source needs, and what it may have besides that. The rest of these is not for it.
NEEDED = {"directory": ["path"], "git": ["url", "revision"], "archive": ["checksum"], "pypi": ["requirement"]}
POSSIBLE = {"directory": [], "git": ["subdirectory"], "archive": ["path", "url", "subdirectory"], "pypi": []}
# What Git LFS puts in the place of a file. A pointer is shorter than this.
POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_SIZE = 1024
CHECKSUM = re.compile(r"sha256:[0-9a-fA-F]{64}")


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
    for key in NEEDED[kind]:
        if not source.get(key):
            raise ReleaseError(f"gunicorn_flask_source: type {kind} needs '{key}'")
    for key in ("path", "url", "revision", "checksum", "subdirectory", "requirement"):
        if source.get(key) and key not in NEEDED[kind] + POSSIBLE[kind]:
            raise ReleaseError(f"gunicorn_flask_source: '{key}' is not for type {kind}; leave it out")
    for word in [source.get("requirement") or "", *source["packages"]]:
        if word.startswith("-") or "\n" in word:
            raise ReleaseError(
                f"gunicorn_flask_source: '{word}' is not a requirement; write one such as 'httpbin==0.10.4'"
            )
    if source.get("build") and kind == "pypi":
        raise ReleaseError("gunicorn_flask_source: 'build' is not for type pypi; leave it out")
    if kind == "archive":
        _check_archive(source)
    if kind == "git":
        _check_git(source)
    parts = (source.get("subdirectory") or "").split("/")
    if parts[0] == "" and len(parts) > 1 or ".." in parts:
        raise ReleaseError(
            f"gunicorn_flask_source.subdirectory: '{source['subdirectory']}' leads out of the source; "
            "write it as in 'services/web'"
        )


def _check_archive(source: Mapping) -> None:
    if bool(source.get("path")) == bool(source.get("url")):
        raise ReleaseError("gunicorn_flask_source: type archive needs either 'path' or 'url'")
    if not CHECKSUM.fullmatch(source["checksum"]):
        raise ReleaseError(
            f"gunicorn_flask_source.checksum: '{source['checksum']}' is none; "
            "write sha256: and the 64 digits that sha256sum prints"
        )
    if source.get("url") and not re.match(r"https?://[^\s]+$", source["url"]):
        raise ReleaseError("gunicorn_flask_source.url: an archive is fetched from https://... or http://... only")


def _check_git(source: Mapping) -> None:
    for key in ("url", "revision"):
        if source[key].startswith("-") or re.search(r"[\s\x00-\x1f]", source[key]):
            raise ReleaseError(f"gunicorn_flask_source.{key}: it may hold no space and not begin with a dash")


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


def refuse_pointers(root: Path, entries: Iterable[Entry]) -> None:
    """A file of Git LFS that was not fetched is a text of three lines, and would be served as that."""
    for entry in entries:
        path = root / entry.path
        if entry.kind != "file" or path.stat().st_size >= POINTER_SIZE:
            continue
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise ReleaseError(
                    f"gunicorn_flask_source: '{entry.path}' is a pointer of Git LFS and not the file itself; run `git "
                    "lfs pull` in a checkout and take that as a source of type directory, or exclude the file"
                )


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
    return hashed([astuple(entry) for entry in entries])


def release_id(source: Mapping, content: str, gunicorn: str, python: str) -> str:
    """The same code and the same requirements give the same id, on every controller.

    Args:
        source: the wish; where it lies does not matter.
        content: what the code is: a digest of the directory, the commit, the archive's checksum.
        gunicorn: the wanted version.
        python: the wanted Python.
    """
    wish = {key: source.get(key) for key in ("type", "subdirectory", "requirements", "requirement", "packages")}
    if source.get("build"):
        wish["build"] = source["build"]
    return hashed([RECIPE, wish, content, gunicorn, python])[:12]


def hashed(document: object) -> str:
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
