"""Make the running server equal to its option files: live where MySQL can, by one restart where it cannot.

config_tree applies after a change, with the old files beside the new ones; the role does when a variable was changed by
hand. If one option is refused, those already set go back.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mysql_replication.dumps import last_words
from mysql_replication.local import Failure, MySQLError, Report, connect_as_root, query

LOG = Path("/var/log/mysql/error.log")
# What is read of it, and said of it, at most.
LOG_BYTES, LOG_LINES = 1 << 16, 20
TREE = Path(__file__).resolve().parents[1]
OWN = "mysql.conf.d/zz-mysql_replication.cnf"
READ_ONLY = 1238
# The file says how a server starts. What they are afterwards, its role decides.
AT_START = ("read_only", "super_read_only", "rpl_semi_sync_source_enabled", "rpl_semi_sync_source_timeout")
UNITS = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}


def parse(lines: list[str]) -> dict[str, str]:
    """Options by the name of their variable; of the same option the last one counts."""
    options = {}
    for line in lines:
        name, _, value = line.strip().removeprefix("--").partition("=")
        if re.fullmatch(r"[A-Za-z][\w-]*\s*", name):
            options[name.strip().replace("-", "_").lower()] = value.strip()
    return options


def unquoted(value: str) -> str:
    """A value of an option file as MySQL reads it; my_print_defaults has done that already."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1].replace('\\"', '"')
    return value.replace("\\\\", "\\")


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


def at_start(own: dict[str, str]) -> tuple[str, ...]:
    """Of a member also whether events are run."""
    return (*AT_START, "event_scheduler") if "super_read_only" in own else AT_START


def literal(value: str | None) -> str:
    if value is None:
        return "DEFAULT"
    number = normal(value)
    if isinstance(number, float):
        return str(int(number)) if number.is_integer() else str(number)
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def drifted(own: dict[str, str], changed: list[dict]) -> list[str]:
    """What was changed in the running server, or would win over the file after a restart, a sentence each."""
    found = []
    for row in changed:
        name, value = row["name"], row["value"]
        if name not in own or name in at_start(own):
            continue
        same = is_equal(name, own[name], {name: value})
        if not same or row["how"] != "is":
            what = "which would win over the file:" if same else "instead of"
            found.append(f"{name} {row['how']} {value}{',' if same else ''} {what} {own[name]}")
    return found


# --- the server -------------------------------------------------------------------------------------------------------


def set_live(cursor, differing: dict[str, str | None], running: dict[str, str]) -> tuple[list[str], list[str]]:
    """Set what can be set; return the names that were, and those that need a restart."""
    done: list[str] = []
    static: list[str] = []
    for name, value in differing.items():
        try:
            cursor.execute(f"SET GLOBAL `{name}` = {literal(value)}")
            done.append(name)
        except MySQLError as problem:
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
    raise Failure("\n".join(errors_since(size)) or "mysqld did not start")


def errors_since(size: int) -> list[str]:
    """What the server's log says of errors since it had this size. Clients can make it say much."""
    if not LOG.exists():
        return []
    with LOG.open("rb") as file:
        said = last_words(file, LOG_BYTES, size)
    return [line for line in said.splitlines() if "[ERROR]" in line][-LOG_LINES:]


def own_options(tree: Path) -> dict[str, str]:
    path = tree / OWN
    found = parse(path.read_text().splitlines()) if path.exists() else {}
    return {name: unquoted(value) for name, value in found.items()}


def prepare_log(path: str) -> None:
    """mysqld would make it unreadable for the group adm, which reads logs."""
    if path.startswith("/var/log/mysql/") and not Path(path).exists():
        subprocess.run(["install", "--owner=mysql", "--group=adm", "--mode=0640", "/dev/null", path], check=True)


def apply(report: Report, drift: bool) -> None:
    """Set what differs. Without `drift`, options that are gone from the file get their defaults too."""
    options = subprocess.run(["my_print_defaults", "mysqld"], check=True, capture_output=True, text=True).stdout
    wanted = parse(options.splitlines())
    prepare_log(wanted.get("slow_query_log_file", ""))
    if subprocess.run(["systemctl", "is-active", "--quiet", "mysql"], check=False).returncode != 0:
        restart()
        return report.change("started")
    own = own_options(TREE)
    # Without a change of the file there is no old one to compare with.
    before = own if drift else own_options(TREE.with_name(f".{TREE.name}.previous"))
    try:
        connection = connect_as_root()
    except MySQLError:
        # The role says later what is to be done about root. Until then a restart is the only way.
        restart()
        return report.change("restarted, because root cannot log in")
    with connection, connection.cursor() as cursor:
        rows = query(
            cursor,
            "SELECT LOWER(variable_name) AS name, variable_value AS value FROM performance_schema.global_variables",
        )
        running = {row["name"]: row["value"] for row in rows}
        # Before the plugins are loaded there are no variables of theirs.
        wanted |= {name: running[name] for name in at_start(own) if name in wanted and name in running}
        differing, blind = compare(wanted, own, before, running)
        done, static = set_live(cursor, differing, running)
        # After a restart it would win over the file.
        rows = query(cursor, "SELECT LOWER(variable_name) AS name FROM performance_schema.persisted_variables")
        persisted = sorted(row["name"] for row in rows if row["name"] in own)
        for name in persisted:
            cursor.execute(f"RESET PERSIST IF EXISTS `{name}`")
    if static or blind:
        restart()
        report.change("restarted for: " + ", ".join(sorted(static + blind)))
    if persisted:
        report.change("no longer persisted beside the file: " + ", ".join(persisted))
    if done:
        report.change("set without a restart: " + ", ".join(sorted(done)))
    return None


def inspect(report: Report) -> None:
    """Accounts, databases, and what differs from the option file, for the role."""
    with connect_as_root() as connection, connection.cursor() as cursor:
        report.facts["accounts"] = query(
            cursor,
            # The salt of a password, so that the same password gives the same hash again.
            "SELECT user AS user, host AS host, plugin AS plugin,"
            " IF(plugin = 'caching_sha2_password', authentication_string, '') AS hash,"
            " IF(plugin = 'caching_sha2_password', SUBSTRING(authentication_string, 8, 20), '') AS salt,"
            " user_attributes->>'$.additional_password' IS NOT NULL AS has_two FROM mysql.user",
        )
        rows = query(cursor, "SELECT schema_name AS name FROM information_schema.schemata")
        report.facts["databases"] = [row["name"] for row in rows]
        report.facts |= query(
            cursor,
            "SELECT @@server_id AS server_id, (SELECT COUNT(*) FROM information_schema.plugins"
            " WHERE plugin_name = 'auth_socket' AND plugin_status = 'ACTIVE') AS auth_socket",
        )[0]
        changed = query(
            cursor,
            "SELECT LOWER(variable_name) AS name, variable_value AS value, 'is' AS how"
            " FROM performance_schema.variables_info JOIN performance_schema.global_variables USING (variable_name)"
            " WHERE variable_source = 'DYNAMIC'"
            " UNION ALL SELECT LOWER(variable_name), variable_value, 'is persisted as'"
            " FROM performance_schema.persisted_variables",
        )
        report.facts["drift"] = drifted(own_options(TREE), changed)
