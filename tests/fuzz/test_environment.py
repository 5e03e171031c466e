"""The file of an application's environment means to its reader, and to systemd, what the rules let an operator say."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import gunicorn_flask as rules
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import RoleValues
from gunicorn_flask import application
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import Environment

PROJECT = Path(__file__).resolve().parents[2]
MARK = 'It\'s "managed" \\ $x'
NAMES = st.from_regex(rules.VARIABLE, fullmatch=True).map(lambda name: name[:20])
TEXTS = st.one_of(
    st.text("ab \"'\\$`#;=\n\t%{}!*~&|<>()", max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
VALUES = st.one_of(TEXTS, st.integers(), st.floats(allow_nan=False))


def allowed(environment: dict[str, object]) -> bool:
    values = RoleValues("web1", {"gunicorn_flask_environment": environment})
    judges = (rules.environment_has_names_of_variables, rules.environment_has_texts_and_numbers)
    return not any(mistake for rule in judges for mistake in rule(values))


ENVIRONMENTS = st.dictionaries(NAMES, VALUES, max_size=4).filter(allowed)


@pytest.fixture(scope="module")
def template():
    """Return a function that renders the role's template."""
    engine = Environment(trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 - no page, a file of settings
    engine.filters["comment"] = lambda text: f"#\n# {text}\n#"
    found = engine.from_string((PROJECT / "roles/gunicorn_flask/templates/environment.j2").read_text())
    return lambda environment: found.render(ansible_managed=MARK, __gunicorn_flask_environment=environment)


def read_as_systemd(text: str) -> dict[str, str]:
    """EnvironmentFile as systemd reads it, src/basic/env-file.c, as far as the template writes it."""
    found, state, name, value = {}, "before", "", ""
    for sign in text:
        if state == "before":
            if sign in "#;":
                state = "comment"
            elif not sign.isspace():
                state, name, value = "name", sign, ""
        elif state == "comment":
            state = {"\n": "before", "\\": "comment escape"}.get(sign, "comment")
        elif state == "comment escape":
            state = "comment"
        elif state == "name":
            if sign == "=":
                state = "value"
            else:
                name += sign
        elif state == "value":
            if sign == "\n":
                found[name], state = value, "before"
            elif sign == '"':
                state = "quoted"
            else:
                raise ValueError(f"{sign!r} outside of quotes")
        elif state == "quoted":
            if sign == '"':
                state = "value"
            elif sign == "\\":
                state = "escape"
            else:
                value += sign
        elif state == "escape":
            value += sign if sign in '"\\`$' else "" if sign == "\n" else f"\\{sign}"
            state = "quoted"
    return found


@given(ENVIRONMENTS)
@example({"A": '\\"\n#x', "B": "$HOME `x` \\$"})
def test_what_the_template_writes_both_read_alike(template, environment):
    text, meant = template(environment), {name: str(value) for name, value in environment.items()}
    assert read_as_systemd(text) == meant
    assert application.parse_environment(text) == meant


@given(NAMES, TEXTS)
def test_a_line_is_written_as_the_template_writes_it(template, name, value):
    assert application.environment_line(name, value) == template({name: value}).partition("\n#\n")[2]


@given(ENVIRONMENTS, NAMES, TEXTS)
def test_the_last_line_of_a_variable_counts(template, environment, name, value):
    text = template(environment) + application.environment_line(name, value)
    assert application.parse_environment(text)[name] == value == read_as_systemd(text)[name]


def is_text(sign: str) -> bool:
    """What systemd takes in a value: it refuses the whole file for one sign that is no character, src/basic/utf8.c."""
    code = ord(sign)
    return not (0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE)


@given(st.text(st.characters(), max_size=3))
@example("\ufffe")
@example("\ud800")
def test_what_the_rules_allow_systemd_takes(value):
    if allowed({"A": value}):
        assert all(map(is_text, value))
