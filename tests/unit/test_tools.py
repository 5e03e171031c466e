"""The set-up says in one line what a machine lacks; the closing line of the tests counts tests and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
NEEDED = ["bash", "dirname", "sha256sum", "cut", "cat", "mkdir", "rm", "ln", "seq", "sleep", "pgrep", "setsid", "id"]


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone without an environment, and a PATH with nothing but the basic commands."""
    shutil.copytree(PROJECT / "tools", tmp_path / "clone/tools")
    shutil.copy(PROJECT / "requirements-dev.txt", tmp_path / "clone")
    (tmp_path / "bin").mkdir()
    for name in NEEDED:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    # Others may enter: one test runs as a user who is not root.
    for folder in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    (tmp_path / "clone").chmod(0o777)  # noqa: S103
    return tmp_path / "clone"


def add_command(clone: Path, name: str, script: str) -> None:
    command = clone.parent / "bin" / name
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def run(clone: Path, command: str, **settings) -> subprocess.CompletedProcess:
    environment = {"PATH": str(clone.parent / "bin"), "HOME": str(clone), **settings.pop("environment", {})}
    return subprocess.run(
        [clone / "tools" / command], cwd=clone, env=environment, capture_output=True, text=True, timeout=60, **settings
    )


def last_line(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_no_python_that_is_new_enough(clone):
    add_command(clone, "python3", "exit 1")
    add_command(clone, "python3.13", "exit 127")
    assert last_line(run(clone, "setup")).startswith("error: no Python >= 3.12")


def test_no_network_for_the_packages(clone):
    add_command(clone, "python3", f'exec {shutil.which("python3")} "$@"')
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    done = run(clone, "setup", environment=nowhere)
    assert "is there a network" in last_line(done)
    assert not (clone / ".venv/.requirements").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_no_docker_and_not_root(clone):
    done = run(clone, "engine", user=65534, group=65534)
    assert last_line(done).startswith("error: no Docker engine answers and this is not root")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_docker_installed_but_not_for_this_user(clone):
    add_command(clone, "dockerd", "exit 0")
    add_command(clone, "docker", "exit 1")
    done = run(clone, "engine", user=65534, group=65534)
    assert "does not answer" in last_line(done)


def test_a_stage_that_does_not_exist():
    command = [PROJECT / "tools/local", "up", "4-moon"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    there_are = " ".join(sorted(path.name for path in (PROJECT / "inventories").glob("[0-9]*")))
    assert last_line(done) == f"error: no stage 4-moon; there are: {there_are}"


def test_the_tests_of_all_parts_are_counted(tmp_path):
    (tmp_path / "one.log").write_text(
        "reload: longest gap 52 ms, 7 failed of 406 requests\n23 passed in 215.21s (0:03:35)\n"
    )
    (tmp_path / "two.log").write_text("===== 2 failed, 40 passed, 1 skipped in 5.52s =====\nchanged=3 failed=0\n")
    (tmp_path / "lint.log").write_text("Passed: 0 failure(s), 0 warning(s) in 120 files\n")

    def tests(kind: str) -> str:
        script = f"source {PROJECT}/tools/common.sh; tests {kind} {tmp_path}"
        return subprocess.run(
            [shutil.which("bash"), "-c", script], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert (tests("passed"), tests("failed")) == ("63", "2")


def test_a_part_that_does_not_exist():
    done = subprocess.run([PROJECT / "tools/test", "unit", "moon"], capture_output=True, text=True, timeout=60)
    assert last_line(done).startswith("error: there is no part moon; there are: lint unit package nginx ")
