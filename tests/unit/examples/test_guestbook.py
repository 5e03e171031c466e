"""The sample site, on SQLite."""

import html
import importlib
import logging
import re
import socket
import sqlite3
import sys
import uuid
from pathlib import Path

import pymysql
import pytest
from sqlalchemy.exc import OperationalError

SITE = Path(__file__).parents[3] / "examples" / "guestbook"
sys.path.insert(0, str(SITE))

from guestbook import create_app, db  # noqa: E402 - found only after the line above
from guestbook import migrate as migration  # noqa: E402

HELLO = {"author": "Ada", "message": "Hello"}


@pytest.fixture
def database(tmp_path, monkeypatch):
    """Make a database, migrated unless told otherwise, and return its URL."""

    def make(name="book.db", migrated=True):
        url = f"sqlite:///{tmp_path / name}"
        if migrated:
            monkeypatch.setenv("WRITE_DATABASE_URL", url)
            assert migration.main() == 0
        return url

    return make


@pytest.fixture
def site(database):
    """Make the site and return a client of it, a browser in all but sight."""
    apps = []

    def make(**environment):
        if "WRITE_DATABASE_URL" not in environment:
            environment["WRITE_DATABASE_URL"] = database()
        apps.append(create_app(environment))
        return apps[-1].test_client()

    yield make
    for app in apps:
        for engine in app.extensions["databases"].by_name().values():
            engine.dispose()


def away(tmp_path):
    return f"sqlite:///{tmp_path}/no/such/directory/book.db"


def token(page):
    return re.search(r'name="token" value="([^"]+)"', page.text)[1]


def path(page):
    """The machines of the panel as {role: name}."""
    roles, names = (re.findall(rf'class="{part}">([^<]*)<', page.text) for part in ("role", "name"))
    return dict(zip(roles, map(html.unescape, names), strict=True))


def messages(client):
    return [entry["message"] for entry in client.get("/api/entries").json]


# Reading and writing


def test_an_empty_book_invites_the_first_entry(site):
    page = site().get("/")
    assert page.status_code == 200
    assert "Be the first to sign it" in page.text


def test_a_form_is_answered_by_a_redirect_to_the_page_that_shows_the_entry(site):
    client = site()
    answer = client.post("/entries", data=HELLO)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    page = client.get("/")
    assert "Hello" in page.text
    assert "your entry is in the book" in page.text


def test_what_people_write_is_text_and_never_markup(site):
    client = site()
    client.post("/entries", data={"author": '"><script>', "message": "<img src=x onerror=alert(1)> & so on"})
    page = client.get("/").text
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; so on" in page
    assert "&#34;&gt;&lt;script&gt;" in page
    assert not re.search(r"<(script|img src=x)", page)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"author": " \t"}, "Please fill this in"),
        ({"message": ""}, "Please fill this in"),
        ({"author": "x" * 61}, "These are 61 characters; 60 fit"),
        ({"message": "x" * 1001}, "These are 1001 characters; 1000 fit"),
        ({"message": "beep \x07"}, "control characters"),
    ],
)
def test_a_refused_form_says_why_and_keeps_what_was_typed(site, changed, problem):
    client = site()
    answer = client.post("/entries", data=HELLO | changed)
    assert answer.status_code == 422
    assert problem in answer.text
    assert ('value="Ada"' if "message" in changed else ">\nHello</textarea>") in answer.text
    assert messages(client) == []


def test_the_longest_entry_fits_however_its_lines_end(site):
    client = site()
    message = "\r\n".join(["🎉" * 499, "é" * 500])
    assert client.post("/entries", data={"author": "Ж" * 60, "message": message}).status_code == 303
    assert messages(client) == [message.replace("\r\n", "\n")]


def test_the_same_form_sent_twice_is_one_entry_and_a_changed_one_is_another(site):
    client = site()
    form = HELLO | {"token": token(client.get("/"))}
    for _ in range(2):
        assert client.post("/entries", data=form).status_code == 303
    assert messages(client) == ["Hello"]
    client.post("/entries", data=form | {"message": "Hello again"})
    client.post("/entries", data=form | {"token": token(client.get("/"))})
    assert messages(client) == ["Hello", "Hello again", "Hello"]


def test_the_page_shows_the_latest_twenty(site):
    client = site()
    for number in range(21):
        client.post("/api/entries", json=HELLO | {"message": f"number-{number}."})
    shown = re.findall(r"number-(\d+)\.", client.get("/").text)
    assert shown == [str(number) for number in range(20, 0, -1)]


@pytest.mark.parametrize("target", ["/entries", "/api/entries"])
@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        ("http://www.foobar.com", True),
        ("http://www.foobar.com:8080", True),
        ("https://evil.example", False),
        ("https://www.foobar.com.evil.example", False),
        ("null", False),
        ("http://[::1", False),
    ],
)
def test_only_forms_of_this_site_are_accepted(site, target, origin, accepted):
    client = site()
    body = {"data": HELLO} if target == "/entries" else {"json": HELLO}
    answer = client.post(target, headers={"Host": "www.foobar.com", "Origin": origin}, **body)
    assert (answer.status_code < 400) is accepted
    assert len(messages(client)) == accepted
    assert accepted or answer.status_code == 403


@pytest.mark.parametrize(
    ("said", "accepted"), [("same-origin", True), ("none", True), ("same-site", False), ("cross-site", False)]
)
def test_a_browser_that_says_where_a_form_is_from_is_believed(site, said, accepted):
    client = site()
    headers = {"Host": "www.foobar.com", "Origin": "http://www.foobar.com:8080", "Sec-Fetch-Site": said}
    assert (client.post("/entries", data=HELLO, headers=headers).status_code == 303) is accepted
    assert len(messages(client)) == accepted


def test_json_of_brackets_alone_is_no_entry(site):
    answer = site().post("/api/entries", data="[" * 60_000, content_type="application/json")
    assert answer.status_code == 400


def test_who_wrote_reads_from_the_primary_until_the_replica_has_followed(site, database):
    client = site(READ_DATABASE_URL=database("replica.db"))
    client.post("/entries", data=HELLO)
    assert "Hello" in client.get("/").text
    client.delete_cookie("wrote")
    assert "Hello" not in client.get("/").text


# The API


def test_the_api_stores_and_lists(site):
    client = site()
    answer = client.post("/api/entries", json=HELLO)
    assert answer.status_code == 201
    assert uuid.UUID(answer.json["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", answer.json["created_at"])
    assert client.get("/api/entries").json == [answer.json]


def test_a_repeated_id_answers_with_the_stored_entry(site):
    client = site()
    id = str(uuid.uuid4())
    first = client.post("/api/entries", json=HELLO | {"id": id})
    again = client.post("/api/entries", json={"author": "Eve", "message": "Other", "id": id.upper()})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json == HELLO | {"id": id, "created_at": first.json["created_at"]}
    assert messages(client) == ["Hello"]


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ([], 400, set()),
        ("Hello", 400, set()),
        ({}, 422, {"author", "message"}),
        ({"author": 1, "message": ["x"]}, 422, {"author", "message"}),
        (HELLO | {"message": "\ud800"}, 422, {"message"}),
        (HELLO | {"id": "1"}, 422, {"id"}),
        (HELLO | {"id": 1}, 422, {"id"}),
        (HELLO | {"id": None}, 422, {"id"}),
    ],
)
def test_the_api_names_what_is_wrong(site, body, status, fields):
    client = site()
    answer = client.post("/api/entries", json=body)
    assert answer.status_code == status
    assert answer.json["error"]
    assert set(answer.json.get("problems", {})) == fields
    assert messages(client) == []


def test_the_api_wants_json_so_that_no_form_of_another_site_can_speak_it(site):
    answer = site().post("/api/entries", data='{"author": "Ada", "message": "Hello"}', content_type="text/plain")
    assert (answer.status_code, answer.is_json) == (400, True)


def test_a_list_can_be_long_but_not_endless(site):
    client = site()
    for _ in range(22):
        client.post("/api/entries", json=HELLO)
    assert [len(client.get(f"/api/entries{query}").json) for query in ("", "?limit=1", "?limit=1000")] == [20, 1, 22]
    for limit in ("0", "1001", "-1", "x", "²", ""):
        answer = client.get("/api/entries", query_string={"limit": limit})
        assert (answer.status_code, "limit" in answer.json["error"]) == (400, True), limit


# The way of a request


@pytest.mark.parametrize(
    ("hops", "expected"),
    [
        ("0", {"You": "198.18.0.30"}),
        ("1", {"You": "198.18.0.21", "Balancer": "lb-1", "Web server": "<web-1>"}),
        ("2", {"You": "203.0.113.9", "Balancer": "lb-1", "Web server": "<web-1>"}),
    ],
)
def test_proxies_are_believed_as_far_as_there_are_any(site, hops, expected):
    page = site(PROXY_HOPS=hops).get(
        "/",
        headers={
            "X-Forwarded-For": "192.0.2.66, 203.0.113.9, 198.18.0.21",
            "X-Served-By-Balancer": "lb-1",
            "X-Served-By-Web": "<web-1>",
        },
        environ_base={"REMOTE_ADDR": "198.18.0.30"},
    )
    here = socket.gethostname()
    assert list(path(page).items()) == list((expected | {"Application server": here, "Database": here}).items())


def test_a_proxy_that_says_nothing_is_left_out(site):
    page = site(PROXY_HOPS="1").get("/", headers={"X-Served-By-Web": "web-1"})
    assert list(path(page)) == ["You", "Web server", "Application server", "Database"]


@pytest.mark.parametrize(("environment", "release"), [({}, "development"), ({"APP_RELEASE": "2026-1"}, "2026-1")])
def test_the_release_is_told(site, environment, release):
    client = site(**environment)
    assert client.get("/version").json == {"release": release, "host": socket.gethostname()}
    assert f"release {release}<" in client.get("/").text


# Health, and what happens when something is away


def test_healthy(site, database):
    for client in (site(), site(READ_DATABASE_URL=database("replica.db"))):
        answer = client.get("/health")
        assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_health_names_the_database_that_is_away(site, tmp_path):
    client = site(READ_DATABASE_URL=away(tmp_path))
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json == {"status": "failing", "failed": {"read database": "does not answer"}}


def test_pages_can_be_read_while_the_database_for_writing_is_away(site, database, tmp_path):
    client = site(WRITE_DATABASE_URL=away(tmp_path), READ_DATABASE_URL=database("replica.db"))
    answer = client.get("/health")
    assert (answer.status_code, answer.json) == (200, {"status": "reading only"})
    assert client.get("/").status_code == 200
    assert client.post("/entries", data=HELLO).status_code == 503


def test_a_database_that_refuses_the_application_is_no_health(site, database, monkeypatch):
    client = site(READ_DATABASE_URL=database("replica.db"))

    def refuse(*_):
        raise OperationalError(None, None, pymysql.err.OperationalError(1045, "Access denied"))

    monkeypatch.setattr(db, "pending", refuse)
    answer = client.get("/health")
    refused = dict.fromkeys(("write database", "read database"), "refuses the application")
    assert (answer.status_code, answer.json["failed"]) == (503, refused)


def test_health_names_missing_migrations(site, database):
    answer = site(WRITE_DATABASE_URL=database(migrated=False)).get("/health")
    assert answer.status_code == 503
    assert answer.json["failed"] == {"database": "migrations are missing: 0001_entries.sql"}


def test_the_application_starts_without_its_database_and_apologises(site, tmp_path, caplog):
    client = site(WRITE_DATABASE_URL=away(tmp_path))
    for answer in (client.get("/"), client.post("/entries", data=HELLO)):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert "closed for a moment" in answer.text
        assert "sqlite" not in answer.text.lower()
    assert client.get("/api/entries").json.keys() == {"error"}
    assert client.get("/version").status_code == 200
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
    assert {record.getMessage() for record in caplog.records} == {"The database is away: unable to open database file"}


def test_a_mistake_of_ours_is_a_page_in_the_same_style(site, monkeypatch):
    monkeypatch.setattr("guestbook.db.latest", lambda *_: 1 / 0)
    client = site()
    page = client.get("/")
    assert page.status_code == 500
    assert "The mistake is ours" in page.text
    assert "ZeroDivisionError" not in page.text
    assert client.get("/api/entries").status_code == 500
    assert client.get("/api/entries").is_json


def test_other_errors_keep_their_headers(site):
    client = site()
    missing = client.get("/nowhere")
    assert (missing.status_code, "not in the book" in missing.text) == (404, True)
    wrong = client.put("/api/entries", json=HELLO)
    assert (wrong.status_code, wrong.is_json) == (405, True)
    assert "POST" in wrong.headers["Allow"]
    assert client.post("/entries", data=HELLO | {"message": "x" * 70_000}).status_code == 413


# Static files and headers


def test_static_files_are_asked_for_by_their_release_and_may_be_kept(site):
    client = site(APP_RELEASE="4f0c2b9be1d7")
    page = client.get("/")
    links = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
    assert {Path(link.split("?")[0]).name for link in links} == {"logo.svg", "site.css"}
    for link in links:
        with client.get(link) as answer:
            assert answer.status_code == 200
            assert link.partition("?v=")[2] == "4f0c2b9be1d7"
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    with client.get("/static/site.css") as unnamed:
        assert "immutable" not in unnamed.headers["Cache-Control"]
    # While it is being worked on, nothing is kept.
    assert "?v=" not in site().get("/").text


def test_a_page_is_never_kept_and_loads_nothing_from_elsewhere(site):
    client = site()
    for address in ("/", "/nowhere", "/health", "/version", "/api/entries"):
        answer = client.get(address)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert not re.search(r'(?:href|src|action)="(?!/(?!/))', answer.text)
    css = (SITE / "guestbook" / "static" / "site.css").read_text()
    assert not re.search(r"url\(|@import", css)


# Settings


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "WRITE_DATABASE_URL is not set"),
        ({"WRITE_DATABASE_URL": ""}, "WRITE_DATABASE_URL is not set"),
        ({"WRITE_DATABASE_URL": "hunter2"}, "WRITE_DATABASE_URL is not a URL"),
        ({"WRITE_DATABASE_URL": "mysql+pymysql://u:hunter2@h:port/d"}, "WRITE_DATABASE_URL is not a URL"),
        ({"WRITE_DATABASE_URL": "mysql://u:hunter2@h/d"}, "WRITE_DATABASE_URL begins with mysql://"),
        ({"WRITE_DATABASE_URL": "mysql+pymysql://u:hunter2@h/d?ssl_ca=/no/ca"}, "names the CA file /no/ca"),
        ({"WRITE_DATABASE_URL": "sqlite://", "READ_DATABASE_URL": "x"}, "READ_DATABASE_URL is not a URL"),
        ({"WRITE_DATABASE_URL": "sqlite://", "PROXY_HOPS": "-1"}, "PROXY_HOPS is '-1'"),
    ],
)
def test_a_wrong_setting_is_one_clear_error_without_the_password(environment, message):
    with pytest.raises(RuntimeError) as error:
        create_app(environment)
    assert message in str(error.value)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


def test_mysql_is_reached_with_short_patience_and_the_asked_for_encryption(monkeypatch):
    calls = []
    monkeypatch.setattr("pymysql.connect", lambda **arguments: calls.append(arguments) or sys.exit("far enough"))
    plain = "mysql+pymysql://me:p%40ss@db.example/book"
    databases = create_app(
        {"WRITE_DATABASE_URL": f"{plain}?ssl_check_hostname=false", "READ_DATABASE_URL": plain}
    ).extensions["databases"]
    for engine in (databases.write, databases.read):
        with pytest.raises(SystemExit, match="far enough"):
            engine.connect()
    write, read = calls
    assert (write["user"], write["password"], write["host"], write["database"]) == ("me", "p@ss", "db.example", "book")
    assert all(0 < write[timeout] <= 2 for timeout in ("connect_timeout", "read_timeout", "write_timeout"))
    assert write["ssl"] == {"check_hostname": False}
    assert "ssl" not in read


def test_gunicorn_finds_the_application(database, monkeypatch):
    monkeypatch.setenv("WRITE_DATABASE_URL", "sqlite://")
    monkeypatch.delitem(sys.modules, "guestbook.wsgi", raising=False)
    assert importlib.import_module("guestbook.wsgi").app.test_client().get("/version").status_code == 200


# Migrations


def test_migrations_are_applied_once(database, capsys):
    database()
    assert capsys.readouterr().out == "applied 0001_entries.sql\n"
    database()
    assert capsys.readouterr().out == "nothing to apply, the database is up to date\n"


def test_an_interrupted_migration_heals(database, tmp_path, capsys):
    database()
    with sqlite3.connect(tmp_path / "book.db") as connection:
        connection.execute("DELETE FROM schema_migrations")
    connection.close()
    database()
    assert capsys.readouterr().out == "applied 0001_entries.sql\n" * 2


def test_migrations_follow_their_numbers_and_keep_what_was_done_before_a_failure(
    database, tmp_path, monkeypatch, capsys
):
    files = tmp_path / "migrations"
    files.mkdir()
    for name, sql in {
        "0010_last.sql": "INSERT INTO words VALUES ('100%s')",
        "0002_first.sql": "CREATE TABLE words (word TEXT)",
        "0011_broken.sql": "CREATE NONSENSE",
    }.items():
        (files / name).write_text(sql)
    monkeypatch.setattr("guestbook.db.MIGRATIONS", files)
    monkeypatch.setattr("guestbook.migrate.MIGRATIONS", files)
    monkeypatch.setenv("WRITE_DATABASE_URL", database(migrated=False))
    assert migration.main() == 1
    output = capsys.readouterr()
    assert output.out == "applied 0002_first.sql\napplied 0010_last.sql\n"
    assert output.err == 'migration failed: near "NONSENSE": syntax error\n'
    connection = sqlite3.connect(tmp_path / "book.db")
    assert connection.execute("SELECT word FROM words").fetchall() == [("100%s",)]
    connection.close()


def test_a_failed_migration_is_one_line_without_the_password(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WRITE_DATABASE_URL", "postgresql://me:hunter2@db/book")
    assert migration.main() == 1
    assert capsys.readouterr().err.startswith("migration failed: WRITE_DATABASE_URL begins with postgresql://;")
    monkeypatch.setenv("WRITE_DATABASE_URL", away(tmp_path))
    assert migration.main() == 1
    assert capsys.readouterr().err == "migration failed: unable to open database file\n"


# What the role that deploys it relies on


def test_every_requirement_is_pinned_with_hashes():
    requirements = (SITE / "requirements.txt").read_text().replace("\\\n", " ")
    lines = [line for line in requirements.splitlines() if not line.startswith("#")]
    assert {"flask", "gunicorn", "pymysql", "sqlalchemy"} <= {line.partition("==")[0] for line in lines}
    assert all(re.fullmatch(r"[a-z0-9-]+==[\d.]+( ;[^-]*)?( +--hash=sha256:[0-9a-f]{64})+ *", line) for line in lines)
