"""What gunicorn_flask publishes is what the role uses, and nothing that only the role may know."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import yaml
from ansible_collections.foobar.web_infrastructure.plugins.filter.systemd import systemd_word

ROLE = Path(__file__).resolve().parents[4] / "roles/gunicorn_flask"
TEXT = (ROLE / "vars/published.yml").read_text()
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
OWN = yaml.safe_load((ROLE / "vars/main.yml").read_text())
NAME = {"gunicorn_flask_name": "guestbook"}


def rendered(text: str, **variables: object) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters["foobar.web_infrastructure.systemd_word"] = systemd_word
    return environment.from_string(text).render(NAME | variables)


def published(**variables: object) -> dict:
    return yaml.safe_load(rendered(TEXT, **variables))["gunicorn_flask_published"]


def source(name: str) -> str:
    return (ROLE / name).read_text()


def test_without_variables_it_is_what_the_defaults_give():
    assert published() == published(**DEFAULTS)


def test_a_variable_of_the_inventory_changes_it():
    changed = published(gunicorn_flask_health_path="", gunicorn_flask_listen="/run/a.sock")
    assert (changed["health_path"], changed["listen"]) == ("", "/run/a.sock")


def test_only_public_variables_are_read():
    assert set(re.findall(r"{{ *(\w+)", TEXT)) <= {*DEFAULTS, *NAME}


def test_every_key_is_described():
    lines = TEXT.splitlines()
    undescribed = [
        line.split(":")[0].strip()
        for before, line in zip(lines, lines[1:], strict=False)
        if re.match(r"  \w+:", line) and not before.startswith("  #")
    ]
    # Said by the comment above the one before.
    assert undescribed == ["group", "environment_file", "current"]


def test_the_role_uses_the_published_values():
    values = published()
    root, config = rendered(OWN["__gunicorn_flask_root"]), rendered(OWN["__gunicorn_flask_config"])
    assert values["configuration"] == config
    assert values["environment_file"] == f"{config}/environment"
    assert values["activate"] == [
        rendered(word, __gunicorn_flask_config=config) for word in OWN["__gunicorn_flask_activate"]
    ]
    assert (values["root"], values["releases"], values["current"]) == (root, f"{root}/releases", f"{root}/current")
    assert values["units"] == [rendered(unit) for unit in OWN["__gunicorn_flask_first_units"]]
    assert values["units"] == ["guestbook.socket", "guestbook.service"]
    section = source("templates/application.service.j2").split("[Service]")[1].split("{% include")[0]
    sandbox = source("templates/sandbox.j2").split("UMask")[0]
    paths = {"__gunicorn_flask_root": root, "__gunicorn_flask_config": config}
    service = rendered(section + sandbox, gunicorn_flask_wsgi="a:b", gunicorn_flask_timeout=30, **paths)
    for line in (
        f"User={values['user']}",
        f"Group={values['group']}",
        f"EnvironmentFile={values['environment_file']}",
        f"StateDirectory={values['state_directory'].removeprefix('/var/lib/')}",
    ):
        assert f"{line}\n" in service


def test_every_part_of_the_program_reaches_the_host():
    assert OWN["__gunicorn_flask_modules"] == sorted(path.stem for path in (ROLE / "files/gunicorn_flask").glob("*.py"))
