"""config_tree: how a tree of files is made, compared, replaced and kept."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import (
    model,
    run,
    tree,
)
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError

from .conftest import FILES, SOAK, Death, Host, made_of_layers, needs_root


def test_the_first_run_makes_everything_and_the_second_nothing(host):
    first = host.run(FILES)
    assert (first["changed"], first["added"], first["removed"]) == (True, ["a.conf", "sites/b.conf"], [])
    assert (host.read(), host.running.read_text(), host.siblings) == ("one\n", "one\n", [])
    assert not host.has(model.PENDING)
    before = host.snapshot()
    second = host.run(FILES)
    assert (second["changed"], second["added"], second["changed_files"]) == (False, [], [])
    assert host.snapshot() == before


@pytest.mark.parametrize("converged", [False, True])
def test_check_mode_writes_nothing(host, converged):
    if converged:
        host.run(FILES)
    before = host.snapshot()
    wish = {"a.conf": "new\n", "c.conf": ("x", {"owner": "nobody-yet"})}
    result = host.run(wish, check_mode=True, want_diff=True)
    assert result["changed"] and host.snapshot() == before
    assert not converged or result["removed"] == ["sites/b.conf"]
    assert "+new" not in str(result["diff"]) and "new\n" in [diff["after"] for diff in result["diff"]]


def test_an_unknown_owner_is_an_error_when_it_counts(host):
    with pytest.raises(ConfigTreeError, match="there is no user 'nobody-yet' on this host"):
        host.run({"a.conf": ("x", {"owner": "nobody-yet"})})
    assert not host.root.exists()


def test_umask_does_not_matter(host):
    old = os.umask(0o077)
    try:
        host.run({**FILES, "key": ("x", {"mode": "0640", "secret": True})})
    finally:
        os.umask(old)
    modes = {path: (host.root / path).stat().st_mode & 0o7777 for path in (".", "a.conf", "sites", "key")}
    assert modes == {".": 0o755, "a.conf": 0o644, "sites": 0o755, "key": 0o640}


def test_files_of_others_stay_the_same_inodes(host):
    host.run(FILES)
    foreign = host.root / "sites" / "foreign"
    foreign.write_text("theirs\n")
    foreign.chmod(0o604)
    (host.root / "link").symlink_to("../nowhere")
    os.setxattr(foreign, "user.note", b"kept")
    folder = host.root / "theirs"
    folder.mkdir(mode=0o711)
    os.utime(folder, (1, 2))
    before = foreign.stat()
    host.run({**FILES, "a.conf": "changed\n"})
    after = foreign.stat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert os.getxattr(foreign, "user.note") == b"kept"
    assert (host.root / "link").readlink() == Path("../nowhere")
    assert (folder.stat().st_mode & 0o777, folder.stat().st_mtime) == (0o711, 2)
    assert host.read() == "changed\n"


def test_only_managed_files_are_removed_and_empty_directories_of_ours_with_them(host):
    host.run({**FILES, "gone/x/y": "y", "mixed/y": "y"})
    (host.root / "mixed" / "foreign").write_text("theirs")
    result = host.run({"a.conf": "one\n"})
    assert result["removed"] == ["gone/x/y", "mixed/y", "sites/b.conf"]
    assert not host.has("gone") and not host.has("sites") and host.read("mixed/foreign") == "theirs"
    (host.root / "mixed" / "foreign").unlink()
    assert host.run({"a.conf": "one\n"})["changed"] and not host.has("mixed")
    assert not host.run({"a.conf": "one\n"})["changed"]


def test_absent_removes_what_others_made_and_keeps_it_away(host):
    host.root.mkdir(parents=True)
    (host.root / "default").write_text("theirs")
    assert host.run(FILES, absent=["default"])["removed"] == ["default"]
    assert not host.has("default") and not host.run(FILES, absent=["default"])["changed"]
    (host.root / "default").symlink_to("elsewhere")
    assert host.run(FILES, absent=["default"])["removed"] == ["default"]
    (host.root / "default").mkdir()
    with pytest.raises(ConfigTreeError, match="'default' is a directory"):
        host.run(FILES, absent=["default"])


def drift_mode(host):
    (host.root / "a.conf").chmod(0o666)


def drift_content_of_same_size(host):
    (host.root / "a.conf").write_text("eno\n")


def drift_link(host):
    (host.root / "a.conf").unlink()
    (host.root / "a.conf").symlink_to(host.place / "elsewhere")


def drift_directory(host):
    (host.root / "a.conf").unlink()
    (host.root / "a.conf").mkdir()


def drift_missing(host):
    (host.root / "sites" / "b.conf").unlink()


def drift_root_mode(host):
    host.root.chmod(0o777)


def drift_made_directory(host):
    (host.root / "sites").chmod(0o777)


def drift_manifest(host):
    (host.root / model.MANIFEST).unlink()


@pytest.mark.parametrize(
    "drift",
    [
        drift_mode,
        drift_content_of_same_size,
        drift_link,
        drift_directory,
        drift_missing,
        drift_root_mode,
        drift_made_directory,
        drift_manifest,
    ],
    ids=lambda function: function.__name__,
)
def test_drift_is_found_and_repaired(host, drift):
    (host.place / "elsewhere").write_text("not ours\n")
    host.run(FILES)
    drift(host)
    assert host.run(FILES, check_mode=True)["changed"]
    assert host.run(FILES)["changed"]
    assert not host.run(FILES)["changed"]
    assert (host.read(), host.read("sites/b.conf")) == ("one\n", "two\n")
    assert (host.place / "elsewhere").read_text() == "not ours\n"
    modes = [(host.root / path).lstat().st_mode for path in (".", "sites", "a.conf", "sites/b.conf")]
    assert [mode & 0o777 for mode in modes] == [0o755, 0o755, 0o644, 0o644]


def test_a_directory_of_others_keeps_its_mode(host):
    (host.root / "sites").mkdir(parents=True)
    (host.root / "sites").chmod(0o2750)
    host.run(FILES)
    assert (host.root / "sites").stat().st_mode & 0o7777 == 0o2750


def occupied_directory(host):
    (host.root / "a.conf").mkdir()
    (host.root / "a.conf" / "foreign").touch()


def foreign_file_as_parent(host):
    (host.root / "sites").write_text("theirs")


def foreign_link_as_parent(host):
    (host.root / "sites").symlink_to(host.place)


@pytest.mark.parametrize(
    ("obstacle", "complaint"),
    [
        (occupied_directory, "directory that holds other things"),
        (foreign_file_as_parent, "is a file of somebody else"),
        (foreign_link_as_parent, "is a symbolic link of somebody else"),
    ],
)
def test_things_of_others_in_the_way_are_named_not_overwritten(host, obstacle, complaint):
    host.root.mkdir(parents=True)
    obstacle(host)
    before = host.snapshot(host.root)
    with pytest.raises(ConfigTreeError, match=complaint):
        host.run(FILES)
    assert host.snapshot(host.root) == before


def test_a_managed_file_can_become_a_directory_and_back(host):
    host.run({**FILES, "x": "file"})
    host.run({**FILES, "x/y": "in a directory"})
    assert host.read("x/y") == "in a directory"
    host.run({**FILES, "x": "file"})
    assert host.read("x") == "file" and not host.run({**FILES, "x": "file"})["changed"]


def test_a_root_that_is_a_link_or_a_file_is_refused(host):
    host.root.parent.mkdir()
    host.root.symlink_to(host.place)
    with pytest.raises(ConfigTreeError, match="symbolic link"):
        host.run(FILES)
    host.root.unlink()
    host.root.touch()
    with pytest.raises(ConfigTreeError, match="not a directory"):
        host.run(FILES)


@needs_root
@pytest.mark.parametrize("where", [".", "sites", "a.conf"])
def test_a_mount_point_in_the_tree_is_refused(host, where):
    host.run(FILES)
    point = host.root / where
    source = host.place / "source"
    source.touch() if point.is_file() else source.mkdir()
    subprocess.run(["mount", "--bind", source, point], check=True)
    try:
        with pytest.raises(ConfigTreeError, match="is a mount point"):
            host.run({"a.conf": "new"})
    finally:
        subprocess.run(["umount", point], check=True)
    assert host.read() == "one\n"


def test_a_damaged_manifest_is_written_anew_with_a_warning(host):
    host.run(FILES)
    (host.root / model.MANIFEST).write_text("{")
    params = {**host.params, "files": [], "_contents": model.pack({})}
    attempt = run.Run(params | {"apply": []})
    assert attempt.execute()["changed"] and "damaged" in attempt.warnings[0]
    assert host.has("a.conf")


def test_any_name_is_kept_and_taken(host):
    names = ["with space", "ünïcode", "a'b\"c", "$(reboot)", "-rf"]
    host.run({**FILES, **dict.fromkeys(names, "ours")})
    foreign = [os.fsencode(host.root) + name for name in (b"/line\nbreak", b"/not\xffutf8")]
    for path in foreign:
        Path(os.fsdecode(path)).write_text("theirs")
    assert host.run({"a.conf": "new\n", **dict.fromkeys(names, "more")})["changed"]
    assert all(host.read(name) == "more" for name in names)
    assert all(Path(os.fsdecode(path)).read_text() == "theirs" for path in foreign)
    assert sorted(host.run({"a.conf": "new\n"})["removed"]) == sorted(names)


def test_two_hundred_files_are_changed_together(host):
    first, second = ({"a.conf": text, **{f"d{n % 7}/f{n}": text for n in range(200)}} for text in ("1", "2"))
    assert len(host.run(first)["added"]) == 201
    assert len(host.run(second)["changed_files"]) == 201 and host.siblings == []
    assert not host.run(second)["changed"]


def test_a_file_that_has_another_name_elsewhere_is_not_written_into(host):
    host.run(FILES)
    backup = host.place / "backup"
    backup.hardlink_to(host.root / "a.conf")
    host.run({"a.conf": "new\n"})
    assert (backup.read_text(), host.read()) == ("one\n", "new\n")


@needs_root
@pytest.mark.parametrize("existed", [True, False])
def test_a_full_disk_changes_nothing_and_the_next_run_heals(host, existed):
    place = host.root.parent
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=True)
    try:
        if existed:
            host.run(FILES)
        for size in range(0, 260_000, 20_000):
            (place / "filler").write_bytes(bytes(size))
            big = {"a.conf": "new\n", **{f"d/{number}": "x" * 6000 for number in range(40)}}
            with pytest.raises(ConfigTreeError, match="cannot be built beside it: No space left.*nothing has changed"):
                host.run(big)
            assert host.siblings == ["filler"] and host.root.exists() == existed
            assert not existed or (host.read(), host.read("sites/b.conf")) == ("one\n", "two\n")
        (place / "filler").unlink()
        assert host.run({"a.conf": "new\n"})["changed"] and host.running.read_text() == "new\n"
        assert host.siblings == []
    finally:
        subprocess.run(["umount", place], check=True)


@needs_root
@pytest.mark.parametrize("path", [".", "a.conf", "sites", "sites/foreign"])
def test_an_immutable_file_is_named_before_anything_changes(host, path):
    host.run(FILES)
    (host.root / "sites" / "foreign").touch()
    if subprocess.run(["chattr", "+i", host.root / path], capture_output=True).returncode != 0:
        pytest.skip("the filesystem of the temporary directory has no such flag")
    try:
        with pytest.raises(ConfigTreeError, match=r"immutable or append-only .*nothing has changed"):
            host.run({"a.conf": "new\n"})
        assert host.read() == "one\n" and host.siblings == []
        assert not host.run(FILES)["changed"]
    finally:
        subprocess.run(["chattr", "-i", host.root / path], check=True)
    assert host.run({"a.conf": "new\n"})["changed"]


def test_the_live_tree_is_whole_at_every_moment(host):
    """Readers hold on to a directory, as a service does that reads its includes: both files are of one version."""
    host.run({"a.conf": "0", "b.conf": "0"})
    torn, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            handle = os.open(host.root, os.O_RDONLY)
            try:
                found = []
                for name in ("a.conf", "b.conf"):
                    file = os.open(name, os.O_RDONLY, dir_fd=handle)
                    found.append(os.read(file, 10))
                    os.close(file)
                if len(set(found)) != 1:
                    torn.append(found)
            except FileNotFoundError:
                # The old tree is deleted after the swap; who opens the root anew must find everything.
                if not (host.root / "a.conf").exists():
                    torn.append("missing")
            finally:
                os.close(handle)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 200):
        host.run({"a.conf": str(number), "b.conf": str(number)}, apply=[])
    stop.set()
    reader.join()
    assert torn == []


def is_whole_image(image: Host) -> bool:
    return image.read() in ("packaged\n", "one\n") and image.read("theirs/file") == "theirs\n"


def heals_image(image: Host) -> bool:
    image.run(FILES)
    return (
        image.read() == image.running.read_text() == "one\n"
        and is_whole_image(image)
        and image.siblings == []
        and str(image.root) not in Path("/proc/mounts").read_text()
        and not image.run(FILES)["changed"]
    )


@needs_root
def test_the_adoption_of_a_tree_of_an_image_may_die_at_any_step(reaper, tmp_path, monkeypatch):
    monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
    for step in range(0, 1000, 1 if SOAK else 3):
        with made_of_layers(tmp_path / str(step)) as image:
            died = reaper.kill(step, lambda image=image: image.run(FILES))
            assert is_whole_image(image) and heals_image(image)
        if not died:
            break
    assert step > 20


@needs_root
@pytest.mark.parametrize(
    "script",
    [
        "exit 9",
        'umount "$1"; exit 9',
        'umount "$1"; rm "$1"/theirs/file; exit 9',
        'umount "$1"; find "$1" -xdev -mindepth 1 -delete; exit 9',
        tree.REPLACE + "exit 9",
    ],
    ids=["at_once", "unmounted", "half_deleted", "deleted", "replaced"],
)
def test_the_script_that_replaces_a_tree_of_an_image_may_die_at_any_line(image, script):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "REPLACE", script)
        with pytest.raises(ConfigTreeError, match="`unshare` failed"):
            image.run(FILES)
    assert is_whole_image(image) and heals_image(image)


@needs_root
def test_a_tree_of_a_container_image_is_exchanged_too(image):
    stop, missing = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                (image.root / "theirs" / "file").read_text()
            except FileNotFoundError as error:
                missing.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    image.run(FILES)
    stop.set()
    reader.join()
    assert missing == []
    assert (image.read(), image.read("theirs/link")) == ("one\n", "theirs\n")
    assert (image.root / "theirs" / "file").stat().st_mode & 0o777 == 0o604
    assert image.siblings == [] and not image.run(FILES)["changed"]
    with pytest.raises(ConfigTreeError, match="back in place and applied"):
        image.run({"a.conf": "broken\n"})
    assert image.read() == "one\n"


@needs_root
@pytest.mark.parametrize("step", ["mount", "unshare"])
def test_a_run_that_dies_while_it_replaces_a_tree_of_an_image_is_continued(image, monkeypatch, step):
    must_run = tree._must_run

    def die(argv):
        if argv[0] == step:
            raise Death
        must_run(argv)

    with monkeypatch.context() as patch:
        patch.setattr(tree, "_must_run", die)
        with pytest.raises(Death):
            image.run(FILES)
    assert image.read() == "packaged\n"
    assert image.run(FILES)["changed"] and image.read() == "one\n" and image.read("theirs/file") == "theirs\n"
    assert image.siblings == [] and str(image.root) not in Path("/proc/mounts").read_text()


def test_parents_of_a_tree_are_open_whatever_the_umask(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o700)
    before = os.umask(0o077)
    try:
        tree.make_parents(tmp_path / "closed/a/b/.c.staged")
    finally:
        os.umask(before)
    modes = [(tmp_path / path).stat().st_mode & 0o777 for path in ("closed", "closed/a", "closed/a/b")]
    assert modes == [0o700, 0o755, 0o755]
