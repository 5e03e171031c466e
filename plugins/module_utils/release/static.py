# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Static files that belong to releases: read from those of a host, handed to the controller as one text.

A page that a visitor still has open may name a file of the release before, so the files of every release that is kept
are there, and of two with the same name the one of the release that is going to be live.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.build import Store
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

# What config_tree takes, since that puts them in place on the web servers.
LIMIT_BYTES = 32 << 20
PLACES_SPEC = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {
        "path": {"type": "str", "required": True},
        "release": {"type": "str"},
        "package": {"type": "str"},
    },
    "mutually_exclusive": [["release", "package"]],
    "required_one_of": [["release", "package"]],
}
ARGUMENT_SPEC = {
    "root": {"type": "path", "required": True},
    "wanted": {"type": "str", "default": ""},
    "places": PLACES_SPEC,
    "required": {"type": "bool", "default": True},
    "variable": {"type": "str", "default": "site_static"},
}
# Below this and the id of a release is what it has otherwise than the one that counts.
OTHERS = ".releases"
Files = dict[str, tuple[int, bytes]]


def order(store: Store, wanted: str) -> list[str]:
    """Return the names of the releases of a host, the one that is going to be live first, then the newest first.

    Args:
        store: the releases.
        wanted: name of the release that is going to be live; "" if the live one stays.
    """
    live = store.live()
    finished = store.finished()
    first = [wanted, live.name if live else ""]
    return [name for name in dict.fromkeys([*first, *finished]) if name in finished]


def collect(
    store: Store,
    wanted: str,
    places: Sequence[Mapping[str, Any]],
    complete: bool = True,
    variable: str = "site_static",
) -> dict[str, Files]:
    """Return the files of each place: time of change and content by relative path.

    The file of the first release that has a path counts for it. Where another release has another content, that is
    there as well, below ``.releases`` and the id of that release.

    Args:
        store: the releases of a host.
        wanted: name of the release that is going to be live; "" if the live one stays.
        places: path of the URL, and a directory of the source (``release``) or of an installed package (``package``).
        complete: whether the first release must have all of them.
        variable: what a mistake is named by.

    Raises:
        ReleaseError: the release lacks a directory, a link leads out of it, or there is too much.
    """
    names = order(store, wanted)
    found: dict[str, Files] = {}
    size = 0
    for place in places:
        files: Files = {}
        for name in names:
            directory = _directory(store.releases / name, place)
            if directory is None and complete and name == names[0]:
                what = f"directory '{place['release']}'" if place.get("release") else f"package data {place['package']}"
                raise ReleaseError(
                    f"{variable}, {place['path']}: release {name} has no {what}; "
                    "name one that it has, as a path in its source or below site-packages"
                )
            for path in _walk(directory, variable) if directory else ():
                relative = path.relative_to(directory).as_posix()
                if relative.startswith(f"{OTHERS}/"):
                    raise ReleaseError(f"{variable}: {path}: the name {OTHERS} is taken; give it another one")
                status = path.stat()
                # What is too large alone is not even read.
                content = path.read_bytes() if status.st_size <= LIMIT_BYTES else b""
                for key in (relative, f"{OTHERS}/{name.partition('.')[0]}/{relative}"):
                    if key not in files:
                        files[key] = (int(status.st_mtime), content)
                        size += status.st_size
                    if files[key][1] == content:
                        break
                if max(size, status.st_size) > LIMIT_BYTES:
                    raise ReleaseError(
                        f"{variable}, {place['path']}: the releases hold more than {LIMIT_BYTES >> 20} MiB of static "
                        "files; what is larger belongs to a server of its own"
                    )
        found[place["path"]] = files
    return found


def _directory(release: Path, place: Mapping[str, Any]) -> Path | None:
    if place.get("release"):
        candidates = [release / "app" / place["release"]]
    else:
        candidates = [path / place["package"] for path in (release / "venv").glob("lib/python*/site-packages")]
    base = release.resolve() if place.get("release") else (release / "venv").resolve()
    return next((path for path in candidates if path.is_dir() and base in path.resolve().parents), None)


def _walk(directory: Path, variable: str) -> Iterator[Path]:
    """All files below, sorted. What a link leads to has to be below, too: the files are shown to everybody."""
    base = directory.resolve()
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() and base not in path.resolve().parents:
            raise ReleaseError(f"{variable}: {path} is a link out of {directory}; leave it out")
        if stat.S_ISREG(path.stat().st_mode):
            yield path


# --- from the host to the controller ----------------------------------------------------------------------------------


def pack(found: Mapping[str, Files]) -> str:
    document = {
        place: {path: [mtime, base64.b64encode(content).decode()] for path, (mtime, content) in files.items()}
        for place, files in found.items()
    }
    return base64.b64encode(zlib.compress(json.dumps(document).encode())).decode()


def unpack(text: str, places: Collection[str]) -> dict[str, Files]:
    """Return what ``pack`` was given. A host is not believed: neither how much it says it is nor where it belongs.

    Args:
        text: what the host has sent.
        places: the paths of the URL that it was asked for.

    Raises:
        ReleaseError: it is more than a host may send, or a path leads out of its place.
    """
    # Base64 needs a third more, names and times the rest.
    most = 2 * LIMIT_BYTES
    machine = zlib.decompressobj()
    plain = machine.decompress(base64.b64decode(text), most)
    if machine.unconsumed_tail:
        raise ReleaseError(f"the host has sent more than {most >> 20} MiB of static files")
    found: dict[str, Files] = {}
    for place, files in json.loads(plain).items():
        if place not in places:
            raise ReleaseError(f"the host has sent static files for {place!r}, which it was not asked for")
        found[place] = {}
        for path, (mtime, content) in files.items():
            parts = PurePosixPath(path).parts
            if not parts or ".." in parts or path.startswith("/") or "\0" in path:
                raise ReleaseError(
                    f"the host has sent a static file with the path {path!r}, which leads out of its place"
                )
            found[place][path] = (int(mtime), base64.b64decode(content))
    return found


def write(found: Mapping[str, Files], folder: Path) -> dict[str, dict[str, str]]:
    """Write the files, and return the directories that nginx_sites[].static asks for, by place.

    Args:
        found: as ``collect`` returns it.
        folder: an empty directory of the controller.
    """
    directories = {}
    for number, (place, files) in enumerate(found.items()):
        targets = {"directory": folder / f"{number}", "releases": folder / f"{number}-releases"}
        for target in targets.values():
            target.mkdir()
        for relative, (mtime, content) in files.items():
            is_other = relative.startswith(f"{OTHERS}/")
            if is_other:
                _others, release, rest = relative.split("/", 2)
                path = targets["releases"] / release / place.strip("/") / rest
            else:
                path = targets["directory"] / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (mtime, mtime))
        directories[place] = {key: str(target) for key, target in targets.items()}
    return directories
