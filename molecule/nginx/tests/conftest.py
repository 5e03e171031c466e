"""The server and its cache; and what is the same on every release is tried on one, but for ``make soak``."""

from __future__ import annotations

import os

import pytest
from helpers.run import SOAK

# Of those that apply the role: what these are about, nginx and systemd decide.
OF_THE_RELEASE = ("refuses", "port_in_use", "single_address", "certificate", "masked", "damaged")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SOAK or os.environ.get("FOOBAR_DEBIAN", "13") == "13":
        return
    same = pytest.mark.skip(reason="the role decides that, as on Debian 13; make soak")
    for item in items:
        if "role" in item.fixturenames and not any(word in item.name for word in OF_THE_RELEASE):
            item.add_marker(same)


@pytest.fixture(scope="session")
def host(hosts):
    return hosts["foobar-nginx1"]


@pytest.fixture
def ask(get):
    """Return a function that asks for a path and returns what the cache did and which of its answers it is."""

    def send(path: str, **arguments) -> tuple[str, int]:
        response = get(f"http://198.18.0.101{path}", **arguments)
        return response.headers["X-Cache-Status"], response.json()["number"]

    return send
