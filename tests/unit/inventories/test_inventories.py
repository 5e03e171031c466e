"""Inventories of stages are what an operator copies; what only the local containers need stands once, in its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
STAGES = sorted((PROJECT / "inventories").glob("[0-9]*"))
LOCAL = PROJECT / "inventories/local"
OF_CONTAINERS = ("mysql_replication_apt_repository", "mysql_replication_buffer_pool_mb", "haproxy_keepalived_maxconn")
every_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda path: path.name)


def hostvars(*inventories: Path) -> dict[str, dict]:
    program = Path(sys.executable).with_name("ansible-inventory")
    command = [str(program), *(f"--inventory={inventory}" for inventory in inventories), "--list"]
    done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["_meta"]["hostvars"]


@every_stage
def test_a_stage_holds_nothing_of_the_local_containers_but_their_addresses(stage):
    for name, values in hostvars(stage).items():
        connection = {
            key
            for key in values
            if key.startswith("ansible_") and key not in ("ansible_host", "ansible_local", "ansible_python_interpreter")
        }
        assert connection | set(OF_CONTAINERS) & set(values) == set(), name
    text = "".join(path.read_text() for path in stage.rglob("*.yml"))
    assert ".local" not in text.replace("group_vars", "")


@every_stage
def test_a_stage_and_the_local_inventory_reach_containers_and_give_them_mysql(stage):
    for values in hostvars(stage, LOCAL).values():
        assert values["ansible_user"] == "ansible"
        assert values["ansible_ssh_private_key_file"].endswith("/.local/ssh/id_ed25519")
        assert values["mysql_replication_apt_repository"]["suites"] == ["sid"]
        assert "haproxy_keepalived_maxconn" in values


def test_the_local_inventory_has_no_hosts():
    assert hostvars(LOCAL) == {}


def test_debian_sid_stands_in_one_file():
    places = [path for folder in ("inventories", "molecule") for path in (PROJECT / folder).rglob("*.yml")]
    assert [path for path in places if "suites: [sid]" in path.read_text()] == [
        LOCAL / "group_vars/all/mysql_replication.yml"
    ]
