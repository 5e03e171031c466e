"""workshop: what of a build's leavings root takes over, and what a build is told."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import workshop
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

PYTHON = os.path.realpath(sys.executable)


@pytest.fixture
def shop(monkeypatch, tmp_path) -> workshop.Workshop:
    monkeypatch.setattr(workshop, "STATE", tmp_path / "private")
    monkeypatch.setattr(workshop, "LINKS", tmp_path / "links")
    with workshop.Workshop("web", PYTHON) as made:
        yield made
    assert not made.folder.exists()


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "app").mkdir()
    return tmp_path / "app"


def test_what_is_left_is_taken_over_without_further_rights(shop, target):
    copy = shop.copy_of(target)
    (copy / "a/b").mkdir(parents=True, mode=0o777)
    (copy / "a/b/program").write_text("x")
    (copy / "a/b/program").chmod(0o6777)
    (copy / "a/data").write_text("y")
    (copy / "a/data").chmod(0o600)
    os.utime(copy / "a/data", ns=(1, 1_000_000_007))
    (copy / "a/link").symlink_to("b/program")
    (copy / "python").symlink_to(PYTHON)
    os.link(copy / "a/data", copy / "a/again")
    shop.collect(target)
    modes = {
        str(p.relative_to(target)): stat.S_IMODE(p.lstat().st_mode) for p in target.rglob("*") if not p.is_symlink()
    }
    assert modes == {"a": 0o755, "a/b": 0o755, "a/b/program": 0o755, "a/data": 0o644, "a/again": 0o644}
    assert (target / "a/data").stat().st_mtime_ns == 1_000_000_007 and (target / "a/data").stat().st_nlink == 1
    assert (target / "a/link").read_text() == "x" and str((target / "python").readlink()) == PYTHON


@pytest.mark.parametrize("way", ["/etc/passwd", "../../secret", "a/../../../secret", "/", "chain/x"])
def test_a_link_out_of_the_release_is_refused(shop, target, way):
    copy = shop.copy_of(target)
    (copy / "a").mkdir()
    (copy / "chain").symlink_to("..")
    (copy / "link").symlink_to(way)
    (copy / "chain").unlink() if way != "chain/x" else None
    with pytest.raises(ReleaseError, match="has made a link that leads out of the release"):
        shop.collect(target)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_what_is_no_file_is_refused(shop, target, kind):
    os.mknod(shop.copy_of(target) / "x", kind | 0o600)
    with pytest.raises(ReleaseError, match=f"{target}/x: the build has made something that is neither file nor"):
        shop.collect(target)


def test_what_does_not_fit_on_the_disk_is_refused(shop, target):
    with (shop.copy_of(target) / "hole").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(ReleaseError, match="No space left on device: the build has left 4294967296 kB, and"):
        shop.collect(target)
    assert not any(target.iterdir())


def test_directories_in_each_other_have_an_end(shop, target):
    folder = shop.copy_of(target)
    for _depth in range(workshop.DEEPEST + 2):
        folder /= "d"
        folder.mkdir()
    with pytest.raises(ReleaseError, match="more than 128 directories in each other"):
        shop.collect(target)


def test_what_is_collected_is_only_read_by_what_follows(shop, target):
    assert f"--property=BindPaths={shop.copy_of(target)}:{target}" in shop._command(network=True)
    shop.collect(target)
    assert not [word for word in shop._command(network=True) if "BindPaths" in word]


def test_a_command_has_the_operators_environment_and_nothing_personal(monkeypatch, tmp_path):
    given = {"PATH": "/bin", "HTTPS_PROXY": "http://p", "PIP_INDEX_URL": "http://i", "NODE_ENV": "x"}
    personal = {"HOME": "/root", "SUDO_USER": "me", "PYTHONPATH": "/x", "SSH_CONNECTION": "1", "USER": "root"}
    assert workshop.environment(given | personal) == given
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine i")
    assert workshop.settings() == {".netrc": "machine i"}
    (tmp_path / ".netrc").write_text("x" * (workshop.SETTINGS_LIMIT + 1))
    assert workshop.settings() == {}


def test_a_failure_says_what_the_command_said_last_and_holds_no_more(shop, monkeypatch):
    flood = ["sh", "-c", "cat > /dev/null; yes | head -c 5000000; echo; echo the end; exit 3"]
    monkeypatch.setattr(shop, "_command", lambda network: flood)
    with pytest.raises(
        ReleaseError, match=r"^pip cannot; nothing that runs was touched\. It said: (y\n){13}\nthe end$"
    ):
        shop.run(["x"], "pip cannot", network=True)
    code, said = shop._run(flood, "{}")
    assert code == 3 and len(said) <= workshop.OUTPUT_LIMIT
    monkeypatch.setattr(workshop, "LONGEST_S", 0)
    with pytest.raises(ReleaseError, match=r"^a \(it has no network, .*\); .* It did not end within 0 s\. It said: "):
        shop.run(["x"], "a")


def test_a_command_that_never_read_its_job_is_a_failure(shop):
    assert shop._run(["false"], "x" * 1_000_000)[0] == 1


def test_the_job_is_no_word_of_the_command_line(shop, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@index")
    seen = {}
    monkeypatch.setattr(shop, "_run", lambda argv, job: seen.update(argv=argv, job=job) or (0, ""))
    shop.run(["pip"], "x")
    assert "secret" in seen["job"] and "secret" not in " ".join(seen["argv"])
