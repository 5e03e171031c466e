"""A host in a directory, a systemd without a host, and the death of a run at any change to the disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import command, model, run, units
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount and change owners")
SOAK = os.environ.get("FOOBAR_SOAK") == "1"
ME = {"owner": str(os.geteuid()), "group": str(os.getegid())}
FILES = {"a.conf": "one\n", "sites/b.conf": "two\n"}
OLD = {"a.conf": "old\n", "b.conf": "old\n", "keep/c.conf": "same\n"}
NEW = {"a.conf": "new\n", "b.conf": "new\n", "d/e.conf": "new\n"}
BROKEN = {"a.conf": "broken\n", "b.conf": "new\n", "d/e.conf": "new\n"}


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
        return run.Run(params, check_mode, want_diff).execute()

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
    monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
    place = tmp_path / "host"
    place.mkdir()
    return Host(place)


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

    def command(self, argv: list[str], timeout: int) -> command.Outcome:
        words = [word for word in argv if not word.startswith("--")]
        if words[0] == "journalctl":
            return command.Outcome(True, f"{argv[-1]}: no such option")
        self.calls.append(" ".join(words[1:]))
        verb, names = words[1], words[2:]
        return command.Outcome(all(self.obey(verb, self.units[name]) for name in names), "systemctl's words")

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
    monkeypatch.setattr(units, "_query", systemd.query)
    monkeypatch.setattr(units, "run_command", systemd.command)
    return systemd


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


@pytest.fixture
def image(tmp_path, monkeypatch) -> Iterator[Host]:
    monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
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
