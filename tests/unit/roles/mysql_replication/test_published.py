"""The published names are those that the role itself uses."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from mysql_replication import check, local, server

ROLE = Path(__file__).resolve().parents[4] / "roles/mysql_replication"


def load(name: str) -> dict:
    return yaml.safe_load((ROLE / name).read_text())


PUBLISHED = load("vars/published.yml")["mysql_replication_published"]
OWN, DEFAULTS = load("vars/main.yml"), load("defaults/main.yml")


def test_paths_are_those_of_the_role():
    assert PUBLISHED["socket"] == OWN["__mysql_replication_socket"] == local.SOCKET
    assert PUBLISHED["program"] == OWN["__mysql_replication_program"]
    assert f"root: {PUBLISHED['configuration']}\n" in (ROLE / "tasks/configure.yml").read_text()


def test_units_are_those_of_the_role():
    units = PUBLISHED["units"]
    assert {units["guard"], units["check"]} == set(server.SERVICES)
    assert f"units: [{units['server']}]" in (ROLE / "tasks/configure.yml").read_text()
    for unit in server.SERVICES:
        assert PUBLISHED["program"] in (ROLE / f"templates/{unit}.j2").read_text()


def test_paths_of_the_role_check_are_all_that_it_answers():
    assert {PUBLISHED["check"][name] for name in PUBLISHED["check"] if name != "port"} == set(check.PATHS)


def test_defaults_are_those_of_the_role():
    assert f"default({DEFAULTS['mysql_replication_check_port']})" in PUBLISHED["check"]["port"]
    assert f"default('{DEFAULTS['mysql_replication_slow_log_file']}')" in PUBLISHED["logs"]["slow"]
    inner = DEFAULTS["mysql_replication_backup_directory"].removeprefix("{{ ").removesuffix(" }}")
    assert f"default({inner})" in PUBLISHED["backup_directory"]


def test_all_modules_are_installed():
    installed = {*OWN["__mysql_replication_check_modules"], *OWN["__mysql_replication_guard_modules"]}
    installed |= {*OWN["__mysql_replication_further_modules"]}
    assert installed == {path.name for path in (ROLE / "files/mysql_replication").glob("*.py")}


def test_versions_cover_what_the_services_import():
    """A change of a module restarts the services that use it, and no other."""
    sources = {path.stem: path.read_text() for path in (ROLE / "files/mysql_replication").glob("*.py")}

    def needed(name: str) -> set[str]:
        listed = re.findall(r"^from mysql_replication import (.+)$", sources[name], re.M)
        imported = {other for line in listed for other in line.split(", ")}
        imported |= set(re.findall(r"^from mysql_replication\.(\w+) import", sources[name], re.M))
        return {name}.union(*(needed(other) for other in imported))

    for service in ("check", "guard"):
        modules = {"__init__.py", *(f"{name}.py" for name in needed("cli") | needed(service))}
        assert set(OWN[f"__mysql_replication_{service}_modules"]) == modules
