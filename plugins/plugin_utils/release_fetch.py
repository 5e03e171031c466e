# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the controller makes a directory of a git repository or an archive. Hosts need neither git nor access to them.

All hosts of a run share one folder, so a branch is looked up once and fetched once, and every host gets the same commit
even if the branch moves meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from ansible.module_utils.urls import open_url
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.deadline import within
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.release_archive import extract

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
TIMEOUT_S = 300
# Longer than a source with many submodules takes.
WAIT_S = 1800
# Of an archive, and of each file that git writes.
MOST_BYTES = 4 << 30
# Of what git says: the names of a million files.
MOST_SAID = 64 << 20
MOST_SHOWN = 4096
# Of submodules in submodules.
MOST_DEPTH = 10
# Addresses of the controller's own repositories.
LOCAL = ("/", "./", "../", "file:")
WITHOUT = "without them: submodules: false"


def content_id(source: Mapping, exclude: Sequence[str], folder: Path) -> str:
    """What the code is, found out without fetching it: the commit of a revision, the checksum of an archive."""
    if source["type"] == "git":
        content = once(folder, [source["url"], source["revision"]], lambda _place: resolve(source))
        content += " with submodules" if source.get("submodules", True) else ""
    else:
        content = source["checksum"].lower()
        if source.get("path"):
            verify(source, Path(source["path"]))
    return model.hashed([content, sorted(exclude)])


def fetch(source: Mapping, folder: Path) -> Path:
    """The directory that holds the code, fetched if no other host of this run has done so."""
    wish = [source.get(key) for key in ("type", "url", "revision", "path", "checksum", "subdirectory")]
    wish.append(str(source.get("submodules")))
    make = _check_out if source["type"] == "git" else _unpack
    root = Path(once(folder, ["fetch", *wish], lambda place: str(make(source, place, folder))))
    code = root / (source.get("subdirectory") or "")
    if not code.is_dir():
        raise ReleaseError(
            f"gunicorn_flask_source.subdirectory: there is no directory '{source['subdirectory']}' in the source; "
            f"it holds {', '.join(sorted(path.name for path in root.iterdir())[:10])}"
        )
    return code


def once(folder: Path, wish: Sequence[str | None], make: Callable[[Path], str]) -> str:
    """What `make` returns, for the first who asks; the others wait and get the same, be it an error.

    Raises:
        ReleaseError: `make` failed, or has not ended in WAIT_S.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = folder / model.hashed(wish)[:24]
    with place.with_suffix(".lock").open("a") as lock:
        if not host_lock.is_taken(lock, WAIT_S):
            raise ReleaseError(
                f"gunicorn_flask_source: the code is being fetched for another host, for more than {WAIT_S} s; "
                "look at its server, and run again"
            )
        known = place.with_suffix(".json")
        if not known.exists():
            try:
                answer = {"value": make(place)}
            except ReleaseError as error:
                answer = {"error": str(error)}
            known.write_text(json.dumps(answer))
        answer = json.loads(known.read_text())
    if "error" in answer:
        raise ReleaseError(answer["error"])
    return answer["value"]


def without_credentials(text: str) -> str:
    """Addresses as they may be shown: no account of https, no query, where tokens stand."""
    # The last @ ends a password, which may have others in it.
    text = re.sub(r"(?i)(https?://)[^/\s]+@", r"\1***@", text)
    text = re.sub(r"(://[^/:@\s]+):[^/\s]+@", r"\1:***@", text)
    return re.sub(r"(?i)(https?://[^\s?']+)\?[^\s']+", r"\1?***", text)


# --- git --------------------------------------------------------------------------------------------------------------


def resolve(source: Mapping) -> str:
    """The commit that a branch or a tag means now."""
    revision = source["revision"]
    if COMMIT.fullmatch(revision):
        return revision
    names = [revision] if revision.startswith("refs/") or revision == "HEAD" else []
    names = names or [f"refs/tags/{revision}", f"refs/heads/{revision}"]
    said = _git(source["url"], ["ls-remote", "--", source["url"], *names, *(f"{name}^{{}}" for name in names)])
    found = dict(reversed(line.split("\t", 1)) for line in said.splitlines() if "\t" in line)
    present = [name for name in names if name in found]
    if len(present) > 1:
        raise ReleaseError(
            f"gunicorn_flask_source.revision: '{revision}' is a tag and a branch; write {present[0]} or {present[1]}"
        )
    if not present:
        raise ReleaseError(
            f"gunicorn_flask_source.revision: {without_credentials(source['url'])} has no branch or tag '{revision}'; "
            "write one that it has, or all 40 digits of a commit"
        )
    # A tag with a message is an object of its own; what it points to is the commit.
    return found.get(f"{present[0]}^{{}}", found[present[0]])


def _check_out(source: Mapping, place: Path, folder: Path) -> Path:
    url = source["url"]
    commit = once(folder, [url, source["revision"]], lambda _place: resolve(source))
    target = place / "code"
    _check_out_commit(url, commit, place, target)
    if source.get("submodules", True):
        _check_out_submodules(url, place, target)
    return target


def _check_out_commit(url: str, commit: str, place: Path, target: Path, ours: bool = True) -> None:
    """Put the files of a commit into `target`, and with them, in `place`, which commits its submodules are of.

    Args:
        url: the repository.
        commit: all its digits.
        place: a directory to work in.
        target: made if it is not there.
        ours: whether the operator has written the address, and not somebody in a repository.
    """
    repository, archive = place / "repository", place / "code.tar"
    target.mkdir(parents=True, exist_ok=True)
    _git(url, ["init", "--quiet", "--bare", str(repository)])
    try:
        _git(url, ["fetch", "--quiet", "--depth=1", "--", url, commit], repository, ours)
    except ReleaseError:
        # Old servers only give what a branch or a tag leads to.
        everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        _git(url, ["fetch", "--quiet", "--", url, *everything], repository, ours)
    try:
        _git(url, ["archive", "--format=tar", f"--output={archive}", commit], repository)
        tree = _git(url, ["ls-tree", "-r", "-z", commit], repository)
    except ReleaseError:
        raise ReleaseError(
            f"gunicorn_flask_source.revision: {without_credentials(url)} has no commit {commit}"
        ) from None
    shutil.rmtree(repository)
    extract(archive, target)
    archive.unlink()
    entries = (line.split("\t", 1) for line in tree.split("\0") if line)
    commits = {path: about.split()[2] for about, path in entries if about.startswith("160000 ")}
    (place / "submodules.json").write_text(json.dumps(commits))


def _check_out_submodules(url: str, place: Path, target: Path, depth: int = 0) -> None:
    """The submodules of what stands in `target`, and theirs."""
    commits = json.loads((place / "submodules.json").read_text())
    if not commits:
        return
    addresses = _addresses_of_submodules(url, target)
    for path, commit in commits.items():
        address = addresses.get(path)
        inside = target.resolve() in (target / path).resolve().parents
        if address is None or not inside or depth > MOST_DEPTH:
            wrong = "its .gitmodules names no address for it" if address is None else "it leads out of the repository"
            raise ReleaseError(f"gunicorn_flask_source.submodules: '{path}' cannot be fetched: {wrong}; {WITHOUT}")
        try:
            # As git does it: a repository of others may not have the controller's own ones read.
            _check_out_commit(address, commit, place, target / path, ours=url.startswith(LOCAL))
        except ReleaseError as error:
            said = str(error).partition(": ")[2]
            raise ReleaseError(f"gunicorn_flask_source.submodules: '{path}': {said}; {WITHOUT}") from None
        _check_out_submodules(address, place, target / path, depth + 1)


def _addresses_of_submodules(url: str, target: Path) -> dict[str, str]:
    """Address of each path. A relative one counts from that of the repository itself."""
    file = target / ".gitmodules"
    if not file.is_file() or file.is_symlink():
        return {}
    said = _git(url, ["config", "--file", str(file), "--null", "--list"])
    modules: dict[str, dict[str, str]] = {}
    for entry in said.split("\0"):
        key, _, value = entry.partition("\n")
        section, _, name = key.rpartition(".")
        modules.setdefault(section, {})[name] = value
    found = {}
    for module in modules.values():
        if "path" in module and module.get("url", "-")[0] != "-":
            found[module["path"]] = _joined(url, module["url"])
    return found


def _joined(url: str, relative: str) -> str:
    if not relative.startswith(("./", "../")):
        return relative
    base = url.rstrip("/")
    while relative.startswith(("./", "../")):
        if relative.startswith("../"):
            base = re.sub(r"[/:][^/:]*$", "", base)
        relative = relative.partition("/")[2]
    return f"{base}/{relative}"


def _git(url: str, arguments: Sequence[str], repository: Path | None = None, ours: bool = True) -> str:
    """Asks nobody: what needs a password fails at once. Credential helpers and SSH agents of the controller work."""
    ssh = os.environ.get("GIT_SSH_COMMAND") or "ssh"
    environment = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
    environment |= {
        "GIT_ASKPASS": "",
        "GIT_SSH_COMMAND": f"{ssh} -o BatchMode=yes -o ConnectTimeout=20",
        "GIT_TERMINAL_PROMPT": "0",
        **({} if ours else {"GIT_PROTOCOL_FROM_USER": "0"}),
        "LC_ALL": "C.UTF-8",
    }
    # A server that falls silent must not hold up the run.
    quick = ["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=30"]
    place = ["--git-dir", str(repository)] if repository else []
    try:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            done = subprocess.run(
                ["git", *quick, *place, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=TIMEOUT_S,
                check=False,
                preexec_fn=_limit_files,
            )
            said, problem = _read(output, MOST_SAID), _read(errors, MOST_SHOWN)
            whole = output.seek(0, os.SEEK_END) <= MOST_SAID
    except FileNotFoundError:
        raise ReleaseError("gunicorn_flask_source: type git needs the program git on the controller") from None
    except subprocess.TimeoutExpired:
        raise ReleaseError(
            f"gunicorn_flask_source.url: {without_credentials(url)} gave nothing within {TIMEOUT_S} s"
        ) from None
    if done.returncode == -signal.SIGXFSZ or not whole:
        raise ReleaseError(
            f"gunicorn_flask_source.url: {without_credentials(url)} gives more than {MOST_BYTES >> 30} GB, or "
            f"more than {MOST_SAID >> 20} MB of names"
        )
    if done.returncode != 0:
        shown = without_credentials(" ".join(problem.split()))
        raise ReleaseError(f"gunicorn_flask_source.url: git cannot read {without_credentials(url)}: {shown}")
    return said


def _limit_files() -> None:
    """In git and what it starts: the server decides how much it sends."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = MOST_BYTES if hard == resource.RLIM_INFINITY else min(MOST_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))


def _read(file: BinaryIO, most: int) -> str:
    file.seek(0)
    return file.read(most).decode(errors="replace")


# --- archives ---------------------------------------------------------------------------------------------------------


def verify(source: Mapping, path: Path) -> None:
    shown = without_credentials(source.get("url") or str(path))
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ReleaseError(
            f"gunicorn_flask_source.path: {path} cannot be read on the controller: {error.strerror}"
        ) from None
    if f"sha256:{found}" != source["checksum"].lower():
        raise ReleaseError(
            f"gunicorn_flask_source.checksum: {shown} is sha256:{found}, not {source['checksum']}; "
            "if that is the archive you mean, write its checksum"
        )


def _unpack(source: Mapping, place: Path, _folder: Path) -> Path:
    target = place / "code"
    target.mkdir(parents=True)
    archive = Path(source["path"]) if source.get("path") else _download(source["url"], place / "archive")
    verify(source, archive)
    extract(archive, target)
    return target


def _download(url: str, path: Path) -> Path:
    try:
        within(TIMEOUT_S, lambda: _downloaded(url, path))
    except (OSError, ValueError) as error:
        said = without_credentials(str(error))
        raise ReleaseError(f"gunicorn_flask_source.url: {without_credentials(url)} cannot be fetched: {said}") from None
    return path


def _downloaded(url: str, path: Path) -> None:
    size = 0
    with open_url(url, timeout=30) as answer, path.open("wb") as file:
        while block := answer.read(1 << 20):
            size += file.write(block)
            if size > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES >> 30} GB")
