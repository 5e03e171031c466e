"""What the kernel says of processes, whose names and groups are others' bytes, does not end the watch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import watchdog
from hypothesis import given
from hypothesis import strategies as st

OURS = b"0::/system.slice/haproxy.service\n"
# A name of a process has 15 bytes and any of them but NUL; a group's has no line break and no slash.
COMM = st.binary(min_size=1, max_size=15).map(lambda name: name.replace(b"\0", b"x"))
GROUP = st.binary(min_size=1, max_size=20).map(lambda name: name.translate(bytes.maketrans(b"\0\n/", b"xxx")))
STATES = st.text("RSDTtZ", min_size=1, max_size=3)


@pytest.fixture(scope="module")
def proc() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name, mock.patch.object(watchdog, "PROC", Path(name)):
        yield Path(name)


def lay(proc: Path, comm: bytes, group: bytes, states: str, thread: bytes, parent: int, started: int) -> None:
    home = proc / "20"
    for number, state in enumerate(states):
        (home / "task" / str(20 + number)).mkdir(parents=True, exist_ok=True)
        # The kernel writes a backslash and a line break of a name as \\ and \n.
        name = thread.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
        (home / "task" / str(20 + number) / "status").write_bytes(
            b"Name:\t"
            + name
            + f"\nState:\t{state} (x)\nvoluntary_ctxt_switches:\t2\n".encode()
            + b"nonvoluntary_ctxt_switches:\t1\n"
        )
    for old in (home / "task").iterdir():
        if int(old.name) >= 20 + len(states):
            (old / "status").unlink()
            old.rmdir()
    (home / "cgroup").write_bytes(group)
    fields = " ".join(["S", str(parent), *["0"] * 17, str(started), *["0"] * 30])
    (home / "stat").write_bytes(b"20 (" + comm + b") " + fields.encode() + b"\n")


@given(COMM, STATES, COMM, st.integers(0, 2**22), st.integers(0, 2**63))
def test_a_process_of_the_service_is_read_if_it_is_haproxy(proc, comm, states, thread, parent, started):
    lay(proc, comm, OURS, states, thread, parent, started)
    assert watchdog.read_process(20) is None or (b"(" + comm).endswith(b"(haproxy")
    lay(proc, b"haproxy", OURS, states, thread, parent, started)
    found = watchdog.read_process(20)
    assert (found.parent, found.started, found.states) == (parent, started, states)
    assert found.switches == 3 * len(states)


@given(COMM, GROUP, STATES)
def test_a_process_of_somebody_else_is_passed_over(proc, comm, group, states):
    lay(proc, comm, b"0::/user.slice/" + group + b"\n", states, comm, 1, 1)
    assert watchdog.find_processes(10) == []
