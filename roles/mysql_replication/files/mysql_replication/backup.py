"""Back up the databases of this host, prove that each backup can be restored, and restore one, up to a moment.

Proof: a scratch server without network gets the backup and then the binary log from the backup's position up to a
second position. At that second position the live server was read in one consistent snapshot; every table must have
the same rows and checksum in both, and views, routines, triggers and events the same definers. So the proof covers the
binary log too, and nobody has to stop writing for it.

A backup is a directory with manifest.json; it gets its name when it is proved. What is unfinished has a dot in front.
A restore builds the database in a scratch server first; the live one changes when that has succeeded.
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mysql_replication import programs, replay
from mysql_replication.binlog import Moment, find_ranges
from mysql_replication.dumps import connect, dump, dumping, errors_of, load, reading, run
from mysql_replication.local import (
    SOCKET,
    SYSTEM_SCHEMAS,
    Failure,
    MySQLError,
    Report,
    host_lock,
    query,
    quote,
)
from mysql_replication.programs import Program

NAME = re.compile(r"\d{8}T\d{6}Z-(logical|physical)")
PLACE = re.compile(rb"_LOG_FILE='([^']+)', \w+_LOG_POS=(\d+)")
POSITION = re.compile(r"([\w.-]+\.\d{6,}):(\d+)")
BEFORE = re.compile(r"before-restore-\d{8}T\d{6}Z-.+")
SCRATCH = Path("/var/lib/mysql-scratch")


# --- pure parts -------------------------------------------------------------------------------------------------------


def choose_kind(kind: str, size: int, threshold_mb: int) -> str:
    if kind != "auto":
        return kind
    return "physical" if size >= threshold_mb << 20 else "logical"


def parse_until(until: str) -> Moment | None:
    if not until:
        return None
    if place := POSITION.fullmatch(until):
        return Moment(file=place[1], position=int(place[2]))
    try:
        moment = datetime.datetime.strptime(until, "%Y-%m-%d %H:%M:%S")
    except ValueError:
        raise Failure(
            f"mysql_restore_until: '{until}' is no moment; give '2026-11-25 03:00:00' in the time zone of the host, "
            f"or a position such as binlog.000003:1234"
        ) from None
    # In the time zone of the host, as the message says.
    return Moment(second=moment.timestamp())


def removable(names: Iterable[str], keep: int) -> list[str]:
    """Only finished backups count, and the newest always stays."""
    return sorted(name for name in names if NAME.fullmatch(name))[: -max(keep, 1)]


def compare_tables(live: dict[str, list[int]], scratch: dict[str, list[int]]) -> list[str]:
    return [
        f"{name}: {live.get(name)} live, {scratch.get(name)} restored (rows, checksum)"
        for name in sorted(live.keys() | scratch.keys())
        if live.get(name) != scratch.get(name)
    ]


def compare_programs(wanted: list[Program], made: list[Program], left_out: Collection[str]) -> list[str]:
    """By name and definer: how one is written, the server says in more than one way."""
    here, there = set(map(str, wanted)) - set(left_out), set(map(str, made))
    missing = [f"{name} was not restored" for name in sorted(here - there)]
    return missing + [f"{name} is not to be there" for name in sorted(there - here)]


# --- servers ----------------------------------------------------------------------------------------------------------


def databases(cursor) -> list[str]:
    return [name for (name,) in query(cursor, "SHOW DATABASES") if name not in SYSTEM_SCHEMAS]


def binlog_status(cursor) -> tuple[str, int]:
    try:
        rows = query(cursor, "SHOW BINARY LOG STATUS")
    except MySQLError:  # before 8.2 it has another name
        rows = query(cursor, "SHOW MASTER STATUS")
    if not rows:
        raise Failure("the binary log is off; set log_bin again and restart MySQL")
    return rows[0][0], rows[0][1]


def table_sums(cursor, names: Iterable[str]) -> dict[str, list[int]]:
    sums = {}
    for schema in sorted(names):
        tables = query(
            cursor,
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'",
            schema,
        )
        for (table,) in tables:
            place = f"{quote(schema)}.{quote(table)}"
            rows = query(cursor, f"SELECT COUNT(*) FROM {place}")[0][0]  # noqa: S608 - quoted
            sums[f"{schema}.{table}"] = [rows, query(cursor, f"CHECKSUM TABLE {place}")[0][1]]
    return sums


def snapshot(names: list[str]) -> tuple[tuple[str, int], dict[str, list[int]], list[Program]]:
    """Position, checksums and programs of one moment. Writers wait for as long as it takes to open the snapshot."""
    with connect(SOCKET) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION transaction_isolation = 'REPEATABLE-READ'")
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        position = binlog_status(cursor)
        made = programs.read(SOCKET, names)
        cursor.execute("UNLOCK TABLES")
        return position, table_sums(cursor, names), made


@contextmanager
def scratch_server(work: Path, data: Path) -> Iterator[str]:
    """A server of its own: own files, no network, little memory, gone afterwards. Returns its socket."""
    log, socket = work / "scratch.log", work / "scratch.sock"
    common = ["mysqld", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--log-error={log}"]
    if not data.exists():
        run([*common, "--initialize-insecure"], log)
    server = subprocess.Popen(
        [
            *("nice", "-n", "10"),
            *common,
            f"--socket={socket}",
            f"--pid-file={work}/scratch.pid",
            "--skip-networking",
            "--mysqlx=OFF",
            "--skip-log-bin",
            "--event-scheduler=OFF",
            "--innodb-buffer-pool-size=128M",
            "--innodb-flush-log-at-trx-commit=2",
            "--max-allowed-packet=1G",
            "--plugin-load-add=auth_socket=auth_socket.so",
            *replay.options(work),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(server, str(socket), log)
        yield str(socket)
    finally:
        server.terminate()
        try:
            server.wait(timeout=120)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(server: subprocess.Popen, socket: str, log: Path) -> None:
    end = time.monotonic() + 300
    while True:
        try:
            connect(socket).close()
            return
        except MySQLError as problem:
            if server.poll() is not None or time.monotonic() > end:
                raise Failure(f"the scratch server does not start ({problem}): {errors_of(log)}") from None
            time.sleep(0.2)


def replay_until(socket: str, work: Path, position: tuple[str, int], until: Moment) -> None:
    """The binary logs of the live server, from the position of the backup on, without statements about accounts."""
    with connect(SOCKET) as connection, connection.cursor() as cursor:
        names = [row[0] for row in query(cursor, "SHOW BINARY LOGS")]
        folder = Path(query(cursor, "SELECT @@log_bin_basename")[0][0]).parent
    if position[0] not in names:
        raise Failure(
            f"{position[0]} is no longer there, so nothing after the backup can be restored; choose a newer backup, or "
            f"keep binary logs longer (mysql_replication_binlog_expire_days)"
        )
    last = until.file
    if last and last not in names[names.index(position[0]) :]:
        raise Failure(f"mysql_restore_until: {last} is not among the binary logs since the backup: {', '.join(names)}")
    chosen = names[names.index(position[0]) : names.index(last) + 1 if last else None]
    replay.replay(socket, work, find_ranges([folder / name for name in chosen], position[1], until))


# --- backup -----------------------------------------------------------------------------------------------------------


def finished(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if NAME.fullmatch(path.name)) if folder.is_dir() else []


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One at a time; what an interrupted run has left is removed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    with host_lock(0, folder / ".lock", f"another backup or restore is at work in {folder}; wait for it"):
        for path in folder.glob(".unfinished-*"):
            shutil.rmtree(path)
        yield


@contextmanager
def workplace() -> Iterator[Path]:
    """Where the scratch server works: it runs as mysql, which may not look into the backups."""
    if SCRATCH.exists():
        shutil.rmtree(SCRATCH)
    SCRATCH.mkdir(mode=0o700)
    shutil.chown(SCRATCH, "mysql", "mysql")
    try:
        yield SCRATCH
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)


def size_of(names: list[str]) -> int:
    with connect(SOCKET) as connection, connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(names)) or "''"
        sizes = "SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables"
        return int(query(cursor, f"{sizes} WHERE table_schema IN ({marks})", *names)[0][0])  # noqa: S608 - marks only


def backup(report: Report, kind: str, threshold_mb: int, keep: int, directory: str) -> None:
    """Facts: the path of the backup and the names of its files."""
    folder = Path(directory)
    with connect(SOCKET) as connection, connection.cursor() as cursor:
        names = databases(cursor)
    size = size_of(names)
    kind = choose_kind(kind, size, threshold_mb)
    gone = removable([*finished(folder), "99999999T999999Z-" + kind], keep)
    report.announce(f"{kind} backup of {', '.join(names) or 'no database'} ({size / 2**20:.1f} MB) into {folder}")
    report.announce(f"proved in a scratch server; removed afterwards: {', '.join(gone) or 'nothing'}")
    free = shutil.disk_usage(existing(folder)).free
    # The backup, its restored copy, and the least a server needs.
    if free < 2 * size + (300 << 20):
        raise Failure(f"{folder}: {free >> 20} MB are free, {(2 * size >> 20) + 300} MB are needed; make room")
    if report.check:
        report.changed = True
        return
    name = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{kind}"
    with locked(folder), workplace() as work:
        unfinished = folder / f".unfinished-{name}"
        unfinished.mkdir(mode=0o700)
        made: list[Program] = []
        if kind == "logical":
            position, gtid, made = take_logical(unfinished, names)
        else:
            take_physical(unfinished, work)
        report.note("taken; reading the live tables for the proof")
        proof, live, live_programs = snapshot(names)
        report.note("restoring into the scratch server")
        with restored(report, unfinished, kind, work, made) as (socket, left_out):
            if kind == "physical":
                position, gtid = position_of_clone(socket)
            report.note(
                f"it is as of {position[0]}:{position[1]}; replaying the binary log until {proof[0]}:{proof[1]}"
            )
            replay_until(socket, work, position, Moment(file=proof[0], position=proof[1]))
            with connect(socket) as connection, connection.cursor() as cursor:
                differing = compare_tables(live, table_sums(cursor, names))
            differing += compare_programs(live_programs, programs.read(socket, names), left_out)
        if differing:
            raise Failure("the backup is not what the live server holds, so it is thrown away: " + "; ".join(differing))
        file = data_file(unfinished, kind)
        manifest = {
            "name": name,
            "kind": kind,
            "databases": names,
            "binlog_file": position[0],
            "binlog_position": position[1],
            "gtid_executed": gtid,
            "proved_at": f"{proof[0]}:{proof[1]}",
            "tables": {table: {"rows": rows, "checksum": value} for table, (rows, value) in live.items()},
            "programs": programs.to_list(made),
            "size": file.stat().st_size,
            "sha256": digest(file),
        }
        (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        os.sync()
        unfinished.rename(folder / name)
        for old in removable(finished(folder), keep):
            shutil.rmtree(folder / old)
            report.note(f"removed {old}")
    report.facts |= {"path": str(folder / name), "files": [file.name, "manifest.json"]}
    report.change(f"{folder / name}: {len(live)} tables proved, {manifest['size'] / 2**20:.1f} MB")


def existing(path: Path) -> Path:
    return path if path.exists() else existing(path.parent)


def data_file(folder: Path, kind: str) -> Path:
    return folder / ("dump.sql.gz" if kind == "logical" else "data.tar.gz")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def take_logical(target: Path, names: list[str]) -> tuple[tuple[str, int], str, list[Program]]:
    """Tables and programs of one moment: nobody writes until mysqldump has its snapshot, which it then says."""
    if not names:
        raise Failure("there is no database on this host, so there is nothing to back up")
    command = dumping(SOCKET, names, "--source-data=2", "--set-gtid-purged=COMMENTED")
    with connect(SOCKET) as connection, connection.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        made = programs.read(SOCKET, names)
        with reading(command) as output, gzip.open(data_file(target, "logical"), "wb", compresslevel=4) as out:
            head = b""
            for block in output:
                out.write(block)
                if len(head) < 1 << 20:
                    head += block
                    if PLACE.search(head):
                        break
            cursor.execute("UNLOCK TABLES")
            out.writelines(output)
    place = PLACE.search(head)
    if place is None:
        raise Failure("mysqldump has not said at which position it read")
    gtid = re.search(rb"GTID_PURGED=(?:/\*.*?\*/)?\s*'([^']*)'", head)
    return (place[1].decode(), int(place[2])), re.sub(r"\s", "", gtid[1].decode()) if gtid else "", made


def take_physical(target: Path, work: Path) -> None:
    """The Clone plugin copies the files of the running server as of one moment."""
    with connect(SOCKET) as connection, connection.cursor() as cursor:
        if not query(cursor, "SELECT 1 FROM information_schema.plugins WHERE plugin_name = 'clone'"):
            cursor.execute("INSTALL PLUGIN clone SONAME 'mysql_clone.so'")
        cursor.execute("CLONE LOCAL DATA DIRECTORY = %s", (str(work / "clone"),))
    run(["tar", "--create", "--gzip", f"--file={data_file(target, 'physical')}", f"--directory={work}", "clone"])
    shutil.rmtree(work / "clone")


def position_of_clone(socket: str) -> tuple[tuple[str, int], str]:
    """Only the server that is started on a copy learns, by its recovery, how far the copy reaches."""
    with connect(socket) as connection, connection.cursor() as cursor:
        rows = query(cursor, "SELECT binlog_file, binlog_position, gtid_executed FROM performance_schema.clone_status")
    if not rows or not rows[0][0]:
        raise Failure("the copy does not say at which position of the binary log it was taken")
    file, position, gtid = rows[0]
    return (Path(file).name, int(position)), re.sub(r"\s", "", gtid or "")


@contextmanager
def restored(
    report: Report, folder: Path, kind: str, work: Path, made: list[Program]
) -> Iterator[tuple[str, Collection[str]]]:
    """A scratch server that holds the backup: its socket, and the views that were left out."""
    file, left_out = data_file(folder, kind), {}
    if kind == "physical":
        run(["tar", "--extract", f"--file={file}", f"--directory={work}", "--same-owner"])
    with scratch_server(work, work / ("clone" if kind == "physical" else "data")) as socket:
        if kind == "logical":
            with gzip.open(file, "rb") as lines:
                load(lines, socket)
            with connect(SOCKET) as connection, connection.cursor() as cursor:
                accounts = query(cursor, "SELECT user, host FROM mysql.user WHERE user <> ''")
            programs.give_rights(socket, [*accounts, *(program.account for program in made)])
            left_out = make_programs(report, socket, made)
        yield socket, left_out


def make_programs(report: Report, socket: str, made: list[Program]) -> dict[str, str]:
    left_out = programs.make(socket, made)
    for name, problem in left_out.items():
        report.note(f"{name} was left out, because it does not work: {problem}")
    return left_out


# --- restore ----------------------------------------------------------------------------------------------------------


def restore(report: Report, database: str, backup: str, until: str, overwrite: str, directory: str) -> None:
    folder, name = Path(directory), database
    stop = parse_until(until)
    with connect(SOCKET) as connection, connection.cursor() as cursor:
        if query(cursor, "SELECT @@super_read_only")[0][0]:
            raise Failure(
                "this server is a replica: what is restored into the source comes here by itself; nothing has changed. "
                "Name the source: -e mysql_restore_hosts=..."
            )
    there = finished(folder)
    chosen = backup or (choose_for(folder, there, until) if there else "")
    if chosen not in there and not (BEFORE.fullmatch(chosen) and (folder / chosen).is_dir()):
        raise Failure(
            f"mysql_restore_backup: there is no backup '{chosen}' in {folder}; there are: {', '.join(there) or 'none'}"
        )
    manifest = json.loads((folder / chosen / "manifest.json").read_text())
    file = data_file(folder / chosen, manifest["kind"])
    if name not in manifest["databases"]:
        raise Failure(
            f"mysql_restore_database: '{name}' is not in {chosen}; that has {', '.join(manifest['databases'])}"
        )
    if digest(file) != manifest["sha256"]:
        raise Failure(f"{file} is damaged: its SHA-256 is not that of the manifest; choose another backup")
    made = programs_of(manifest, file)
    if stop and "binlog_file" not in manifest:
        raise Failure(f"mysql_restore_until: {chosen} does not say where the binary log goes on; restore it without")
    with connect(SOCKET) as connection, connection.cursor() as cursor:
        held = query(cursor, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s", name)[0][0]
    ending = f"then the binary log until {until}" if stop else "as it was when the backup was taken"
    report.announce(f"restore {name} from {chosen}, {ending}")
    report.announce(
        f"{name} holds {held} tables now; " + ("they are dumped first, then replaced" if held else "it is filled")
    )
    if held and overwrite != name:
        raise Failure(
            f"{name} holds data ({held} tables), and a restore would replace it; nothing has changed. If that is "
            f"wanted, say so by name: -e mysql_restore_overwrite={name}"
        )
    if report.check:
        report.changed = True
        return
    with locked(folder), workplace() as work, ExitStack() as stack:
        report.note("restoring into a scratch server")
        socket, _left_out = stack.enter_context(restored(report, folder / chosen, manifest["kind"], work, made))
        if stop:
            replay_until(socket, work, (manifest["binlog_file"], manifest["binlog_position"]), stop)
        with connect(socket) as connection, connection.cursor() as cursor:
            if name not in databases(cursor):
                raise Failure(f"at {until} there was no database {name}; nothing has changed")
            wanted = table_sums(cursor, [name])
        ready, wanted_programs = folder / ".unfinished-restore", programs.read(socket, [name])
        ready.mkdir(mode=0o700)
        dump(data_file(ready, "logical"), socket, name)
        before = keep_before(report, folder, name) if held else ""
        try:
            put_in_place(report, data_file(ready, "logical"), name, wanted, wanted_programs)
        except (Failure, MySQLError) as problem:
            if not before:
                raise
            again = f"-e mysql_restore_backup={before} -e mysql_restore_overwrite={name}"
            raise Failure(f"{problem}\nWhat was there before can be restored again: {again}") from None
        shutil.rmtree(ready)
    rows = sum(number for number, _ in wanted.values())
    report.change(f"{name}: {len(wanted)} tables, {rows} rows, checksums equal")


def programs_of(manifest: dict, file: Path) -> list[Program]:
    """Older backups have them in the dump, as text for a client, which may end a statement where no server does."""
    if manifest["kind"] == "logical" and "programs" not in manifest:
        raise Failure(
            f"mysql_restore_backup: {manifest['name']} was made by an older version: what applications have written, "
            f"its dump could take for statements of root. Choose a newer or a physical one; who trusts all of them "
            f"loads it himself: zcat {file} | mysql --binary-mode"
        )
    return programs.from_list(manifest.get("programs", []))


def keep_before(report: Report, folder: Path, name: str) -> str:
    """What the live server has of a database, in the form of a backup. Returns its name."""
    kept = f"before-restore-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{name}"
    unfinished = folder / f".unfinished-{kept}"
    unfinished.mkdir(mode=0o700)
    file = data_file(unfinished, "logical")
    dump(file, SOCKET, name)
    manifest = {
        "name": kept,
        "kind": "logical",
        "databases": [name],
        "programs": programs.to_list(programs.read(SOCKET, [name])),
        "size": file.stat().st_size,
        "sha256": digest(file),
    }
    (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    os.sync()
    unfinished.rename(folder / kept)
    report.note(f"what was there is in {folder / kept}")
    return kept


def put_in_place(
    report: Report, tables: Path, name: str, wanted: dict[str, list[int]], wanted_programs: list[Program]
) -> None:
    with gzip.open(tables, "rb") as lines:
        load(lines, SOCKET)
    left_out = make_programs(report, SOCKET, wanted_programs)
    with connect(SOCKET) as connection, connection.cursor() as cursor:
        differing = compare_tables(table_sums(cursor, [name]), wanted)
        marked = "SELECT event_name FROM information_schema.events WHERE event_schema = %s"
        idle = query(cursor, f"{marked} AND status NOT IN ('ENABLED', 'DISABLED')", name)  # noqa: S608 - fixed texts
    if differing:
        raise Failure(
            f"{name} is restored, and somebody has written to it since, which stays: {'; '.join(differing)}. To have "
            "it without that, stop the writers and restore again"
        )
    if differing := compare_programs(wanted_programs, programs.read(SOCKET, [name]), left_out):
        raise Failure("not all of it is there: " + "; ".join(differing))
    if idle:
        # The applier of the binary log makes events as a replica has them.
        names = ", ".join(event for (event,) in idle)
        report.note(f"events that do not run: {names}; among members the source enables them, alone ALTER EVENT does")


def choose_for(folder: Path, there: list[str], until: str) -> str:
    """The newest backup that is older than the moment."""
    if not until or POSITION.fullmatch(until):
        return there[-1]
    moment = datetime.datetime.strptime(until, "%Y-%m-%d %H:%M:%S").astimezone(datetime.UTC)
    older = [name for name in there if name < f"{moment:%Y%m%dT%H%M%SZ}"]
    if not older:
        raise Failure(f"mysql_restore_until: no backup is older than {until}; the oldest is {there[0]} (UTC)")
    return older[-1]
