"""What the server was before the first test changed it, and visitors who know that there is but one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from helpers.fingerprint import fingerprint
from helpers.load import within
from helpers.web import Web
from server import SERVER, UNITS, rights


@pytest.fixture(scope="session", autouse=True)
def as_converged(root) -> SimpleNamespace:
    """Its files and the rights in its database."""
    return SimpleNamespace(files=fingerprint(SERVER, UNITS)["files"], rights=rights(root))


@pytest.fixture(scope="session")
def web() -> Web:
    """Whoever asks while the application starts again waits for it."""
    return Web(timeout=within(5))
