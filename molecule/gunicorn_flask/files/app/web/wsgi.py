"""A small application that tells what it is made of."""

import os
import time
from pathlib import Path

from flask import Flask, request

app = Flask(__name__)
EDITION = "first"


@app.get("/health")
def health():
    return "well"


@app.get("/version")
def version():
    return {"release": os.environ["APP_RELEASE"], "edition": EDITION, "worker": os.getpid(), "master": os.getppid()}


@app.get("/environment/<name>")
def environment(name):
    return os.environ.get(name, "")


@app.get("/sandbox")
def sandbox():
    """What numpy does for a product of matrices: a system call that the sandbox does not allow."""
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except PermissionError:
        return "refused"
    return "allowed"


@app.get("/settings")
def settings():
    return Path(os.environ["WEB_SETTINGS"]).read_text()


@app.get("/slow")
def slow():
    time.sleep(2)
    return EDITION


@app.get("/writable")
def writable():
    places = [Path(__file__).parent, Path(os.environ["PATH"].split(":")[0]), Path("/etc"), Path("/var/lib/web")]
    places += [Path(place) for place in request.args.getlist("also")]
    return [str(place) for place in places if os.access(place, os.W_OK)]
