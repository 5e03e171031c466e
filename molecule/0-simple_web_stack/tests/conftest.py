"""What the server was before the first test changed it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from helpers.fingerprint import fingerprint
from server import SERVER, UNITS, rights


@pytest.fixture(scope="session", autouse=True)
def as_converged(root) -> SimpleNamespace:
    """Its files and the rights in its database."""
    return SimpleNamespace(files=fingerprint(SERVER, UNITS)["files"], rights=rights(root))
