"""Archives of somebody: nothing outside of the directory that gets one is written, read or led to."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.release_archive import extract
from hypothesis import given
from hypothesis import strategies as st

SECRET = b"of somebody else"
# Two spellings of one letter, two cases, what no file system or no text takes, and what is longest.
STEPS = ("a", "b", "A", "\u00e9", "e\u0301", "..", ".", "", "outside", "canary", "\udcff", "n\0l", "x\ny", "l" * 255)
STEP = st.one_of(st.sampled_from(STEPS[:3]), st.sampled_from(STEPS), st.just("l" * 256))
NAMES = st.tuples(st.sampled_from(["", "", "", "/", "./", "//"]), st.lists(STEP, min_size=1, max_size=4)).map(
    lambda parts: parts[0] + "/".join(parts[1])
)
TARGETS = st.one_of(NAMES, st.sampled_from(["../outside/canary", "../../outside", ".", "a", "b", "a/..", ""]))
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]
    + [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.AREGTYPE, b"Z"]
)


@dataclass(frozen=True)
class Member:
    """What an archive says of one of its members."""

    name: str
    kind: bytes
    target: str = ""
    content: bytes = b""
    mode: int = 0o644
    mtime: float = 0
    headers: Mapping[str, str] = field(default_factory=dict)


MEMBERS = st.builds(
    Member,
    NAMES,
    KINDS,
    TARGETS,
    st.binary(max_size=9),
    st.one_of(st.just(0o644), st.integers(0, 0o7777)),
    st.sampled_from([0, 1, 2**33, 2**62, -1, 1.5]),
    st.dictionaries(
        st.sampled_from(["path", "linkpath", "size", "mtime", "GNU.sparse.map", "GNU.sparse.name", "comment"]),
        st.sampled_from(["a", "../outside/x", "/x", "9", "-1", "1e99", "nan", "0,1", "0,1,2,-3", "n\0l"]),
        max_size=1,
    ),
)
FORMS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
PACKERS = st.sampled_from([bytes, gzip.compress, bz2.compress, lzma.compress])


def archive_of(members: Iterable[Member], form: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form, errors="surrogateescape") as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.mode, info.mtime = member.kind, member.mode, member.mtime
            info.devmajor = info.devminor = 1
            info.pax_headers = dict(member.headers)
            if info.isreg():
                info.size = len(member.content)
            if info.issym() or info.islnk():
                info.linkname = member.target
            tar.addfile(info, io.BytesIO(member.content))
    return made.getvalue()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def picture(folder: Path) -> dict[str, tuple]:
    """Everything below a folder that a write or a change of attributes would alter."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        found[str(path)] = about.st_mode, about.st_ino, about.st_nlink, about.st_mtime_ns, about.st_uid, content
    return found


def unpacked(place: Path, content: bytes) -> str:
    """What is said against an archive, whose directory and what is around that are looked at."""
    with tempfile.TemporaryDirectory(dir=place) as name:
        root = Path(name)
        target, outside = root / "target", root / "outside"
        target.mkdir()
        outside.mkdir()
        (outside / "canary").write_bytes(SECRET)
        (root / "archive").write_bytes(content)
        before, here = picture(outside), set(root.iterdir())
        said = ""
        try:
            extract(root / "archive", target)
        except ReleaseError as error:
            said = str(error)
        assert picture(outside) == before
        assert set(root.iterdir()) == here
        check_inside(target)
        if "is refused" in said:
            assert not list(target.iterdir())
    return said


def check_inside(target: Path) -> None:
    """No link of a directory leads out of it, and all else in it is a file or a directory of its own."""
    whole = os.path.realpath(target)
    for folder, _folders, names in os.walk(target):
        for path in Path(folder).iterdir():
            about = path.lstat()
            assert stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode) or stat.S_ISLNK(about.st_mode)
            assert stat.S_ISLNK(about.st_mode) or not about.st_mode & (stat.S_ISUID | stat.S_ISGID)
            end = os.path.realpath(path)
            assert end == whole or end.startswith(f"{whole}/"), (path, end)
        for name in names:
            path = Path(folder, name)
            if path.is_file() and os.access(path, os.R_OK):
                assert SECRET not in path.read_bytes()


@given(st.lists(MEMBERS, max_size=6), FORMS)
def test_nothing_outside_is_written_read_or_led_to(place, members, form):
    unpacked(place, archive_of(members, form))


@given(
    st.lists(MEMBERS, max_size=4),
    PACKERS,
    st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 255)), max_size=3),
    st.one_of(st.none(), st.integers(0, 2000)),
)
def test_a_damaged_archive_is_refused_in_one_sentence_or_unpacked(place, members, pack, changes, end):
    content = bytearray(pack(archive_of(members, tarfile.PAX_FORMAT))[:end])
    for number, byte in changes if content else ():
        content[number % len(content)] = byte
    said = unpacked(place, bytes(content))
    assert not said or said.startswith("gunicorn_flask_source: ")
    assert "is refused" in said or "\n" not in said


@given(st.sampled_from([tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGLINK]), st.integers(0, 3000))
def test_headers_that_announce_others_are_refused(place, kind, number):
    info = tarfile.TarInfo("a")
    info.type = kind
    assert unpacked(place, info.tobuf(tarfile.GNU_FORMAT) * number + bytes(1024)) or not number


@given(st.binary(max_size=600))
def test_what_is_no_archive_is_refused(place, content):
    # Zeros end one.
    assert "cannot be unpacked" in unpacked(place, content) or not any(content)


@given(st.lists(NAMES, max_size=3), st.binary(max_size=9))
def test_an_archive_of_another_kind_is_refused(place, names, content):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        infos = [zipfile.ZipInfo(name.encode(errors="replace").decode() or "a") for name in names]
        for info in {info.filename: info for info in infos}.values():
            archive.writestr(info, content)
    assert "cannot be unpacked" in unpacked(place, made.getvalue())


SOUND = st.dictionaries(
    st.lists(st.sampled_from("abcA\u00e9"), min_size=1, max_size=3).map("/".join), st.binary(max_size=9), max_size=4
).filter(lambda files: not any(other.startswith(f"{path}/") for path in files for other in files))


@given(SOUND, st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"]))
def test_a_sound_archive_is_unpacked_as_it_is(place, files, mode):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with tempfile.TemporaryDirectory(dir=place) as name:
        archive, target = Path(name, "archive"), Path(name, "target")
        target.mkdir()
        archive.write_bytes(made.getvalue())
        extract(archive, target)
        assert {
            str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()
        } == files
