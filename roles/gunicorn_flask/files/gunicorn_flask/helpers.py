"""The services and timers beside gunicorn: started with the release, stopped when they are no longer wanted."""

from __future__ import annotations

import time
from pathlib import Path

from gunicorn_flask import switch, system
from gunicorn_flask.application import Application, Failure, Helper

# A service that dies at once is seen within this time.
PROOF_S = 1.0


def files(app: Application) -> list[Path]:
    """The application's own configuration files, which whatever runs has read at its start."""
    return sorted(path for path in (app.here / "files").rglob("*") if path.is_file())


def bring_up(app: Application) -> None:
    """Start timers, and start what is new or has changed of the services; those have to stay up for a moment."""
    record, started = switch.Record(app.name), []
    for helper in app.helpers:
        if helper.schedule:
            start_timer(app, record, helper)
        elif start_service(app, record, helper):
            started.append(helper)
    if not started:
        return
    end = time.monotonic() + PROOF_S
    while time.monotonic() < end:
        for helper in started:
            if not system.is_active(helper.service) or system.show(helper.service, "NRestarts") not in ("", "0"):
                log = system.last_lines(helper.service, time.time() - 2 * PROOF_S)
                said = f"; its log ends with:\n{log}" if log else ""
                raise Failure(f"{helper.place}: {helper.service} did not stay up{said}\n")
        time.sleep(0.1)


def start_timer(app: Application, record: switch.Record, helper: Helper) -> None:
    wanted = switch.fingerprint([app.here / helper.started])
    if system.is_active(helper.started) and record.read(helper.started) == wanted:
        return
    system.systemctl("restart", helper.started)
    record.write(helper.started, wanted)


def start_service(app: Application, record: switch.Record, helper: Helper) -> bool:
    wanted = switch.fingerprint([app.here / helper.service, app.here / "environment", *files(app)], str(app.release))
    if system.is_active(helper.service) and record.read(helper.service) == wanted:
        return False
    record.forget(helper.service)
    system.systemctl("restart", helper.service)
    record.write(helper.service, wanted)
    return True


def remove_others(app: Application) -> None:
    """Stop and forget units of this application that are no longer wanted; their files are gone already."""
    stale = []
    for link in switch.UNITS.iterdir():
        if link.is_symlink() and link.readlink().parent == app.here and link.name not in app.units:
            stale.append(link)
    if not stale:
        return
    names = [link.name for link in stale]
    system.run(["systemctl", "stop", *names])
    for name in names:
        for wish in switch.UNITS.glob(f"*.wants/{name}"):
            wish.unlink()
        (switch.UNITS / name).unlink()
    system.systemctl("daemon-reload")
    system.run(["systemctl", "reset-failed", *names])
