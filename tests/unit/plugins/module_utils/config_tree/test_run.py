"""config_tree: check, apply, rollback, secrets, and what a run leaves behind when it dies at any step."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import (
    model,
    run,
    tree,
)
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError

from .conftest import BROKEN, FILES, NEW, OLD, SOAK, Death, Host, deaths, needs_root, whole


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
    monkeypatch.setattr(run, "IN_STAGED", ["sh", "-c", "echo not permitted; exit 1"])
    with pytest.raises(ConfigTreeError, match="cannot be mounted for its check: not permitted"):
        host.run(FILES, check=["true"])
    assert not host.root.exists() and host.siblings == []


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
    stage = tree.stage

    def stage_and_change(*arguments):
        stage(*arguments)
        change(host.root)

    monkeypatch.setattr(tree, "stage", stage_and_change)
    with pytest.raises(ConfigTreeError, match="changed by somebody else during this run"):
        host.run({"a.conf": "new\n"})
    assert host.siblings == [] and host.read() != "new\n"


def test_writing_into_a_foreign_file_during_the_run_is_no_conflict(host, monkeypatch):
    host.run(FILES)
    (host.root / "foreign").write_text("before")
    stage = tree.stage

    def stage_and_write(*arguments):
        stage(*arguments)
        (host.root / "foreign").write_text("during the run")

    monkeypatch.setattr(tree, "stage", stage_and_write)
    host.run({"a.conf": "new\n"})
    assert host.read() == "new\n" and host.read("foreign") == "during the run"


def test_two_runs_follow_each_other(host):
    with (
        host_lock.exclusive(host.root),
        pytest.raises(host_lock.HostLockError, match="another run has been working on it"),
        host_lock.exclusive(host.root, wait=0.2),
    ):
        pass
    order = []
    tracking = ["sh", "-c", f"echo start >> {host.place}/log; sleep 0.3; echo end >> {host.place}/log"]
    runs = [
        threading.Thread(target=lambda n=n: order.append(host.run({"a.conf": str(n)}, apply=tracking))) for n in (1, 2)
    ]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert len(order) == 2 and (host.place / "log").read_text().split() == ["start", "end"] * 2


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


@pytest.mark.parametrize("wish", [NEW, BROKEN], ids=["good", "broken"])
@pytest.mark.parametrize("then", [OLD, NEW, BROKEN], ids=["then_old", "then_new", "then_broken"])
def test_a_run_that_dies_anywhere_is_put_in_order_by_the_next(reaper, tmp_path, monkeypatch, wish, then):
    monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
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
    monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
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
    monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
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
    monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
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
    monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
    third = {"a.conf": "third\n", "b.conf": "third\n"}
    for step in range(1000):
        place = tmp_path / f"twice-{step}"
        place.mkdir()
        host = Host(place)
        host.run(OLD)
        monkeypatch.setattr(run.Run, "_apply", lambda self: (_ for _ in ()).throw(Death))
        with pytest.raises(Death):
            host.run(NEW)
        monkeypatch.undo()
        monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
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
        patch.setattr(host_lock, "LOCKS", host.place / "locks")
        patch.setattr(run.Run, "_apply", lambda self: (_ for _ in ()).throw(Death))
        with pytest.raises(Death):
            host.run(NEW)
    shutil.rmtree(host.root)
    assert host.run(NEW)["changed"] and host.read("foreign") == "theirs" and host.siblings == []


def test_an_unfinished_run_whose_configuration_turns_out_bad_goes_back(host, monkeypatch):
    host.run(OLD)
    monkeypatch.setattr(run.Run, "_apply", lambda self: (_ for _ in ()).throw(Death))
    with pytest.raises(Death):
        host.run(NEW)
    monkeypatch.undo()
    monkeypatch.setattr(host_lock, "LOCKS", host.place / "locks")
    with pytest.raises(
        ConfigTreeError, match="unfinished run is refused by .*; the old one is back in place and applied"
    ):
        host.run(NEW, check=["sh", "-c", f"! grep new {host.root}/a.conf"])
    assert host.read() == host.running.read_text() == "old\n" and host.siblings == []
