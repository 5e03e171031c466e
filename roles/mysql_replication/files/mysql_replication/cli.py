"""The commands. Each prints one JSON object, {"changed", "plan", "done", ...}; a refusal stands on standard error."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import syslog
from collections.abc import Iterable

from mysql_replication.local import Failure, MySQLError, Report, log

# What a mode can do, with the options of each. A plus: a list of names with commas between them. A star: a list
# in JSON, since an account may have any character in its name.
MODE_COMMANDS = {
    "check-joinable": ("may this server become a member? Asked before its options change", []),
    "begin": ("as converge, without waiting for another member", []),
    "converge": ("accounts, role, cloning, healing", []),
    "switchover": ("hand the writing over, on all members at a time", ["to"]),
    "fence": ("stop a source that is dead or cut off", []),
    "failover": ("promote another one, on all members that are left", ["+fenced", "+accept-loss"]),
    "rejoin": ("bring a member back as a replica", ["reseed"]),
}
WITHOUT_CHECK_MODE = ("apply", "check-joinable", "guard", "inspect", "role-check")


def names(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def listed(text: str) -> list[str]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise ValueError(text)
    return found


#: By the sign in front of an option.
KINDS = {"+": names, "*": listed}


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(prog="mysql-replication", description=__doc__)
    commands = main_parser.add_subparsers(required=True, dest="command", metavar="COMMAND")

    def command(name: str, text: str, module: str, options: Iterable[str] = (), **numbers: type) -> None:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(module=module)
        if name not in WITHOUT_CHECK_MODE:
            one.add_argument("--check", action="store_true", help="plan only")
        for option in options:
            one.add_argument(f"--{option.lstrip('+*')}", type=KINDS.get(option[0], str), required=True)
        for option, kind in numbers.items():
            one.add_argument(f"--{option.replace('_', '-')}", type=kind, required=True)

    for name, (text, options) in MODE_COMMANDS.items():
        command(name, text, "mode", options)
    command("guard", "the service that watches this member", "guard")
    command(
        "role-check",
        "the service that tells balancers what this member is",
        "check",
        ["address"],
        port=int,
        max_lag=int,
    )
    command("apply", "make the running server equal to its option files", "apply")
    commands.choices["apply"].add_argument("--drift", action="store_true", help="undo what was changed by hand")
    command("inspect", "accounts, databases, and options that were changed by hand", "apply")
    command("remove-accounts", "accounts that nobody needs any more, as user@host", "accounts", ["*accounts"])
    command("backup", "back up and prove it", "backup", ["kind", "directory"], threshold_mb=int, keep=int)
    command("restore", "restore one database", "backup", ["database", "backup", "until", "overwrite", "directory"])
    return main_parser


def run(command: str, module: str, report: Report, options: dict) -> None:
    place = importlib.import_module(f"mysql_replication.{module}")
    if module == "mode":
        getattr(place.configured(), command.replace("-", "_"))(report, **options)
    elif command in ("guard", "role-check"):
        place.run(**options)
    else:
        getattr(place, command.replace("-", "_"))(report, **options)


def main(words: list[str] | None = None) -> None:
    options = vars(parser().parse_args(words))
    command, module = options.pop("command"), options.pop("module")
    report = Report(options.pop("check", False))
    os.umask(0o077)
    try:
        run(command, module, report, options)
    except (Failure, OSError, subprocess.SubprocessError) as problem:
        refuse(command, report, str(problem))
    except MySQLError as problem:
        refuse(command, report, f"MySQL on this host says: {problem}")
    report.write()


def refuse(command: str, report: Report, reason: str) -> None:
    if not report.check:
        log(f"{command} refused or failed: {reason}", syslog.LOG_WARNING)
    if not report.is_empty:
        report.write()
    sys.exit(reason)
