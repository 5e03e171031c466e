"""The way to the database: an engine that writes and one that reads, which may be the same."""

import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.engine import Connection, Engine, RowMapping, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, InterfaceError, InternalError, OperationalError, TimeoutError

AWAY = (InterfaceError, InternalError, OperationalError, TimeoutError)
# Access denied to the server, to the schema, to a table, and no such schema: waiting does not help.
REFUSALS = (1045, 1044, 1142, 1049)
MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE = 2  # seconds; a web server, a balancer and a person wait behind every query

ENTRIES = sa.Table(
    "entries",
    sa.MetaData(),
    sa.Column("id", sa.String(36)),
    sa.Column("author", sa.String(60)),
    sa.Column("message", sa.String(1000)),
    sa.Column("created_at", sa.DateTime),
)


@dataclass(frozen=True)
class Databases:
    write: Engine
    read: Engine

    def by_name(self) -> dict[str, Engine]:
        if self.read is self.write:
            return {"database": self.write}
        return {"write database": self.write, "read database": self.read}


def connect(environment: Mapping[str, str]) -> Databases:
    write, read = environment.get("WRITE_DATABASE_URL"), environment.get("READ_DATABASE_URL")
    engine = engine_of("WRITE_DATABASE_URL", write)
    return Databases(engine, engine if not read or read == write else engine_of("READ_DATABASE_URL", read))


def engine_of(name: str, value: str | None, patience: int = PATIENCE) -> Engine:
    """The engine of a URL. No message repeats the URL: it holds the password."""
    example = "mysql+pymysql://user:password@host/name or sqlite:///file"
    if not value:
        raise RuntimeError(f"{name} is not set; give the URL of the database, like {example}")
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise RuntimeError(f"{name} is not a URL; it must look like {example}") from None
    if url.drivername == "sqlite":
        return sa.create_engine(url)
    if url.drivername != "mysql+pymysql":
        raise RuntimeError(f"{name} begins with {url.drivername}://; it must look like {example}")
    ca = url.query.get("ssl_ca")
    if ca and not Path(str(ca)).is_file():
        raise RuntimeError(f"{name} names the CA file {ca}, which is not there")
    # TLS is in the URL, in the driver's own options.
    return sa.create_engine(
        url,
        connect_args={"connect_timeout": PATIENCE, "read_timeout": patience, "write_timeout": patience},
        pool_pre_ping=True,
        pool_recycle=300,
        pool_timeout=PATIENCE,
    )


def is_refusal(error: Exception) -> bool:
    """Whether the database answers, but not to this application: its settings are wrong."""
    return next(iter(getattr(error, "orig", error).args), None) in REFUSALS


def log_away(error: Exception) -> None:
    """One line without the statement, which holds what people wrote."""
    current_app.logger.error("The database is away: %s", " ".join(str(getattr(error, "orig", error)).split()))


def server(connection: Connection) -> tuple[str, str]:
    """The host and the product that hold the data."""
    if connection.dialect.name == "sqlite":
        return socket.gethostname(), "SQLite"
    return str(connection.scalar(sa.text("SELECT @@hostname"))), "MySQL"


def pending(connection: Connection) -> list[str]:
    """The migrations that this release has and the database has not."""
    applied: set[str] = set()
    if sa.inspect(connection).has_table("schema_migrations"):
        applied.update(connection.scalars(sa.text("SELECT name FROM schema_migrations")))
    return sorted(path.name for path in MIGRATIONS.glob("*.sql") if path.name not in applied)


def latest(connection: Connection, limit: int) -> Sequence[RowMapping]:
    query = sa.select(ENTRIES).order_by(ENTRIES.c.created_at.desc(), ENTRIES.c.id.desc()).limit(limit)
    return connection.execute(query).mappings().all()


def store(engine: Engine, id: uuid.UUID, author: str, message: str) -> tuple[Mapping, bool]:
    """Store an entry once: who sends the same id again gets the stored entry, and False."""
    entry = {
        "id": str(id),
        "author": author,
        "message": message,
        "created_at": datetime.now(UTC).replace(tzinfo=None),
    }
    try:
        with engine.begin() as connection:
            connection.execute(sa.insert(ENTRIES), entry)
    except IntegrityError:
        with engine.connect() as connection:
            return connection.execute(sa.select(ENTRIES).where(ENTRIES.c.id == str(id))).mappings().one(), False
    return entry, True
