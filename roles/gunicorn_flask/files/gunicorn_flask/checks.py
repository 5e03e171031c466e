"""What has to be right before a release is switched to."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gunicorn_flask import places, sandbox, switch, system, trial
from gunicorn_flask.application import MARK, Application, Failure

MIGRATIONS = "migrations.json"
# Upper bound of one command of `requires`; each waits for less.
REQUIREMENT_S = 60


def check(app: Application, migration: Sequence[str]) -> None:
    try:
        sandbox.remove_strays(app.name)
        require(app.requires)
        open_parent(app)
        verify_units(app)
        find_programs(app)
        places.make_writable_places(app)
        sandbox.load_application(app)
        if migration:
            migrate(app, migration)
        trial.try_out(app)
    except Failure:
        switch.mark_incomplete(app)
        raise


def judge(app: Application) -> None:
    """What check says, without migrations, directories and a trial. Nothing of a release that is to be built."""
    if not (app.release / MARK).is_file():
        return
    verify_units(app)
    find_programs(app)
    sandbox.load_application(app)


def require(commands: Iterable[str]) -> None:
    """Run what has to succeed before a release goes live, such as a question whether a database can be reached."""
    for command in commands:
        try:
            done = subprocess.run(
                shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=REQUIREMENT_S
            )
        except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as problem:
            raise Failure(f"required, and fails: {command}: {problem}") from None
        if done.returncode:
            raise Failure(f"required, and fails: {command}: {done.stdout.strip()[-2000:]}")


def open_parent(app: Application) -> None:
    """An earlier version made it as tight as root's umask was; then the application cannot read its settings."""
    mode = app.here.parent.stat().st_mode & 0o7777
    if mode | 0o055 != mode:
        app.here.parent.chmod(mode | 0o055)


def verify_units(app: Application) -> None:
    """systemd only warns about a line that it does not understand, and ignores it; here it is an error."""
    with tempfile.TemporaryDirectory() as folder:
        for unit in app.units:
            text = (app.here / unit).read_text()
            # Before the first switch there is no such link.
            Path(folder, unit).write_text(text.replace(f"{app.root}/current/", f"{app.release}/"))
        done = system.run(["systemd-analyze", "verify", "--man=no", *(f"{folder}/{unit}" for unit in app.units)])
        lines = [line for line in done.stdout.splitlines() if folder in line]
        if done.returncode != 0 or lines:
            said = "\n".join(lines or done.stdout.splitlines()).replace(f"{folder}/", "")
            raise Failure(
                f"systemd refuses the units (gunicorn_flask_unit_extra, _listen, _wsgi, _services, _timers): {said}"
            )


def find_programs(app: Application) -> None:
    for helper in app.helpers:
        find_program(app, helper.command, helper.place)


def find_program(app: Application, command: Sequence[str], place: str) -> str:
    """Where it is found by way of the PATH that it will have."""
    name = command[0]
    program = shutil.which(str(app.release / "app" / name) if "/" in name else name, path=programs(app))
    if program is None:
        raise Failure(f"{place}: there is no program '{name}' in release {app.release.name} or on this host")
    return program


def programs(app: Application) -> str:
    return f"{app.release}/venv/bin:/usr/local/bin:/usr/bin:/bin"


def migrate(app: Application, command: Sequence[str]) -> None:
    """Once for a release, a command and a database, however often the release becomes live."""
    record = app.root / MIGRATIONS
    wanted = switch.fingerprint([], app.release_id, *command, *databases(app.environment()))
    try:
        known = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        known = []
    if wanted in known:
        return
    program = find_program(app, command, "gunicorn_flask_migrate")
    ended = sandbox.run_command(app, [program, *command[1:]], app.migrate_timeout)
    if not ended.ok:
        problem = sandbox.reason(ended, app.migrate_timeout)
        raise Failure(
            f"gunicorn_flask_migrate: `{shlex.join(command)}` failed in release {app.release.name}: {problem}\n"
            f"{system.tail(ended.said)}"
        )
    new = record.with_suffix(".new")
    new.write_text(json.dumps([*known, wanted][-100:]))
    # As everything else in this directory, whatever root's umask is.
    new.chmod(0o644)
    new.rename(record)


def databases(environment: Mapping[str, str]) -> list[str]:
    """What in the environment is an address, without account and password: another one may be an empty database."""
    addresses = {name: value for name, value in environment.items() if "://" in value}
    return [f"{name}={re.sub('//[^/@]*@', '//', value)}" for name, value in sorted(addresses.items())]
