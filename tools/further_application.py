#!/usr/bin/env python3
"""Writes playbooks/tasks/further_application.yml, which gives the role its variables for a further application.

further_application.py [--check]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[1]
ROLE = "gunicorn_flask"
TARGET = PROJECT / "playbooks/tasks/further_application.yml"
WIRING = PROJECT / "playbooks/vars/application.yml"
#: What a playbook says for all applications that it is for, as a rollback does.
CHOSEN = {"release": "__chosen_release", "migrate": "__chosen_migrate"}
HEAD = """\
---
# Written by tools/docs from the role's variables: each is what the entry of site_applications says, else its default.
# What an inventory says in the role's own variables is for the first application. What a stage wires is not here.
- name: further_application | Run the role for a further application
  ansible.builtin.include_role:
    name: foobar.web_infrastructure.gunicorn_flask
    tasks_from: "{{ __further_part }}"
    apply:
      tags: [always]
  vars:
    gunicorn_flask_name: "{{ site_applications[__further_number].name }}"
    # Applications to remove stand in one place.
    gunicorn_flask_absent: []
"""
TAIL = """
- name: further_application | Remember which release is meant
  ansible.builtin.set_fact:
    __further_releases: "{{ __further_releases | default({}) | combine({__application.name: __further_release}) }}"
  vars:
    __further_found: "{{ gunicorn_flask_plan if __further_part == 'plan' else gunicorn_flask_look }}"
    __further_release: "{{ {'name': __further_found.name, 'live': __further_found.live} }}"
  when: __further_part != 'main'
"""


def of_entries() -> dict[str, Mapping[str, Any]]:
    """The options of the role that an entry may set, by their short names: all but what a stage fixes or fills."""
    place = PROJECT / "roles" / ROLE / "meta/argument_specs.yml"
    options = yaml.safe_load(place.read_text())["argument_specs"]["main"]["options"]
    wired = yaml.safe_load(WIRING.read_text()).keys() | {f"{ROLE}_name", f"{ROLE}_absent"}
    return {name.removeprefix(f"{ROLE}_"): option for name, option in options.items() if name not in wired}


def assignment(name: str, option: Mapping[str, Any]) -> str:
    """The assignment of one variable of the role, as YAML."""
    value = f"__further.{name}"
    if not option.get("required"):
        value += f" | default({json.dumps(option['default'])})"
    if name in CHOSEN:
        value = f"{CHOSEN[name]} | default({value})"
    text = f"{{{{ {value} }}}}"
    if len(text) > 80:
        lines = text.replace(" | ", "\n      | ", 1)
        return f"    {ROLE}_{name}: >-\n      {lines}\n"
    quoted = f'"{text}"' if '"' not in text else f"'{text}'"
    return f"    {ROLE}_{name}: {quoted}\n"


def written() -> str:
    """What the file has to hold."""
    return HEAD + "".join(assignment(name, option) for name, option in of_entries().items()) + TAIL


def main(arguments: list[str]) -> int:
    fresh = written()
    if "--check" not in arguments:
        TARGET.write_text(fresh)
    elif not TARGET.exists() or TARGET.read_text() != fresh:
        stale = TARGET.relative_to(PROJECT)
        print(f"error: {stale} is not what the variables of the role say; run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
