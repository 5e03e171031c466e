"""config_tree: what it decides, and what it leaves behind when it dies at any step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import config_tree as model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import (
    tree_command,
    tree_run,
    tree_swap,
    tree_units,
)
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import ConfigTreeError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount and change owners")
SOAK = os.environ.get("FOOBAR_SOAK") == "1"
PROJECT = Path(__file__).resolve().parents[2]
ME = {"owner": str(os.geteuid()), "group": str(os.getegid())}


# --- what it decides --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/etc/passwd", "absolute"),
        ("~/x", "absolute"),
        ("../x", "climbs out"),
        ("a/../../x", "climbs out"),
        ("a//b", "write 'a/b'"),
        ("./a", "write 'a'"),
        ("a/", "write 'a'"),
        ("", "empty"),
        ("a\nb", "line break"),
        (model.MANIFEST, "keeps for itself"),
        (model.PENDING, "keeps for itself"),
    ],
)
def test_a_path_that_is_not_below_root_is_refused(path, complaint):
    with pytest.raises(ConfigTreeError, match=complaint):
        model.check_path(path, "files, entry 1, path")


@pytest.mark.parametrize("path", ["a", "a/b.conf", ".hidden", "a..b", "with space"])
def test_a_path_below_root_is_taken(path):
    assert model.check_path(path, "path") == path


@pytest.mark.parametrize(("value", "mode"), [("0644", 0o644), ("644", 0o644), ("2750", 0o2750)])
def test_a_quoted_mode_is_understood(value, mode):
    assert model.parse_mode(value, "mode") == mode


@pytest.mark.parametrize("value", [420, 644, "u=rw", "0999", "", None, "00644", "0o644"])
def test_any_other_mode_is_refused(value):
    with pytest.raises(ConfigTreeError, match="quoted octal"):
        model.parse_mode(value, "mode")


@pytest.mark.parametrize("root", ["etc/nginx", "/", "/etc", "/etc/../nginx/x", ""])
def test_a_root_that_is_not_a_directory_of_its_own_is_refused(root):
    with pytest.raises(ConfigTreeError, match="at least two levels"):
        model.check_root(root)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"path": "a"}, "it has none of them"),
        ({"path": "a", "src": "x", "content": ""}, "it has src and content"),
        ({"path": "a", "content": {"b": 1}}, "content must be a string, not dict"),
        ({"path": "a", "content": "", "vars": {"b": 1}}, "vars are for a template"),
        ({"path": "a", "content": "", "mode": 420}, "quoted octal"),
        ({"path": "a", "content": "", "mode": "0644", "secret": True}, "mode 0644 is not"),
        ({"path": ".", "content": ""}, "only a copy of a directory"),
    ],
)
def test_a_bad_entry_is_named(entry, complaint):
    with pytest.raises(ConfigTreeError, match=complaint) as error:
        model.check_entries([{"path": "good", "content": ""}, entry])
    assert "entry 2" in str(error.value)


@pytest.mark.parametrize(
    ("paths", "absent", "complaint"),
    [
        (["a", "a"], [], "two entries make 'a'"),
        (["a", "a/b"], [], "'a' is a file"),
        (["a"], ["a"], "in files and in absent"),
        (["a/b"], ["a"], "directory that files needs"),
        (["a"], ["/etc/x"], "absolute"),
    ],
)
def test_entries_that_contradict_each_other_are_refused(paths, absent, complaint):
    with pytest.raises(ConfigTreeError, match=complaint):
        model.check_layout(paths, absent)


@pytest.mark.parametrize(
    ("entry", "mode"),
    [({}, 0o644), ({"secret": True}, 0o640), ({"mode": "0600"}, 0o600), ({"mode": "0400", "secret": True}, 0o400)],
)
def test_a_secret_without_a_mode_is_not_for_others(entry, mode):
    assert model.effective_mode(entry, 0o644) == mode


@pytest.mark.parametrize("command", ["nginx -t", [1], [""], {"a": 1}])
def test_a_command_must_be_a_list_of_words(command):
    with pytest.raises(ConfigTreeError, match="list of words"):
        model.check_argv(command, "check")


def test_contents_arrive_as_they_were_sent():
    contents = {"a": b"\0\xff\n", "b/c": b"", "d": "ü".encode()}
    assert model.unpack(model.pack(contents)) == contents


def test_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(model, "PAYLOAD_LIMIT", 10)
    with pytest.raises(ConfigTreeError, match="32 MiB"):
        model.pack({"a": b"x" * 11})


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version": 2}', b'{"version": 1, "files": [1]}', b"\xff"])
def test_a_damaged_manifest_is_recognised(data):
    with pytest.raises(ValueError):
        model.Manifest.load(data)


def test_a_manifest_survives_the_disk():
    manifest = model.Manifest(frozenset("ab"), frozenset("b"), frozenset({"d"}))
    assert model.Manifest.load(manifest.dump()) == manifest


@pytest.mark.parametrize(
    ("before", "after", "hidden", "shown"),
    [
        (b"a\n", b"b\n", (False, False), ("a\n", "b\n")),
        (None, b"b\n", (False, False), ("", "b\n")),
        (b"s3cret", None, (True, True), (model.HIDDEN, "")),
        (b"s3cret", b"t0psecret", (True, True), (f"before, {model.HIDDEN}", f"after, {model.HIDDEN}")),
        (b"\0", b"text", (False, False), (model.BINARY, "text")),
        (b"\xff", b"x" * (model.DIFF_LIMIT + 1), (False, False), (f"before, {model.BINARY}", f"after, {model.BINARY}")),
    ],
)
def test_a_diff_shows_text_and_nothing_else(before, after, hidden, shown):
    diff = model.file_diff("f", before, after, *hidden)
    assert (diff["before"], diff["after"]) == shown


@pytest.mark.parametrize(
    ("secret", "said", "shown"),
    [
        (b"password = hunter22\n", "bad password value hunter22 in line 1", "bad password value ******** in line 1"),
        (b"TOKEN=abcd1234", "unknown: abcd1234", "unknown: ********"),
        (b"url mysql://app:pa55@db/x", "cannot parse mysql://app:pa55@db/x", "cannot parse ********"),
        (b"url mysql://app:pa55@db/x", "cannot log in with pa55", "cannot log in with ********"),
        (b"auth_pass 'two words';", "near 'two words'", "near '********'"),
        (b"onlytoken\n", "got onlytoken", "got ********"),
        (b"8f2a77c1 on;", 'unknown directive "8f2a77c1"', 'unknown directive "********"'),
        (b"set $file /etc/app/x9y8z7;", "x9y8z7 in /etc/app/a.conf", "******** in /etc/app/a.conf"),
        (b"", "fine", "fine"),
    ],
)
def test_words_of_a_secret_file_are_masked_in_what_a_product_says(secret, said, shown):
    assert model.mask(said, [secret], ["/etc/app", "a.conf"]) == shown


# --- a host in a directory --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Processes die here, not machines, and waiting for the disk would be most of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        if not SOAK:
            patch.setattr(os, "fsync", lambda handle: None)
        yield


class Host:
    """A tree, and a "service" that reads a.conf of it when it is applied, and refuses to run with the word `broken`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "etc" / "app"
        self.running = place / "running"
        script = f'cp "{self.root}/a.conf" "{self.running}" && ! grep -q broken "{self.running}"'
        self.params = {
            **ME,
            "root": str(self.root),
            "absent": [],
            "directory_mode": "0755",
            "check": [],
            "apply": ["sh", "-c", script],
            "units": [],
            "timeout": 10,
        }

    def run(self, files: dict, check_mode: bool = False, want_diff: bool = False, **params) -> dict:
        """A value of files is the content, or a tuple of content and attributes."""
        entries, contents = [], {}
        for path, value in files.items():
            content, attributes = value if isinstance(value, tuple) else (value, {})
            entries.append({"path": path, **ME, "mode": "0644", "secret": False, **attributes})
            contents[path] = content.encode()
        params = {**self.params, **params, "files": entries, "_contents": model.pack(contents)}
        return tree_run.Run(params, check_mode, want_diff).execute()

    def has(self, path: str) -> bool:
        return os.path.lexists(self.root / path)

    def read(self, path: str = "a.conf") -> str:
        return (self.root / path).read_text()

    @property
    def siblings(self) -> list[str]:
        return sorted(item.name for item in self.root.parent.iterdir() if item.name != self.root.name)

    def snapshot(self, place: Path | None = None) -> dict:
        """Everything that a run could change, times of change included."""
        found = {}
        for item in sorted((place or self.place).rglob("*")):
            status = item.lstat()
            found[str(item)] = (status.st_mode, status.st_uid, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        return found


@pytest.fixture
def host(tmp_path, monkeypatch) -> Host:
    monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
    place = tmp_path / "host"
    place.mkdir()
    return Host(place)


FILES = {"a.conf": "one\n", "sites/b.conf": "two\n"}


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
    run = tree_run.Run(params | {"apply": []})
    assert run.execute()["changed"] and "damaged" in run.warnings[0]
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


# --- check, apply, rollback -------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("existed", [True, False])
def test_the_check_sees_the_new_tree_at_root_and_nobody_else_does(host, existed):
    if existed:
        host.run(FILES)
    inside = host.place / "inside"
    look = [
        "sh",
        "-c",
        f'cat {host.root}/a.conf > {inside}; test -e {host.root}/new && grep " {host.root} " /proc/mounts',
    ]
    result = host.run({"a.conf": "new\n", "new": ""}, check=look)
    assert inside.read_text() == "new\n" and str(host.root) in result["check_output"]
    assert str(host.root) not in Path("/proc/mounts").read_text()


@needs_root
@pytest.mark.parametrize("existed", [True, False])
def test_a_refused_configuration_changes_nothing(host, existed):
    if existed:
        host.run(FILES)
    before = host.snapshot(host.root)
    with pytest.raises(ConfigTreeError, match=r"refused by `sh -c .*untouched. It said: no such thing") as error:
        host.run({"a.conf": "bad\n"}, check=["sh", "-c", "echo no such thing; exit 3"])
    assert "no such thing" in error.value.outputs["check_output"]
    after = host.snapshot(host.root)
    # Building the next tree adds and removes a hard link, which is all that the time of change (the last field) tells.
    assert {path: values[:-1] for path, values in after.items()} == {
        path: values[:-1] for path, values in before.items()
    }
    assert host.root.exists() == existed and host.siblings == []


@needs_root
def test_the_check_cannot_write_into_files_that_are_live_already(host):
    host.run(FILES)
    (host.root / "foreign").write_text("theirs")
    with pytest.raises(ConfigTreeError, match="Read-only file system"):
        host.run({"a.conf": "new\n"}, check=["sh", "-c", f"echo x > {host.root}/foreign"])
    assert host.read("foreign") == "theirs" and host.read() == "one\n"


def test_a_host_that_forbids_mounts_is_told_from_a_refused_configuration(host, monkeypatch):
    monkeypatch.setattr(tree_run, "IN_STAGED", ["sh", "-c", "echo not permitted; exit 1"])
    with pytest.raises(ConfigTreeError, match="cannot be mounted for its check: not permitted"):
        host.run(FILES, check=["true"])
    assert not host.root.exists() and host.siblings == []


@needs_root
def test_a_check_that_hangs_is_killed_with_its_children(host):
    host.run(FILES)
    late = host.place / "late"
    with pytest.raises(ConfigTreeError, match=r"killed after 1 s"):
        host.run({"a.conf": "x"}, check=["sh", "-c", f"(sleep 2; touch {late}) & wait"], timeout=1)
    subprocess.run(["sleep", "1.5"], check=True)
    assert not late.exists() and host.read() == "one\n"


LEFT = {
    "ignores_sigterm": "trap '' TERM; sleep {0} & wait",
    "session_of_its_own": "setsid sleep {0} & wait",
    "daemon": "(setsid sh -c 'setsid sleep {0} & wait' &) ; sleep 30",
}


@needs_root
@pytest.mark.parametrize("how", LEFT)
@pytest.mark.parametrize("which", ["check", "apply"])
def test_nothing_of_a_command_that_hangs_is_left(host, how, which):
    host.run(FILES)
    # The old tree is applied as well after a failure, and shall not hang.
    marker = f"4{os.getpid()}.{list(LEFT).index(how)}{which == 'check':d}"
    script = f"grep -q one {host.root}/a.conf && exit; {LEFT[how].format(marker)}"
    with pytest.raises(ConfigTreeError, match="killed after 1 s"):
        host.run({"a.conf": "x"}, **{which: ["sh", "-c", script]}, timeout=1)
    assert subprocess.run(["pgrep", "--full", f"sleep {marker}"], capture_output=True).stdout == b""
    assert host.read() == "one\n" and host.siblings == [] and not host.run(FILES)["changed"]


def test_a_flood_of_output_neither_fills_the_disk_nor_the_message(host, monkeypatch):
    monkeypatch.setattr(tree_command, "FLOOD", 1 << 20)
    sizes = []
    fstat = os.fstat
    monkeypatch.setattr(tree_command.os, "fstat", lambda handle: sizes.append(fstat(handle)) or sizes[-1])
    # Slow enough that what comes between two looks is small on a busy machine too.
    flood = (
        "for i in $(seq 30); do head -c 200000 /dev/zero | tr '\\0' x; echo; sleep 0.03; done; echo last words; false"
    )
    with pytest.raises(ConfigTreeError, match="last words") as error:
        host.run(FILES, apply=["sh", "-c", flood])
    assert len(str(error.value)) < 3 * tree_command.OUTPUT_LIMIT
    assert sizes[-1].st_size < 30 * 200_000


@pytest.mark.parametrize("which", ["check", "apply"])
def test_a_missing_command_is_found_before_anything_changes(host, which):
    host.run(FILES)
    with pytest.raises(ConfigTreeError, match=f"{which}: there is no command 'no-such-command'"):
        host.run({"a.conf": "x"}, **{which: ["no-such-command"]})
    assert host.read() == "one\n"


def test_an_apply_that_leaves_a_service_behind_does_not_hang(host):
    result = host.run(FILES, apply=["sh", "-c", "echo started; sleep 30 & echo $!"], timeout=5)
    started, child = result["apply_output"].split()
    os.kill(int(child), 15)
    assert started == "started"


def test_a_failed_apply_brings_the_old_tree_back_and_applies_it(host):
    host.run(FILES)
    (host.root / "foreign").write_text("theirs")
    inode = (host.root / "foreign").stat().st_ino
    with pytest.raises(
        ConfigTreeError, match="failed with the new configuration; the old one is back in place and applied"
    ):
        host.run({"a.conf": "broken\n", "new/file": "x"}, absent=["foreign"])
    assert (host.read(), host.running.read_text(), host.read("sites/b.conf")) == ("one\n", "one\n", "two\n")
    assert not host.has("new") and (host.root / "foreign").stat().st_ino == inode
    assert host.siblings == [] and not host.has(model.PENDING)
    assert not host.run(FILES)["changed"]


def test_what_a_service_writes_before_its_apply_fails_is_kept(host):
    host.run(FILES)
    # Only with the new configuration, or the second apply would write it too and prove nothing.
    new = host.root / "new"
    script = f"grep -q broken {host.root}/a.conf || exit 0; mkdir {new}/deep; echo kept > {new}/deep/state; exit 1"
    with pytest.raises(ConfigTreeError, match="back in place and applied"):
        host.run({"a.conf": "broken\n", "new/file": "x"}, apply=["sh", "-c", script])
    assert host.read("new/deep/state") == "kept\n" and not host.has("new/file") and host.read() == "one\n"


def test_a_failed_apply_of_the_old_tree_too_is_said_and_tried_again(host):
    host.run(FILES)
    with pytest.raises(ConfigTreeError, match="back in place, but `false` fails with it too"):
        host.run({"a.conf": "new\n"}, apply=["false"])
    assert host.read() == "one\n"
    assert host.run(FILES, check_mode=True)["restored_pending"]
    result = host.run(FILES)
    assert result["changed"] and result["restored_pending"] and host.siblings == []
    assert not host.run(FILES)["changed"]


def test_a_failed_first_apply_takes_our_files_out_again(host):
    with pytest.raises(ConfigTreeError, match="there was none before, so it is taken out again"):
        host.run({"a.conf": "broken\n", "d/e": "x"})
    assert not host.root.exists() and host.siblings == []
    with pytest.raises(ConfigTreeError, match="taken out again"):
        host.run({"a.conf": "x", "d/e": "x"}, apply=["sh", "-c", f"touch {host.root}/d/foreign; false"])
    assert sorted(str(path.relative_to(host.root)) for path in host.root.rglob("*")) == ["d", "d/foreign"]


def test_a_root_that_was_empty_is_empty_again_after_a_failed_apply(host):
    host.root.mkdir(parents=True)
    with pytest.raises(ConfigTreeError, match="back in place"):
        host.run({"a.conf": "broken\n"}, apply=["sh", "-c", f"! test -e {host.root}/a.conf"])
    assert list(host.root.iterdir()) == [] and host.siblings == []


def replace_managed(root):
    (root / "other").write_text("ONE\n")
    (root / "other").rename(root / "a.conf")


def add_foreign(root):
    (root / "foreign").touch()


def edit_managed(root):
    (root / "a.conf").write_text("by hand\n")


@pytest.mark.parametrize("change", [replace_managed, add_foreign, edit_managed])
def test_a_change_by_somebody_else_during_the_run_is_kept(host, monkeypatch, change):
    host.run(FILES)
    stage = tree_swap.stage

    def stage_and_change(*arguments):
        stage(*arguments)
        change(host.root)

    monkeypatch.setattr(tree_swap, "stage", stage_and_change)
    with pytest.raises(ConfigTreeError, match="changed by somebody else during this run"):
        host.run({"a.conf": "new\n"})
    assert host.siblings == [] and host.read() != "new\n"


def test_writing_into_a_foreign_file_during_the_run_is_no_conflict(host, monkeypatch):
    host.run(FILES)
    (host.root / "foreign").write_text("before")
    stage = tree_swap.stage

    def stage_and_write(*arguments):
        stage(*arguments)
        (host.root / "foreign").write_text("during the run")

    monkeypatch.setattr(tree_swap, "stage", stage_and_write)
    host.run({"a.conf": "new\n"})
    assert host.read() == "new\n" and host.read("foreign") == "during the run"


def test_two_runs_follow_each_other(host):
    with (
        tree_swap.exclusive(host.root),
        pytest.raises(ConfigTreeError, match="another run has been working on it"),
        tree_swap.exclusive(host.root, wait=0.2),
    ):
        pass
    order = []
    tracking = ["sh", "-c", f"echo start >> {host.place}/log; sleep 0.3; echo end >> {host.place}/log"]
    runs = [
        threading.Thread(target=lambda n=n: order.append(host.run({"a.conf": str(n)}, apply=tracking))) for n in (1, 2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(order) == 2 and (host.place / "log").read_text().split() == ["start", "end"] * 2


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


# --- units ------------------------------------------------------------------------------------------------------------


class Systemd:
    """As much of systemd as config_tree asks for: units by name, each with what `show` and `is-enabled` say of it."""

    def __init__(self) -> None:
        self.units: dict[str, dict[str, str]] = {}
        self.calls: list[str] = []
        self.fragment = ""

    def add(self, name: str, active: str = "active", file: str = "enabled", **properties: str) -> None:
        self.units[name] = {
            "LoadState": "masked" if file.startswith("masked") else "loaded",
            "ActiveState": active,
            "UnitFileState": file,
            "FragmentPath": self.fragment,
            "Type": "notify",
            "NRestarts": "0",
            **properties,
        }

    def query(self, verb: str, *arguments: str) -> subprocess.CompletedProcess:
        names = arguments[arguments.index("--") + 1 :]
        missing = {"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": ""}
        found = [self.units.get(name, missing) for name in names]
        if verb == "show":
            said = "\n".join("".join(f"{key}={value}\n" for key, value in unit.items()) for unit in found)
        else:
            said = "".join(f"{unit['UnitFileState'] or 'not-found'}\n" for unit in found)
        return subprocess.CompletedProcess([], 0, said, "")

    def command(self, argv: list[str], timeout: int) -> tree_command.Outcome:
        words = [word for word in argv if not word.startswith("--")]
        if words[0] == "journalctl":
            return tree_command.Outcome(True, f"{argv[-1]}: no such option")
        self.calls.append(" ".join(words[1:]))
        verb, names = words[1], words[2:]
        return tree_command.Outcome(all(self.obey(verb, self.units[name]) for name in names), "systemctl's words")

    @staticmethod
    def obey(verb: str, unit: dict[str, str]) -> bool:
        if verb == "unmask":
            unit |= {"LoadState": "loaded", "UnitFileState": "disabled"}
        elif verb == "enable":
            unit["UnitFileState"] = "enabled"
        elif verb == "stop":
            unit["ActiveState"] = "inactive"
        elif verb == "start":
            startable = unit["LoadState"] == "loaded" and unit.get("bad") != "start"
            unit["ActiveState"] = "active" if startable and unit.get("bad") != "later" else "failed"
            return startable
        return True


@pytest.fixture
def systemd(host, monkeypatch) -> Systemd:
    systemd = Systemd()
    systemd.fragment = str(host.place / "fragment")
    Path(systemd.fragment).write_text("[Service]\n[Install]\nWantedBy=multi-user.target\n")
    monkeypatch.setattr(tree_units, "_query", systemd.query)
    monkeypatch.setattr(tree_units, "run_command", systemd.command)
    return systemd


UNITS = ["app.socket", "app.service"]


def test_units_that_are_up_cost_no_command(host, systemd):
    for unit in UNITS:
        systemd.add(unit)
    host.run(FILES, units=UNITS)
    before = host.snapshot()
    result = host.run(FILES, units=UNITS)
    assert (result["changed"], result["started_units"], systemd.calls) == (False, [], [])
    assert host.snapshot() == before


@pytest.mark.parametrize(
    ("active", "file", "calls"),
    [
        ("inactive", "enabled", ["start app.service"]),
        ("failed", "enabled", ["reset-failed app.service", "start app.service"]),
        ("activating", "enabled", ["start app.service"]),
        ("active", "disabled", ["enable app.service"]),
        ("active", "enabled-runtime", ["enable app.service"]),
        ("active", "linked", ["enable app.service"]),
        ("inactive", "static", ["start app.service"]),
        ("inactive", "indirect", ["start app.service"]),
        ("inactive", "generated", ["start app.service"]),
        ("inactive", "masked", ["unmask app.service", "daemon-reload", "enable app.service", "start app.service"]),
        ("active", "static", []),
        ("active", "alias", []),
    ],
)
def test_a_unit_that_is_not_up_is_brought_up_and_nothing_else_happens(host, systemd, active, file, calls):
    systemd.add("app.socket")
    systemd.add("app.service", "active", "enabled")
    host.run(FILES, units=UNITS)
    systemd.add("app.service", active, file)
    before = host.snapshot()
    lacking = ["app.service"] if calls else []
    predicted = host.run(FILES, units=UNITS, check_mode=True, want_diff=True)
    assert (predicted["changed"], predicted["started_units"], systemd.calls) == (bool(calls), lacking, [])
    assert [diff["before_header"] for diff in predicted["diff"]] == lacking
    result = host.run(FILES, units=UNITS)
    assert (result["changed"], result["started_units"], systemd.calls) == (bool(calls), lacking, calls)
    assert host.snapshot() == before
    assert not host.run(FILES, units=UNITS)["changed"]


def test_a_linked_unit_that_has_nothing_to_enable_is_up(host, systemd):
    Path(systemd.fragment).write_text("[Service]\n")
    systemd.add("app.service", "active", "linked")
    host.run(FILES, units=["app.service"])
    assert not host.run(FILES, units=["app.service"])["changed"] and systemd.calls == []


def test_units_are_started_in_their_order_and_a_socket_before_its_running_service(host, systemd):
    systemd.add("app.socket", "inactive", Triggers="app.service")
    systemd.add("app.service")
    result = host.run(FILES, units=UNITS)
    assert systemd.calls[-3:] == ["stop app.service", "start app.socket", "start app.service"]
    assert result["started_units"] == UNITS


def test_a_mask_is_gone_before_apply_that_would_fail_of_it(host, systemd):
    host.run(FILES)
    systemd.add("app.service", "inactive", "masked")
    seen = []
    run_command = tree_run.run_command

    def apply(argv, timeout):
        seen.append(dict(systemd.units["app.service"]))
        return run_command(argv, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_run, "run_command", apply)
        host.run({"a.conf": "new\n"}, units=["app.service"])
    assert seen[0]["LoadState"] == "loaded"
    assert systemd.units["app.service"]["ActiveState"] == "active"


def test_a_unit_that_apply_brings_is_predicted_and_not_started_twice(host, systemd, monkeypatch):
    assert host.run(FILES, units=["app.service"], check_mode=True)["started_units"] == ["app.service"]
    run_command = tree_run.run_command

    def apply(argv, timeout):
        systemd.add("app.service")
        return run_command(argv, timeout)

    monkeypatch.setattr(tree_run, "run_command", apply)
    assert host.run(FILES, units=["app.service"])["started_units"] == ["app.service"] and systemd.calls == []


def test_a_unit_that_nobody_brings_is_named(host, systemd):
    with pytest.raises(ConfigTreeError, match="configuration is in place, but there is no unit app.service on this"):
        host.run(FILES, units=["app.service"])
    assert host.read() == "one\n" and host.siblings == [] and not host.has(model.PENDING)


@pytest.mark.parametrize(("bad", "said"), [("start", "does not start"), ("later", r"does not stay up \(it is failed")])
def test_a_unit_that_does_not_start_fails_with_its_journal_and_the_tree_stays(host, systemd, bad, said):
    systemd.add("app.service", "inactive", bad=bad)
    for _attempt in range(2):
        with pytest.raises(ConfigTreeError, match=f"app.service {said}.*ends: --unit=app.service: no such option"):
            host.run(FILES, units=["app.service"])
        assert host.read() == "one\n" and host.siblings == [] and not host.has(model.PENDING)


def test_a_run_that_fails_leaves_no_unit_down(host, systemd):
    """The old tree is back, so what runs on it runs; where there was none, what ran before runs."""
    systemd.add("app.service")
    apply = host.params["apply"][2]

    def run(files):
        with pytest.raises(ConfigTreeError) as error, pytest.MonkeyPatch.context() as patch:
            patch.setattr(tree_run, "run_command", stopping)
            host.run(files, units=["app.service", "other.service"])
        return str(error.value)

    def stopping(argv, timeout):
        systemd.units["app.service"]["ActiveState"] = "failed"
        return tree_command.run_command(argv, timeout)

    assert apply in run({"a.conf": "broken\n"}) and not host.root.exists()
    assert systemd.units["app.service"]["ActiveState"] == "active"
    host.run(FILES)
    systemd.add("other.service", "inactive", "disabled")
    assert "back in place and applied" in run({"a.conf": "broken\n"})
    assert systemd.units["app.service"]["ActiveState"] == systemd.units["other.service"]["ActiveState"] == "active"
    systemd.add("other.service", "inactive", bad="start")
    message = run({"a.conf": "broken\n"})
    assert "back in place and applied" in message and "And other.service does not start" in message


@pytest.mark.parametrize("unit", ["nginx", "nginx.service ", "*.service", "a@.service", "-x", "", "a.b", "a/b.service"])
def test_what_is_no_name_of_a_unit_is_refused(unit):
    with pytest.raises(ConfigTreeError, match="no full name of a unit"):
        model.check_units(["good.service", unit])


def test_names_of_units_are_taken_once():
    model.check_units(["a.service", "a.socket", "a@1.service", "dev-x\\x2d.mount"])
    with pytest.raises(ConfigTreeError, match="'a.service' is listed twice"):
        model.check_units(["a.service", "a.service"])


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_result_shows_a_secret(host):
    secret = {"secret": True, "mode": "0640"}
    shown = [host.run({**FILES, "key": ("password = first-s3cret\n", secret)}, want_diff=True)]
    apply = ["sh", "-c", f"cat {host.root}/key"]
    shown.append(host.run({**FILES, "key": ("password = second-s3cret\n", secret)}, want_diff=True, apply=apply))
    # Neither an entry that is no longer called secret nor one that is no longer there gives the old content away.
    shown.append(host.run({**FILES, "key": ("password = third\n", {"mode": "0640"})}, want_diff=True, check_mode=True))
    shown.append(host.run(FILES, want_diff=True))
    assert "s3cret" not in str(shown)
    assert "not shown" in str(shown) and shown[1]["apply_output"] == model.MASK
    host.run({**FILES, "key": ("password = old-s3cret\n", secret)})
    broken = {**FILES, "a.conf": "broken\n", "key": ("password = fourth-s3cret\n", secret)}
    apply = ["sh", "-c", f"echo says; cat {host.root}/key; ! grep broken {host.root}/a.conf"]
    with pytest.raises(ConfigTreeError) as error:
        host.run(broken, apply=apply)
    assert "s3cret" not in str(error.value) + str(error.value.outputs)
    assert error.value.outputs["rollback_output"] == f"says\n{model.MASK}"


def test_a_file_that_others_keep_private_is_not_shown(host):
    host.root.mkdir(parents=True)
    (host.root / "foreign.key").write_text("-----BEGIN")
    (host.root / "foreign.key").chmod(0o600)
    result = host.run(FILES, absent=["foreign.key"], want_diff=True)
    assert "BEGIN" not in str(result)


# --- death ------------------------------------------------------------------------------------------------------------


class Death(BaseException):
    """No handler for errors may catch it, because a killed process handles nothing."""


class Reaper:
    """Kills a run before its nth change to the disk: from then on every further change fails."""

    CHANGES = (
        "os.link",
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.chown",
        "os.utime",
        "os.setxattr",
        "shutil.rmtree",
        "subprocess.Popen",
    )

    def __init__(self) -> None:
        self.left: int | None = None
        self.thread = threading.get_ident()
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if self.left is None or threading.get_ident() != self.thread or not self._is_change(event, arguments):
            return
        self.left -= 1
        if self.left < 0:
            raise Death

    def _is_change(self, event: str, arguments: tuple) -> bool:
        if event == "open":
            _path, _mode, flags = arguments
            return bool(flags & os.O_EXCL)
        return event in self.CHANGES or (event == "ctypes.dlsym" and arguments[1] == "renameat2")

    def kill(self, step: int, action) -> bool:
        """Did it die?"""
        self.left = step
        try:
            action()
        except Death:
            return True
        except ConfigTreeError:
            return False
        finally:
            self.left = None
        return False


@pytest.fixture(scope="module")
def reaper() -> Reaper:
    return Reaper()


OLD = {"a.conf": "old\n", "b.conf": "old\n", "keep/c.conf": "same\n"}
NEW = {"a.conf": "new\n", "b.conf": "new\n", "d/e.conf": "new\n"}
BROKEN = {"a.conf": "broken\n", "b.conf": "new\n", "d/e.conf": "new\n"}


def deaths(
    reaper: Reaper, tmp_path: Path, before: list[dict], wish: dict, **params
) -> Iterator[tuple[Host, int | None]]:
    """For each step of a run a fresh host that died there, with the inode of a file of somebody else."""
    for step in range(1000):
        place = tmp_path / f"died-{step}"
        place.mkdir()
        host = Host(place)
        inode = None
        for files in before:
            host.run(files)
            (host.root / "foreign").touch()
            inode = (host.root / "foreign").stat().st_ino
        if not reaper.kill(step, lambda host=host: host.run(wish, **params)):
            assert step > 10, "the reaper saw too few changes to be believed"
            return
        yield host, inode


def whole(host: Host) -> bool:
    """Is the live tree exactly one of the versions?"""
    here = {str(path.relative_to(host.root)) for path in host.root.rglob("*.conf")}
    return any(
        here == set(files) and all(host.read(path) == files[path] for path in files) for files in (OLD, NEW, BROKEN)
    )


@pytest.mark.parametrize("wish", [NEW, BROKEN], ids=["good", "broken"])
@pytest.mark.parametrize("then", [OLD, NEW, BROKEN], ids=["then_old", "then_new", "then_broken"])
def test_a_run_that_dies_anywhere_is_put_in_order_by_the_next(reaper, tmp_path, monkeypatch, wish, then):
    monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
    for host, inode in deaths(reaper, tmp_path, [OLD], wish):
        assert whole(host)
        predicted = host.run(then, check_mode=True)["changed"]
        if then is BROKEN:
            with pytest.raises(ConfigTreeError, match="back in place and applied"):
                host.run(then)
            # Back at the last one that worked: the new one only if the run died after its apply.
            assert host.read() in ("old\n", "new\n")
        else:
            assert host.run(then)["changed"] == predicted
            assert host.read() == then["a.conf"]
            assert not host.run(then)["changed"]
        assert whole(host) and host.siblings == [] and not host.has(model.PENDING)
        # The service runs with what is live, wherever the run died.
        assert host.running.read_text() == host.read()
        assert (host.root / "foreign").stat().st_ino == inode


@pytest.mark.parametrize("then", [NEW, BROKEN], ids=["then_new", "then_broken"])
def test_a_first_run_that_dies_anywhere_is_put_in_order_by_the_next(reaper, tmp_path, monkeypatch, then):
    monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
    for host, _inode in deaths(reaper, tmp_path, [], NEW):
        assert not host.root.exists() or whole(host)
        confirmed = host.root.exists() and not host.has(model.PENDING)
        if then is BROKEN:
            with pytest.raises(ConfigTreeError, match="taken out again|back in place and applied"):
                host.run(then)
            assert host.root.exists() == confirmed
        else:
            host.run(then)
            assert host.running.read_text() == host.read() == "new\n"
            assert not host.run(then)["changed"]
        assert host.siblings == [] and not host.has(model.PENDING)


COURSES = {"first": ([], NEW), "change": ([OLD], NEW), "refused_by_apply": ([OLD], BROKEN)}


@needs_root
@pytest.mark.parametrize("course", COURSES)
def test_a_run_with_a_check_and_its_mounts_may_die_anywhere(reaper, tmp_path, monkeypatch, course):
    monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
    before, wish = COURSES[course]
    check = ["sh", "-c", f"grep -q . {tmp_path}/*/etc/app/a.conf"]
    for host, _inode in deaths(reaper, tmp_path, before, wish, check=check):
        assert not host.has("a.conf") or whole(host)
        # Other programs of the machine mount what they like meanwhile.
        assert str(tmp_path) not in Path("/proc/mounts").read_text()
        host.run(NEW, check=check)
        assert host.read() == host.running.read_text() == "new\n" and whole(host)
        assert host.siblings == [] and not host.run(NEW, check=check)["changed"]


@pytest.mark.parametrize("course", COURSES)
def test_the_run_that_heals_may_die_anywhere_too(reaper, tmp_path, monkeypatch, course):
    """Any two steps, not all pairs of them unless FOOBAR_SOAK=1; then one more run, which must end well."""
    monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
    before, wish = COURSES[course]
    stride = 1 if SOAK else 7
    pairs = 0
    for first in range(0, 1000, stride):
        for second in range(first // stride % stride, 1000, stride):
            place = tmp_path / f"{first}-{second}"
            place.mkdir()
            host = Host(place)
            for files in before:
                host.run(files)
            died = reaper.kill(first, lambda host=host: host.run(wish))
            again = died and reaper.kill(second, lambda host=host: host.run(NEW))
            assert whole(host) or not (before or host.has("a.conf"))
            host.run(NEW)
            assert host.read() == host.running.read_text() == "new\n" and whole(host)
            assert host.siblings == [] and not host.has(model.PENDING) and not host.run(NEW)["changed"]
            shutil.rmtree(place)
            pairs += again
            if not again:
                break
        if not died:
            break
    assert pairs > 10


def test_units_are_up_after_a_run_that_died_anywhere(reaper, tmp_path, monkeypatch, systemd):
    monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
    calls = range(1000)
    for step in calls:
        place = tmp_path / f"units-{step}"
        place.mkdir()
        host = Host(place)
        systemd.add("app.socket", "inactive", "masked", Triggers="app.service")
        systemd.add("app.service", "active", "disabled")
        left = [step]

        def command(argv, timeout, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Death
            return systemd.command(argv, timeout)

        with monkeypatch.context() as patch:
            patch.setattr(tree_units, "run_command", command)
            try:
                host.run(FILES, units=UNITS)
                died = False
            except Death:
                died = True
        host.run(FILES, units=UNITS)
        states = {(unit["ActiveState"], unit["UnitFileState"]) for unit in systemd.units.values()}
        assert states == {("active", "enabled")}
        assert not host.run(FILES, units=UNITS)["changed"] and host.running.read_text() == "one\n"
        if not died:
            break
    assert step > 5


@needs_root
def test_a_process_that_is_killed_at_any_moment_leaves_a_whole_tree(host):
    """The same with a real signal, at moments all over a run, apply and check included."""
    script = host.params["apply"][2]
    arguments = {"check": ["sh", "-c", "sleep 0.005"], "apply": ["sh", "-c", f"sleep 0.005; {script}"]}
    host.run(OLD)
    killed = 0
    for attempt in range(300 if SOAK else 30):
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                host.run(NEW if attempt % 2 else BROKEN, **arguments)
            os._exit(0)
        time.sleep(0.06 * (0.618 * attempt % 1))  # spread evenly
        os.kill(pid, 9)
        killed += os.waitpid(pid, 0)[1] == 9
        assert whole(host)
        # Its command outlives it, and would apply the tree of a later run as well.
        while subprocess.run(["pgrep", "--full", str(host.root)], capture_output=True).stdout:
            time.sleep(0.005)
        host.run(OLD)
        assert host.read() == host.running.read_text() == "old\n" and whole(host) and host.siblings == []
    assert killed > 10


def test_dying_twice_keeps_the_last_tree_that_worked(reaper, tmp_path, monkeypatch):
    """The second run dies as well, at each of its steps, on top of a first that died right before its apply."""
    monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
    third = {"a.conf": "third\n", "b.conf": "third\n"}
    for step in range(1000):
        place = tmp_path / f"twice-{step}"
        place.mkdir()
        host = Host(place)
        host.run(OLD)
        monkeypatch.setattr(tree_run.Run, "_apply", lambda self: (_ for _ in ()).throw(Death))
        with pytest.raises(Death):
            host.run(NEW)
        monkeypatch.undo()
        monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
        assert host.read() == "new\n" and host.siblings == [".app.previous"]
        if not reaper.kill(step, lambda host=host: host.run(third)):
            assert step > 15
            return
        confirmed = host.read() == "third\n" and not host.has(model.PENDING)
        with pytest.raises(ConfigTreeError, match="back in place and applied"):
            host.run(BROKEN)
        assert host.read() == ("third\n" if confirmed else "old\n")
        assert host.siblings == [] and host.running.read_text() == host.read()


def test_a_tree_that_was_deleted_after_an_unfinished_run_is_not_lost(host, monkeypatch):
    host.run(OLD)
    (host.root / "foreign").write_text("theirs")
    with monkeypatch.context() as patch:
        patch.setattr(tree_swap, "LOCKS", host.place / "locks")
        patch.setattr(tree_run.Run, "_apply", lambda self: (_ for _ in ()).throw(Death))
        with pytest.raises(Death):
            host.run(NEW)
    shutil.rmtree(host.root)
    assert host.run(NEW)["changed"] and host.read("foreign") == "theirs" and host.siblings == []


def test_an_unfinished_run_whose_configuration_turns_out_bad_goes_back(host, monkeypatch):
    host.run(OLD)
    monkeypatch.setattr(tree_run.Run, "_apply", lambda self: (_ for _ in ()).throw(Death))
    with pytest.raises(Death):
        host.run(NEW)
    monkeypatch.undo()
    monkeypatch.setattr(tree_swap, "LOCKS", host.place / "locks")
    with pytest.raises(
        ConfigTreeError, match="unfinished run is refused by .*; the old one is back in place and applied"
    ):
        host.run(NEW, check=["sh", "-c", f"! grep new {host.root}/a.conf"])
    assert host.read() == host.running.read_text() == "old\n" and host.siblings == []


# --- the whole way, from a playbook -----------------------------------------------------------------------------------

TEMPLATE = """\
{{ ansible_managed | comment }}
{% for word in words %}
  {% if loop.first %}
  to {{ template_destpath }}
  {% endif %}
  {{ word }} \\1 {{ own | default('none') }}
{% endfor %}
{% include 'part.j2' %}
"""


class Controller:
    """A directory with a playbook in it, which is run against this machine."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "host" / "app"
        for folder in ("templates", "files/tree/sub"):
            (place / folder).mkdir(parents=True)
        (place / "templates/main.j2").write_text(TEMPLATE)
        (place / "templates/part.j2").write_text("included\n")
        (place / "templates/header.j2").write_text("#jinja2: trim_blocks: False\n{% if true %}\nx\n{% endif %}\n")
        (place / "templates/undefined.j2").write_text("{{ no_such_variable }}\n")
        (place / "files/tree/binary").write_bytes(bytes(range(256)))
        (place / "files/tree/sub/text").write_text("{{ verbatim }}\n")
        os.utime(place / "files/tree/sub/text", (1_000_000_000, 1_000_000_000))
        (place / "files/tree/alias").symlink_to("sub/text")
        for name, target in (("circle", "."), ("outside", "/etc/hostname"), ("nowhere", "missing")):
            (place / "files" / name).mkdir()
            (place / "files" / name / "link").symlink_to(target)

    def tree(self, *files: dict, **arguments) -> dict:
        arguments = {"root": str(self.root), **ME, "files": list(files), **arguments}
        return {"foobar.web_infrastructure.config_tree": arguments}

    def play(self, tasks: list[dict], *options: str) -> subprocess.CompletedProcess:
        variables = {"words": ["a", "b"]}
        book = [{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": tasks}]
        (self.place / "play.yml").write_text(json.dumps(book))
        return subprocess.run(
            ["ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml", *options],
            cwd=self.place,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(PROJECT / ".ansible/collections"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
                "ANSIBLE_FORCE_COLOR": "0",
            },
            capture_output=True,
            text=True,
        )


@pytest.fixture
def controller(tmp_path) -> Controller:
    if os.geteuid() != 0:
        pytest.skip("the lock directory in /run is root's")
    return Controller(tmp_path)


def test_templates_are_rendered_as_the_template_module_renders_them(controller):
    reference = controller.place / "reference"
    template = {"src": "main.j2", "dest": str(reference), "lstrip_blocks": True}
    tasks = [
        {"ansible.builtin.template": template, "vars": {"own": "mine"}},
        {"ansible.builtin.template": {**template, "src": "header.j2", "dest": f"{reference}.header"}},
        controller.tree(
            {"path": "main.conf", "src": "main.j2", "vars": {"own": "mine"}},
            {"path": "header.conf", "src": "header.j2"},
            {"path": "copied", "copy": "tree"},
            {"path": "one", "copy": "tree/binary"},
            {"path": "literal", "content": "{{ words | first }}\n"},
        ),
    ]
    first = controller.play(tasks)
    assert first.returncode == 0, first.stdout + first.stderr
    made = (controller.root / "main.conf").read_text()
    assert made == reference.read_text().replace(str(reference), str(controller.root / "main.conf"))
    assert "a \\1 mine" in made and "included" in made and "Ansible managed" in made
    assert (controller.root / "header.conf").read_text() == Path(f"{reference}.header").read_text() == "\nx\n"
    assert (
        (controller.root / "copied/binary").read_bytes() == (controller.root / "one").read_bytes() == bytes(range(256))
    )
    assert (controller.root / "copied/sub/text").read_text() == "{{ verbatim }}\n"
    assert (controller.root / "copied/alias").read_text() == "{{ verbatim }}\n"
    # Two web servers must agree on Last-Modified and ETag; a touched source alone is no change.
    assert (controller.root / "copied/sub/text").stat().st_mtime == 1_000_000_000
    (controller.place / "files/tree/sub/text").touch()
    assert (controller.root / "literal").read_text() == "a\n"
    assert "changed=0" in controller.play(tasks[2:], "--diff").stdout


def test_bad_input_gets_one_error_that_says_what_is_wrong(controller):
    good = {"path": "a", "content": ""}
    cases = {
        "files, entry 1, path: '/a' is absolute": controller.tree({"path": "/a", "content": ""}),
        "two entries make 'copied/binary'": controller.tree(
            {"path": "copied", "copy": "tree"}, {"path": "copied/binary", "content": ""}
        ),
        "files.colour. Supported parameters include: content": controller.tree({**good, "colour": "red"}),
        "needs exactly one of src, copy and content": controller.tree({"path": "a"}),
        "missing required arguments: path": controller.tree({"content": ""}),
        "check must be a list of words such as [nginx, -t]": controller.tree(good, check="nginx -t"),
        "_contents. Supported parameters include: absent": controller.tree(good, _contents="x"),
        "files.mtime. Supported parameters include: content": controller.tree({**good, "mtime": 1}),
        "'missing.j2' is not to be found": controller.tree({"path": "a", "src": "missing.j2"}),
        "undefined.j2 for ROOT/u: 'no_such_variable' is undefined": controller.tree(
            {"path": "u", "src": "undefined.j2"}
        ),
        "link is a link into a circle": controller.tree({"path": "a", "copy": "circle"}),
        "link is a link out of the copied directory": controller.tree({"path": "a", "copy": "outside"}),
        "link is a link to nowhere": controller.tree({"path": "a", "copy": "nowhere"}),
        "path '.' stands for a whole directory": controller.tree({"path": ".", "copy": "tree/binary"}),
        "directory_mode must be a quoted octal": controller.tree(good, directory_mode=755),
        "timeout must be at least 1": controller.tree(good, timeout=0),
        "there is no user 'nobody-yet'": controller.tree(good, owner="nobody-yet"),
    }
    show = [{"ansible.builtin.debug": {"msg": "MESSAGE {{ ansible_failed_result.msg | replace('\n', ' ') }}"}}]
    result = controller.play([{"block": [task], "rescue": show} for task in cases.values()])
    said = [line for line in result.stdout.splitlines() if "MESSAGE" in line]
    assert len(said) == len(cases), result.stdout + result.stderr
    for wanted, line in zip(cases, said, strict=True):
        assert wanted.replace("ROOT", str(controller.root)) in line
    assert not controller.root.exists()


def test_no_output_of_a_run_shows_a_secret(controller):
    (controller.place / "templates/key.j2").write_text("password = {{ words | first }}-s3cret-{{ own }}\n")
    entry = {"path": "key", "src": "key.j2", "secret": True}
    outputs = []
    for own in ("first", "second"):
        task = controller.tree({**entry, "vars": {"own": own}}, {"path": "b", "content": own})
        for options in (("--check", "--diff", "-vvvv"), ("--diff", "-vvvv")):
            result = controller.play([task], *options)
            assert result.returncode == 0
            outputs.append(result.stdout + result.stderr)
        assert (controller.root / "key").read_text() == f"password = a-s3cret-{own}\n"
    packed = model.pack({"key": b"password = a-s3cret-first\n", "b": b"first"})
    for output in outputs:
        assert "+first" in output or "+second" in output
        assert "s3cret" not in output and packed[:40] not in output


# --- container images -------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path, monkeypatch) -> Iterator[Host]:
    monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
    with made_of_layers(tmp_path) as host:
        yield host


@contextmanager
def made_of_layers(parent: Path) -> Iterator[Host]:
    """A host whose tree comes from a lower layer, as in a container whose image has the package."""
    base, place = parent / "layers", parent / "host"
    base.mkdir(parents=True)
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", base], check=True)
    for name in ("lower/etc/app/theirs", "upper", "work"):
        (base / name).mkdir(parents=True)
    tree = base / "lower" / "etc" / "app"
    (tree / "a.conf").write_text("packaged\n")
    (tree / "theirs" / "file").write_text("theirs\n")
    (tree / "theirs" / "file").chmod(0o604)
    (tree / "theirs" / "link").symlink_to("file")
    layers = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, place], check=True)
    try:
        yield Host(place)
    finally:
        subprocess.run(["umount", "--recursive", place], check=True)
        subprocess.run(["umount", base], check=True)


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
    monkeypatch.setattr(tree_swap, "LOCKS", tmp_path / "locks")
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
        tree_swap.REPLACE + "exit 9",
    ],
    ids=["at_once", "unmounted", "half_deleted", "deleted", "replaced"],
)
def test_the_script_that_replaces_a_tree_of_an_image_may_die_at_any_line(image, script):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_swap, "REPLACE", script)
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
    must_run = tree_swap._must_run

    def die(argv):
        if argv[0] == step:
            raise Death
        must_run(argv)

    with monkeypatch.context() as patch:
        patch.setattr(tree_swap, "_must_run", die)
        with pytest.raises(Death):
            image.run(FILES)
    assert image.read() == "packaged\n"
    assert image.run(FILES)["changed"] and image.read() == "one\n" and image.read("theirs/file") == "theirs\n"
    assert image.siblings == [] and str(image.root) not in Path("/proc/mounts").read_text()
