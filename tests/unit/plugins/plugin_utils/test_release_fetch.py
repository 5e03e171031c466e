"""Sources of a release on the controller: repositories and archives."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import release_fetch
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.release_archive import extract

DIRECTORY = {"type": "directory", "path": "/x", "requirements": "requirements.txt", "packages": []}
GIT = {**DIRECTORY, "type": "git", "path": None, "url": "https://x/y.git", "revision": "main"}
ARCHIVE = {**DIRECTORY, "type": "archive", "path": "/a.tar", "checksum": f"sha256:{64 * '0'}"}


def git(path: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(path), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(source) -> Path:
    git(source.parent, "init", str(source))
    git(source, "add", ".")
    git(source, "commit", "--message", "one")
    return source


def test_a_revision_means_a_commit(repository, tmp_path):
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "--annotate", "--message", "x", "v1")
    git(repository, "commit", "--allow-empty", "--message", "two")
    second = git(repository, "rev-parse", "HEAD")
    git(repository, "branch", "v2")
    git(repository, "tag", "v2")
    wish = {**GIT, "url": str(repository)}
    assert release_fetch.resolve(wish) == second
    assert release_fetch.resolve({**wish, "revision": "v1"}) == first
    assert release_fetch.resolve({**wish, "revision": first}) == first
    assert release_fetch.resolve({**wish, "revision": "refs/heads/v2"}) == second
    with pytest.raises(ReleaseError, match="is a tag and a branch; write refs/tags/v2 or refs/heads/v2"):
        release_fetch.resolve({**wish, "revision": "v2"})
    with pytest.raises(ReleaseError, match="has no branch or tag 'v9'"):
        release_fetch.resolve({**wish, "revision": "v9"})
    with pytest.raises(ReleaseError, match=f"has no commit {40 * '0'}|git cannot read"):
        release_fetch.fetch({**wish, "revision": 40 * "0"}, tmp_path / "run")


def test_all_hosts_of_a_run_get_the_same_commit(repository, tmp_path):
    wish = {**GIT, "url": str(repository)}
    seen = release_fetch.content_id(wish, [], tmp_path / "run")
    (repository / "run").write_text("moved on")
    git(repository, "commit", "--all", "--message", "two")
    assert release_fetch.content_id(wish, [], tmp_path / "run") == seen
    assert release_fetch.fetch(wish, tmp_path / "run").joinpath("run").read_text() == "#!/bin/sh\n"
    assert release_fetch.content_id(wish, [], tmp_path / "next run") != seen
    assert release_fetch.fetch(wish, tmp_path / "next run").joinpath("run").read_text() == "moved on"


def test_a_checkout_is_the_code_and_nothing_of_git(repository, tmp_path):
    code = release_fetch.fetch({**GIT, "url": str(repository)}, tmp_path / "run")
    assert model.digest(model.scan(code)) == model.digest(model.scan(repository, [".git"]))
    below = release_fetch.fetch({**GIT, "url": str(repository), "subdirectory": "web"}, tmp_path / "run")
    assert (below / "wsgi.py").exists()
    with pytest.raises(ReleaseError, match=r"there is no directory 'app' in the source; it holds link, run, web"):
        release_fetch.fetch({**GIT, "url": str(repository), "subdirectory": "app"}, tmp_path / "run")


@pytest.fixture
def family(repository, tmp_path) -> Path:
    """The repository with a submodule, named from where it lies, which has one itself."""
    allow = ("-c", "protocol.file.allow=always")
    for name, child in (("inner", None), ("library", "inner")):
        path = tmp_path / f"{name}.git"
        path.mkdir()
        git(tmp_path, "init", str(path))
        (path / f"{name}.py").write_text(f"{name} = 1\n")
        if child:
            git(path, *allow, "submodule", "add", f"../{child}.git", f"vendor/{child}")
        git(path, "add", ".")
        git(path, "commit", "--message", "one")
    git(repository, *allow, "submodule", "add", str(tmp_path / "library.git"), "libs/library")
    git(repository, "config", "--file", ".gitmodules", "submodule.libs/library.url", "../library.git")
    git(repository, "commit", "--all", "--message", "with a library")
    return repository


def test_submodules_are_fetched_at_their_commits(family, tmp_path):
    wish = {**GIT, "url": str(family)}
    (tmp_path / "library.git/library.py").write_text("library = 2\n")
    git(tmp_path / "library.git", "commit", "--all", "--message", "later")
    code = release_fetch.fetch(wish, tmp_path / "run")
    assert (code / "libs/library/library.py").read_text() == "library = 1\n"
    assert (code / "libs/library/vendor/inner/inner.py").read_text() == "inner = 1\n"
    assert not list(code.rglob(".git"))
    without = wish | {"submodules": False}
    assert list((release_fetch.fetch(without, tmp_path / "run") / "libs/library").iterdir()) == []
    assert release_fetch.content_id(wish, [], tmp_path / "run") != release_fetch.content_id(
        without, [], tmp_path / "run"
    )


def test_a_submodule_that_cannot_be_fetched_is_named(family, tmp_path):
    git(family, "config", "--file", ".gitmodules", "submodule.libs/library.url", str(tmp_path / "nowhere"))
    git(family, "commit", "--all", "--message", "broken")
    said = r"gunicorn_flask_source.submodules: 'libs/library': git cannot read .*/nowhere: .*; without them"
    with pytest.raises(ReleaseError, match=said):
        release_fetch.fetch({**GIT, "url": str(family)}, tmp_path / "run")
    git(family, "rm", "--cached", ".gitmodules")
    git(family, "commit", "--message", "no addresses")
    with pytest.raises(ReleaseError, match=r"'libs/library' cannot be fetched: its .gitmodules names no address"):
        release_fetch.fetch({**GIT, "url": str(family)}, tmp_path / "next run")


def test_a_repository_of_others_may_not_name_one_of_the_controller(family, tmp_path):
    code = release_fetch.fetch({**GIT, "url": str(family)}, tmp_path / "run")
    place = next(path for path in (tmp_path / "run").iterdir() if (path / "submodules.json").exists())
    (code / ".gitmodules").write_text(f'[submodule "x"]\npath = libs/library\nurl = {tmp_path}/library.git\n')
    commit = git(tmp_path / "library.git", "rev-parse", "HEAD")
    for url, refused in (("https://git.example.com/web.git", True), ("git@example.com:web.git", True), ("/srv", False)):
        (place / "submodules.json").write_text(f'{{"libs/library": "{commit}"}}')
        shutil.rmtree(place / "repository", ignore_errors=True)
        try:
            release_fetch._check_out_submodules(url, place, code)
        except ReleaseError as error:
            assert refused and "transport 'file' not allowed" in str(error)
        else:
            assert not refused


@pytest.mark.parametrize(
    ("url", "relative", "address"),
    [
        ("https://x/a/web.git", "../lib.git", "https://x/a/lib.git"),
        ("https://x/a/web.git/", "./lib.git", "https://x/a/web.git/lib.git"),
        ("https://x/a/web.git", "../../b/lib.git", "https://x/b/lib.git"),
        ("git@x:web.git", "../lib.git", "git@x/lib.git"),
        ("/srv/web", "https://y/lib", "https://y/lib"),
    ],
)
def test_addresses_of_submodules_count_from_the_repository(url, relative, address):
    assert release_fetch._joined(url, relative) == address


def test_an_error_is_found_once_for_all_hosts(tmp_path):
    asked = []

    def make(_place):
        asked.append(1)
        raise ReleaseError("refused")

    for _host in range(3):
        with pytest.raises(ReleaseError, match="refused"):
            release_fetch.once(tmp_path, ["x"], make)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://me:pw@host/x.git now", "at https://***@host/x.git now"),
        ("https://token@host/x", "https://***@host/x"),
        ("ssh://git:pw@host/x", "ssh://git:***@host/x"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("https://me:p@w@host/x.git", "https://***@host/x.git"),
        ("ssh://git:p@w@host/x", "ssh://git:***@host/x"),
        ("HTTPS://token@host/x?token=abc", "HTTPS://***@host/x?***"),
        ("https://host/a.tar?token=abc end", "https://host/a.tar?*** end"),
    ],
)
def test_credentials_of_an_address_are_not_shown(text, shown):
    assert release_fetch.without_credentials(text) == shown


def archive_of(path: Path, *members: tarfile.TarInfo) -> dict:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return {**ARCHIVE, "path": str(path), "checksum": f"sha256:{checksum}"}


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, 1 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (member("../x"), "its '../x' leads out"),
        (member("a/../../x"), "leads out of the archive"),
        (member("/etc/x"), "its '/etc/x' leads out"),
        (member("."), "takes the place of the archive's root, which is a directory"),
        (member("./", tarfile.SYMTYPE, "good"), "takes the place of the archive's root"),
        (member("a", tarfile.SYMTYPE, "/etc"), "'a' is a link to /etc, out of the archive"),
        (member("b/a", tarfile.SYMTYPE, "../../etc"), "is a link to ../../etc"),
        # 'here' is a link to the archive's root, so what is above it is outside, whatever the words look like.
        (member("a", tarfile.SYMTYPE, "here/../etc"), "'a' is a link to here/../etc, out of the archive"),
        (member("b/a", tarfile.SYMTYPE, "deep/../../../../etc"), "'b/a' is a link to deep/../../../../etc, out of"),
        (member("a", tarfile.SYMTYPE, "loop"), "'a' is a link to loop, out of the archive"),
        (member("here/x"), "'here/x' lies below 'here', which is a link"),
        (member("./here//x", tarfile.SYMTYPE, "good"), "lies below 'here', which is a link"),
        (member("a", tarfile.LNKTYPE, "here"), "'a' is a link to here, out of the archive"),
        (member("a", tarfile.LNKTYPE, "/etc/passwd"), "is a link to /etc/passwd"),
        (member("b/a", tarfile.LNKTYPE, "../etc"), "is a link to ../etc"),
        (member("a", tarfile.CHRTYPE), "is neither file nor directory nor link"),
        (member("a", tarfile.FIFOTYPE), "is neither file nor directory nor link"),
    ],
)
def test_an_archive_that_climbs_out_is_refused_as_a_whole(tmp_path, bad, complaint):
    links = {"here": ".", "b/deep": "c/d", "b/c/d/long": "../../../here"}
    sound = [member(name, tarfile.SYMTYPE, target) for name, target in links.items()]
    loop = [member("loop", tarfile.SYMTYPE, "loop")] if bad.linkname == "loop" else []
    wish = archive_of(tmp_path / "a.tar.gz", member("good"), *sound, bad, *loop)
    with pytest.raises(ReleaseError, match=complaint):
        release_fetch.fetch(wish, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("good")) and not (tmp_path / "x").exists()


def test_a_link_behind_a_path_too_long_for_the_kernel_is_seen_through(tmp_path):
    """What deceived Python's own filter, CVE-2025-4517: it asked the file system, which gave up on the way."""
    directory, steps = "d" * 247, "abcdefghijklmnop"
    inside = ["/".join([directory] * number) for number in range(len(steps) + 1)]
    links = [
        member(f"{place}/{step}".lstrip("/"), tarfile.SYMTYPE, directory)
        for place, step in zip(inside, steps, strict=False)
    ]
    last = f"{'/'.join(steps)}/{'l' * 254}"
    wish = archive_of(
        tmp_path / "a.tar",
        *(member(place, tarfile.DIRTYPE) for place in inside[1:]),
        *links,
        member(f"{inside[-1]}/{'l' * 254}", tarfile.SYMTYPE, "../" * len(steps)),
        member("escape", tarfile.SYMTYPE, f"{last}/../../etc"),
    )
    with pytest.raises(ReleaseError, match="'escape' is a link to .*, out of the archive"):
        release_fetch.fetch(wish, tmp_path / "run")


def with_a_map(text: str) -> bytes:
    """An archive whose only member has a map of the holes in it."""
    info = member("a")
    info.pax_headers = {"GNU.sparse.map": text}
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(512)


def damaged(pack: Callable[[bytes], bytes]) -> bytes:
    """A packed archive whose middle is lost."""
    info = member("a")
    content = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(256)) * 20
    info.size = len(content)
    packed = pack(info.tobuf() + content + bytes(1024))
    return packed[:1000] + b"\xff" * 1000 + packed[2000:]


@pytest.mark.parametrize(
    "content",
    [
        with_a_map("x"),
        # Each announces the name of the next one.
        member("a", tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT) * 3000,
        damaged(gzip.compress),
        damaged(lzma.compress),
        damaged(bz2.compress),
    ],
    ids=["map", "names", "gzip", "lzma", "bz2"],
)
def test_an_archive_that_cannot_be_read_is_told_in_one_sentence(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    (tmp_path / "code").mkdir()
    with pytest.raises(ReleaseError, match=r"a.tar cannot be unpacked \(.*; use a tar archive, compressed or not"):
        extract(tmp_path / "a.tar", tmp_path / "code")


def test_links_within_an_archive_are_taken(tmp_path):
    links = {"b": "a/x", "c": "nowhere", "lib64": "lib", "lib/d/up": "../../lib64/../a", "e": "lib/d/up/x"}
    wish = archive_of(
        tmp_path / "a.tar",
        # Links come before what they lead to as well.
        *(member(name, tarfile.SYMTYPE, target) for name, target in links.items()),
        member("hard", tarfile.LNKTYPE, "a/x"),
        member("a/x"),
        member("lib/y"),
    )
    code = release_fetch.fetch(wish, tmp_path / "run")
    assert [(code / name).read_text() for name in ("b", "e", "hard", "lib64/y")] == ["x"] * 4


def test_an_archive_of_another_checksum_is_refused(tmp_path):
    wish = archive_of(tmp_path / "a.tar", member("x"))
    other = {**wish, "checksum": ARCHIVE["checksum"]}
    with pytest.raises(ReleaseError, match=f"a.tar is {wish['checksum']}, not {other['checksum']}"):
        release_fetch.content_id(other, [], tmp_path / "run")
    assert release_fetch.content_id(wish, [], tmp_path / "run") != release_fetch.content_id(
        wish, ["*.md"], tmp_path / "run"
    )
    (tmp_path / "b").write_text("no archive")
    checksum = hashlib.sha256(b"no archive").hexdigest()
    with pytest.raises(ReleaseError, match="b cannot be unpacked"):
        release_fetch.fetch({**wish, "path": str(tmp_path / "b"), "checksum": f"sha256:{checksum}"}, tmp_path / "run")
    with pytest.raises(ReleaseError, match="nowhere cannot be read on the controller"):
        release_fetch.verify(wish, tmp_path / "nowhere")


def test_the_code_that_another_host_fetches_is_not_waited_for_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(release_fetch, "WAIT_S", 0.3)
    folder = tmp_path / "run"

    def again(_place: Path) -> str:
        return release_fetch.once(folder, ["wish"], lambda _place: "never")

    with pytest.raises(
        ReleaseError, match=r"is being fetched for another host, for more than 0.3 s; look at its server"
    ):
        release_fetch.once(folder, ["wish"], again)


def test_a_server_that_says_too_much_is_not_heard_out(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(release_fetch, "MOST_SAID", 10)
    said = r"gunicorn_flask_source.url: .* gives more than 4 GB, or more than 0 MB of names"
    with pytest.raises(ReleaseError, match=said):
        release_fetch.resolve({**GIT, "url": str(repository)})


def test_a_server_that_sends_too_much_fills_no_disk(repository, tmp_path, monkeypatch):
    (repository / "large").write_bytes(random.randbytes(1 << 20))  # noqa: S311 - cannot be compressed
    git(repository, "add", ".")
    git(repository, "commit", "--message", "large")
    monkeypatch.setattr(release_fetch, "MOST_BYTES", 1 << 19)
    with pytest.raises(ReleaseError, match=r"gunicorn_flask_source"):
        release_fetch.fetch({**GIT, "url": str(repository)}, tmp_path / "run")
    assert max(path.stat().st_size for path in tmp_path.joinpath("run").rglob("*") if path.is_file()) <= 1 << 19


def test_an_archive_that_does_not_end_is_not_waited_for(dripping, tmp_path, monkeypatch):
    monkeypatch.setattr(release_fetch, "TIMEOUT_S", 0.3)
    with pytest.raises(
        ReleaseError, match=r"gunicorn_flask_source.url: .* cannot be fetched: not complete after 0.3 s"
    ):
        release_fetch._download(dripping, tmp_path / "archive")


def test_an_archive_that_is_too_large_is_not_kept_on_coming(tmp_path, monkeypatch):
    monkeypatch.setattr(release_fetch, "MOST_BYTES", 10)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(ReleaseError, match="cannot be fetched: it has more than 0 GB"):
        release_fetch._download((tmp_path / "large").as_uri(), tmp_path / "archive")
