"""The application of the first host, copies of it to be changed, and deployments, good and bad ones."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from helpers.load import within

HOST = "foobar-app-a"
APPLICATION = Path(__file__).resolve().parent.parent / "files/app"


@pytest.fixture(scope="module")
def host(hosts):
    return hosts[HOST]


@pytest.fixture(scope="module")
def page(get, addresses):
    """Return a function that asks the first application for a page, and waits while that starts again."""
    return lambda path: get(f"http://{addresses[HOST]}:8000{path}", host="app", timeout=within(5))


@pytest.fixture(scope="module")
def version(page):
    """Return a function that says what the first application is made of."""
    return lambda: page("/version").json()


class Source:
    """A copy of the application that tests change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(APPLICATION, path)

    def edit(self, old: str, new: str, name: str = "web/wsgi.py") -> None:
        file = self.path / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The application as it was last deployed."""
    return Source(tmp_path_factory.mktemp("good") / "app")


@pytest.fixture
def copy(tmp_path):
    """The application as it is in the project."""
    return Source(tmp_path / "app")


@pytest.fixture
def bad(good, tmp_path):
    """A copy of that, to be broken."""
    bad = object.__new__(Source)
    bad.path = tmp_path / "app"
    shutil.copytree(good.path, bad.path)
    return bad


@pytest.fixture
def deploy(role, good):
    """Return a function that applies the role to the first host: ``deploy("--check", source, gunicorn_flask_x=1)``."""

    def run(*arguments, source: Source | None = None, **variables):
        wish = {"type": "directory", "path": str((source or good).path)}
        variables = {"gunicorn_flask_source": wish, **variables}
        return role("gunicorn_flask", "--limit", HOST, *arguments, **variables)

    return run


@pytest.fixture
def refused(deploy, version):
    """Return a function that deploys something bad and returns the one error. What ran before still runs."""

    def run(*words, **arguments) -> str:
        before = version()["release"]
        done = deploy(*words, **arguments)
        assert done.code != 0, done.output
        # git says "fatal: " too.
        assert len(re.findall("^fatal: ", done.output, re.MULTILINE)) == 1, done.output
        assert version()["release"] == before
        return done.output

    return run
