"""Switching to a release: the link, the units, and the way back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from gunicorn_flask import health, helpers, sandbox, system
from gunicorn_flask.application import MARK, Application, Failure

UNITS = Path("/etc/systemd/system")


def activate(app: Application) -> str:
    if not (app.release / MARK).exists():
        raise Failure(f"release {app.release.name} is not on this host, or not finished; run again")
    began = time.time()
    before = app.target("current")
    serving = False
    try:
        app.point("current", app.release)
        enable_units(app)
        # First, so that visitors do not notice one that fails.
        helpers.bring_up(app)
        serving = True
        serve(app, switched=before != app.release)
    except (Failure, OSError) as problem:
        log = system.last_lines(app.service, began)
        switch_back(app, before, serving)
        death = sandbox.death_in(log)
        raise Failure(
            f"release {app.release.name}: {problem}"
            + (f"; {death}" if death else "")
            + (f"; its log ends with:\n{log}" if log else "")
        ) from None
    if before not in (None, app.release):
        if app.chosen:
            # The release that was left is no target of another rollback.
            (app.root / "previous").unlink(missing_ok=True)
        else:
            app.point("previous", before)
    helpers.remove_others(app)
    prune(app)
    return f"release {app.release.name} is live"


def serve(app: Application, switched: bool) -> None:
    """A reload renews less than one may think: what the master has found out at its start stays."""
    try:
        health.wait_until_healthy(app, start_or_reload(app, switched))
    except health.OtherCode:
        Record(app.name).forget(app.service)
        health.wait_until_healthy(app, start_or_reload(app, switched))


def enable_units(app: Application) -> None:
    units = list(dict.fromkeys([app.socket, app.service, *(helper.started for helper in app.helpers)]))
    for unit in app.units:
        # Masked by hand: the mask is a link where `enable` makes its own.
        link = UNITS / unit
        if link.is_symlink() and link.readlink() == Path(os.devnull):
            link.unlink()
    system.systemctl("daemon-reload")
    system.systemctl("enable", "--quiet", *(f"{app.here}/{unit}" for unit in units))
    jobs = [unit for unit in app.units if unit not in units]
    if jobs:
        system.systemctl("link", "--quiet", *(f"{app.here}/{unit}" for unit in jobs))


def start_or_reload(app: Application, switched: bool) -> float:
    """Returns since when a worker must have been started to be a new one: CLOCK_BOOTTIME, 0 if all may stay."""
    record = Record(app.name)
    listener = fingerprint([app.here / app.socket])
    process = fingerprint([app.here / app.service, app.here / "environment"], interpreter(app.release))
    code = fingerprint([app.here / "gunicorn.conf.py", *helpers.files(app)], str(app.release))

    if not system.is_active(app.socket) or not listener_is_current(app, record, listener):
        # Together: while the socket listens, a request would start the service again.
        system.systemctl("stop", app.socket, app.service)
        listen(app)
        record.write(app.socket, listener)
    running = record.read(app.service) if system.is_active(app.service) else None
    if running == [process, code] and not switched:
        return 0.0
    # A run that ends here leaves no record, so that the next one restarts.
    record.forget(app.service)
    moment = time.clock_gettime(time.CLOCK_BOOTTIME)
    system.systemctl("reload" if running and running[0] == process else "restart", app.service)
    record.write(app.service, [process, code])
    return moment


def listen(app: Application) -> None:
    began = time.time()
    if system.run(["systemctl", "start", app.socket]).returncode != 0:
        log = system.last_lines(app.socket, began, number=5)
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


def listener_is_current(app: Application, record: Record, listener: str) -> bool:
    """After a reboot there is no record; then a unit file older than the listener is the one it was started with."""
    known = record.read(app.socket)
    if known is not None:
        return known == listener
    started = system.show(app.socket, "ActiveEnterTimestamp", "--timestamp=unix").lstrip("@")
    return started.isdecimal() and (app.here / app.socket).stat().st_mtime < int(started)


class Record:
    """What each unit was started with. It holds for that start: systemd gives each one another InvocationID."""

    def __init__(self, name: str) -> None:
        self.path = system.RUN / f"{name}.json"

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
        return entry.get("with") if entry.get("invocation") == system.show(unit, "InvocationID") else None

    def write(self, unit: str, value: object) -> None:
        self._save(self._load() | {unit: {"invocation": system.show(unit, "InvocationID"), "with": value}})

    def forget(self, unit: str) -> None:
        self._save({name: entry for name, entry in self._load().items() if name != unit})


def fingerprint(files: Iterable[Path], *words: str) -> str:
    contents = [path.read_bytes().hex() for path in files]
    return hashlib.sha256(json.dumps([contents, words]).encode()).hexdigest()


def interpreter(release: Path) -> str:
    """What gunicorn's master keeps in memory over a reload: Python, gunicorn, and where it looks for packages.

    All of that is in the environment, which releases share as long as nothing in it leads into the code of one.
    """
    return f"{os.path.realpath(release / 'venv/bin/python')} {os.path.realpath(release / 'venv')}"


# --- the way back, and what is left -----------------------------------------------------------------------------------


def switch_back(app: Application, before: Path | None, serving: bool) -> None:
    """Prepare the activation of the old directory, which comes next. Without an old release, stop and disable all.

    What nobody has touched yet goes on as it is.
    """
    record = Record(app.name)
    for unit in [*([app.service] if serving else []), *(helper.service for helper in app.helpers)]:
        record.forget(unit)
    if before is None:
        started = [app.socket, app.service, *(helper.started for helper in app.helpers)]
        system.run(["systemctl", "disable", "--now", "--quiet", *started])
        system.run(["systemctl", "reset-failed", *started])
        (app.root / "current").unlink(missing_ok=True)
    else:
        app.point("current", before)
    mark_incomplete(app)


def mark_incomplete(app: Application) -> None:
    """Have a release that failed built again, unless it has been live before."""
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
