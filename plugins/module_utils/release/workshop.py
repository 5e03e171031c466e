# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where foreign code runs while a release is built: what packages bring along, and the build command.

Each command is a transient unit of a user that exists as long as the unit does. It may write to copies of what is
built, which stand at their final paths for it, because a virtual environment holds its path. When the unit has ended,
nothing of it runs any more, and root copies what it has left: plain files, directories, and links that stay inside.
What lies where a copy is, or is called as it is, is root's: nothing else can be put in its place.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import made
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

# systemd gives directories below to the unit's user, and nobody but root comes in.
STATE = Path("/var/lib/private")
LINKS = Path("/var/lib")
PREFIX = "gunicorn_flask-build-"
# Inside, where it is private and gone at the end.
HOME = Path("/tmp/home")  # noqa: S108
# pip's own settings, and passwords for an index.
SETTINGS = (".config/pip/pip.conf", ".pip/pip.conf", ".netrc")
SETTINGS_LIMIT = 64 * 1024
# Upper bound of one command, in seconds, and what its unit takes to end.
LONGEST_S = 3600
ENDING_S = 60
# More than a message ever shows.
OUTPUT_LIMIT = 64 * 1024
# Of directories in each other, and of all that there is.
DEEPEST = 128
MOST = 300_000
# Whose run this is says nothing to the code, and Ansible's own Python settings are not for the application's.
PERSONAL = ("PYTHON", "SUDO_", "SSH_", "XDG_", "ANSIBLE_")
PERSONAL_NAMES = {"HOME", "USER", "LOGNAME", "MAIL", "SHELL", "TMPDIR", "PWD", "OLDPWD", "TERM", "LS_COLORS"}
PROPERTIES = (
    "DynamicUser=yes",
    "StateDirectoryMode=0700",
    "UMask=0022",
    "ProtectHome=yes",
    "ProtectProc=invisible",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "PrivateDevices=yes",
    "CapabilityBoundingSet=",
    "LockPersonality=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    f"RuntimeMaxSec={LONGEST_S}",
    "TasksMax=1000",
    # The first that goes where memory is short.
    "OOMScoreAdjust=500",
    "TimeoutStopSec=2",
)
# A unit's properties can be read by everybody, what it reads on its standard input cannot. Standard error is systemd's.
RUNNER = """
import json, os, sys
os.dup2(1, 2)
job = json.load(sys.stdin)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for path, text in job["files"].items():
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
os.chdir(job["cwd"])
os.execvpe(job["argv"][0], job["argv"], job["environment"])
"""


class Workshop:
    """The copies of what is built, and the unit that changes them. All gone at the end.

    Attributes:
        copies: those that commands may still change, by the place that each stands at for them.
    """

    def __init__(self, name: str, python: str) -> None:
        self.name = f"{PREFIX}{name}"
        self.folder = STATE / self.name
        self.python = python
        self.copies: dict[Path, Path] = {}
        self.made = 0

    def __enter__(self) -> Workshop:
        # What a run has left that was killed.
        self.remove()
        STATE.mkdir(mode=0o700, exist_ok=True)
        self.folder.mkdir(mode=0o755)
        return self

    def __exit__(self, *_problem: object) -> None:
        self.remove()

    def remove(self) -> None:
        subprocess.run(["systemctl", "stop", f"{self.name}.service"], capture_output=True, check=False)
        # However deep its directories are. systemd has made links to them.
        places = [str(self.folder), str(LINKS / self.name)]
        subprocess.run(["rm", "-rf", "--one-file-system", *places], capture_output=True, check=False)

    def copy_of(self, target: Path) -> Path:
        """An empty directory that stands at the path of `target` for the commands. The target has to exist."""
        copy = self.folder / str(self.made)
        self.made += 1
        copy.mkdir(mode=0o755)
        self.copies[target] = copy
        return copy

    def run(
        self,
        argv: Sequence[object],
        problem: str,
        cwd: Path = Path("/"),
        network: bool = False,
        files: Mapping[str, str] | None = None,
        **more: str,
    ) -> None:
        """Run a command.

        Args:
            argv: the command.
            problem: what a failure means.
            cwd: where it runs.
            network: whether it may reach anything but itself.
            files: by path in its home.
            more: further environment variables.

        Raises:
            ReleaseError: it has failed, or has not ended in LONGEST_S.
        """
        job = {
            "argv": [str(word) for word in argv],
            "cwd": str(cwd),
            "environment": environment(os.environ) | {"HOME": str(HOME)} | more,
            "files": {str(HOME / name): text for name, text in {**settings(), **(files or {})}.items()},
        }
        code, said = self._run(self._command(network), json.dumps(job))
        if code != 0:
            hint = "" if network else " (it has no network, and can write to the release alone)"
            said = "\n".join(said.strip().splitlines()[-15:])
            raise ReleaseError(f"{problem}{hint}; nothing that runs was touched. It said: {said}")

    def _command(self, network: bool) -> list[str]:
        # Each has a state directory of its own, since whose that is can rename what is in it.
        states = " ".join(f"{self.name}/{copy.name}" for copy in self.copies.values())
        binds = [f"BindPaths={copy}:{target}" for target, copy in self.copies.items()]
        own = [f"StateDirectory={states}", f"PrivateNetwork={'no' if network else 'yes'}", *binds]
        properties = [f"--property={line}" for line in (*PROPERTIES, *own)]
        unit = ["systemd-run", "--wait", "--pipe", "--collect", f"--unit={self.name}", *properties]
        return [*unit, "--", self.python, "-I", "-c", RUNNER]

    def _run(self, argv: Sequence[str], job: str) -> tuple[int, str]:
        """Exit code and the end of what was said, or else what systemd says of it.

        A command may write as much as it likes, and give its output to another process that never closes it.
        """
        end, said = time.monotonic() + LONGEST_S + ENDING_S, b""
        with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+", errors="replace") as words:
            given.write(job)
            given.seek(0)
            with subprocess.Popen(argv, stdin=given, stdout=subprocess.PIPE, stderr=words) as process:
                os.set_blocking(process.stdout.fileno(), False)
                ended = False
                while not ended:
                    ended = process.poll() is not None
                    if time.monotonic() > end:
                        # Its unit is stopped as what a killed run has left is.
                        process.kill()
                    select.select([process.stdout], [], [], 0 if ended else 0.1)
                    with suppress(BlockingIOError):
                        said = (said + os.read(process.stdout.fileno(), OUTPUT_LIMIT))[-OUTPUT_LIMIT:]
            words.seek(0)
            of_systemd = words.read(OUTPUT_LIMIT)
        late = f"It did not end within {LONGEST_S} s.\n" if "result: timeout" in of_systemd else ""
        return process.returncode, late + (said.decode(errors="replace") if said.strip() else of_systemd)

    def collect(self, target: Path, links_to_python: bool = False) -> None:
        """Copy what the commands have left to where it belongs, an empty directory. Further commands only read it.

        Args:
            target: as of copy_of.
            links_to_python: whether links may lead to the host's Python, as those of a virtual environment do.

        Raises:
            ReleaseError: it holds what root does not take over.
        """
        copy = self.copies.pop(target)
        left = list(walk(copy, target))
        size = sum(path.lstat().st_size for path in left)
        free = shutil.disk_usage(target).free
        if size > free:
            raise ReleaseError(
                f"{target}: No space left on device: the build has left {size >> 10} kB, and {free >> 10} kB are free; "
                "nothing that runs was touched"
            )
        for path in left:
            place_copy(path, target / path.relative_to(copy))
        home, python = os.path.realpath(target), self.python if links_to_python else None
        # Where they lead is where they lead from their own place.
        for path in left:
            link = target / path.relative_to(copy)
            if link.is_symlink():
                refuse_foreign_link(link, home, python)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What of the run's own environment is for a build: proxies, an index, what the play's `environment` adds."""
    return {
        name: value for name, value in variables.items() if name not in PERSONAL_NAMES and not name.startswith(PERSONAL)
    }


def settings() -> dict[str, str]:
    """pip's settings of root, where there are any."""
    home = Path("~").expanduser()
    found = {}
    for name in SETTINGS:
        path = home / name
        if path.is_file() and path.stat().st_size <= SETTINGS_LIMIT:
            found[name] = path.read_text(errors="replace")
    return found


def walk(folder: Path, target: Path) -> Iterator[Path]:
    """Everything below, each directory before what is in it."""
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise ReleaseError(f"{target}: the build has put something else in its place")
    number, waiting = 0, [(folder, 0)]
    while waiting:
        place, depth = waiting.pop()
        if depth > DEEPEST:
            raise ReleaseError(f"{target}: the build has left more than {DEEPEST} directories in each other")
        with os.scandir(place) as items:
            for item in items:
                number += 1
                if number > MOST:
                    raise ReleaseError(f"{target}: the build has left more than {MOST} files")
                path = Path(item.path)
                if depth == 0 and item.name in (made.MARK, f"{made.MARK}.new"):
                    raise ReleaseError(f"{target}: the build has left '{item.name}', which says that it is complete")
                yield path
                if item.is_dir(follow_symlinks=False):
                    waiting.append((path, depth + 1))


def place_copy(path: Path, target: Path) -> None:
    """One file, directory or link, without the owner and the further rights that it may have."""
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        target.mkdir(mode=0o755)
    elif stat.S_ISLNK(status.st_mode):
        target.symlink_to(path.readlink())
    elif stat.S_ISREG(status.st_mode):
        shutil.copyfile(path, target)
        target.chmod(0o755 if status.st_mode & stat.S_IXUSR else 0o644)
        # Compiled Python counts by the time of its source.
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    else:
        raise ReleaseError(f"{str(target)!r}: the build has made something that is neither file nor directory nor link")


def refuse_foreign_link(link: Path, home: str, python: str | None) -> None:
    real, goal = os.path.realpath(link), link.readlink()
    if python is not None and real == python:
        return
    if goal.is_absolute() or not Path(real).is_relative_to(home):
        raise ReleaseError(f"{str(link)!r}: the build has made a link that leads out of the release: {str(goal)!r}")
    if not link.exists():
        raise ReleaseError(f"{str(link)!r}: the build has made a link that leads nowhere: {str(goal)!r}")
