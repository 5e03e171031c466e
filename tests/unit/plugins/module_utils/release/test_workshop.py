"""workshop: what of a build's leavings root takes over, and what a build is told."""

from __future__ import annotations

import os
import stat
import sys
import time
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
    shop.collect(target, links_to_python=True)
    modes = {
        str(p.relative_to(target)): stat.S_IMODE(p.lstat().st_mode) for p in target.rglob("*") if not p.is_symlink()
    }
    assert modes == {"a": 0o755, "a/b": 0o755, "a/b/program": 0o755, "a/data": 0o644, "a/again": 0o644}
    assert (target / "a/data").stat().st_mtime_ns == 1_000_000_007 and (target / "a/data").stat().st_nlink == 1
    assert (target / "a/link").read_text() == "x" and str((target / "python").readlink()) == PYTHON


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("/etc/passwd", "leads out of the release"),
        ("../../secret", "leads out of the release"),
        ("a/../../../secret", "leads out of the release"),
        ("/", "leads out of the release"),
        ("chain/x", "leads out of the release"),
        (PYTHON, "leads out of the release"),
        ("{copy}/a", "leads out of the release"),
        ("{target}/a", "leads out of the release"),
        ("a/missing", "leads nowhere"),
        ("link", "leads nowhere"),
    ],
)
def test_a_link_out_of_the_release_is_refused(shop, target, way, said):
    copy = shop.copy_of(target)
    (copy / "a").mkdir()
    if way.startswith("chain"):
        (copy / "chain").symlink_to("..")
    (copy / "link").symlink_to(way.format(copy=copy, target=target))
    with pytest.raises(ReleaseError, match=f"has made a link that {said}"):
        shop.collect(target)


def test_a_link_is_judged_where_it_comes_to_and_not_where_it_was_made(shop, tmp_path):
    """The copy lies as deep as the target for nobody's sake: of the same words one leads out and one does not."""
    target = tmp_path / "venvs/abc"
    target.mkdir(parents=True)
    copy = shop.copy_of(target)
    (copy / "conf").symlink_to(f"../{copy.name}/../../conf")
    (copy.parent / "conf").touch()
    with pytest.raises(ReleaseError, match="leads out of the release"):
        shop.collect(target)


def test_a_copy_cannot_be_replaced_and_none_follows_what_is_in_its_place(shop, target):
    copy = shop.copy_of(target)
    assert f"--property=StateDirectory={shop.name}/{copy.name}" in shop._command(network=False)
    copy.rmdir()
    copy.symlink_to("/etc")
    with pytest.raises(ReleaseError, match="has put something else in its place"):
        shop.collect(target)
    assert not any(target.iterdir())


@pytest.mark.parametrize("name", [".complete", ".complete.new"])
def test_no_build_says_itself_that_it_is_complete(shop, target, name):
    (shop.copy_of(target) / name).symlink_to(PYTHON)
    with pytest.raises(ReleaseError, match=f"has left '{name}'"):
        shop.collect(target, links_to_python=True)


def test_what_there_is_has_an_end(shop, target, monkeypatch):
    monkeypatch.setattr(workshop, "MOST", 3)
    copy = shop.copy_of(target)
    for name in "abcd":
        (copy / name).touch()
    with pytest.raises(ReleaseError, match="has left more than 3 files"):
        shop.collect(target)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_what_is_no_file_is_refused(shop, target, kind):
    os.mknod(shop.copy_of(target) / "x", kind | 0o600)
    with pytest.raises(ReleaseError, match=f"'{target}/x': the build has made something that is neither file nor"):
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
    flood = (
        "cat > /dev/null; yes | head -c 5000000; echo; echo the end; echo Finished with result: exit-code >&2; exit 3"
    )
    monkeypatch.setattr(shop, "_command", lambda network: ["sh", "-c", flood])
    with pytest.raises(
        ReleaseError, match=r"^pip cannot; nothing that runs was touched\. It said: (y\n){13}\nthe end$"
    ):
        shop.run(["x"], "pip cannot", network=True)
    code, said = shop._run(["sh", "-c", flood], "{}")
    assert code == 3 and len(said) <= workshop.OUTPUT_LIMIT
    silent = ["sh", "-c", "echo Finished with result: timeout >&2; exit 1"]
    monkeypatch.setattr(shop, "_command", lambda network: silent)
    said = r"It did not end within 3600 s\.\nFinished with result: timeout$"
    with pytest.raises(ReleaseError, match=rf"^a \(it has no network, .*\); nothing that .* It said: {said}"):
        shop.run(["x"], "a")


def test_nobody_who_holds_the_output_or_never_ends_is_waited_for(shop, monkeypatch):
    began = time.monotonic()
    code, said = shop._run(["sh", "-c", "echo said; sleep 60 & exit 5"], "{}")
    assert (code, said) == (5, "said\n") and time.monotonic() - began < 30
    monkeypatch.setattr(workshop, "LONGEST_S", 0)
    monkeypatch.setattr(workshop, "ENDING_S", 0.2)
    assert shop._run(["sleep", "60"], "{}")[0] == -9 and time.monotonic() - began < 30


def test_a_command_that_never_read_its_job_is_a_failure(shop):
    assert shop._run(["false"], "x" * 1_000_000)[0] == 1


def test_the_job_is_no_word_of_the_command_line(shop, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@index")
    seen = {}
    monkeypatch.setattr(shop, "_run", lambda argv, job: seen.update(argv=argv, job=job) or (0, ""))
    shop.run(["pip"], "x")
    assert "secret" in seen["job"] and "secret" not in " ".join(seen["argv"])
