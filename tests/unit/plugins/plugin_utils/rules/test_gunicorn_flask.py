"""Good variables give no mistake; each rule of gunicorn_flask, broken, gives its sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import gunicorn_flask, roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import RoleValues, lines

DEFAULTS = {name: option["default"] for name, option in roles.options("gunicorn_flask").items() if "default" in option}
GOOD: dict[str, Any] = DEFAULTS | {
    "gunicorn_flask_name": "guest-book_1",
    "gunicorn_flask_source": {"type": "directory", "path": "examples/guestbook"},
    "gunicorn_flask_wsgi": "guestbook.wsgi:app",
    "gunicorn_flask_listen": "[::]:8000",
    "gunicorn_flask_environment": {"LINES": "one\n\ttwo", "NUMBER": 1, "SHARE": 0.5},
    "gunicorn_flask_service_environment": {"WRITE_DATABASE_URL": "mysql://db/app"},
    "gunicorn_flask_writable_paths": ["/srv/uploads"],
    "gunicorn_flask_unit_extra": ["MemoryDenyWriteExecute=no", "Nice="],
    "gunicorn_flask_extra_settings": {"max_requests": 1000},
    "gunicorn_flask_files": [
        {"path": "conf/shop.ini", "src": "shop.ini.j2", "variable": "SHOP_SETTINGS"},
        {"path": "key", "content": "x", "mode": "0640", "secret": True},
        {"path": "open", "content": "", "mode": "644"},
    ],
    "gunicorn_flask_services": [{"name": "worker", "command": ["celery", "-A", "shop"], "unit_extra": ["Nice=5"]}],
    "gunicorn_flask_timers": [{"name": "nightly", "command": ["flask", "send"], "schedule": "*-*-* 03:00"}],
    "gunicorn_flask_absent": [{"name": "shop", "data": True}],
    "gunicorn_flask_requires": ["/usr/bin/test -e '/srv/my licence'"],
}


def told(values: Mapping[str, Any]) -> list[str]:
    return lines(roles.find_mistakes("gunicorn_flask", RoleValues("app1", values)))


def test_good_values_are_no_mistake():
    assert told(GOOD) == []


@pytest.mark.parametrize("listen", ["0.0.0.0:8000", "/run/guestbook/guestbook.sock"])
def test_good_listeners_are_no_mistake(listen):
    assert told(GOOD | {"gunicorn_flask_listen": listen, "gunicorn_flask_health_path": ""}) == []


@pytest.mark.parametrize("wsgi", ["shop:create_app('production')", 'shop:make("a b", n=1)', "shop"])
def test_any_expression_of_gunicorn_is_no_mistake(wsgi):
    arguments = {"GUNICORN_CMD_ARGS": """--access-logformat '%(h)s "%(r)s"' --threads 2"""}
    assert told(GOOD | {"gunicorn_flask_wsgi": wsgi, "gunicorn_flask_environment": arguments}) == []


def service(**changes: Any) -> dict[str, Any]:
    return {"name": "worker", "command": ["celery"], **changes}


def environment_rows(variable: str) -> list[tuple[str, dict[str, Any], str]]:
    return [
        (
            "environment_has_names_of_variables",
            {variable: {"9LIVES": "x"}},
            f"{variable}: '9LIVES' cannot be the name of a variable; use letters, digits and underscores",
        ),
        *(
            (
                "environment_has_texts_and_numbers",
                {variable: {"DEBUG": value}},
                f"{variable}: the value of 'DEBUG' is neither a text nor a number; quote it",
            )
            for value in (True, None, ["x"], {"a": "b"})
        ),
        *(
            (
                "environment_has_texts_and_numbers",
                {variable: {"BELL": f"secret{sign}"}},
                f"{variable}: the value of 'BELL' holds a control character, or a code that is no character; encode it",
            )
            for sign in ("\a", "\r", "\ud800", "\ufdd0", "\ufffe", "\U0010ffff")
        ),
        (
            "arguments_for_gunicorn_are_read_and_leave_the_switch_to_the_role",
            {variable: {"GUNICORN_CMD_ARGS": "--access-logformat '%(h)s"}},
            f"{variable}: 'GUNICORN_CMD_ARGS' is no list of words as a shell reads it (No closing quotation); "
            "write each quote twice or escape it with a backslash",
        ),
        *(
            (
                "arguments_for_gunicorn_are_read_and_leave_the_switch_to_the_role",
                {variable: {"GUNICORN_CMD_ARGS": f"--threads 2 {option}=x"}},
                f"{variable}: 'GUNICORN_CMD_ARGS' holds {option}, which the role sets or which keeps a release from "
                "being renewed; leave it out",
            )
            for option in gunicorn_flask.OWN_OPTIONS
        ),
    ]


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    (
        "headers_have_a_size",
        {"gunicorn_flask_header_kb": 0},
        "gunicorn_flask_header_kb: 0 is no size for headers; choose 4 to 256 kilobytes",
    ),
    (
        "name_is_free_for_a_user_and_units",
        {"gunicorn_flask_name": "Guest Book"},
        "gunicorn_flask_name: 'Guest Book' cannot be the name of a user and of units; "
        "use up to 31 lower case letters, digits, dashes and underscores",
    ),
    *(
        (
            "name_is_free_for_a_user_and_units",
            {"gunicorn_flask_name": name},
            f"gunicorn_flask_name: '{name}' is the name of a user or a service of the system; choose another one",
        )
        for name in gunicorn_flask.FOREIGN_NAMES
    ),
    (
        "name_is_free_for_a_user_and_units",
        {"gunicorn_flask_name": "gunicorn_flask-build-x"},
        "gunicorn_flask_name: 'gunicorn_flask-build-x' is what a build is called; choose another one",
    ),
    (
        "wsgi_names_a_callable",
        {"gunicorn_flask_wsgi": "guestbook/wsgi.py"},
        "gunicorn_flask_wsgi: 'guestbook/wsgi.py' is not module:callable; write it as in guestbook.wsgi:app",
    ),
    *(
        (
            "listener_is_an_address_or_a_path",
            {"gunicorn_flask_listen": listen},
            f"gunicorn_flask_listen: '{listen}' is neither address:port nor a path; "
            "write it as in 0.0.0.0:8000, [::]:8000 or /run/guest-book_1/guest-book_1.sock",
        )
        for listen in ("8000", "localhost:8000", "/run/%n.sock")
    ),
    *environment_rows("gunicorn_flask_environment"),
    *environment_rows("gunicorn_flask_service_environment"),
    (
        "writable_paths_are_absolute",
        {"gunicorn_flask_writable_paths": ["uploads"]},
        "gunicorn_flask_writable_paths: 'uploads' is not an absolute path below /; write it as in /srv/uploads",
    ),
    *(
        (
            "writable_paths_are_not_below_one_another",
            {"gunicorn_flask_writable_paths": ["/srv/uploads", "/srv/uploads2", path]},
            f"gunicorn_flask_writable_paths: '{path}' is below {place}, which the application may write to; "
            "leave it out: the application can make it itself",
        )
        for path, place in (
            ("/var/lib/guest-book_1/uploads", "/var/lib/guest-book_1"),
            ("/var/lib/guest-book_1x/../guest-book_1/a/b", "/var/lib/guest-book_1"),
            ("/srv/uploads/a/b", "/srv/uploads"),
        )
    ),
    (
        "unit_lines_are_lines_of_a_unit",
        {"gunicorn_flask_unit_extra": ["[Install]"]},
        "gunicorn_flask_unit_extra: '[Install]' is not a line of [Service]; write it as in MemoryDenyWriteExecute=no",
    ),
    (
        "unit_lines_are_lines_of_a_unit",
        {"gunicorn_flask_services": [service(unit_extra=["[Install]"])]},
        "gunicorn_flask_services, 'worker', unit_extra: '[Install]' is not a line of [Service]; "
        "write it as in MemoryDenyWriteExecute=no",
    ),
    *(
        (
            "files_stay_in_their_place",
            {"gunicorn_flask_files": [{"path": path, "content": "x"}]},
            f"gunicorn_flask_files, '{path}': it leads out of the directory of the application's files; "
            "write a path below that, such as shop.ini or conf/shop.ini",
        )
        for path in ("/etc/passwd", "../activate.py", "a/../../b", "~/x", ".", "", "a\nb")
    ),
    (
        "files_stay_in_their_place",
        {"gunicorn_flask_files": [{"path": "a//b", "content": "x"}]},
        "gunicorn_flask_files, 'a//b': it is written in a roundabout way; write a/b",
    ),
    (
        "files_are_listed_once",
        {"gunicorn_flask_files": [{"path": "a", "content": "x"}, {"path": "a", "content": "y"}]},
        "gunicorn_flask_files: 'a' stands twice; keep one",
    ),
    (
        "files_are_listed_once",
        {"gunicorn_flask_files": [{"path": "a", "content": "x"}, {"path": "a/b", "content": "y"}]},
        "gunicorn_flask_files: 'a' is a file and the directory of another one; choose another path for one of them",
    ),
    (
        "files_have_one_source",
        {"gunicorn_flask_files": [{"path": "a"}]},
        "gunicorn_flask_files, 'a': it has neither src nor content; write one of them",
    ),
    (
        "files_have_one_source",
        {"gunicorn_flask_files": [{"path": "a", "src": "a.j2", "content": "x"}]},
        "gunicorn_flask_files, 'a': it has both src and content; write one of them",
    ),
    *(
        (
            "files_have_one_source",
            {"gunicorn_flask_files": [{"path": "a", "src": name}]},
            f"gunicorn_flask_files, 'a': '{name}' is a template of the role; "
            f"name yours with its directory, such as templates/{name}",
        )
        for name in gunicorn_flask.OWN_TEMPLATES
    ),
    *(
        (
            "modes_of_files_keep_secrets",
            {"gunicorn_flask_files": [{"path": "a", "content": "x", "mode": mode}]},
            f"gunicorn_flask_files, 'a': {mode!r} is not a mode; write a quoted octal number such as \"0640\"",
        )
        for mode in (640, "u=rw", "99")
    ),
    (
        "modes_of_files_keep_secrets",
        {"gunicorn_flask_files": [{"path": "a", "content": "x", "mode": "0644", "secret": "yes"}]},
        "gunicorn_flask_files, 'a': it is secret, and everybody may read it with mode 0644; write \"0640\" or tighter",
    ),
    (
        "files_have_variables_of_their_own",
        {"gunicorn_flask_files": [{"path": "a", "content": "x", "variable": "9"}]},
        "gunicorn_flask_files, 'a': '9' cannot be the name of a variable; use letters, digits and underscores",
    ),
    *(
        (
            "files_have_variables_of_their_own",
            {"gunicorn_flask_files": [{"path": "a", "content": "x", "variable": name}]},
            f"gunicorn_flask_files, 'a': the variable '{name}' is set by somebody else as well; choose another one",
        )
        for name in ("NUMBER", "WRITE_DATABASE_URL", "APP_FILES")
    ),
    (
        "files_have_variables_of_their_own",
        {"gunicorn_flask_files": [{"path": path, "content": "x", "variable": "A"} for path in "ab"]},
        "gunicorn_flask_files: two files have the variable 'A'; choose another one for one",
    ),
    (
        "services_and_timers_have_names_for_units",
        {"gunicorn_flask_services": [service(name="a b")]},
        "gunicorn_flask_services, 'a b': that cannot be part of a unit's name; "
        "use lower case letters, digits and dashes",
    ),
    (
        "services_and_timers_have_names_for_units",
        {"gunicorn_flask_services": [service(name="nightly")]},
        "gunicorn_flask_services and gunicorn_flask_timers: 'nightly' is the name of two services or timers; "
        "choose another one for one of them",
    ),
    *(
        (
            "services_and_timers_have_commands",
            {"gunicorn_flask_services": [service(command=command)]},
            f"gunicorn_flask_services, 'worker': {wrong}; "
            "write a program and its arguments, such as [flask, digest, send]",
        )
        for command, wrong in (
            ([], "its command is no list of words"),
            ("celery worker", "its command is no list of words"),
            ([["a"]], "its command is no list of words"),
            (["A=b", "x"], "'A=b' is no program"),
            (["-x"], "'-x' is no program"),
            (["a", "b\nExecStart=c"], "its command holds a line break or a control character"),
        )
    ),
    (
        "schedules_are_one_line",
        {"gunicorn_flask_timers": [{"name": "nightly", "command": ["a"], "schedule": "daily\nOnBootSec=1"}]},
        "gunicorn_flask_timers, 'nightly': 'daily\\nOnBootSec=1' is no time; write it as in *-*-* 03:00, or daily",
    ),
    (
        "times_of_services_and_timers_are_positive",
        {"gunicorn_flask_services": [service(stop_timeout="0")]},
        "gunicorn_flask_services, 'worker': stop_timeout 0 is too little; write at least 1",
    ),
    (
        "health_path_is_a_path",
        {"gunicorn_flask_health_path": "health"},
        "gunicorn_flask_health_path: 'health' is not a path of a URL; write it as in /health",
    ),
    *(
        (
            "required_commands_can_be_run",
            {variable: [command]},
            f"{variable}: '{command}' is no command; "
            "write a program and its arguments, such as /usr/bin/test -e /srv/licence",
        )
        for variable in ("gunicorn_flask_requires", "gunicorn_flask_service_requires")
        for command in ("", "/bin/echo 'open")
    ),
    *(
        (
            "settings_of_the_role_are_its_own",
            {"gunicorn_flask_extra_settings": {name: "x"}},
            f"gunicorn_flask_extra_settings: '{name}' is set by the role; leave it out",
        )
        for name in gunicorn_flask.OWN_SETTINGS
    ),
    (
        "what_is_removed_is_another_application",
        {"gunicorn_flask_absent": [{"name": "guest-book_1"}]},
        "gunicorn_flask_absent: 'guest-book_1' is the application to deploy; leave it out",
    ),
    *(
        (
            "what_is_removed_is_another_application",
            {"gunicorn_flask_absent": [{"name": name}]},
            f"gunicorn_flask_absent: '{name}' cannot have been the name of an application; "
            "write what gunicorn_flask_name was",
        )
        for name in ("..", "a/b", "root", "www", "")
    ),
    (
        "a_release_is_kept",
        {"gunicorn_flask_releases_kept": 0},
        "gunicorn_flask_releases_kept: 0 is too few; keep at least 1",
    ),
    *(
        (
            "times_and_threads_are_positive",
            {f"gunicorn_flask_{name}": "0"},
            f"gunicorn_flask_{name}: 0 is too little; write at least 1",
        )
        for name in gunicorn_flask.POSITIVE
    ),
]


@pytest.mark.parametrize(("rule", "changes", "sentence"), BROKEN, ids=[sentence for _rule, _, sentence in BROKEN])
def test_a_broken_rule_gives_its_sentence(rule, changes, sentence):
    values = GOOD | changes
    assert told(values) == [sentence]
    assert lines(getattr(gunicorn_flask, rule)(RoleValues("app1", values))) == [sentence]


def test_every_rule_is_broken_by_a_test():
    assert {rule.__name__ for rule in gunicorn_flask.RULES} == {rule for rule, _changes, _sentence in BROKEN}


ODD: list[Any] = [None, True, -1, 2.5, "", "\n", b"x", [], [None], [[]], [{}], {}, {1: None}, {"a": {"b": []}}, [1]]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("name", sorted(GOOD))
def test_no_rule_raises_on_an_odd_type(name, odd):
    told(GOOD | {name: odd})
    told({name: odd})


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("key", ["path", "src", "content", "mode", "secret", "variable"])
def test_no_rule_raises_on_an_odd_file(key, odd):
    told(GOOD | {"gunicorn_flask_files": [{"path": "a", "content": "x", key: odd}]})


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("key", ["name", "command", "schedule", "stop_timeout", "unit_extra"])
def test_no_rule_raises_on_an_odd_service(key, odd):
    told(GOOD | {"gunicorn_flask_services": [service(**{key: odd})], "gunicorn_flask_timers": [service(**{key: odd})]})


def test_templates_of_the_role_are_known():
    folder = Path(__file__).resolve().parents[5] / "roles/gunicorn_flask/templates"
    assert sorted(path.name for path in folder.iterdir()) == list(gunicorn_flask.OWN_TEMPLATES)
