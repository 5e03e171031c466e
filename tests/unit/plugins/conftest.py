"""What tests of several plugins need."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def source(tmp_path) -> Path:
    root = tmp_path / "source"
    (root / "web" / "static").mkdir(parents=True)
    (root / "web" / "wsgi.py").write_text("app = 1\n")
    (root / "web" / "static" / "a.css").write_text("a")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o700)
    (root / "link").symlink_to("web/wsgi.py")
    return root
