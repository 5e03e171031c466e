"""What playbooks promise: they wire roles by public and published names alone, and stay short."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.applications import NOT_OF_AN_ENTRY
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Inventory
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.wiring import fixed_values
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import OPTIONS
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import COMPONENTS, TIERS

PROJECT = Path(__file__).resolve().parents[3]
STAGES_OF_ONE_HOST = {
    "0-simple_web_stack": dict.fromkeys(("webservers", "appservers", "databases"), ["one"]),
    "3-scale_up": dict.fromkeys(TIERS, ["one"]),
}
PLAYBOOKS = sorted((PROJECT / "playbooks").rglob("*.yml"))
ROLES = sorted(path.name for path in (PROJECT / "roles").iterdir() if path.is_dir())
#: Places on hosts that only roles know.
PLACES = re.compile(r"(?<![\w.}/])/(etc|run|srv|var|usr|opt)/")

#: What inventories may use besides.
PUBLISHED_OF_THE_SITE = {
    name
    for path in (PROJECT / "playbooks/vars").glob("*.yml")
    for name in yaml.safe_load(path.read_text())
    if name.startswith("site_")
}

#: What the playbook that imports another one gives to it.
GIVEN = {"__stage", "__pattern", "__variable"}
#: The number of a further application, while a task is for that.
OF_A_LOOP = {"__further_number"}
every_playbook = pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: str(path.relative_to(PROJECT)))


def published(role: str) -> dict:
    return yaml.safe_load((PROJECT / f"roles/{role}/vars/published.yml").read_text())[f"{role}_published"]


def public(role: str) -> set[str]:
    specs = yaml.safe_load((PROJECT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]
    return {name for entry in specs.values() for name in entry.get("options", {})}


def code(path: Path) -> str:
    """A playbook without its comments."""
    return re.sub(r"(?m)(^|\s)#.*$", "", path.read_text())


@every_playbook
def test_no_private_name_and_no_place_on_a_host_is_used(path):
    text = code(path)
    assert not re.findall(rf"__(?:{'|'.join(ROLES)})_\w+", text)
    assert not PLACES.search(text), PLACES.search(text)


@every_playbook
def test_every_name_of_a_role_is_public_or_published(path):
    for role in ROLES:
        for name in set(re.findall(rf"(?<![\w./])({role}_\w+)", code(path))):
            results = published(role).get("results", [])
            assert name == f"{role}_published" or name in public(role) or name in results, name


def uses(path: Path) -> Iterator[tuple[str, list[str]]]:
    for role, keys in re.findall(rf"({'|'.join(ROLES)})_published((?:\.\w+)+)", code(path)):
        yield role, keys.strip(".").split(".")


@every_playbook
def test_every_published_name_that_is_used_exists(path):
    for role, keys in uses(path):
        value = published(role)
        for key in keys:
            assert isinstance(value, dict) and key in value, f"{role}_published.{'.'.join(keys)}"
            value = value[key]


@every_playbook
def test_every_site_variable_that_is_used_is_declared(path):
    text = code(path)
    used = set(re.findall(r"(?<![\w.])(site_\w+)", text)) - {"site_values"}
    used |= {f"site_{name}" for name in re.findall(r"__site\.(\w+)", text)}
    assert used <= set(OPTIONS) | PUBLISHED_OF_THE_SITE


def test_what_playbooks_publish_of_a_site_is_documented_and_no_variable_of_an_inventory():
    words = (PROJECT / "docs/site.md").read_text()
    assert {name for name in PUBLISHED_OF_THE_SITE if f"`{name}`" in words} == PUBLISHED_OF_THE_SITE
    assert not PUBLISHED_OF_THE_SITE & set(OPTIONS)


@pytest.mark.parametrize(
    "path", [path for path in PLAYBOOKS if path.parent.name == "playbooks"], ids=lambda path: path.name
)
def test_every_play_reads_the_files_of_what_it_uses(path):
    for play in yaml.safe_load(path.read_text()):
        files = [(path.parent / file).resolve() for file in play.get("vars_files", [])]
        own = yaml.safe_load(yaml.safe_dump(play))
        texts = [code(file) for file in files] + [yaml.safe_dump(own)]
        needed = {role for text in texts for role in re.findall(rf"({'|'.join(ROLES)})_published", text)}
        there = {file.parents[1].name for file in files if file.name == "published.yml"}
        assert needed <= there, play["name"]
        private = {name for text in texts for name in re.findall(r"(?<![\w.])(__\w+)", text)}
        defined = {name for file in files for name in yaml.safe_load(file.read_text())} | set(play.get("vars", {}))
        assert private <= defined | GIVEN | OF_A_LOOP, play["name"]


@pytest.mark.parametrize(
    "path", [path for path in PLAYBOOKS if path.parent.name == "playbooks"], ids=lambda path: path.name
)
def test_every_play_states_what_an_ansible_cfg_could_change(path):
    for play in yaml.safe_load(path.read_text()):
        if "hosts" in play:
            # With free each host goes its own way: the second one switches before the first one has migrated.
            assert play.get("strategy") == "linear", play["name"]
            # A command for the case that a host is dead goes on without it, and a stage does not.
            assert isinstance(play.get("any_errors_fatal"), bool), play["name"]
            # Roles gather what they need, whatever an explicit or smart gathering has left.
            assert play.get("gather_facts") is False, play["name"]


def test_published_names_are_used_at_all():
    assert {role for path in PLAYBOOKS for role, _keys in uses(path)} == {
        component.role for component in COMPONENTS.values()
    }


def test_stages_and_commands_of_operators_stay_short():
    limits = {"[0-9]*.yml": 60, "mysql_*.yml": 15}
    for pattern, limit in limits.items():
        for path in (PROJECT / "playbooks").glob(pattern):
            # Which hosts there have to be is said before.
            text = re.sub(r"(?s)- name: Refuse hosts that there are not\n.*?\n\n", "", path.read_text())
            assert len(text.splitlines()) <= limit, path.name


@pytest.mark.parametrize("role", ROLES)
def test_a_role_publishes_one_dictionary_of_its_own(role):
    text = (PROJECT / f"roles/{role}/vars/published.yml").read_text()
    assert list(yaml.safe_load(text)) == [f"{role}_published"]
    # What is read on another host, or before the role has run, may not need what only the role knows.
    assert not re.findall(r"\b__\w+|ansible_facts|lookup\(", text)
    names = set(re.findall(rf"\b{role}_\w+", " ".join(re.findall(r"{{(.*?)}}", text, re.S))))
    assert names <= public(role) | set(published(role).get("results", []))


def plays_with_wiring() -> Iterator[tuple[str, list[Path]]]:
    for path in sorted((PROJECT / "playbooks").glob("*.yml")):
        for play in yaml.safe_load(path.read_text()):
            if "vars_files" in play:
                files = [(path.parent / name).resolve() for name in play["vars_files"]]
                yield f"{path.name}: {play['name']}", files


@pytest.mark.parametrize("files", [pytest.param(files, id=name) for name, files in plays_with_wiring()])
def test_a_play_reads_all_that_its_wiring_refers_to(files):
    defined = {name for path in files for name in yaml.safe_load(path.read_text())}
    used = " ".join(code(path) for path in files if path.parent.name == "vars" and path.name != "published.yml")
    assert set(re.findall(r"\b(?:[a-z_]+_published|__[a-z_]+)\b", used)) <= defined | OF_A_LOOP


def test_the_preflight_reads_all_wiring():
    play = yaml.safe_load((PROJECT / "playbooks/preflight.yml").read_text())[0]
    files = {(PROJECT / "playbooks" / name).resolve() for name in play["vars_files"]}
    # What a stage fixes, the preflight has from the model.
    wiring = {path for path in (PROJECT / "playbooks/vars").glob("*.yml") if path.name != "replication.yml"}
    assert files == wiring | set((PROJECT / "roles").glob("*/vars/published.yml"))


@pytest.mark.parametrize("stage", ["1-distributed_web_infrastructure", "3-scale_up"])
def test_databases_know_a_new_host_before_its_haproxy_asks_them(stage):
    plays = yaml.safe_load((PROJECT / f"playbooks/{stage}.yml").read_text())
    databases, asking = (
        [number for number, play in enumerate(plays) if f"web_infrastructure.{role}" in str(play.get("roles", ""))]
        for role in ("mysql_replication", "haproxy_keepalived")
    )
    assert databases and asking and max(databases) < min(asking)
    assert "vars/replication.yml" in plays[databases[0]]["vars_files"]


def test_what_the_wiring_sets_and_does_not_add_to_is_fixed():
    """Or it would override what an inventory says, without a word."""
    fixed = set()
    for stage, groups in STAGES_OF_ONE_HOST.items():
        hostvars = {"one": {"ansible_host": "198.18.0.1", "gunicorn_flask_name": "app"}}
        inventory = Inventory(stage, groups, hostvars, {}, lambda path: True)
        fixed |= set(fixed_values(inventory, "one"))
    wired = {
        name
        for path in (PROJECT / "playbooks/vars").glob("*.yml")
        for name in yaml.safe_load(path.read_text())
        if not name.startswith("__") and "_service_" not in name
    }
    # An inventory that sets one of these has an unknown variable.
    assert wired - PUBLISHED_OF_THE_SITE == fixed


def test_every_role_has_its_rules_and_their_test():
    assert sorted(roles.RULES) == ROLES
    for role in ROLES:
        assert (PROJECT / f"tests/unit/plugins/plugin_utils/rules/test_{role}.py").is_file(), role


# --- what is done to no host is no success

OPERATIONS = [
    path for path in (PROJECT / "playbooks").glob("*.yml") if path.stem.startswith(("mysql_", "deploy", "rollback"))
]


def run_playbook(path: Path, place: Path, inventory: dict, *arguments: str) -> tuple[int, str]:
    """Run a playbook with hosts that nothing can be sent to; return its code and what it has said."""
    hosts = place / "hosts.yml"
    hosts.write_text(yaml.safe_dump(inventory))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), f"--inventory={hosts}", *arguments, path],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("path", OPERATIONS, ids=lambda path: path.stem)
def test_every_operation_begins_with_a_look_at_its_hosts(path):
    first, second = yaml.safe_load(path.read_text())[:2]
    assert first["ansible.builtin.import_playbook"] == "hosts_exist.yml"
    assert first["vars"]["__pattern"] == second["hosts"]


@pytest.mark.parametrize(
    ("inventory", "arguments", "sentence"),
    [
        ({"databases": {"hosts": {"db2": {}}}}, ["-e", "mysql_backup_hosts=db1"], "no host of the inventory is 'db1'"),
        ({"webservers": {"hosts": {"web1": {}}}}, [], "no host of the inventory is 'databases'"),
        ({}, [], "no host of the inventory is 'databases'"),
        (
            {"databases": {"hosts": {"db1": {}}}, "webservers": {"hosts": {"web1": {}}}},
            ["--limit=web1"],
            "with --limit no host is left of 'databases'",
        ),
    ],
)
def test_a_backup_of_no_host_fails_with_a_sentence(tmp_path, inventory, arguments, sentence):
    code, said = run_playbook(PROJECT / "playbooks/mysql_backup.yml", tmp_path, inventory, *arguments)
    assert code != 0
    assert f"mysql_backup_hosts: {sentence}; nothing has been done" in said


def test_a_stage_without_an_inventory_fails_with_its_mistakes(tmp_path):
    code, said = run_playbook(PROJECT / "playbooks/1-distributed_web_infrastructure.yml", tmp_path, {})
    assert code != 0
    assert "databases: there is no such group" in said


# --- one application of several

SEVERAL = {
    "all": {
        "vars": {
            "ansible_connection": "local",
            "site_stage": "3-scale_up",
            "site_applications": [{"name": "shop", "domains": ["shop.foobar.com"], "port": 8001, "gunicorn_flask": {}}],
            "gunicorn_flask_name": "guestbook",
        },
        "children": {
            "loadbalancers": {"hosts": {"lb1": {}, "lb2": {}}},
            "appservers": {"hosts": {"app1": {}, "app2": {}}},
        },
    }
}


@pytest.mark.parametrize("name", ["deploy", "rollback"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["-e", "site_application=shopp"],
            "site_application: there is no application 'shopp'; there are guestbook",
        ),
        (
            ["-e", "gunicorn_flask_release=4f0c2b9be1d7"],
            "gunicorn_flask_release: with -e it would be for each application, and there are guestbook, shop",
        ),
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused_with_a_sentence(tmp_path, name, arguments, sentence):
    code, said = run_playbook(PROJECT / f"playbooks/{name}.yml", tmp_path, SEVERAL, *arguments)
    assert code != 0
    assert f"Nothing has been touched. {sentence}" in said


def test_what_further_applications_get_of_the_role_is_what_its_variables_are(monkeypatch):
    """The file is generated: a variable of the role that is not in it would be the first application's for all."""
    spec = importlib.util.spec_from_file_location("further_application", PROJECT / "tools/further_application.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text() == module.written()
    (task, *_rest) = yaml.safe_load(module.written())
    wired = set(yaml.safe_load((PROJECT / "playbooks/vars/application.yml").read_text()))
    # Of a command for a host alone there is nothing.
    assert public("gunicorn_flask") <= task["vars"].keys() | wired
    settable = {f"gunicorn_flask_{name}" for name in module.of_entries()}
    assert public("gunicorn_flask") - settable == {f"gunicorn_flask_{name}" for name in NOT_OF_AN_ENTRY}
    monkeypatch.setattr(module, "of_entries", lambda: {"workers": {"default": 3}})
    assert module.main(["--check"]) == 1


def test_the_rules_of_the_role_are_those_of_further_applications(tmp_path):
    entry = {
        "name": "blog",
        "domains": ["blog.foobar.com"],
        "port": 8001,
        "database": {"name": "blog", "user": "blog", "password": "planted-planted"},
        # What the playbooks publish, and what is known when facts are gathered, is no mistake.
        "environment": {"URI": "{{ site_database_write_url }}"},
        "gunicorn_flask": {
            "source": {"type": "directory", "path": "{{ inventory_dir }}/../../examples/guestbook"},
            "wsgi": "no callable",
            "workers": "{{ ansible_facts['processor_vcpus'] }}",
            "environment": {"GUNICORN_CMD_ARGS": "--reload", "WRITE_DATABASE_URL": "{{ site_database_write_url }}"},
        },
    }
    secrets = {"site_database_password": "planted-planted", "site_replication_password": "planted-planted"}
    inventory = {"all": {"vars": {"site_applications": [entry], **secrets}}}
    stage = f"--inventory={PROJECT}/inventories/3-scale_up"
    code, said = run_playbook(PROJECT / "playbooks/3-scale_up.yml", tmp_path, inventory, stage)
    assert code != 0
    assert "The inventory has 2 mistakes" in said
    place = "site_applications, 'blog', "
    assert f"{place}gunicorn_flask_wsgi (on foobar-app1, foobar-app2): 'no callable' is not module:callable" in said
    assert (
        f"{place}gunicorn_flask_environment (on foobar-app1, foobar-app2): 'GUNICORN_CMD_ARGS' holds --reload" in said
    )
    assert "planted" not in said


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [("guestbook", ""), ("blog", "'blog', static: "), ("", "'blog', static: ")],
)
def test_an_application_that_is_not_built_stops_no_run_for_another(tmp_path, chosen, sentence):
    release = tmp_path / "guestbook/releases/a"
    (release / "app/static").mkdir(parents=True)
    (release / "app/static/site.css").write_text("x")
    (release / ".complete").write_text("{}")
    (tmp_path / "guestbook/current").symlink_to("releases/a")
    static = [{"path": "/static/", "release": "static"}]
    variables = {
        "__site": {"application": chosen},
        "__applications": [{"name": "guestbook"}, {"name": "blog"}],
        "__static_of_releases": [static, static],
        "__first_appserver": "app1",
        "gunicorn_flask_published": {"root": f"{tmp_path}/{{{{ gunicorn_flask_name }}}}"},
    }
    look = {
        "ansible.builtin.debug": {
            "msg": "read: {{ __static_read.results | map(attribute='releases') | map('length') | join('+') }}"
        }
    }
    tasks = [{"ansible.builtin.include_tasks": str(PROJECT / "playbooks/tasks/static.yml")}, look]
    play = {"hosts": "app1", "gather_facts": False, "vars": variables, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"appservers": {"hosts": {"app1": host}}}
    code, said = run_playbook(tmp_path / "play.yml", tmp_path, inventory)
    assert (code == 0) is (sentence == "")
    assert f"{sentence}{tmp_path}/blog has no release to read" in said if sentence else "read: 1+0" in said
