"""Views, routines, triggers and events: what of a database is text of an application and runs with rights of a definer.

They are read one by one and made again one by one, each as one statement to the server. In a dump their text would go
through a client that looks for the end of a statement by rules of its own: what an application has written could end
its statement there, and what follows would be one of root's, with whatever definer it names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mysql_replication.local import PATIENCE, MySQLError, connect_as_root, query, quote

# In the order in which they need each other: a view may need a function, and the others need nothing before they run.
LISTS = (
    "SELECT routine_type, routine_name, definer FROM information_schema.routines WHERE routine_schema = %s"
    " ORDER BY routine_type, routine_name",
    "SELECT 'VIEW', table_name, definer FROM information_schema.views WHERE table_schema = %s ORDER BY table_name",
    # Of one table they run in the order in which they were made.
    "SELECT 'TRIGGER', trigger_name, definer FROM information_schema.triggers WHERE trigger_schema = %s"
    " ORDER BY event_object_table, action_timing, event_manipulation, action_order",
    "SELECT 'EVENT', event_name, definer FROM information_schema.events WHERE event_schema = %s ORDER BY event_name",
)
# Column of SHOW CREATE, where it is not "Create View" and so on.
STATEMENTS = {"TRIGGER": "SQL Original Statement"}


@dataclass(frozen=True)
class Program:
    """One of them, and what its statement was written under.

    Attributes:
        kind: VIEW, FUNCTION, PROCEDURE, TRIGGER or EVENT.
        definer: user@host.
        statement: what makes it. Bytes that are no UTF-8 stand in it as lone surrogates.
        client: character set of the statement.
        connection: collation of its literals.
        database: default collation of its database; "" for a view.
        time_zone: of an event; "" for the others.
    """

    kind: str
    schema: str
    name: str
    definer: str
    statement: str
    sql_mode: str
    client: str
    connection: str
    database: str
    time_zone: str

    @property
    def account(self) -> tuple[str, ...]:
        """User and host of its definer."""
        return tuple(self.definer.rsplit("@", 1))

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.schema}.{self.name} of {self.definer}"


def connect(socket: str):
    """A connection that gives and takes the bytes of a text as they are."""
    return connect_as_root(socket, tuples=True, charset="utf8mb4", use_unicode=False, init_command=PATIENCE)


def text(value: object) -> str:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value or "")


def read(socket: str, schemas: Iterable[str]) -> list[Program]:
    with connect(socket) as connection, connection.cursor() as cursor:
        return [program for schema in schemas for program in read_database(cursor, schema)]


def read_database(cursor, schema: str) -> list[Program]:
    # The names in SHOW CREATE are quoted as the mode says.
    query(cursor, "SET SESSION sql_mode = '', character_set_results = utf8mb4")
    listed = [tuple(map(text, row)) for statement in LISTS for row in query(cursor, statement, schema)]
    query(cursor, f"USE {quote(schema)}")
    query(cursor, "SET SESSION character_set_results = 'binary'")
    found = []
    for kind, name, definer in listed:
        shown = query(cursor, f"SHOW CREATE {kind} {quote(schema)}.{quote(name)}")[0]
        row = dict(zip((column[0] for column in cursor.description), map(text, shown), strict=True))
        found.append(
            Program(
                kind,
                schema,
                name,
                definer,
                row[STATEMENTS.get(kind, f"Create {kind.title()}")],
                row.get("sql_mode", ""),
                row["character_set_client"],
                row["collation_connection"],
                row.get("Database Collation", ""),
                row.get("time_zone", ""),
            )
        )
    return found


def make(socket: str, programs: Iterable[Program]) -> dict[str, str]:
    """Make them; returns which views do not work, and why: one that needs what is not there any more is no data."""
    with connect(socket) as connection, connection.cursor() as cursor:
        waiting, problems = list(programs), {}
        while waiting:
            again = []
            for program in waiting:
                try:
                    make_one(cursor, program)
                except MySQLError as problem:
                    if program.kind != "VIEW":
                        raise
                    again.append(program)
                    problems[program] = problem.args[-1]
            # One may need another.
            if len(again) == len(waiting):
                return {str(program): problems[program] for program in again}
            waiting = again
    return {}


def make_one(cursor, program: Program) -> None:
    query(cursor, "SET SESSION sql_mode = %s, collation_connection = %s", program.sql_mode, program.connection)
    if program.time_zone:
        query(cursor, "SET SESSION time_zone = %s", program.time_zone)
    query(cursor, f"USE {quote(program.schema)}")
    default = text(query(cursor, "SELECT @@collation_database")[0][0])
    differs = program.database not in ("", default)
    if differs:
        query(cursor, f"ALTER DATABASE {quote(program.schema)} COLLATE {program.database}")
    query(cursor, "SET SESSION character_set_client = %s", program.client)
    try:
        query(cursor, program.statement)
    finally:
        query(cursor, "SET SESSION character_set_client = utf8mb4")
        if differs:
            query(cursor, f"ALTER DATABASE {quote(program.schema)} COLLATE {default}")


def give_rights(socket: str, accounts: Iterable[tuple[str, ...]]) -> None:
    """Have these accounts in a scratch server, with all rights and locked: a view on a view asks for its definer."""
    with connect_as_root(socket, tuples=True) as connection, connection.cursor() as cursor:
        there = query(cursor, "SELECT user, host FROM mysql.user")
        for user, host in sorted(set(accounts) - set(there)):
            query(cursor, "CREATE USER %s@%s ACCOUNT LOCK", user, host)
            query(cursor, "GRANT ALL ON *.* TO %s@%s", user, host)


def to_list(programs: Iterable[Program]) -> list[dict[str, str]]:
    """For a manifest in JSON."""
    return [asdict(program) for program in programs]


def from_list(entries: Iterable[dict[str, str]]) -> list[Program]:
    return [Program(**entry) for entry in entries]
