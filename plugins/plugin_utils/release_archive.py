# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Unpacks an archive that nobody vouches for: nothing of it lies, or leads, outside the directory that gets it.

Where a link leads is found from the archive alone, by the kernel's own rules. The file system is not asked: while an
archive is unpacked it says what the archive has made of it, and its answers end at the longest path that it knows.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

# As many links as the kernel follows on the way to one file.
MOST_LINKS = 40

# What Python's reader raises for bytes that are no archive: its own errors, and those of what it reads them with. The
# last one comes of headers that each announce a longer name.
UNREADABLE = (
    tarfile.TarError,
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    ValueError,
    lzma.LZMAError,
    zlib.error,
    RecursionError,
)

Parts = tuple[str, ...]


def extract(archive: Path, target: Path) -> None:
    """Everything or, if one member is not sound, nothing.

    Args:
        archive: of tar, compressed or not.
        target: a directory without links that lead out of it.

    Raises:
        ReleaseError: which member is wrong and why, or that this is no archive.
    """
    try:
        with tarfile.open(archive, "r:*") as tar:
            members = tar.getmembers()
            for member, problem in _problems(members):
                raise ReleaseError(f"gunicorn_flask_source: the archive is refused: its '{member.name}' {problem}")
            # A symbolic link comes when nothing is written any more that could go through it.
            members.sort(key=lambda member: 2 if member.issym() else 1 if member.islnk() else 0)
            tar.extractall(target, members, filter="data")
    except tarfile.FilterError as error:
        raise ReleaseError(f"gunicorn_flask_source: the archive is refused: {error}") from None
    except UNREADABLE as error:
        said = " ".join(str(error).split())
        raise ReleaseError(
            f"gunicorn_flask_source: {archive.name} cannot be unpacked ({said}); use a tar archive, compressed or not"
        ) from None


def _problems(members: list[tarfile.TarInfo]):
    links = {_parts(member.name): member.linkname for member in members if member.issym()}
    files = {_parts(member.name) for member in members if member.isreg()}
    for member in members:
        path = PurePosixPath(member.name)
        parts = path.parts
        above = next((parts[:number] for number in range(1, len(parts)) if parts[:number] in links), None)
        if path.is_absolute() or ".." in parts:
            yield member, "leads out of the archive"
        elif not parts and not member.isdir():
            yield member, "takes the place of the archive's root, which is a directory"
        elif above:
            yield member, f"lies below '{'/'.join(above)}', which is a link"
        elif (member.issym() and _leads_out(parts, links)) or (
            # What a hard link names counts from the archive's root.
            member.islnk() and (_parts(member.linkname) not in files or PurePosixPath(member.linkname).is_absolute())
        ):
            yield member, f"is a link to {member.linkname}, out of the archive"
        elif not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            yield member, "is neither file nor directory nor link"


def _parts(name: str) -> Parts:
    return PurePosixPath(name).parts


def _leads_out(link: Parts, links: Mapping[Parts, str]) -> bool:
    """Whether a symbolic link leads out of the archive, through whatever others of it, or nowhere for their number."""
    here = list(link[:-1])
    rest = _reversed(links[link])
    followed = 1
    while rest:
        part = rest.pop()
        if part == "..":
            if not here:
                return True
            here.pop()
        elif part == "/":
            return True
        else:
            here.append(part)
            if (target := links.get(tuple(here))) is not None:
                followed += 1
                if followed > MOST_LINKS:
                    return True
                here.pop()
                rest += _reversed(target)
    return False


def _reversed(target: str) -> list[str]:
    """The steps of a path, the last one first. No library normalizes here: a/../b is not b where a is a link."""
    steps = [part for part in target.split("/") if part not in ("", ".")]
    return [*reversed(steps), *(["/"] if target.startswith("/") else [])]
