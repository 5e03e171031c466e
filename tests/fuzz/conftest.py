"""Fuzzes of what reads foreign bytes: what hypothesis makes up must not break a property of the reader.

The short form takes the same few examples each time. FOOBAR_SOAK=1 takes many and others, and prints the seed of them;
FOOBAR_SEED repeats those of a report.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, configuration, settings

PROJECT = Path(__file__).resolve().parents[2]
SOAK = os.environ.get("FOOBAR_SOAK") == "1"
# Of the processor, for all examples of a test. What takes longer hangs.
TEST_S = 300 if SOAK else 30

for role in ("gunicorn_flask", "haproxy_keepalived", "mysql_replication"):
    sys.path.insert(0, str(PROJECT / "roles" / role / "files"))
sys.path.insert(0, str(PROJECT / "examples/guestbook"))

configuration.set_hypothesis_home_dir(PROJECT / ".local/hypothesis")
USUAL = {
    "database": None,
    # A busy machine takes its time: what has to be quick is measured by the test.
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("short", max_examples=10, derandomize=True, **USUAL)
settings.register_profile("long", max_examples=1000, print_blob=True, **USUAL)
settings.load_profile("long" if SOAK else "short")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if SOAK and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = os.environ.get("FOOBAR_SEED") or str(secrets.randbelow(2**32))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if SOAK:
        seed = config.option.hypothesis_seed
        terminalreporter.write_line(f"the same examples: FOOBAR_SEED={seed} make soak PARTS=fuzz")


@pytest.fixture(autouse=True)
def an_end() -> Iterator[None]:
    """Ends a test that hangs, in a regular expression too."""

    def end(*_about: object) -> None:
        raise TimeoutError(f"not through after {TEST_S} s of the processor")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, TEST_S)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)
