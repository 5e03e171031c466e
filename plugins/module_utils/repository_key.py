# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The key of a package repository on this host: proved before it is where apt reads it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ansible.module_utils.urls import open_url
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import openpgp
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.deadline import within
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.openpgp import KeyFileError

VARIABLE = "mysql_replication_apt_repository"
ARGUMENT_SPEC = {
    "url": {"type": "str", "required": True},
    "path": {"type": "str", "required": True},
    "fingerprints": {"type": "list", "elements": "str", "required": True, "no_log": False},
}
# A hundred times what a key has.
MOST_BYTES = 1 << 20
SILENCE_S, LONGEST_S = 20, 60


class RepositoryKeyError(Exception):
    """One sentence: what is wrong with the key and what is right."""


def form(content: bytes, path: str, fingerprints: Collection[str]) -> bytes:
    """What the file has to hold: the keys alone, in the one form that apt takes by the file's name.

    Raises:
        KeyFileError: the keys are not those that are wanted.
    """
    keys = openpgp.proved(content, [openpgp.plain(one) for one in fingerprints])
    return keys if path.endswith(".gpg") else openpgp.armored(keys)


def is_in_place(content: bytes, path: str, fingerprints: Collection[str]) -> bool:
    try:
        return content == form(content, path, fingerprints)
    except KeyFileError:
        return False


def put(url: str, path: str, fingerprints: Collection[str], check_mode: bool) -> bool:
    """Whether the file is another one now. One with another key goes first: apt must not go on with it."""
    file = Path(path)
    present = _read(file)
    if is_in_place(present, path, fingerprints):
        return False
    try:
        wanted = form(present, path, fingerprints)
    except KeyFileError:
        if not check_mode:
            file.unlink(missing_ok=True)
        wanted = _fetched(url, path, fingerprints)
    if not check_mode:
        _write(file, wanted)
    return True


def _fetched(url: str, path: str, fingerprints: Collection[str]) -> bytes:
    try:
        return form(download(url), path, fingerprints)
    except KeyFileError as problem:
        raise RepositoryKeyError(
            f"{VARIABLE}.fingerprints: what {url} gives {problem}; nothing of it was kept. Where the makers of the "
            f"packages announce that key, write its fingerprint; otherwise do not trust the address"
        ) from None


def download(url: str) -> bytes:
    """All of it, up to MOST_BYTES and LONGEST_S."""
    try:
        return within(LONGEST_S, lambda: _downloaded(url))
    except (OSError, ValueError) as error:
        raise RepositoryKeyError(
            f"{VARIABLE}.signed_by: {url} cannot be fetched: {error}; give an address that this host reaches"
        ) from None


def _downloaded(url: str) -> bytes:
    with open_url(url, timeout=SILENCE_S) as answer:
        content = answer.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes, so it is no key")
    return content


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_BYTES)
    except FileNotFoundError:
        return b""


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(content)
    # Its reader is the user _apt.
    new.chmod(0o644)
    new.replace(file)
