"""python -m guestbook.migrate: bring the database up to date.

Applies each file of migrations/ once, in the order of their numbers, and notes it in the table schema_migrations.
A file is one statement that may run twice (IF NOT EXISTS): MySQL cannot undo a table together with its note,
so a run that was interrupted between the two does the statement again.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from .db import MIGRATIONS, engine_of, pending

LOCK = "guestbook.migrate"
PATIENCE = 600  # seconds for one statement; changing a large table takes its time
LOCK_PATIENCE = 60
NOTES = """
CREATE TABLE IF NOT EXISTS schema_migrations (name VARCHAR(190) NOT NULL PRIMARY KEY, applied_at DATETIME NOT NULL)
"""


@contextmanager
def locked(connection: Connection) -> Iterator[None]:
    """One at a time. MySQL frees the lock of a connection that ends, so nothing is left behind by a crash."""
    if connection.dialect.name == "sqlite":  # one developer, one file
        yield
        return
    if connection.scalar(text("SELECT GET_LOCK(:name, :patience)"), {"name": LOCK, "patience": LOCK_PATIENCE}) != 1:
        raise RuntimeError(f"another migration has been running for {LOCK_PATIENCE} seconds; try again when it is done")
    try:
        yield
    finally:
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": LOCK})


def migrate(connection: Connection) -> list[str]:
    """Apply what is pending and return its names."""
    connection = connection.execution_options(no_parameters=True)  # a % in a file is a %
    with locked(connection):
        names = pending(connection)
        if names:
            connection.exec_driver_sql(NOTES)
        for name in names:
            connection.exec_driver_sql((MIGRATIONS / name).read_text(encoding="utf-8"))
            note = text("INSERT INTO schema_migrations (name, applied_at) VALUES (:name, :now)")
            connection.execute(note, {"name": name, "now": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")})
            connection.commit()
            print(f"applied {name}", flush=True)
    return names


def main() -> int:
    try:
        engine = engine_of("WRITE_DATABASE_URL", os.environ.get("WRITE_DATABASE_URL"), PATIENCE)
        try:
            with engine.connect() as connection:
                if not migrate(connection):
                    print("nothing to apply, the database is up to date")
        finally:
            engine.dispose()
    except (RuntimeError, DBAPIError) as error:
        print(f"migration failed: {getattr(error, 'orig', error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
