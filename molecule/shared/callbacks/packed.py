"""Callback plugin: take over from earlier runs what Ansible packs of each module, some 0.3 s of a core for one.

Ansible keeps it as long as a run lasts, in a folder that is here a link to one beside the checkout's other files. What
is packed follows from the modules and from the versions of what setup has installed; another of these, another folder.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: packed
type: aggregate
short_description: Keep packed modules between runs
description:
  - For tests.
"""
PROJECT = Path(__file__).resolve().parents[3]


@functools.cache
def made_of() -> str:
    """A digest of all that a packed module can be made of."""
    found = hashlib.sha256(f"{sys.version}{PROJECT}".encode())
    places = (PROJECT / "plugins/modules", PROJECT / "plugins/module_utils")
    for path in [PROJECT / "requirements-dev.txt", *sorted(path for place in places for path in place.rglob("*.py"))]:
        found.update(f"{path}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


class CallbackModule(CallbackBase):
    """Lay the link before the first worker starts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "packed"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        kept = PROJECT / ".local/packed" / made_of()
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache")
        if not link.exists():
            link.symlink_to(kept)
