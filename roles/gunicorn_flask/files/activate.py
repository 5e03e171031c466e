#!/usr/bin/python3
"""Make what runs equal to what stands in this directory: release, units, environment, gunicorn's configuration.

config_tree runs it twice, and takes the old directory back and runs that one's again when the second time fails:

    activate.py check [COMMAND ...]   judge a directory before it is used; run COMMAND, a migration, in the release if
                                      that has not been done; try the release out beside the live one
    activate.py                       switch, reload or restart, wait until the release answers, delete old releases

gunicorn is reloaded where that is enough. Its environment, its unit and its own version need a restart, in which the
listener stays open, because systemd owns it. What a process was started with is recorded in /run.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUN = Path("/run/gunicorn_flask")
MARK = ".complete"
MIGRATIONS = "migrations.json"
AGENT = "foobar-health-poll"


class Failure(Exception):
    """What is wrong, for the user."""


class Application:
    """The settings that the role has written beside this program, and the places that follow from them."""

    def __init__(self, here: Path = HERE, root: Path | None = None) -> None:
        settings = json.loads((here / "deployment.json").read_text())
        self.here = here
        self.name: str = settings["name"]
        self.wsgi: str = settings["wsgi"]
        self.listen: str = settings["listen"]
        self.health_path: str = settings["health_path"]
        self.health_timeout: int = settings["health_timeout"]
        self.graceful_timeout: int = settings["graceful_timeout"]
        self.kept: int = settings["releases_kept"]
        self.chosen: bool = settings["chosen"]
        self.writable = [Path(path) for path in settings["writable_paths"]]
        self.root = root or Path("/srv", self.name)
        self.release = self.root / "releases" / settings["release"]
        self.service, self.socket = f"{self.name}.service", f"{self.name}.socket"

    def target(self, link: str) -> Path | None:
        path = self.root / link
        return self.root / path.readlink() if path.is_symlink() else None

    def point(self, link: str, release: Path) -> None:
        """rename(2) replaces the link in one step, so there is no moment without it."""
        new = self.root / f"{link}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(release.relative_to(self.root))
        new.rename(self.root / link)

    def environment(self) -> dict[str, str]:
        return parse_environment((self.here / "environment").read_text())


def parse_environment(text: str) -> dict[str, str]:
    """The template's quoting means the same to systemd and to shlex."""
    return dict(word.split("=", 1) for word in shlex.split(text, comments=True))


# --- judging ----------------------------------------------------------------------------------------------------------


def check(app: Application, migration: Sequence[str]) -> None:
    try:
        refuse_foreign_units(app)
        verify_units(app)
        make_writable_places(app)
        load_application(app)
        if migration:
            migrate(app, migration)
        try_out(app)
    except Failure:
        mark_void(app)
        raise


def refuse_foreign_units(app: Application) -> None:
    for unit in (app.service, app.socket):
        path = show(unit, "FragmentPath")
        if (
            path
            and Path(path).exists()
            and not Path(path).samefile(os.devnull)
            and HERE not in Path(path).resolve().parents
        ):
            raise Failure(f"gunicorn_flask_name: {path} is a unit of somebody else; choose another name")


def verify_units(app: Application) -> None:
    """systemd only warns about what it does not understand, and goes on without it; that is not good enough here."""
    with tempfile.TemporaryDirectory() as folder:
        for unit in (app.service, app.socket):
            text = (app.here / unit).read_text()
            # Before the first switch there is no such link.
            Path(folder, unit).write_text(text.replace(f"{app.root}/current/", f"{app.release}/"))
        done = run(["systemd-analyze", "verify", "--man=no", f"{folder}/{app.service}", f"{folder}/{app.socket}"])
        lines = [line for line in done.stdout.splitlines() if folder in line]
        if done.returncode != 0 or lines:
            said = "\n".join(lines or done.stdout.splitlines()).replace(f"{folder}/", "")
            raise Failure(f"systemd refuses the units (gunicorn_flask_unit_extra, _listen, _wsgi): {said}")


def make_writable_places(app: Application) -> None:
    """The state directory as systemd does at the first start, since a migration may need it before; and the others."""
    user = pwd.getpwnam(app.name)
    for path in (Path("/var/lib", app.name), *app.writable):
        if not path.exists():
            try:
                path.mkdir(mode=0o700)
            except OSError as error:
                raise Failure(f"gunicorn_flask_writable_paths: {path} cannot be made: {error.strerror}") from None
            os.chown(path, user.pw_uid, user.pw_gid)
            path.chmod(0o750)
        elif run(["test", "-w", str(path)], user=app.name).returncode != 0:
            raise Failure(
                f"gunicorn_flask_writable_paths: the user {app.name} may not write to {path}, which was there before; "
                "change its owner or its mode, or leave it out"
            )


def load_application(app: Application) -> None:
    """gunicorn reads its configuration and imports the application, as its user and with its new environment."""
    config = f"{app.here}/gunicorn.conf.py"
    command = [
        "python",
        "-P",
        "-m",
        "gunicorn",
        "--check-config",
        "-c",
        config,
        "--chdir",
        f"{app.release}/app",
        app.wsgi,
    ]
    done = run_in_release(app, command)
    if done.returncode == 0:
        return
    # A traceback ends with what it is about. What ends the process itself leaves none.
    reason = tail(done.stdout, 1) or f"it ended with exit code {done.returncode} and said nothing"
    if "Error while loading the application" in done.stdout:
        problem = f"gunicorn_flask_wsgi: gunicorn cannot load '{app.wsgi}' of release {app.release.name}"
    else:
        problem = "gunicorn refuses its configuration"
    raise Failure(f"{problem}: {reason}\n{tail(done.stdout)}")


def migrate(app: Application, command: Sequence[str]) -> None:
    """Once for a release, a command and a database, however often the release becomes live."""
    record = app.root / MIGRATIONS
    wish = fingerprint([], app.release.name.partition(".")[0], *command, *databases(app.environment()))
    try:
        known = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        known = []
    if wish in known:
        return
    done = run_in_release(app, command)
    if done.returncode != 0:
        raise Failure(
            f"gunicorn_flask_migrate: `{shlex.join(command)}` failed in release {app.release.name} "
            f"(exit code {done.returncode}): {tail(done.stdout)}"
        )
    new = record.with_suffix(".new")
    new.write_text(json.dumps([*known, wish][-100:]))
    new.rename(record)


def databases(environment: Mapping[str, str]) -> list[str]:
    """What in the environment is an address, without account and password: another one may be an empty database."""
    addresses = {name: value for name, value in environment.items() if "://" in value}
    return [f"{name}={re.sub('//[^/@]*@', '//', value)}" for name, value in sorted(addresses.items())]


def run_in_release(app: Application, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    user = pwd.getpwnam(app.name)
    programs = f"{app.release}/venv/bin:/usr/local/bin:/usr/bin:/bin"
    environment = {"PATH": programs, "HOME": user.pw_dir, "USER": app.name, "LOGNAME": app.name}
    environment |= {**app.environment(), "APP_RELEASE": app.release.name.partition(".")[0]}
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None:
        raise Failure(f"there is no program '{command[0]}' in release {app.release.name} or on this host")
    return run([program, *command[1:]], user=app.name, cwd=app.release / "app", env=environment)


# --- trying out -------------------------------------------------------------------------------------------------------

# What the unit of a trial has instead of its model's. systemd takes the last of several lines.
TRIAL = """
Restart=no
KillSignal=SIGQUIT
TimeoutStopSec=2
RemoveIPC=no
RuntimeDirectoryPreserve=yes

[Install]"""
TRIAL_LISTENER = """[Socket]
ListenStream={listener}
SocketMode=0600
"""


def try_out(app: Application) -> None:
    """Start the release beside the live one, with the same rights and a listener of its own that only root can reach.

    So visitors never meet a release that dies, hangs or answers with errors.
    """
    name = f"{app.name}-trial-{os.getpid()}"
    folder, units = (
        Path("/run", name),
        [Path("/run/systemd/system", f"{name}.{kind}") for kind in ("socket", "service")],
    )
    names = [unit.name for unit in units]
    began = time.time()
    try:
        lay_out(app, folder, *units)
        started = run(["systemctl", "start", *names])
        problem = "it did not start" if started.returncode != 0 else watch(app, names[1], f"{folder}/listener")
        if problem:
            log = last_lines(names[1], began)
            raise Failure(
                f"release {app.release.name} did not pass its trial, so it was not switched to: {problem}"
                + (f"; its log ends with:\n{log}" if log else "")
            )
    finally:
        run(["systemctl", "stop", *names])
        run(["systemctl", "reset-failed", *names])
        for unit in units:
            unit.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def lay_out(app: Application, folder: Path, listener: Path, service: Path) -> None:
    """config_tree shows the directory that is judged to this program alone, not to systemd: it gets copies."""
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    shutil.copy(app.here / "gunicorn.conf.py", folder)
    environment = folder / "environment"
    environment.touch(mode=0o600)
    arguments = f"{app.environment().get('GUNICORN_CMD_ARGS', '')} --workers 1".strip()
    environment.write_text((app.here / "environment").read_text() + f'GUNICORN_CMD_ARGS="{arguments}"\n')
    text = (app.here / app.service).read_text()
    text = text.replace(f"{app.root}/current/", f"{app.release}/").replace(f"{app.here}/", f"{folder}/")
    text = text.replace(app.socket, listener.name).replace("\n[Install]", TRIAL)
    service.parent.mkdir(exist_ok=True)
    listener.write_text(TRIAL_LISTENER.format(listener=folder / "listener"))
    service.write_text(text)


def watch(app: Application, unit: str, listener: str, pause: float = 0.1, proof: float = 1.0) -> str | None:
    """What is wrong with it. Good is what becomes healthy in its time and stays so, with the same worker, a while."""
    end = time.monotonic() + app.health_timeout
    healthy: tuple[float, list[float]] | None = None
    while True:
        main = show(unit, "MainPID")
        if main == "0" or not is_active(unit):
            return "it did not stay up"
        problem = ask(app, listener) if app.health_path else None
        workers = children(main)
        now = time.monotonic()
        if problem is None and not workers:
            problem = "gunicorn had no worker"
        if problem is None and healthy and healthy[1] != workers:
            problem = "its workers end after a moment and are started anew"
        if problem is None:
            healthy = healthy or (now, workers)
            if now - healthy[0] >= proof:
                return None
        else:
            healthy = None
            # Waiting does not change where a path leads.
            if "redirects" in problem:
                return problem
            if now > end:
                return f"{problem} for {app.health_timeout} s (gunicorn_flask_health_timeout)"
        time.sleep(pause)


# --- switching --------------------------------------------------------------------------------------------------------


def activate(app: Application) -> str:
    if not (app.release / MARK).exists():
        raise Failure(f"release {app.release.name} is not on this host, or not finished; run again")
    began = time.time()
    before = app.target("current")
    try:
        app.point("current", app.release)
        wait_until_healthy(app, bring_up(app, switched=before != app.release))
    except (Failure, OSError) as problem:
        log = last_lines(app.service, began)
        undo(app, before)
        raise Failure(
            f"release {app.release.name}: {problem}" + (f"; its log ends with:\n{log}" if log else "")
        ) from None
    if before not in (None, app.release):
        # After a rollback there is nothing to go back to: what was left behind was bad.
        app.point("previous", app.release if app.chosen else before)
    prune(app)
    return f"release {app.release.name} is live"


def bring_up(app: Application, switched: bool) -> float:
    """Returns since when a worker must have been started to be a new one: CLOCK_BOOTTIME, 0 if all may stay."""
    for unit in (app.socket, app.service):
        # Masked by hand. Unmasking would take the place of the link that is made next.
        link = Path("/etc/systemd/system", unit)
        if link.is_symlink() and link.readlink() == Path(os.devnull):
            link.unlink()
    systemctl("daemon-reload")
    systemctl("enable", "--quiet", f"{app.here}/{app.socket}", f"{app.here}/{app.service}")
    record = Record(app.name)
    listener = fingerprint([app.here / app.socket])
    process = fingerprint([app.here / app.service, app.here / "environment"], interpreter(app.release))
    code = fingerprint([app.here / "gunicorn.conf.py"], str(app.release))

    if not is_active(app.socket) or not serves(app, record, listener):
        # Together, or a request would start the service again before the listener is gone.
        systemctl("stop", app.socket, app.service)
        listen(app)
        record.write(app.socket, listener)
    running = record.read(app.service) if is_active(app.service) else None
    if running == [process, code] and not switched:
        return 0.0
    # If this run ends here, the next one knows nothing and restarts.
    record.forget(app.service)
    moment = time.clock_gettime(time.CLOCK_BOOTTIME)
    systemctl("reload" if running and running[0] == process else "restart", app.service)
    record.write(app.service, [process, code])
    return moment


def listen(app: Application) -> None:
    began = time.time()
    if run(["systemctl", "start", app.socket]).returncode != 0:
        log = last_lines(app.socket, began, number=5)
        raise Failure(f"gunicorn_flask_listen: systemd cannot listen on {app.listen}: {refusal(app.listen)}\n{log}")


def refusal(listen: str) -> str:
    """Why nobody can listen there. systemd tells by a helper that may be gone before the journal knows whose it was."""
    if listen.startswith("/"):
        return "look at the directory and what is there"
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            return error.strerror
    return "nothing stands in the way now"


def serves(app: Application, record: Record, listener: str) -> bool:
    """After a reboot there is no record; then a unit file older than the listener is the one it was started with."""
    known = record.read(app.socket)
    if known is not None:
        return known == listener
    started = show(app.socket, "ActiveEnterTimestamp", "--timestamp=unix").lstrip("@")
    return started.isdecimal() and (app.here / app.socket).stat().st_mtime < int(started)


class Record:
    """What was started with what. It counts as long as the unit has not been started by somebody else since."""

    def __init__(self, name: str) -> None:
        self.path = RUN / f"{name}.json"

    def _load(self) -> dict:
        try:
            return json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def _save(self, document: dict) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(document))
        new.chmod(0o600)
        new.rename(self.path)

    def read(self, unit: str) -> object:
        entry = self._load().get(unit, {})
        return entry.get("with") if entry.get("invocation") == show(unit, "InvocationID") else None

    def write(self, unit: str, value: object) -> None:
        self._save(self._load() | {unit: {"invocation": show(unit, "InvocationID"), "with": value}})

    def forget(self, unit: str) -> None:
        self._save({name: entry for name, entry in self._load().items() if name != unit})


def fingerprint(files: Iterable[Path], *words: str) -> str:
    contents = [path.read_bytes().hex() for path in files]
    return hashlib.sha256(json.dumps([contents, words]).encode()).hexdigest()


def interpreter(release: Path) -> str:
    """gunicorn's master stays in memory over a reload, so a new gunicorn or Python needs a restart."""
    packages = sorted(path.name for path in release.glob("venv/lib/python*/site-packages/gunicorn-*.dist-info"))
    return f"{os.path.realpath(release / 'venv/bin/python')} {packages}"


# --- judging what runs ------------------------------------------------------------------------------------------------


def wait_until_healthy(app: Application, since: float, pause: float = 0.2) -> None:
    end = time.monotonic() + app.health_timeout
    # Old workers may finish what they have begun; gunicorn kills them after graceful_timeout.
    latest = end + app.graceful_timeout + 5
    settled = None
    while True:
        problem, patience = look(app, since)
        now = time.monotonic()
        if problem is None:
            settled = settled or now
            # Without a page to ask for, workers that stay up for a while are all that can be seen.
            if app.health_path or now - settled >= 2:
                return
        else:
            settled = None
            if now > (latest if patience else end):
                raise Failure(f"{problem} for {app.health_timeout} s (gunicorn_flask_health_timeout)")
        time.sleep(pause)


def look(app: Application, since: float) -> tuple[str | None, bool]:
    """What is not as it should be, and whether it is only old workers that still have something to do."""
    main = show(app.service, "MainPID")
    if main == "0" or not is_active(app.service):
        return "the service did not stay up", False
    answer = ask(app) if app.health_path else None
    if answer:
        return answer, False
    found = working_directory(app.name, main)
    if found != str(app.release / "app"):
        return f"gunicorn's working directory was {found}, not {app.release}/app,", False
    workers = children(main)
    if not workers or all(started < since for started in workers):
        return "gunicorn had no worker of it", False
    if any(started < since for started in workers):
        return "workers of the old release did not end", True
    return None, False


def ask(app: Application, listener: str | None = None) -> str | None:
    listener = listener or app.listen
    page = f"GET {app.health_path} on {app.listen}"
    connection = Connection(listener)
    try:
        connection.request("GET", app.health_path, headers={"Host": "localhost", "User-Agent": AGENT})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{page} had no answer ({error or type(error).__name__})"
    finally:
        connection.close()
    if answer.status == 200:
        return None
    if 300 <= answer.status < 400:
        return (
            f"{page} redirects ({answer.status}) to {answer.headers['Location']}; gunicorn_flask_health_path needs 200"
        )
    return f"{page} answered {answer.status} {answer.reason} instead of 200"


class Connection(http.client.HTTPConnection):
    """HTTP to the listener, over whatever it listens on."""

    def __init__(self, listen: str) -> None:
        super().__init__("localhost", timeout=5)
        self.listen = listen

    def connect(self) -> None:
        if self.listen.startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self.listen)
        else:
            self.sock = socket.create_connection(reachable(self.listen), self.timeout)


def reachable(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)  # noqa: S104 - nothing listens here


def working_directory(user: str, process: str) -> str:
    """Asked as that user: root in a container may not look into processes of others."""
    return run(["readlink", f"/proc/{process}/cwd"], user=user).stdout.strip()


def children(parent: str) -> list[float]:
    """When each child of the process was started, on CLOCK_BOOTTIME."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of the program, in brackets, may hold anything.
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[1] == parent and fields[0] != "Z":
            # A tick is the unit of the one clock, the other is finer.
            found.append((int(fields[19]) + 1) / os.sysconf("SC_CLK_TCK"))
    return found


def last_lines(unit: str, began: float, number: int = 15) -> str:
    # What was logged a moment ago may not be in the journal yet.
    run(["journalctl", "--sync"])
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={unit}"]
    lines = run([*command, f"--since=@{began:.6f}", "--lines=400"]).stdout.splitlines()
    return "\n".join([line for line in lines if AGENT not in line][-number:])


# --- afterwards -------------------------------------------------------------------------------------------------------


def undo(app: Application, before: Path | None) -> None:
    """What the old directory's activation, which comes next, needs to restart the old release. Or leave nothing."""
    Record(app.name).forget(app.service)
    if before is None:
        run(["systemctl", "disable", "--now", "--quiet", app.socket, app.service])
        run(["systemctl", "reset-failed", app.socket, app.service])
        (app.root / "current").unlink(missing_ok=True)
    else:
        app.point("current", before)
    mark_void(app)


def mark_void(app: Application) -> None:
    """A release that failed is built anew next time, unless it has proved well before."""
    if app.release not in (app.target("current"), app.target("previous")):
        (app.release / MARK).unlink(missing_ok=True)


def prune(app: Application) -> None:
    """Only finished releases: another run may be building one."""
    safe = {app.target("current"), app.target("previous")}
    finished = [path.parent for path in app.release.parent.glob(f"*/{MARK}")]
    finished.sort(key=lambda path: (path / MARK).stat().st_mtime, reverse=True)
    kept = [path for path in finished if path in safe]
    for path in finished:
        if path in kept:
            continue
        if len(kept) < app.kept:
            kept.append(path)
        else:
            shutil.rmtree(path)


# --- the system -------------------------------------------------------------------------------------------------------


def run(argv: Sequence[str], user: str | None = None, **options) -> subprocess.CompletedProcess[str]:
    if user is not None:
        group = pwd.getpwnam(user).pw_gid
        options |= {"user": user, "group": group, "extra_groups": os.getgrouplist(user, group), "umask": 0o027}
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        **options,
    )


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


@contextmanager
def alone(name: str):
    """Two runs follow each other. The lock dies with its process."""
    RUN.mkdir(mode=0o700, exist_ok=True)
    with (RUN / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str]) -> int:
    app = Application()
    try:
        with alone(app.name):
            if arguments[:1] == ["check"]:
                check(app, arguments[1:])
            else:
                print(activate(app))
    except Failure as failure:
        print(failure)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
