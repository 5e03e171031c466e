"""What the programs ask of the system: commands, units, processes, the journal."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import select
import shlex
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gunicorn_flask.application import Failure

RUN = Path("/run/gunicorn_flask")
# What the requests of these programs call themselves, so that a log can be shown without them.
AGENT = "foobar-health-poll"
# Three times what a migration may take by default.
LOCK_S = 1800
LOCK_RETRY_S = 0.2
# More than anybody here looks at.
OUTPUT_LIMIT = 1 << 20


def run(argv: Sequence[str], user: str | None = None, **options) -> subprocess.CompletedProcess[str]:
    """With the end of what the command says: what it lists may be the application's, and without an end."""
    if user is not None:
        group = pwd.getpwnam(user).pw_gid
        options |= {"user": user, "group": group, "extra_groups": os.getgrouplist(user, group), "umask": 0o027}
    said = b""
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    ) as process:
        while chunk := process.stdout.read1(OUTPUT_LIMIT):
            said = (said + chunk)[-OUTPUT_LIMIT:]
    return subprocess.CompletedProcess(argv, process.returncode, said.decode(errors="replace"))


def run_and_hear(argv: Sequence[str], output: Path) -> subprocess.CompletedProcess[str]:
    """With the end of what a unit says meanwhile, to a pipe that is made for it: that fills neither memory nor /run."""
    os.mkfifo(output, 0o600)
    # With a writer of its own it has no end while the unit has not opened it yet.
    pipe = os.open(output, os.O_RDWR | os.O_NONBLOCK)
    said = b""
    try:
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            ended = False
            while not ended:
                ended = process.poll() is not None
                select.select([pipe], [], [], 0 if ended else 0.05)
                with suppress(BlockingIOError):
                    while chunk := os.read(pipe, OUTPUT_LIMIT):
                        said = (said + chunk)[-OUTPUT_LIMIT:]
    finally:
        os.close(pipe)
    return subprocess.CompletedProcess(argv, process.returncode, said.decode(errors="replace"))


def systemctl(*arguments: str) -> None:
    done = run(["systemctl", *arguments])
    if done.returncode != 0:
        raise Failure(f"`systemctl {shlex.join(arguments)}` failed: {tail(done.stdout, 3)}")


def show(unit: str, name: str, *arguments: str) -> str:
    return run(["systemctl", "show", "--value", f"--property={name}", *arguments, unit]).stdout.strip()


def is_active(unit: str) -> bool:
    return show(unit, "ActiveState") in ("active", "reloading")


def tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def last_lines(unit: str, began: float, number: int = 15) -> str:
    # The newest messages may not be in the journal yet.
    run(["journalctl", "--sync"])
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={unit}"]
    lines = run([*command, f"--since=@{began:.6f}", "--lines=400"]).stdout.splitlines()
    return "\n".join([line for line in lines if AGENT not in line][-number:])


@contextmanager
def application_lock(name: str):
    """One run of an application at a time. The lock is released when its process ends.

    Raises:
        Failure: another run has held it for LOCK_S.
    """
    RUN.mkdir(mode=0o700, exist_ok=True)
    with (RUN / f"{name}.lock").open("a") as lock:
        end = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Failure(
                        f"{name}: another deployment has been at work for {LOCK_S} s; wait for its end, or end it"
                    ) from None
                time.sleep(LOCK_RETRY_S)
        yield


# --- processes --------------------------------------------------------------------------------------------------------


def working_directory(user: str, process: str) -> str:
    """Asked as that user: root in a container may not look into processes of others."""
    return run(["readlink", f"/proc/{process}/cwd"], user=user).stdout.strip()


def children(parent: str) -> dict[str, float]:
    """When each child of the process was started, on CLOCK_BOOTTIME."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of the program, in brackets, may hold anything.
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[1] == parent and fields[0] != "Z":
            # A tick is the unit of the one clock, the other is finer.
            found[path.parent.name] = (int(fields[19]) + 1) / os.sysconf("SC_CLK_TCK")
    return found


def held_releases(user: str, releases: Path, processes: Iterable[str]) -> dict[str, set[str]]:
    """Which releases each worker has open. gunicorn.conf.py has it open those that its code has come from."""
    places = [f"/proc/{process}/fd" for process in processes]
    # As that user, for the same reason. A process may end meanwhile.
    said = run(["find", *places, "-maxdepth", "1", "-type", "l", "-printf", "%h %l\\n"], user=user).stdout
    found: dict[str, set[str]] = defaultdict(set)
    for process, target in re.findall(r"^/proc/(\d+)/fd (/.*)$", said, re.MULTILINE):
        if Path(target).parent == releases:
            found[process].add(Path(target).name)
    return found
