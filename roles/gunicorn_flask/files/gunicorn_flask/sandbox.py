"""Running a command the way the service will run: copies of its unit, which differ in what has to be different."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gunicorn_flask import system
from gunicorn_flask.application import Application, Failure, environment_line

UNITS = Path("/run/systemd/system")
RUN = Path("/run")
# What is in the folder of the copies.
COPIED = {"environment", "files", "gunicorn.conf.py", "listener", "output"}
# Upper bound of loading the application once, which has no limit of its own.
LOAD_S = 300
# What copies are made for.
PURPOSES = "trial|load|migrate"

# What the unit of a trial has instead of its model's. systemd takes the last of several lines.
TRIAL = """
Restart=no
KillSignal=SIGQUIT
TimeoutStopSec=2
RemoveIPC=no
RuntimeDirectoryPreserve=yes
"""
ONCE = """
Type=oneshot
Restart=no
ExecReload=
TimeoutStartSec={timeout}
TimeoutStopSec=2
RemoveIPC=no
RuntimeDirectoryPreserve=yes
StandardOutput=file:{output}
StandardError=inherit
"""
# What a death by a signal often means, and what to loosen then.
HINTS = {
    "SYS": "the sandbox kills for this system call; allow it in gunicorn_flask_unit_extra with SystemCallFilter= and "
    "the call's name or group, or have it refused with SystemCallErrorNumber=EPERM",
    "SEGV": "if it makes code while it runs, as a JIT does, allow that in gunicorn_flask_unit_extra with "
    "MemoryDenyWriteExecute=no",
    "KILL": "often for want of memory; take fewer gunicorn_flask_workers, or raise MemoryMax= in "
    "gunicorn_flask_unit_extra",
    "ABRT": "it ended itself, often because it was refused something; its last lines say what, and "
    "gunicorn_flask_unit_extra allows it",
    "BUS": "often because a disk or /dev/shm is full",
    "XCPU": "it has used up its time; raise LimitCPU= in gunicorn_flask_unit_extra",
    "XFSZ": "a file grew too large; raise LimitFSIZE= in gunicorn_flask_unit_extra",
}
# As gunicorn and as systemd tell it.
DEATH = re.compile(r"was sent SIG([A-Z0-9]+)!|code=(?:killed|dumped), status=\d+/([A-Z0-9]+)")
# With these a process is asked to end.
ASKED = ("TERM", "QUIT", "INT", "HUP")


def died(name: str) -> str:
    """A death by a signal in words."""
    hint = HINTS.get(name)
    return f"it was killed by SIG{name}" + (f": {hint}" if hint else "")


def death_in(log: str) -> str:
    """The last death by a signal that a log speaks of, in words; empty if there is none."""
    names = [one or other for one, other in DEATH.findall(log)]
    return next((died(name) for name in reversed(names) if name not in ASKED), "")


class Copies:
    """A folder with copies of what the units read, and copies of the units that use it. All gone at the end.

    systemd gets copies, because only this program sees the directory that config_tree has staged.
    """

    def __init__(self, app: Application, purpose: str) -> None:
        self.app = app
        self.name = f"{app.name}-{purpose}-{os.getpid()}"
        self.folder = RUN / self.name
        self.units: list[Path] = []

    def __enter__(self) -> Copies:
        self.folder.mkdir(mode=0o755)
        self.folder.chmod(0o755)
        settings = self.folder / "gunicorn.conf.py"
        settings.write_text(self.moved((self.app.here / settings.name).read_text()))
        settings.chmod(0o644)
        if (self.app.here / "files").exists():
            copy(self.app.here / "files", self.folder / "files")
        return self

    def __exit__(self, *_problem) -> None:
        names = [unit.name for unit in self.units]
        if names:
            system.run(["systemctl", "stop", *names])
            system.run(["systemctl", "reset-failed", *names])
        for unit in self.units:
            unit.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def write_environment(self, **more: str) -> None:
        """The last of several lines for a variable counts. Only systemd reads it, as root."""
        text = self.moved((self.app.here / "environment").read_text())
        file = self.folder / "environment"
        file.touch(mode=0o600)
        file.write_text(text + "".join(environment_line(name, value) for name, value in more.items()))

    def moved(self, text: str) -> str:
        """With the release's own paths instead of those by way of the link, and the copies' paths."""
        text = text.replace(f"{self.app.root}/current/", f"{self.app.release}/")
        return text.replace(f"{self.app.here}/", f"{self.folder}/")

    def add(self, model: str, kind: str, extra: str = "", suffix: str = "") -> Path:
        """A copy of a service, with further lines for [Service] and a listener of its own."""
        text = self.moved((self.app.here / model).read_text())
        text = text.replace(self.app.socket, f"{self.name}.socket")
        text = text.partition("\n[Install]")[0] + extra
        return self.write(text, kind, suffix)

    def write(self, text: str, kind: str, suffix: str = "") -> Path:
        unit = UNITS / f"{self.name}{suffix}.{kind}"
        unit.parent.mkdir(exist_ok=True)
        self.units.append(unit)
        unit.write_text(text)
        return unit


def strays(name: str) -> list[Path]:
    """Units and folders of copies that a check of the application has left which was killed."""
    copies = rf"{re.escape(name)}-(?:{PURPOSES})-[0-9]+"
    found = []
    for path in UNITS.glob(f"{name}-*"):
        match = re.fullmatch(rf"{copies}(-{re.escape(name)}-[a-z0-9-]+)?\.(?:service|socket)", path.name)
        if match and (not match[1] or users(path)[:1] in ([], [name])):
            found.append(path)
    for path in RUN.glob(f"{name}-*"):
        if re.fullmatch(copies, path.name) and is_folder_of_copies(path):
            found.append(path)
    return sorted(found)


def users(unit: Path) -> list[str]:
    return re.findall(r"^User=(.*)$", unit.read_text(errors="replace"), re.MULTILINE)


def is_folder_of_copies(folder: Path) -> bool:
    """The directory of another application's listener may have such a name."""
    return folder.is_dir() and not folder.is_symlink() and {item.name for item in folder.iterdir()} <= COPIED


def remove_strays(name: str) -> None:
    """Only while no other check of the application runs. A helper of a release that was never switched to may be up."""
    found = strays(name)
    units = [path for path in found if path.parent == UNITS]
    names = [unit.name for unit in units]
    if names:
        system.run(["systemctl", "stop", *names])
        running = [unit for unit in names if system.is_active(unit)]
        if running:
            raise Failure(f"of a trial that was killed, there still runs and cannot be stopped: {', '.join(running)}")
        system.run(["systemctl", "reset-failed", *names])
    for path in found:
        if path in units:
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)


def copy(source: Path, target: Path) -> None:
    """With owners and modes: the application's group may read what others may not."""
    if source.is_dir():
        target.mkdir(mode=0o700)
        for item in source.iterdir():
            copy(item, target / item.name)
    else:
        shutil.copyfile(source, target)
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    target.chmod(status.st_mode & 0o7777)


@dataclass(frozen=True)
class Ended:
    """How a unit that runs once has ended: what it said, and systemd's words for the rest."""

    ok: bool
    said: str
    result: str = "success"
    status: str = "0"


def run_once(app: Application, purpose: str, timeout: int, change: Callable[[str], str], **more: str) -> Ended:
    """Run the application's unit once, changed, as it will be and in the same sandbox.

    Args:
        app: the application.
        purpose: one of PURPOSES.
        timeout: how many seconds it may take.
        change: makes of the text of the unit that of its copy.
        more: further environment variables.
    """
    began = time.time()
    with Copies(app, purpose) as copies:
        copies.write_environment(**more)
        output = copies.folder / "output"
        unit = copies.add(app.service, "service", ONCE.format(output=output, timeout=timeout))
        text = unit.read_text().replace(f"Requires={copies.name}.socket\n", "", 1)
        unit.write_text(change(text))
        done = system.run_and_hear(["systemctl", "start", unit.name], output)
        if done.returncode == 0:
            return Ended(True, done.stdout)
        said = done.stdout or system.last_lines(unit.name, began)
        return Ended(False, said, system.show(unit.name, "Result"), system.show(unit.name, "ExecMainStatus"))


def load_application(app: Application) -> None:
    """gunicorn reads its configuration and imports the application."""
    ended = run_once(app, "load", LOAD_S, lambda text: text.replace(" -m gunicorn ", " -m gunicorn --check-config ", 1))
    if ended.ok:
        return
    if "Error while loading the application" in ended.said or ended.result in ("signal", "core-dump", "timeout"):
        problem = f"gunicorn_flask_wsgi: gunicorn cannot load '{app.wsgi}' of release {app.release.name}"
    else:
        problem = "gunicorn refuses its configuration"
    raise Failure(f"{problem}: {reason(ended, LOAD_S)}\n{system.tail(ended.said)}")


def run_command(app: Application, command: Sequence[str], timeout: int) -> Ended:
    """Run a command in the code of the release."""
    lines = f"ExecStart=\nExecStart=:{' '.join(map(unit_word, command))}\nWorkingDirectory={app.release}/app\n"
    return run_once(app, "migrate", timeout, lambda text: text + lines, APP_RELEASE=app.release_id)


def unit_word(word: str) -> str:
    """As systemd reads a word of a command in which it replaces no variables."""
    quoted = re.sub(r'([\\"])', r"\\\1", word).replace("%", "%%")
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", quoted) + '"'


def reason(ended: Ended, limit: int) -> str:
    """The last line of a traceback names the error. A process that ends itself or is killed leaves none."""
    if ended.result in ("signal", "core-dump"):
        try:
            return died(signal.Signals(int(ended.status)).name.removeprefix("SIG"))
        except ValueError:
            return f"it was killed by signal {ended.status}"
    if ended.result == "timeout":
        return f"it did not end within {limit} s"
    return system.tail(ended.said, 1) or f"it ended with exit code {ended.status} and said nothing"
