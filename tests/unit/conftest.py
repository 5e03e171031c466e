"""Lets the tests import the collection's Python under its own name, through the link that `make setup` lays."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".ansible/collections"))
