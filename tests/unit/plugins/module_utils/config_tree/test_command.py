"""config_tree: commands that hang, flood, are missing or leave something behind."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import (
    command,
)
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError

from .conftest import FILES, needs_root


@needs_root
def test_a_check_that_hangs_is_killed_with_its_children(host):
    host.run(FILES)
    late = host.place / "late"
    with pytest.raises(ConfigTreeError, match=r"killed after 0.5 s"):
        host.run({"a.conf": "x"}, check=["sh", "-c", f"(sleep 1; touch {late}) & wait"], timeout=0.5)
    subprocess.run(["sleep", "0.8"], check=True)
    assert not late.exists() and host.read() == "one\n"


LEFT = {
    "ignores_sigterm": "trap '' TERM; sleep {0} & wait",
    "session_of_its_own": "setsid sleep {0} & wait",
    "daemon": "(setsid sh -c 'setsid sleep {0} & wait' &) ; sleep 30",
}


@needs_root
@pytest.mark.parametrize("how", LEFT)
@pytest.mark.parametrize("which", ["check", "apply"])
def test_nothing_of_a_command_that_hangs_is_left(host, how, which):
    host.run(FILES)
    # The old tree is applied as well after a failure, and shall not hang.
    marker = f"4{os.getpid()}.{list(LEFT).index(how)}{which == 'check':d}"
    script = f"grep -q one {host.root}/a.conf && exit; {LEFT[how].format(marker)}"
    with pytest.raises(ConfigTreeError, match="killed after 0.5 s"):
        host.run({"a.conf": "x"}, **{which: ["sh", "-c", script]}, timeout=0.5)
    assert subprocess.run(["pgrep", "--full", f"sleep {marker}"], capture_output=True).stdout == b""
    assert host.read() == "one\n" and host.siblings == [] and not host.run(FILES)["changed"]


def test_a_flood_of_output_neither_fills_the_disk_nor_the_message(host, monkeypatch):
    monkeypatch.setattr(command, "FLOOD", 1 << 20)
    sizes = []
    fstat = os.fstat
    monkeypatch.setattr(command.os, "fstat", lambda handle: sizes.append(fstat(handle)) or sizes[-1])
    # Slow enough that what comes between two looks is small on a busy machine too.
    flood = (
        "for i in $(seq 30); do head -c 200000 /dev/zero | tr '\\0' x; echo; sleep 0.03; done; echo last words; false"
    )
    with pytest.raises(ConfigTreeError, match="last words") as error:
        host.run(FILES, apply=["sh", "-c", flood])
    assert len(str(error.value)) < 3 * command.OUTPUT_LIMIT
    assert sizes[-1].st_size < 30 * 200_000


@pytest.mark.parametrize("which", ["check", "apply"])
def test_a_missing_command_is_found_before_anything_changes(host, which):
    host.run(FILES)
    with pytest.raises(ConfigTreeError, match=f"{which}: there is no command 'no-such-command'"):
        host.run({"a.conf": "x"}, **{which: ["no-such-command"]})
    assert host.read() == "one\n"


def test_an_apply_that_leaves_a_service_behind_does_not_hang(host):
    result = host.run(FILES, apply=["sh", "-c", "echo started; sleep 30 & echo $!"], timeout=5)
    started, child = result["apply_output"].split()
    os.kill(int(child), 15)
    assert started == "started"
