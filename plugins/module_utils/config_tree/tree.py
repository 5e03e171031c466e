# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps of config_tree on the target: scan, stage, swap, confirm, roll back, heal.

For a root /etc/nginx there are two siblings. /etc/.nginx.staged is the tree being built, and for an instant after the
exchange the old one. /etc/.nginx.previous is the last known good tree until `apply` has succeeded. A tree whose `apply`
has not succeeded yet carries a mark (PENDING). The mark is the first file made in a new tree and the last one deleted,
so whatever step a run dies at, the marks tell the next run which tree is which:

 live    staged        previous
 any     marked        any        staged was being built, or never worked: delete it
 marked  not marked    any        died right after the exchange: staged is the last known good tree
 marked  -             marked     previous never worked: delete it
 none    -             marked     died in a rollback: live is good, `apply` is outstanding
 none    -             not marked died after `apply`: delete previous
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ansible_collections.foobar.web_infrastructure.plugins.module_utils import mounts
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.command import run_command
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import (
    MANIFEST,
    OWN_NAMES,
    PENDING,
    ConfigTreeError,
    Entry,
    Manifest,
    Plan,
    Wanted,
    parents,
)

AT_FDCWD = -100
RENAME_EXCHANGE = 2
FS_IOC_GETFLAGS = 0x80086601
IMMUTABLE_OR_APPEND = 0x10 | 0x20
# To empty a tree and fill it again.
REPLACE_S = 300
# In a namespace of its own the mount that hides the root is gone, and replacing the root ends it for everybody else.
REPLACE = """
while mountpoint -q "$1"; do umount "$1" || exit; done
test ! "$0" -ef "$1" && find "$1" -xdev -mindepth 1 -delete && mv -T "$0" "$1"
"""


class LowerLayer(ConfigTreeError):
    """The directory comes from a lower layer of an overlay filesystem, which cannot rename it."""


class Tree:
    """The live tree and its two siblings."""

    def __init__(self, root: str) -> None:
        path = Path(root)
        self.root = path.parent.resolve() / path.name
        self.staged = self.root.with_name(f".{path.name}.staged")
        self.previous = self.root.with_name(f".{path.name}.previous")
        self.clone = self.root.with_name(f".{path.name}.clone")

    def pending(self) -> bool:
        """Is there a tree whose `apply` is outstanding?"""
        return is_marked(self.root) or is_marked(self.previous)


def is_marked(tree: Path) -> bool:
    return os.path.lexists(tree / PENDING)


# --- reading ----------------------------------------------------------------------------------------------------------


def scan(root: Path, everything: bool = False) -> dict[str, Entry] | None:
    """Every path of the tree, `.` for the root, our own two files only on request. None where there is no root."""
    try:
        found = {".": _entry(os.lstat(root))}
    except FileNotFoundError:
        return None
    folders = [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(root / prefix) as items:
            for item in items:
                path = f"{prefix}{item.name}"
                if path in OWN_NAMES and not everything:
                    continue
                found[path] = _entry(item.stat(follow_symlinks=False))
                if found[path].kind == "dir":
                    folders.append(f"{path}/")
    return found


def _entry(status: os.stat_result) -> Entry:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}
    return Entry(
        kind=kinds.get(stat.S_IFMT(status.st_mode), "other"),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ino=status.st_ino,
    )


def refuse_unsuitable(tree: Tree) -> None:
    """A tree can only be exchanged if it is a plain directory of its parent's filesystem."""
    root = tree.root
    if root.is_symlink():
        raise ConfigTreeError(f"{root} is a symbolic link; give the directory itself as root")
    if root.exists() and not root.is_dir():
        raise ConfigTreeError(f"{root} is not a directory; move it away")
    for point in mounts.mount_points():
        if point == root or root in point.parents:
            raise ConfigTreeError(f"{point} is a mount point, so {root} cannot be exchanged as a whole; unmount it")


def refuse_immutable(tree: Tree, live: Mapping[str, Entry]) -> None:
    """Nobody could delete the old tree after the exchange. Filesystems without such flags do not know the question."""
    for path, entry in live.items():
        if entry.kind not in ("file", "dir"):
            continue
        flags = bytearray(8)
        with suppress(OSError):
            handle = os.open(tree.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.ioctl(handle, FS_IOC_GETFLAGS, flags)
            finally:
                os.close(handle)
        if int.from_bytes(flags[:4], sys.byteorder) & IMMUTABLE_OR_APPEND:
            raise ConfigTreeError(
                f"{tree.root / path} is immutable or append-only (lsattr) and cannot be part of a tree that is "
                f"exchanged; nothing has changed: run chattr -ia on it"
            )


def load_manifest(root: Path) -> Manifest | None:
    """None where the tree is not ours yet. ValueError where the file is not what we wrote."""
    try:
        return Manifest.load((root / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_live(root: Path, path: str, live: Mapping[str, Entry]) -> bytes | None:
    if path not in live or live[path].kind != "file":
        return None
    return (root / path).read_bytes()


# --- writing ----------------------------------------------------------------------------------------------------------


def stage(tree: Tree, plan: Plan, wanted: Mapping[str, Wanted], live: Mapping[str, Entry] | None, like: Wanted) -> None:
    """Build the next tree beside the live one. What stays the same is shared by hard links, with all its attributes."""
    make_parents(tree.staged)
    tree.staged.mkdir(mode=0o700)
    _write(tree.staged / PENDING, b"", 0o600)
    replaced = plan.written | plan.gone
    kept = {path: entry for path, entry in (live or {}).items() if path not in replaced and path != "."}
    _share(tree.root, tree.staged, kept)
    for path in sorted(plan.new_directories - {"."}):
        (tree.staged / path).mkdir(mode=0o700)
    for path in sorted(plan.written):
        file = wanted[path]
        _write(tree.staged / path, file.content, file.mode, file.uid, file.gid)
        if file.mtime is not None:
            os.utime(tree.staged / path, (file.mtime, file.mtime))
    _write(tree.staged / MANIFEST, plan.manifest.dump(), 0o600)
    kept_directories = [path for path in kept if kept[path].kind == "dir"] + (["."] if live else [])
    _finish_directories(tree, plan, kept_directories, like)


def sketch(
    target: Path, root: Path, plan: Plan, wanted: Mapping[str, Wanted], live: Mapping[str, Entry] | None, like: Wanted
) -> None:
    """Make a copy of what the next tree would be, for those who only look: not even a hard link touches the live one.

    An owner who does not exist yet is root, and sockets and the like are left out.
    """
    kept = {path: entry for path, entry in (live or {}).items() if path not in plan.written | plan.gone and path != "."}
    target.mkdir(mode=0o755)
    directories = {path for path in kept if kept[path].kind == "dir"}
    for path in sorted(plan.new_directories | directories - {"."}):
        (target / path).mkdir(mode=0o700, exist_ok=True)
    for path, entry in kept.items():
        if entry.kind == "link":
            (target / path).symlink_to((root / path).readlink())
        elif entry.kind == "file":
            _write(target / path, (root / path).read_bytes(), entry.mode, entry.uid, entry.gid)
    for path in plan.written:
        file = wanted[path]
        _write(target / path, file.content, file.mode, file.uid or 0, file.gid or 0)
    for path in sorted({*plan.new_directories, *directories, "."}, key=_from_the_leaves):
        entry = (live or {}).get(path)
        mode, uid, gid = (entry.mode, entry.uid, entry.gid) if entry else (like.mode, like.uid or 0, like.gid or 0)
        os.chown(target / path, uid, gid)
        (target / path).chmod(mode)


def make_parents(path: Path) -> None:
    """What is made on the way to a tree is open to all, whatever the umask says: products run as users of their own."""
    missing = [parent for parent in path.parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)
        parent.chmod(0o755)


def _share(source: Path, target: Path, entries: Mapping[str, Entry]) -> None:
    for path in sorted(entries):
        if entries[path].kind == "dir":
            (target / path).mkdir(mode=0o700)
        else:
            _link(source / path, target / path)


def _finish_directories(tree: Tree, plan: Plan, kept: list[str], like: Wanted) -> None:
    """Last and from the leaves up, because making entries changes times and a tight mode may come in the way."""
    for path in sorted(plan.new_directories | set(kept), key=_from_the_leaves):
        target = tree.staged / path
        if path in kept:
            _copy_attributes(tree.root / path, target)
        if path in plan.new_directories | plan.altered_directories:
            os.chown(target, like.uid, like.gid)
            target.chmod(like.mode)
        _sync(target)


def _from_the_leaves(path: str) -> tuple[bool, int]:
    return path == ".", -path.count("/")


def _copy_attributes(source: Path, target: Path) -> None:
    """Owner, mode, times and extended attributes (ACLs, SELinux)."""
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        raise ConfigTreeError(
            f"{source} cannot be hard linked into {target.parent} ({error.strerror}); "
            f"an immutable file (lsattr) or a filesystem without hard links cannot be part of a config_tree"
        ) from error


def _write(path: Path, content: bytes, mode: int, uid: int | None = None, gid: int | None = None) -> None:
    """A new file, never through a link, with its final mode whatever the umask says."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        if uid is not None and gid is not None:
            os.fchown(handle, uid, gid)
        os.fchmod(handle, mode)
        os.fsync(handle)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(tree: Path) -> None:
    """The mark goes last: half a tree must never look like a good one."""
    if not tree.exists():
        return
    for item in tree.iterdir():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        elif item.name != PENDING:
            item.unlink()
    (tree / PENDING).unlink(missing_ok=True)
    tree.rmdir()


# --- swapping ---------------------------------------------------------------------------------------------------------


def exchange(one: Path, other: Path) -> None:
    """Both names change places in one step that nobody can see half done."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        _sync(other.parent)
        return
    code = ctypes.get_errno()
    if code == errno.EXDEV:
        raise LowerLayer(f"{other} comes from a container image's layer and cannot be exchanged; nothing has changed")
    if code in (errno.EINVAL, errno.ENOSYS):
        reason = "its filesystem cannot exchange two directories"
    else:
        reason = os.strerror(code)
    raise ConfigTreeError(f"{other} cannot be exchanged with {one}: {reason}; nothing has changed")


def swap(tree: Tree, existed: bool) -> None:
    """Make the staged tree live and keep the last known good one."""
    if not existed:
        tree.staged.rename(tree.root)
        _sync(tree.root.parent)
        return
    try:
        exchange(tree.staged, tree.root)
    except LowerLayer:
        adopt(tree)
        exchange(tree.staged, tree.root)
    if is_marked(tree.staged):
        remove_tree(tree.staged)
    else:
        _keep_as_previous(tree)


def adopt(tree: Tree) -> None:
    """A directory of a container image cannot be renamed: put an equal one in its place, once.

    While the old one is emptied, the equal one is mounted over it, so that everybody sees a whole tree all the time.
    """
    unfinished = tree.clone.with_name(f"{tree.clone.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    entries = scan(tree.root, everything=True) or {}
    _share(tree.root, unfinished, {path: entry for path, entry in entries.items() if path != "."})
    for path in sorted(entries, key=_from_the_leaves):
        if entries[path].kind == "dir":
            _copy_attributes(tree.root / path, unfinished / path)
    unfinished.rename(tree.clone)
    finish_adoption(tree)


def finish_adoption(tree: Tree) -> None:
    """A clone under its final name is complete, so a run that died here is continued."""
    if not tree.clone.exists():
        return
    root, clone = str(tree.root), str(tree.clone)
    if tree.root not in mounts.mount_points():
        _must_run(["mount", "--bind", clone, root])
    _must_run(["unshare", "--mount", "--propagation", "private", "sh", "-c", REPLACE, clone, root])


def _must_run(argv: list[str]) -> None:
    outcome = run_command(argv, REPLACE_S)
    if not outcome.ok:
        raise ConfigTreeError(f"`{argv[0]}` failed for {argv[-1]}, which comes from a container image: {outcome.said}")


def _keep_as_previous(tree: Tree) -> None:
    remove_tree(tree.previous)
    tree.staged.rename(tree.previous)


def sort_out_staged(tree: Tree) -> None:
    """What is called staged now: the last known good tree, or something nobody needs?"""
    if not tree.staged.exists():
        return
    if is_marked(tree.root) and not is_marked(tree.staged) and any(tree.staged.iterdir()):
        _keep_as_previous(tree)
    else:
        remove_tree(tree.staged)


def heal(tree: Tree) -> bool:
    """Put a run that died in order (see the table above) and say whether `apply` is outstanding."""
    sort_out_staged(tree)
    if can_roll_back(tree) and not tree.root.exists():
        tree.previous.rename(tree.root)
    if tree.previous.exists() and is_marked(tree.root) == is_marked(tree.previous):
        remove_tree(tree.previous)
    return tree.pending()


def confirm(tree: Tree) -> None:
    """`apply` has succeeded: live is the last known good tree."""
    (tree.root / PENDING).unlink(missing_ok=True)
    remove_tree(tree.previous)


def can_roll_back(tree: Tree) -> bool:
    return tree.previous.exists() and not is_marked(tree.previous)


def roll_back(tree: Tree) -> None:
    """The last known good tree is live again. The marked one says, as previous, that `apply` is outstanding."""
    _carry_over(tree)
    exchange(tree.previous, tree.root)


def _carry_over(tree: Tree) -> None:
    """What others made or replaced in the bad tree while it was live is theirs: it goes into the good one as well."""
    bad, good = scan(tree.root) or {}, scan(tree.previous) or {}
    manifest = load_manifest(tree.root) or Manifest()
    managed = manifest.files | (load_manifest(tree.previous) or Manifest()).files
    for path in sorted(bad):
        entry, old = bad[path], good.get(path)
        if path in managed or entry.kind == "dir" or (old and (old.ino == entry.ino or old.kind == "dir")):
            continue
        target = tree.previous / path
        for parent in parents(path):
            _copy_directory(tree.root / parent, tree.previous / parent)
        target.unlink(missing_ok=True)
        _link(tree.root / path, target)


def _copy_directory(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        return
    target.mkdir(mode=0o700)
    _copy_attributes(source, target)


def withdraw(tree: Tree) -> None:
    """There is no earlier tree to go back to: take our files out and leave what others put there."""
    manifest = load_manifest(tree.root) or Manifest()
    here = (scan(tree.root) or {}).keys()
    for path in manifest.files & here:
        (tree.root / path).unlink()
    for path in sorted(manifest.directories & here, key=_from_the_leaves):
        with suppress(OSError):  # not empty: it holds a file of somebody else
            (tree.root / path).rmdir()
    (tree.root / MANIFEST).unlink(missing_ok=True)
    (tree.root / PENDING).unlink(missing_ok=True)
    with suppress(OSError):  # the same
        tree.root.rmdir()
