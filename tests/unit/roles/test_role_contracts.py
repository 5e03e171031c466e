"""What every role promises: the same skeleton, an interface described as it is, secrets without defaults."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]
ROLES = sorted(path for path in (PROJECT / "roles").iterdir() if path.is_dir())
SKELETON = [
    "README.md",
    "defaults/main.yml",
    "handlers/main.yml",
    "meta/argument_specs.yml",
    "meta/main.yml",
    "tasks/main.yml",
    "vars/main.yml",
    "vars/published.yml",
]
SECRET = re.compile(r"(^|_)(password|secret|token|private_key|environment)s?$")
IMPORTS = {"name", "ansible.builtin.import_tasks", "when"}

#: Names after "ansible_" that are no facts.
OF_ANSIBLE = {"facts", "managed", "check_mode", "play_hosts", "play_hosts_all", "ssh_extra_args", "ssh_common_args"}

every_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> object:
    return yaml.safe_load(path.read_text())


def spec_of(role: Path) -> dict[str, dict]:
    """The options of all entry points; one that two of them have is the same in both."""
    entry_points = load(role / "meta/argument_specs.yml")["argument_specs"]
    options: dict[str, dict] = {}
    for entry_point in entry_points.values():
        for name, option in entry_point["options"].items():
            assert options.setdefault(name, option) == option, name
    return options


def nested(options: Mapping[str, dict], above: str = "") -> Iterator[tuple[str, dict]]:
    """Every option with the names of those around it: ``nginx_sites.locations.path``."""
    for name, option in options.items():
        yield f"{above}{name}", option
        yield from nested(option.get("options", {}), f"{above}{name}.")


def test_there_are_roles():
    assert {"gunicorn_flask", "haproxy_keepalived", "mysql_replication", "nginx"} <= {role.name for role in ROLES}


@every_role
def test_the_skeleton_is_complete(role):
    assert [name for name in SKELETON if not (role / name).is_file()] == []


@every_role
def test_defaults_and_specs_are_equal_in_names_order_and_values(role):
    described = {name: option["default"] for name, option in spec_of(role).items() if "default" in option}
    defaults = load(role / "defaults/main.yml") or {}
    assert list(described) == list(defaults)
    assert described == defaults


@every_role
def test_no_default_is_a_dictionary_that_a_merging_hash_behaviour_would_add_to(role):
    defaults = load(role / "defaults/main.yml") or {}
    assert [name for name, value in defaults.items() if isinstance(value, dict) and value] == []


@every_role
def test_facts_are_read_as_facts(role):
    """Whatever inject_facts_as_vars says."""
    for path in (*role.glob("tasks/*.yml"), *role.glob("vars/*.yml"), *role.glob("templates/*")):
        bare = set(re.findall(r"\bansible_(\w+)", path.read_text()))
        assert bare <= OF_ANSIBLE, path


@every_role
def test_what_has_no_default_is_required(role):
    without = [name for name, option in spec_of(role).items() if "default" not in option]
    assert [name for name in without if not spec_of(role)[name].get("required")] == []


@every_role
def test_every_option_is_described_with_type_and_example(role):
    for name, option in nested(spec_of(role)):
        description = option.get("description", "")
        text = description if isinstance(description, str) else " ".join(description)
        assert "type" in option, name
        assert text, name
        # What only holds other options is shown by theirs, a choice by its choices.
        assert "Example" in text or {"options", "choices"} & option.keys(), f"{name} has no example"


@every_role
def test_secrets_have_no_default_and_are_not_logged(role):
    for name, option in nested(spec_of(role)):
        if SECRET.search(name.rpartition(".")[2]):
            assert option.get("no_log"), name
            assert option.get("default") in (None, {}, []), name


@every_role
def test_names_carry_the_prefix(role):
    public = set(load(role / "defaults/main.yml") or {}) | set(spec_of(role))
    internal = set(load(role / "vars/main.yml") or {})
    assert [name for name in public if not name.startswith(f"{role.name}_")] == []
    assert [name for name in internal if not name.startswith(f"__{role.name}_")] == []


@every_role
def test_main_only_imports_and_files_stay_small(role):
    for task in load(role / "tasks/main.yml"):
        assert set(task) <= IMPORTS, task
    for path in (role / "tasks").glob("*.yml"):
        assert len(path.read_text().splitlines()) <= 80, path


@every_role
def test_programs_stay_readable(role):
    for path in (role / "files").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 650, path


@every_role
def test_tasks_are_named_after_their_file(role):
    for path in (role / "tasks").glob("*.yml"):
        if path.name != "main.yml":
            names = [task["name"] for task in load(path)]
            assert [name for name in names if not name.startswith(f"{path.stem} | ")] == []


@every_role
def test_roles_know_neither_groups_nor_each_other(role):
    others = [other.name for other in ROLES if other != role]
    for path in role.rglob("*"):
        if path.is_file() and path.name != "README.md":
            text = path.read_text()
            assert not re.search(r"\bgroups\[|\bgroups\.", text), path
            assert not [other for other in others if re.search(rf"\b_*{other}_\w", text)], path


def test_handlers_have_names_of_their_own():
    names = [handler["name"] for role in ROLES for handler in load(role / "handlers/main.yml") or []]
    assert sorted(names) == sorted(set(names))


def test_the_variable_tables_are_current():
    command = [sys.executable, str(PROJECT / "tools/variable_table.py"), "--check", *map(str, ROLES), "docs/site.md"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stale_table_is_found_and_renewed(tmp_path):
    role = tmp_path / "sample"
    (role / "meta").mkdir(parents=True)
    option = {"type": "str", "default": "a|b", "description": "Either V(a) or O(b). Example V(a)."}
    specs = {"argument_specs": {"main": {"options": {"sample_choice": option}}}}
    (role / "meta/argument_specs.yml").write_text(yaml.safe_dump(specs))
    (role / "README.md").write_text("# sample\n<!-- BEGIN_VARIABLES -->\nold\n<!-- END_VARIABLES -->\nend\n")
    command = [sys.executable, str(PROJECT / "tools/variable_table.py")]
    assert subprocess.run([*command, "--check", str(role)], capture_output=True).returncode == 1
    assert subprocess.run([*command, str(role)], capture_output=True).returncode == 0
    assert subprocess.run([*command, "--check", str(role)], capture_output=True).returncode == 0
    text = (role / "README.md").read_text()
    assert "| `sample_choice` | str | `a\\|b` | Either `a` or `b`. Example `a`. |" in text
    assert text.startswith("# sample\n") and text.endswith("\nend\n")
