"""What nginx publishes is what the role uses, and nothing that only the role may know."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[4] / "roles/nginx"
TEXT = (ROLE / "vars/published.yml").read_text()
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())


def published(**variables: object) -> dict:
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(TEXT)  # noqa: S701
    return yaml.safe_load(template.render(variables))["nginx_published"]


def source(name: str) -> str:
    return (ROLE / name).read_text()


def test_without_variables_it_is_what_the_defaults_give():
    assert published() == published(**DEFAULTS)


def test_a_variable_of_the_inventory_changes_it():
    changed = published(nginx_health_path="/healthz", nginx_status_port=8090)
    assert (changed["health_path"], changed["status_url"]) == ("/healthz", "http://127.0.0.1:8090/status")


def test_only_public_variables_are_read():
    assert set(re.findall(r"{{ *(\w+)", TEXT)) <= set(DEFAULTS)


def test_every_key_is_described():
    lines = TEXT.splitlines()
    undescribed = [
        line
        for before, line in zip(lines, lines[1:], strict=False)
        if re.match(r"  \w+:", line) and not before.startswith("  #")
    ]
    # Said by the comment above the one before.
    assert undescribed == [
        "  group: www-data",
        "  error_log: /var/log/nginx/error.log",
        "  own_log: /var/log/nginx/nginx.log",
    ]


@pytest.mark.parametrize(
    ("key", "place", "text"),
    [
        ("user", "templates/nginx.conf.j2", "\nuser {};\n"),
        ("access_log", "templates/nginx.conf.j2", "access_log {} json "),
        ("error_log", "templates/nginx.conf.j2", "    error_log {};"),
        ("own_log", "templates/nginx.conf.j2", "\nerror_log {};"),
        ("own_log", "templates/reload.j2", "\nlog={}\n"),
        ("configuration", "tasks/configure.yml", "root: {}\n"),
        ("static_root", "tasks/static.yml", "root: {}\n"),
        ("maintenance_directory", "templates/site.conf.j2", "if (-f {}/maintenance-{{{{ site.name }}}})"),
    ],
)
def test_the_role_uses_the_published_value(key, place, text):
    assert text.format(published()[key]) in source(place)


def test_reload_and_status_are_those_of_the_role():
    assert f"exec {' '.join(published()['reload'])}]" in source("tasks/configure.yml")
    assert "path: reload" in source("vars/main.yml")
    assert "listen 127.0.0.1:{{ nginx_status_port }} " in source("templates/internal.conf.j2")
    assert "location = /status {" in source("templates/internal.conf.j2")
    assert f"units: [{', '.join(published()['units'])}]" in source("tasks/configure.yml")
