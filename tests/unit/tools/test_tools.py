"""The set-up says in one line what a machine lacks; the closing line of the tests counts tests and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]
NEEDED = ["bash", "dirname", "sha256sum", "cut", "cat", "mkdir", "rm", "ln", "seq", "sleep", "pgrep", "setsid", "id"]
MADE = "---\n# Made by make setup for the local containers only. For real servers see the README: Ansible Vault.\n"


@pytest.fixture
def clone() -> Iterator[Path]:
    """A clone without an environment, and a PATH with nothing but the basic commands."""
    # Not in pytest's own folder: one test runs as a user who is not root, whom another run of pytest would shut out.
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        shutil.copytree(PROJECT / "tools", place / "clone/tools")
        shutil.copy(PROJECT / "requirements-dev.txt", place / "clone")
        (place / "bin").mkdir()
        (place / "bin").chmod(0o755)
        for program in NEEDED:
            (place / "bin" / program).symlink_to(shutil.which(program))
        (place / "clone").chmod(0o777)  # noqa: S103
        yield place / "clone"


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


def maker() -> str:
    """A Python that makes environments: that of the environment of these tests may be one that cannot."""
    ask = "import sys, venv, ensurepip; print(sys.executable); sys.exit(sys.version_info < (3, 12))"
    for folder in os.environ["PATH"].split(os.pathsep):
        for path in Path(folder).glob("python3*"):
            done = subprocess.run([path, "-c", ask], capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.strip()
    pytest.fail("no Python >= 3.12 with venv and ensurepip on PATH")


def test_no_network_for_the_packages(clone):
    add_command(clone, "python3", f'exec {maker()} "$@"')
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    done = run(clone, "setup", environment=nowhere)
    assert "is there a network" in last_line(done)
    assert not (clone / ".venv/.requirements").exists()


@pytest.fixture
def ready(clone) -> Path:
    """The clone with an environment, so that set-up goes on to the secrets; a function that lays a file of them."""
    for name in ("grep", "mv", "ssh-keygen"):
        (clone.parent / "bin" / name).symlink_to(shutil.which(name))
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").symlink_to(sys.executable)
    (clone / ".venv/bin/ansible-playbook").symlink_to(shutil.which("true"))
    wanted = hashlib.sha256((clone / "requirements-dev.txt").read_bytes()).hexdigest()
    (clone / ".venv/.requirements").write_text(wanted)
    return clone


def lay_secrets(clone: Path, inventory: str, text: str) -> Path:
    path = clone / "inventories" / inventory / "group_vars/all/secrets.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def set_up(clone: Path) -> dict[str, str]:
    done = run(clone, "setup")
    assert done.returncode == 0, done.stderr
    path = clone / "inventories/local/group_vars/all/secrets.yml"
    return yaml.safe_load(path.read_text())


def test_secrets_are_made_once_and_for_nobody_else(ready):
    secrets = set_up(ready)
    assert sorted(secrets) == ["site_database_password", "site_replication_password"]
    assert min(len(secret) for secret in secrets.values()) > 20 and len(set(secrets.values())) == 2
    path = ready / "inventories/local/group_vars/all/secrets.yml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert set_up(ready) == secrets


def test_secrets_of_an_earlier_version_are_taken_over_and_those_of_an_operator_stay(ready):
    first = lay_secrets(ready, "0-simple_web_stack", f"{MADE}site_database_password: the-old-one\n")
    second = lay_secrets(ready, "1-distributed_web_infrastructure", f"{MADE}site_database_password: another\n")
    own = lay_secrets(ready, "3-scale_up", "site_database_password: mine\n")
    secrets = set_up(ready)
    assert "the-old-one" in secrets.values() and len(secrets) == 2
    assert (first.exists(), second.exists(), own.exists()) == (False, False, True)
    assert set_up(ready) == secrets


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
    assert last_line(done).startswith(
        "error: there is no part moon; there are: lint unit fuzz package 0-simple_web_stack "
    )


def test_every_scenario_is_a_part():
    done = subprocess.run([PROJECT / "tools/test", "--list"], capture_output=True, text=True, check=True)
    scenarios = [path.parent for path in (PROJECT / "molecule").glob("*/molecule.yml") if not path.parent.is_symlink()]
    assert {"lint", "unit", "fuzz", "package", "nginx-debian12", *(path.name for path in scenarios)} == set(
        done.stdout.split()
    )


class Suite:
    """tools/test in a checkout whose scenarios, linters and unit tests only leave a line in a log."""

    def __init__(self, place: Path) -> None:
        self.place = place
        shutil.copytree(PROJECT / "tools", place / "tools")
        (place / ".venv/bin").mkdir(parents=True)
        for name in ("setup", "engine", "image", "docs", "package"):
            (place / "tools" / name).write_text("#!/bin/sh\n")
        for name in ("docker", "yamllint", "ansible-lint", "ruff", "pytest"):
            self.add(name, "exit 0")
        self.add(
            "molecule", 'echo "start $4 $FOOBAR_DEBIAN" >> log; sleep 0.3; echo "end $4" >> log; echo "3 passed in 1s"'
        )

    def add(self, name: str, script: str) -> None:
        command = self.place / ".venv/bin" / name
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)

    def scenario(self, name: str, *declared: str) -> None:
        folder = self.place / "molecule" / name
        folder.mkdir(parents=True)
        (folder / "molecule.yml").touch()
        if declared:
            (folder / "test.conf").write_text("".join(f"{line}\n" for line in declared))

    def run(self, *parts: str, **settings: str) -> subprocess.CompletedProcess:
        command, usual = [self.place / "tools/test", *parts], {"FOOBAR_SOAK": "0"}
        environment = os.environ | usual | settings
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    @property
    def log(self) -> list[str]:
        return (self.place / "log").read_text().splitlines()


@pytest.fixture
def suite(tmp_path) -> Suite:
    suite = Suite(tmp_path)
    suite.scenario("quick", "minutes=1")
    suite.scenario("long", "minutes=20", "debian=13 12")
    suite.scenario("namesake", "after=quick", "minutes=1")
    suite.scenario("unknown")
    (tmp_path / "molecule/default").symlink_to("namesake")
    return suite


def test_scenarios_run_two_at_a_time_the_longest_first_and_none_beside_its_namesake(suite):
    done = suite.run()
    assert done.returncode == 0, done.stderr
    # Five runs of three tests each, and the nine parts themselves.
    assert done.stdout.splitlines()[-1] == "24 passed, 0 failed"
    assert {"start long 13", "start quick 13"} == set(suite.log[:2])
    assert suite.log.index("start long 12") > suite.log.index("end long")
    assert suite.log.index("start namesake 13") > suite.log.index("end quick")


def test_what_measures_has_the_machine_for_itself(suite):
    done = suite.run(FOOBAR_SOAK="1")
    assert done.returncode == 0, done.stderr
    names = [line.split()[1] for line in suite.log]
    assert names == [name for name in names[::2] for _ in ("start", "end")]


def test_the_long_form_has_the_fuzzes_and_says_so_to_them(suite):
    recipes = (PROJECT / "Makefile").read_text().splitlines()
    assert ["fuzz" in line.split() for line in recipes if line.startswith("\tFOOBAR_SOAK=1 tools/test ")] == [True]
    suite.add("pytest", 'echo "$FOOBAR_SOAK $*" >> log')
    assert suite.run("fuzz", FOOBAR_SOAK="1").returncode == 0
    assert suite.log == ["1 tests/fuzz"]


def test_parts_are_run_by_name_and_by_the_name_of_a_link(suite):
    assert suite.run("long-debian12").returncode == 0
    assert suite.log == ["start long 12", "end long"]
    assert suite.run("default").returncode == 0
    assert suite.log[2:] == ["start namesake 13", "end namesake"]


def test_a_part_that_fails_fails_the_whole_and_the_others_run(suite):
    suite.add("pytest", "echo 1 failed, 4 passed in 2s; exit 1")
    done = suite.run("unit", "quick", "namesake")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "12 passed, 2 failed"
    assert "once more, alone: make test PARTS=unit" in done.stderr
    assert suite.log[-1] == "end namesake"
