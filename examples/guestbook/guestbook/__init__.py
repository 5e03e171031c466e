"""The guest book of www.foobar.com: a small Flask site that shows which servers answered."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import Flask, Response, json, render_template, request, url_for
from werkzeug.exceptions import Forbidden, HTTPException, ServiceUnavailable
from werkzeug.middleware.proxy_fix import ProxyFix

from . import db, views

AWAY = "The database is away. Reload in a few seconds: an entry that you were sending will not be stored twice."
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # "no-referrer" would make browsers send "Origin: null" with our own form.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def create_app(environment: Mapping[str, str] = os.environ) -> Flask:
    """Make the application; needs its settings, but not yet the database."""
    app = Flask(__name__)
    app.extensions["databases"] = db.connect(environment)
    app.config.update(
        MAX_CONTENT_LENGTH=64 * 1024,
        PROXY_HOPS=proxy_hops(environment),
        RELEASE=environment.get("APP_RELEASE") or "development",
    )
    if app.config["PROXY_HOPS"]:
        # Every proxy appends to X-Forwarded-For, but replaces X-Forwarded-Proto.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=app.config["PROXY_HOPS"], x_proto=1)
    app.register_blueprint(views.pages)
    app.before_request(refuse_other_sites)
    app.after_request(add_headers)
    app.register_error_handler(HTTPException, explain)
    for error in db.AWAY:
        app.register_error_handler(error, explain_away)

    @app.template_global()
    def asset(filename: str) -> str:
        """The address of a static file of this release. Caches may keep it; web servers know the release by its id."""
        release = app.config["RELEASE"]
        return url_for("static", filename=filename, v=release if release != "development" else None)

    return app


def proxy_hops(environment: Mapping[str, str]) -> int:
    value = environment.get("PROXY_HOPS") or "0"
    if not (value.isascii() and value.isdigit()):
        raise RuntimeError(f"PROXY_HOPS is {value!r}; it must be the number of proxies before the application, like 1")
    return int(value)


def refuse_other_sites() -> None:
    """A browser says which site a form came from.

    Sec-Fetch-Site compares scheme, host and port. Browsers without it send Origin, whose port is left out because
    proxies may drop it from Host.
    """
    if request.method != "POST":
        return
    origin = request.headers.get("Origin")
    try:
        same = not origin or urlsplit(origin).hostname == urlsplit(f"//{request.host}").hostname
    except ValueError:
        same = False
    if not same or request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise Forbidden("This form was sent from another site.")


def add_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    elif "v" in request.args:
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def explain(error: HTTPException) -> Response:
    """Answer an error in the style of the site, or as JSON below /api/; headers such as Allow stay."""
    response = error.get_response()
    if request.path.startswith("/api/"):
        response.data = json.dumps({"error": error.description})
        response.mimetype = "application/json"
    else:
        response.data = render_template("error.html", error=error)
    return response


def explain_away(error: Exception) -> Response:
    db.log_away(error)
    return explain(ServiceUnavailable(AWAY, retry_after=5))
