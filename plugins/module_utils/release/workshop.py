# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where foreign code runs while a release is built: what packages bring along, and the build command.

Each command is a transient unit of a user that exists as long as the unit does. It may write to copies of what is
built, which stand at their final paths for it, because a virtual environment holds its path. When the unit has ended,
nothing of it runs any more, and root copies what it has left: plain files, directories, and links that stay inside.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

# systemd gives what is below to the unit's user, and nobody but root comes in.
STATE = Path("/var/lib/private")
LINKS = Path("/var/lib")
# Inside, where it is private and gone at the end.
HOME = Path("/tmp/home")  # noqa: S108
# pip's own settings, and passwords for an index.
SETTINGS = (".config/pip/pip.conf", ".pip/pip.conf", ".netrc")
SETTINGS_LIMIT = 64 * 1024
# Upper bound of one command, in seconds.
LONGEST_S = 3600
# More than a message ever shows.
OUTPUT_LIMIT = 64 * 1024
# Of directories in each other.
DEEPEST = 128
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
    "TimeoutStopSec=2",
)
# A unit's properties can be read by everybody, what it reads on its standard input cannot.
RUNNER = """
import json, os, sys
job = json.load(sys.stdin)
for path, text in job["files"].items():
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
os.chdir(job["cwd"])
os.execvpe(job["argv"][0], job["argv"], job["environment"])
"""


class Workshop:
    """The copies of what is built, and the unit that changes them. All gone at the end."""

    def __init__(self, name: str, python: str) -> None:
        self.name = f"gunicorn_flask-build-{name}"
        self.folder = STATE / self.name
        self.python = python
        self.copies: dict[Path, Path] = {}

    def __enter__(self) -> Workshop:
        # What a run has left that was killed.
        self.remove()
        STATE.mkdir(mode=0o700, exist_ok=True)
        self.folder.mkdir(mode=0o700)
        return self

    def __exit__(self, *_problem: object) -> None:
        self.remove()

    def remove(self) -> None:
        subprocess.run(["systemctl", "stop", f"{self.name}.service"], capture_output=True, check=False)
        link = LINKS / self.name
        if link.is_symlink():
            link.unlink()
        # However deep its directories are.
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.folder)], capture_output=True, check=False)

    def copy_of(self, target: Path) -> Path:
        """An empty directory that stands at the path of `target` for the commands. The target has to exist."""
        copy = self.folder / f"{target.parent.name}-{target.name}"
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
        began = time.monotonic()
        code, said = self._run(self._command(network), json.dumps(job))
        if code != 0:
            late = time.monotonic() - began >= LONGEST_S
            ended = f"It did not end within {LONGEST_S} s. " if late else ""
            hint = "" if network else " (it has no network, and can write to the release alone)"
            said = "\n".join(said.strip().splitlines()[-15:])
            raise ReleaseError(f"{problem}{hint}; nothing that runs was touched. {ended}It said: {said}")

    def _command(self, network: bool) -> list[str]:
        binds = [f"BindPaths={copy}:{target}" for target, copy in self.copies.items()]
        own = [f"StateDirectory={self.name}", f"PrivateNetwork={'no' if network else 'yes'}", *binds]
        properties = [f"--property={line}" for line in (*PROPERTIES, *own)]
        unit = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={self.name}", *properties]
        return [*unit, "--", self.python, "-I", "-c", RUNNER]

    def _run(self, argv: Sequence[str], job: str) -> tuple[int, str]:
        """Exit code and the end of what was said. Whatever a command writes, no more than that is held."""
        said = b""
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            try:
                process.stdin.write(job.encode())
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has failed, and says why
            while chunk := process.stdout.read1(OUTPUT_LIMIT):
                said = (said + chunk)[-OUTPUT_LIMIT:]
        return process.returncode, said.decode(errors="replace")

    def collect(self, target: Path) -> None:
        """Copy what the commands have left to where it belongs, an empty directory. Further commands only read it."""
        copy = self.copies.pop(target)
        size = sum(path.lstat().st_size for path in walk(copy, target))
        free = shutil.disk_usage(target).free
        if size > free:
            raise ReleaseError(
                f"{target}: No space left on device: the build has left {size >> 10} kB, and {free >> 10} kB are free; "
                "nothing that runs was touched"
            )
        for path in walk(copy, target):
            place_copy(path, target / path.relative_to(copy), copy, self.python)


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


def walk(folder: Path, target: Path, depth: int = 0) -> list[Path]:
    """Everything below, each directory before what is in it."""
    if depth > DEEPEST:
        raise ReleaseError(f"{target}: the build has left more than {DEEPEST} directories in each other")
    found = []
    for path in sorted(folder.iterdir()):
        found.append(path)
        if path.is_dir() and not path.is_symlink():
            found += walk(path, target, depth + 1)
    return found


def place_copy(path: Path, target: Path, base: Path, python: str) -> None:
    """One file, directory or link, without the owner and the further rights that it may have."""
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        target.mkdir(mode=0o755)
    elif stat.S_ISLNK(status.st_mode):
        real = os.path.realpath(path)
        if real != python and not Path(real).is_relative_to(os.path.realpath(base)):
            raise ReleaseError(f"{target}: the build has made a link that leads out of the release: {path.readlink()}")
        target.symlink_to(path.readlink())
    elif stat.S_ISREG(status.st_mode):
        shutil.copyfile(path, target)
        target.chmod(0o755 if status.st_mode & stat.S_IXUSR else 0o644)
        # Compiled Python counts by the time of its source.
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    else:
        raise ReleaseError(f"{target}: the build has made something that is neither file nor directory nor link")
