"""Callback plugin: take over from earlier runs what Ansible would make once more of the same, a third of its work.

A packed module is some 0.3 s of a core. Ansible keeps it as long as a run lasts, in a folder that is here a link to one
beside the checkout's other files. What is packed follows from the modules and from the versions of what setup has
installed; another of these, another folder.

A template is compiled anew by each worker, and what it is compiled to follows from its text and from the characters
that it is written with. Jinja's own cache of files keeps that. And nothing lives long enough to be worth looking for
garbage.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import sys
import types
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase
from jinja2 import Environment, FileSystemBytecodeCache

DOCUMENTATION = """
name: kept
type: aggregate
short_description: Keep packed modules and compiled templates between runs
description:
  - For tests.
"""
PROJECT = Path(__file__).resolve().parents[3]
WRITTEN_WITH = (
    *("block_start_string", "block_end_string", "variable_start_string", "variable_end_string"),
    *("comment_start_string", "comment_end_string", "line_statement_prefix", "line_comment_prefix"),
    *("trim_blocks", "lstrip_blocks", "newline_sequence", "keep_trailing_newline", "optimized"),
)


@functools.cache
def made_of() -> str:
    """A digest of all that a packed module can be made of."""
    found = hashlib.sha256(f"{sys.version}{PROJECT}".encode())
    places = (PROJECT / "plugins/modules", PROJECT / "plugins/module_utils")
    for path in [PROJECT / "requirements-dev.txt", *sorted(path for place in places for path in place.rglob("*.py"))]:
        found.update(f"{path}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def keep_templates(folder: Path) -> None:
    """Have the code of a template, or of an expression, read from a file that an earlier worker has written."""
    files, compile_anew = FileSystemBytecodeCache(str(folder)), Environment.compile

    def compile_once(self: Environment, source: object, *named: object, **options: object) -> types.CodeType:
        # A parsed template, or one with a name of its own, is a rare thing.
        if not isinstance(source, str) or named or set(options) - {"defer_init"}:
            return compile_anew(self, source, *named, **options)
        written_with = [type(self).__name__, options, *(getattr(self, name) for name in WRITTEN_WITH)]
        digest = hashlib.sha256(f"{written_with}{source}".encode()).hexdigest()
        bucket = files.get_bucket(self, digest, None, str(source))
        if bucket.code is None:
            bucket.code = compile_anew(self, source, **options)
            files.set_bucket(bucket)
        return bucket.code

    Environment.compile = compile_once


class CallbackModule(CallbackBase):
    """Do so before the first worker starts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kept"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        kept = PROJECT / ".local/kept" / made_of()
        for name in ("modules", "templates"):
            (kept / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        link = Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache")
        if not link.exists():
            link.symlink_to(kept / "modules")
        keep_templates(kept / "templates")
        gc.disable()
