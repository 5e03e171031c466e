# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Releases on the host: find a good one of the wanted id, or build it.

A release is a directory below `releases`. It is built at its final place, because the scripts of a virtual environment
hold its path, and its file `.complete` is written last: what has none was never finished and is deleted. What runs
foreign code for that does so in a workshop, and root copies from there what it has made. The mark also
says what the release looked like, so one that somebody changed afterwards is not taken for good. If the changed one is
live, it serves on while a sound one is built beside it under the next name: <id>, <id>.1, <id>.2.

A release's `venv` is a link to one below `venvs`, named after everything that goes into it. Releases with the same
requirements share one, so changed code alone installs nothing. It has a mark of its own, and is part of what the
release's mark describes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import made, model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.workshop import (
    HOME,
    Workshop,
)

MARK = made.MARK
# Lines of requirements that mean the same wherever they stand. What else there may be, a path or `-e .`, depends on the
# code around it.
FROM_AFAR = re.compile(
    r"[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\])?\s*([<>=!~;@].*)?"
    r"|(-i|--(index-url|extra-index-url|trusted-host|only-binary|no-binary|prefer-binary|pre|require-hashes))\b.*"
)
OTHER_FILE = re.compile(r"(?:-r|-c|--requirement|--constraint)[ =]?\s*(\S+)")
HASH = "--hash="
GUNICORN = re.compile(r"\s*gunicorn\s*(\[[^\]]*\]\s*)?==", re.IGNORECASE)
# In the home of a build.
PACKAGES = "packages.txt"
PIP = ["-m", "pip", "--no-input", "--disable-pip-version-check"]


class Store:
    """All releases of one application, and the wish for one of them."""

    def __init__(self, root: Path, wanted: str, python: str) -> None:
        self.root = root
        self.releases = root / "releases"
        self.venvs = root / "venvs"
        self.wanted = wanted
        found = shutil.which(python)
        self.python = os.path.realpath(found) if found else None

    def live(self) -> Path | None:
        """Where `current` leads."""
        return self.target("current")

    def target(self, link: str) -> Path | None:
        path = self.root / link
        return self.root / path.readlink() if path.is_symlink() else None

    def choose(self, name: str, went_back: bool = False) -> Path:
        """A release that is here, by its name or as the one before the live one.

        Args:
            name: the release's name, or previous.
            went_back: whether the live one is there by a rollback. Then the next one changes nothing.
        """
        path = self.target("previous") if name == "previous" else self.releases / name
        if path is None and went_back:
            path = self.live()
        if path is None or path.parent != self.releases or not (path / MARK).is_file():
            here = ", ".join(self.finished()) or "none"
            wrong = "no release before the live one" if name == "previous" else f"no release '{name}'"
            raise ReleaseError(
                f"gunicorn_flask_release: there is {wrong} in {self.releases}; there are: {here}. What is not there "
                "comes back by a deployment of its source"
            )
        if not self._is_sound(path):
            raise ReleaseError(
                f"gunicorn_flask_release: {path} or its Python was changed after it was built; deploy its source again"
            )
        return path

    def finished(self) -> list[str]:
        """Names of the releases that are here, the newest first."""
        marks = sorted(self.releases.glob(f"*/{MARK}"), key=lambda mark: mark.stat().st_mtime, reverse=True)
        return [mark.parent.name for mark in marks]

    def find(self) -> Path | None:
        """A sound release of the wanted id, the live one before others."""
        live = self.live()
        return next(
            (path for path in sorted(self._named(), key=lambda path: path != live) if self._is_sound(path)), None
        )

    def _named(self) -> list[Path]:
        if not self.releases.is_dir():
            return []
        return sorted(path for path in self.releases.iterdir() if path.name.split(".")[0] == self.wanted)

    def _is_sound(self, path: Path) -> bool:
        """An upgrade of the system takes away the Python that a virtual environment needs, so that counts as well."""
        try:
            mark = json.loads((path / MARK).read_bytes())
            return mark == self._describe(path, mark["built"])
        except (OSError, ValueError, KeyError, TypeError, ReleaseError):
            return False

    def _describe(self, path: Path, built: float) -> dict[str, Any]:
        app = path / "app"
        return {
            "built": built,
            "python": self.python,
            "app": model.digest(model.scan(app)) if any(app.iterdir()) else "",
            "venv": listing(path / "venv"),
        }

    # --- building

    def next_place(self) -> Path:
        """A name that is free, or free to be taken: never that of the live release or of something of somebody else."""
        live = self.live()
        names = (self.wanted if number == 0 else f"{self.wanted}.{number}" for number in range(1000))
        paths = (path for path in map(self.releases.joinpath, names) if path != live)
        return next(path for path in paths if not os.path.lexists(path) or made.is_release(path))

    def tidy(self) -> None:
        """What died while it was built goes, and environments that no release leads to. Only builders make either."""
        live = self.live()
        for path in made.entries(self.releases):
            if path != live and not (path / MARK).exists() and made.is_release(path):
                shutil.rmtree(path)
        used = self._used_venvs()
        for path in made.entries(self.venvs):
            if path.name not in used and made.is_environment(path):
                shutil.rmtree(path)

    def _used_venvs(self) -> set[str]:
        links = (path / "venv" for path in self.releases.iterdir())
        return {link.readlink().name for link in links if link.is_symlink()}

    def build(self, source: Mapping[str, Any], archive: Path | None, digest: str, gunicorn: str) -> Path:
        if self.python is None:
            raise ReleaseError("gunicorn_flask_python: there is no such program on this host; install it first")
        made.refuse_foreign(self.root)
        self.root.mkdir(mode=0o755, exist_ok=True)
        # First of all: a build that dies is known again.
        made.claim(self.root)
        for directory in (self.releases, self.venvs):
            directory.mkdir(mode=0o755, exist_ok=True)
        self.tidy()
        path = self.next_place()
        if path.exists():
            shutil.rmtree(path)
        try:
            self._fill(path, source, archive, digest, gunicorn)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return path

    def _fill(self, path: Path, source: Mapping[str, Any], archive: Path | None, digest: str, gunicorn: str) -> None:
        app = path / "app"
        path.mkdir(mode=0o755)
        app.mkdir(mode=0o755)
        with Workshop(self.root.name, str(self.python)) as workshop:
            code = workshop.copy_of(app)
            if archive is not None:
                model.unpack(archive, code)
                if model.digest(model.scan(code)) != digest:
                    raise ReleaseError("the source changed while it was packed; run again")
            self._furnish(path, workshop, source, gunicorn)
            if source.get("build"):
                _build(path, workshop, source["build"])
            if archive is not None:
                _compile(path, workshop)
            workshop.collect(app)
        _mark(path, self._describe(path, time.time()))

    # --- environments

    def _furnish(self, release: Path, workshop: Workshop, source: Mapping[str, Any], gunicorn: str) -> None:
        """Give the release the environment that another one has, if it is sound and made of the same, or a new one."""
        app = release / "app"
        name = environment_id(source, workshop.copies[app], gunicorn, str(self.python), release.name)
        used = self._used_venvs()
        for number in range(1000):
            place = self.venvs / (name if number == 0 else f"{name}.{number}")
            sound = _is_sound_venv(place)
            # One that is not sound may still be what a release runs with: it stays, and another is made beside it.
            if not sound and place.name in used:
                continue
            (release / "venv").symlink_to(os.path.relpath(place, release))
            if not sound:
                shutil.rmtree(place, ignore_errors=True)
                try:
                    self._install(place, app, workshop, source, gunicorn)
                except BaseException:
                    shutil.rmtree(place, ignore_errors=True)
                    raise
            return

    def _install(self, place: Path, app: Path, workshop: Workshop, source: Mapping[str, Any], gunicorn: str) -> None:
        calls = installs(source, workshop.copies[app])
        place.mkdir(mode=0o755)
        made_there = workshop.copy_of(place)
        workshop.run([self.python, "-m", "venv", place], "a virtual environment cannot be made")
        python = place / "bin/python"
        for arguments, packages in calls:
            _pip(workshop, python, app, arguments, packages)
        if not list(made_there.glob("lib/python*/site-packages/gunicorn-*.dist-info")):
            _pip(workshop, python, app, [f"gunicorn=={gunicorn}"])
        workshop.run([python, *PIP, "check"], "the installed packages do not fit together")
        workshop.collect(place, links_to_python=True)
        _mark(place, listing(place))


def _mark(path: Path, content: Any) -> None:
    """After a power cut the mark must not be there without what it speaks of."""
    os.sync()
    new = path / f"{MARK}.new"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
        file.write(json.dumps(content))
    new.rename(path / MARK)


def _is_sound_venv(place: Path) -> bool:
    try:
        return json.loads((place / MARK).read_bytes()) == listing(place)
    except (OSError, ValueError):
        return False


def environment_id(source: Mapping[str, Any], code: Path, gunicorn: str, python: str, release: str) -> str:
    """The same id means: pip is told the same. Where it is sent into the code, no other release shares the result."""
    texts: dict[Path, str] = {}
    waiting = [] if source["type"] == "pypi" else [code / source["requirements"]]
    local = False
    while waiting:
        file = waiting.pop()
        if file in texts or not file.is_file():
            continue
        texts[file] = file.read_text(errors="replace")
        for raw in texts[file].replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#.*", "", raw).strip()
            if other := OTHER_FILE.match(line):
                waiting.append(Path(os.path.normpath(file.parent / other[1])))
            elif line and is_local(line, code):
                local = True
    words = [*source["packages"], *([source["requirement"]] if source.get("requirement") else [])]
    local = local or any(is_local(word, code) for word in words)
    wish = [source.get("requirement"), source["packages"], list(texts.values()), gunicorn, python]
    return model.hashed([model.RECIPE, wish, release if local else ""])[:12]


def is_local(line: str, app: Path) -> bool:
    """Whether what pip does for a requirement depends on the code around it, a copy of which it installs."""
    # The first word alone: with all its hashes a line is longer than a name may be.
    return not FROM_AFAR.fullmatch(line) or "file:" in line or (app / line.split()[0]).exists()


def installs(source: Mapping[str, Any], code: Path) -> list[tuple[list[str], str]]:
    """What pip has to install, call by call: its arguments, and requirements that are no words of a command line."""
    if source["type"] == "pypi":
        return [([source["requirement"], *source["packages"]], "")]
    name, packages = source["requirements"], list(source["packages"])
    file = code / name
    if not file.is_file():
        if name != model.SOURCE_SPEC["requirements"]["default"]:
            raise ReleaseError(f"gunicorn_flask_source.requirements: there is no file '{name}' in the source")
        return [(packages, "")] if packages else []
    text = file.read_text(errors="replace")
    if HASH not in text:
        return [(["-r", name, *packages], "")]
    refuse_without_hash(name, text, packages)
    calls = [(["--require-hashes", "-r", name], "")]
    return [*calls, (["--require-hashes"], "\n".join(packages))] if packages else calls


def refuse_without_hash(name: str, text: str, packages: Sequence[str]) -> None:
    """Where the requirements have hashes, what is installed beside them needs one as well. gunicorn is always."""
    for word in packages:
        if HASH not in word:
            raise ReleaseError(
                f"gunicorn_flask_source.packages: '{word}' has no hash, and '{name}' has hashes; write it with the "
                f"hashes that `pip hash` prints, as '{word} --hash=sha256:...'"
            )
    if not any(GUNICORN.match(line) for line in [*text.splitlines(), *packages]):
        raise ReleaseError(
            f"gunicorn_flask_source.requirements: '{name}' has hashes, and gunicorn has none; add gunicorn and what it "
            "needs with their hashes, there or to gunicorn_flask_source.packages"
        )


def listing(root: Path) -> str:
    """A digest of what is where, without reading it. Compiled files are left out: Python may make them anew."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            path = Path(folder, name)
            if path == root / MARK:
                continue
            status = path.lstat()
            target = str(path.readlink()) if path.is_symlink() else ""
            found.append(f"{path.relative_to(root)}|{status.st_mode}|{status.st_size}|{status.st_mtime_ns}|{target}")
    return hashlib.sha256("\n".join(sorted(found)).encode(errors="surrogateescape")).hexdigest()


def _build(release: Path, workshop: Workshop, command: Sequence[str]) -> None:
    """The operator's own command, in the code, with the programs of the release before those of the host."""
    path = f"{release}/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    problem = f"gunicorn_flask_source.build: `{shlex.join(command)}` failed"
    name, app = command[0], release / "app"
    if shutil.which(str(workshop.copies[app] / name) if "/" in name else name, path=path) is None:
        raise ReleaseError(f"gunicorn_flask_source.build: there is no program '{name}' in the release or on this host")
    workshop.run(command, problem, cwd=app, PATH=path)


def _compile(release: Path, workshop: Workshop) -> None:
    """Only to start faster. A file that does not compile may be one that nobody imports."""
    python, app = str(release / "venv/bin/python"), str(release / "app")
    command = '"$0" -m compileall -qq -j0 "$1" || true'
    workshop.run(["sh", "-c", command, python, app], "the code cannot be compiled")


def _pip(workshop: Workshop, python: Path, app: Path, arguments: Sequence[str], packages: str = "") -> None:
    words = [*arguments, *(["-r", str(HOME / PACKAGES)] if packages else [])]
    workshop.run(
        [python, *PIP, "install", "--quiet", "--no-cache-dir", *words],
        f"pip cannot install {' '.join([*arguments, *packages.split()])}",
        cwd=app,
        network=True,
        files={PACKAGES: packages} if packages else None,
    )


@contextmanager
def umask(value: int = 0o022) -> Iterator[None]:
    """The application must be able to read what root installs."""
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)
