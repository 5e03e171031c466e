"""The pages and the API."""

import socket
import unicodedata
import uuid
from collections.abc import Mapping

from flask import Blueprint, Response, abort, current_app, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from . import db

pages = Blueprint("pages", __name__)

LIMITS = {"author": 60, "message": 1000}
PAGE = 20
WROTE = "wrote"  # cookie of somebody who wrote just now


def databases() -> db.Databases:
    return current_app.extensions["databases"]


@pages.get("/")
def index() -> ResponseReturnValue:
    return guest_book()


@pages.post("/entries")
def write() -> ResponseReturnValue:
    entry, problems = examine(request.form)
    if problems:
        return guest_book(entry, problems), 422
    # The same page sent twice (a double click, a reload after a failover) makes the same id and so one entry.
    token = request.form.get("token") or str(uuid.uuid4())
    id = uuid.uuid5(uuid.NAMESPACE_OID, "\n".join((token, entry["author"], entry["message"])))
    db.store(databases().write, id, **entry)
    response = redirect(url_for("pages.index"), 303)
    response.set_cookie(WROTE, "1", max_age=5, httponly=True, samesite="Lax", secure=request.is_secure)
    return response


def guest_book(entry: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None) -> str:
    # A replica may be a moment behind: who has just written reads where it was written.
    wrote = WROTE in request.cookies
    with (databases().write if wrote else databases().read).connect() as connection:
        entries = db.latest(connection, PAGE)
        path = path_of_request(*db.server(connection))
    return render_template(
        "index.html",
        entries=entries,
        entry=entry or {},
        limits=LIMITS,
        path=path,
        problems=problems or {},
        token=uuid.uuid4(),
        wrote=wrote,
    )


def path_of_request(database: str, product: str) -> list[dict[str, str]]:
    """The machines between the browser and the data; without a proxy, what a client says of proxies is not believed."""
    headers = request.headers if current_app.config["PROXY_HOPS"] else {}
    path = [
        ("client", "You", request.remote_addr, request.scheme.upper()),
        ("balancer", "Balancer", headers.get("X-Served-By-Balancer"), "HAProxy"),
        ("web", "Web server", headers.get("X-Served-By-Web"), "nginx"),
        ("application", "Application server", socket.gethostname(), f"release {current_app.config['RELEASE']}"),
        ("database", "Database", database, product),
    ]
    return [dict(zip(("icon", "role", "name", "detail"), step, strict=True)) for step in path if step[2]]


@pages.get("/api/entries")
def list_entries() -> ResponseReturnValue:
    limit = request.args.get("limit", default=str(PAGE))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= 1000):
        abort(400, "limit must be a number from 1 to 1000.")
    with databases().read.connect() as connection:
        return jsonify([as_json(entry) for entry in db.latest(connection, int(limit))])


@pages.post("/api/entries")
def add_entry() -> ResponseReturnValue:
    try:
        sent = request.get_json(silent=True)
    except RecursionError:
        # The reader of JSON calls itself for each bracket.
        sent = None
    if not isinstance(sent, dict):
        abort(400, "Send a JSON object with author and message, and an id (UUID) if it may be sent again.")
    entry, problems = examine(sent)
    try:
        id = uuid.UUID(sent["id"]) if "id" in sent else uuid.uuid4()
    except (AttributeError, TypeError, ValueError):
        problems["id"] = "This is not a UUID."
    if problems:
        return jsonify(error="The entry was not stored.", problems=problems), 422
    stored, new = db.store(databases().write, id, **entry)
    return jsonify(as_json(stored)), 201 if new else 200


@pages.get("/health")
def health() -> ResponseReturnValue:
    """Whether this server can do its work: balancers and deployments ask here.

    While the database for writing is away, pages can still be read. All servers share it, so a balancer that took each
    of them out would close the whole site.
    """
    status, failed = "ok", {}
    for name, engine in databases().by_name().items():
        try:
            with engine.connect() as connection:
                missing = db.pending(connection)
        except db.AWAY as error:
            db.log_away(error)
            if db.is_refusal(error):
                failed[name] = "refuses the application"
            elif engine is databases().read:
                failed[name] = "does not answer"
            else:
                status = "reading only"
        else:
            if missing:
                failed[name] = f"migrations are missing: {', '.join(missing)}"
    if failed:
        return jsonify(status="failing", failed=failed), 503
    return jsonify(status=status)


@pages.get("/version")
def version() -> Response:
    return jsonify(release=current_app.config["RELEASE"], host=socket.gethostname())


def examine(sent: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """What somebody wrote, tidied, and what is wrong with it."""
    entry, problems = {}, {}
    for field, limit in LIMITS.items():
        value = sent.get(field)
        value = value.replace("\r\n", "\n").strip() if isinstance(value, str) else ""
        entry[field] = value = " ".join(value.split()) if field == "author" else value
        if not value:
            problems[field] = "Please fill this in."
        elif len(value) > limit:
            problems[field] = f"These are {len(value)} characters; {limit} fit in the book."
        elif any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" for character in value):
            problems[field] = "There are control characters in this text."
    return entry, problems


def as_json(entry: Mapping) -> dict[str, str]:
    return {**entry, "created_at": entry["created_at"].isoformat(timespec="microseconds") + "Z"}
