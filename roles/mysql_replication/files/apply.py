#!/usr/bin/python3
"""Make the running server equal to its option files: live where MySQL can, by one restart where it cannot.

config_tree runs it after a change, with the old files beside the new ones; the role runs it when a variable was changed
by hand. It says which options were set and which needed the restart. If one is refused, those already set go back.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOCKET = "/run/mysqld/mysqld.sock"
LOG = Path("/var/log/mysql/error.log")
OWN = "mysql.conf.d/zz-mysql_replication.cnf"
READ_ONLY = 1238
# The file says how a server starts. What they are afterwards is decided by replication.py.
AT_START = ("read_only", "super_read_only", "rpl_semi_sync_source_enabled", "rpl_semi_sync_source_timeout")
UNITS = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}


class Failure(Exception):
    """What is wrong, for the user."""


def parse(lines: list[str]) -> dict[str, str]:
    """Options by the name of their variable; of the same option the last one counts."""
    options = {}
    for line in lines:
        name, _, value = line.strip().removeprefix("--").partition("=")
        if re.fullmatch(r"[A-Za-z][\w-]*\s*", name):
            options[name.strip().replace("-", "_").lower()] = value.strip()
    return options


def normal(value: str) -> str | float:
    """256M and 268435456, ON and 1, 2 and 2.000000 are the same."""
    value = value.strip().upper()
    value = {"ON": "1", "OFF": "0", "TRUE": "1", "FALSE": "0", "YES": "1", "NO": "0"}.get(value, value)
    sized = re.fullmatch(r"(\d+)([KMGTPE])", value)
    if sized:
        return float(int(sized[1]) << UNITS[sized[2]])
    return float(value) if re.fullmatch(r"-?\d+(\.\d+)?", value) else value


def is_equal(name: str, wanted: str, running: dict[str, str]) -> bool:
    """The name of a log stands in another variable than the switch that turns it on."""
    place = running.get(f"{name}_basename", "")
    return normal(wanted) == normal(running[name]) or (place != "" and Path(place).name == Path(wanted).name)


def compare(
    wanted: dict[str, str], own: dict[str, str], before: dict[str, str], running: dict[str, str]
) -> tuple[dict[str, str | None], list[str]]:
    """What to set, a name with its value or None for the default; and what has no variable and has changed."""
    differing: dict[str, str | None] = {
        name: value for name, value in wanted.items() if name in running and not is_equal(name, value, running)
    }
    differing |= {name: None for name in before if name not in wanted and name in running}
    blind = [name for name in own | before if name not in running and own.get(name) != before.get(name)]
    return differing, blind


def literal(value: str | None) -> str:
    if value is None:
        return "DEFAULT"
    number = normal(value)
    if isinstance(number, float):
        return str(int(number)) if number.is_integer() else str(number)
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def set_live(cursor, differing: dict[str, str | None], running: dict[str, str], error: type) -> tuple[list, list]:
    """Set what can be set; return the names that were, and those that need a restart."""
    done, static = [], []
    for name, value in differing.items():
        try:
            cursor.execute(f"SET GLOBAL `{name}` = {literal(value)}")
            done.append(name)
        except error as problem:
            if problem.args[0] == READ_ONLY:
                static.append(name)
                continue
            for earlier in done:
                cursor.execute(f"SET GLOBAL `{earlier}` = {literal(running[earlier])}")
            raise Failure(f"{name}: MySQL refuses the value {value}: {problem.args[1]}") from None
    return done, static


def restart() -> None:
    """systemd only says that mysqld has not started. The server's own log says why."""
    size = LOG.stat().st_size if LOG.exists() else 0
    subprocess.run(["systemctl", "unmask", "--quiet", "mysql"], check=False)
    if subprocess.run(["systemctl", "restart", "mysql"], check=False).returncode == 0:
        return
    said = LOG.read_bytes()[size:].decode(errors="replace").splitlines() if LOG.exists() else []
    raise Failure("\n".join(line for line in said if "[ERROR]" in line) or "mysqld did not start")


def own_options(tree: Path) -> dict[str, str]:
    path = tree / OWN
    return parse(path.read_text().splitlines()) if path.exists() else {}


def prepare_log(path: str) -> None:
    """mysqld would make it unreadable for the group adm, which reads logs."""
    if path.startswith("/var/log/mysql/") and not Path(path).exists():
        subprocess.run(["install", "--owner=mysql", "--group=adm", "--mode=0640", "/dev/null", path], check=True)


def main() -> None:
    import pymysql  # not at the top: the tests of the rest do without

    options = subprocess.run(["my_print_defaults", "mysqld"], check=True, capture_output=True, text=True).stdout
    wanted = parse(options.splitlines())
    prepare_log(wanted.get("slow_query_log_file", ""))
    if subprocess.run(["systemctl", "is-active", "--quiet", "mysql"], check=False).returncode != 0:
        restart()
        print("started")
        return
    tree = Path(__file__).resolve().parents[1]
    own = own_options(tree)
    # Without a change there are no old files to compare with.
    before = own if "--drift" in sys.argv else own_options(tree.with_name(f".{tree.name}.previous"))
    try:
        connection = pymysql.connect(unix_socket=SOCKET, user="root", autocommit=True)
    except pymysql.MySQLError:
        # The role says later what is to be done about root. Until then a restart is the only way.
        restart()
        print("restarted, because root cannot log in")
        return
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT variable_name, variable_value FROM performance_schema.global_variables")
        running = {name.lower(): value for name, value in cursor.fetchall()}
        # Before the plugins are loaded there are no variables of theirs.
        wanted |= {name: running[name] for name in AT_START if name in wanted and name in running}
        differing, blind = compare(wanted, own, before, running)
        done, static = set_live(cursor, differing, running, pymysql.MySQLError)
        # After a restart it would win over the file.
        cursor.execute("SELECT LOWER(variable_name) FROM performance_schema.persisted_variables")
        persisted = sorted(name for (name,) in cursor.fetchall() if name in own)
        for name in persisted:
            cursor.execute(f"RESET PERSIST IF EXISTS `{name}`")
    if static or blind:
        restart()
        print("restarted for: " + ", ".join(sorted(static + blind)))
    if persisted:
        print("no longer persisted beside the file: " + ", ".join(persisted))
    if done:
        print("set without a restart: " + ", ".join(sorted(done)))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(str(failure))
