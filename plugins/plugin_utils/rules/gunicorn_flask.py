# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which variables of the role gunicorn_flask contradict each other.

Types are checked by argument_specs: a rule passes over a value of the wrong one.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import workshop
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import Mistake, RoleValues, Rule
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.values import (
    header_mistakes,
    mappings,
    number,
    repeated,
    text,
    texts,
)

NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
WSGI = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*(:[^\x00-\x1f\x7f]+)?")
LISTEN = re.compile(r"(\[[0-9a-fA-F:]+\]|[0-9]{1,3}(\.[0-9]{1,3}){3}):[0-9]{1,5}|/[^\s%]+")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Control characters, and codes that are no characters: for one of these systemd passes over all of a file or a line.
_LAST_OF_PLANES = "".join(chr(plane << 16 | code) for plane in range(17) for code in (0xFFFE, 0xFFFF))
NO_TEXT = re.compile(f"[\\x00-\\x08\\x0b-\\x1f\\x7f\\ud800-\\udfff\\ufdd0-\\ufdef{_LAST_OF_PLANES}]")
DIRECTORY = re.compile(r"/[^\s%/][^\s%]*")
UNIT_LINE = re.compile(r"[A-Z][A-Za-z0-9]*=[^\n]*")
MODE = re.compile(r"0?[0-7]{3}")
HELPER_NAME = re.compile(r"[a-z][a-z0-9-]*")
HEALTH_PATH = re.compile(r"/[!-~]*")

# Names of units and users of others, which must not be replaced.
FOREIGN_NAMES = (
    "ansible",
    "daemon",
    "gunicorn",
    "haproxy",
    "keepalived",
    "mysql",
    "nginx",
    "nobody",
    "root",
    "ssh",
    "sshd",
    "systemd",
    # /srv/www holds the files of nginx's sites.
    "www",
    "www-data",
)
# The settings that a release's switch and the units depend on.
OWN_SETTINGS = (
    "bind",
    "chdir",
    "config",
    "daemon",
    "forwarded_allow_ips",
    "graceful_timeout",
    "group",
    "pidfile",
    "preload_app",
    "raw_env",
    "reload",
    "threads",
    "timeout",
    "user",
    "wsgi_app",
    "workers",
)
# Options of the same, short or long, which win over the configuration.
OWN_OPTIONS = ("-b", "--bind", "-c", "--config", "--chdir", "-D", "--daemon", "--preload", "--reload")
# Templates of the role, which would be found before those of a playbook.
OWN_TEMPLATES = (
    "application.service.j2",
    "application.socket.j2",
    "deployment.json.j2",
    "environment.j2",
    "gunicorn.conf.py.j2",
    "helper.service.j2",
    "helper.timer.j2",
    "sandbox.j2",
)
POSITIVE = ("health_timeout", "migrate_timeout", "threads", "timeout")


def _environment(values: RoleValues) -> Iterator[tuple[str, str, Any]]:
    """Each variable of the environment: where it is set, its name and its value."""
    for place in ("gunicorn_flask_service_environment", "gunicorn_flask_environment"):
        environment = values.values.get(place)
        if isinstance(environment, Mapping):
            yield from ((place, str(name), value) for name, value in environment.items())


def name_is_free_for_a_user_and_units(values: RoleValues) -> Iterator[Mistake]:
    name = text(values.values.get("gunicorn_flask_name"))
    if name is None:
        return
    if not NAME.fullmatch(name):
        wrong = f"'{name}' cannot be the name of a user and of units"
        yield Mistake("gunicorn_flask_name", wrong, "use up to 31 lower case letters, digits, dashes and underscores")
    elif name in FOREIGN_NAMES:
        wrong = f"'{name}' is the name of a user or a service of the system"
        yield Mistake("gunicorn_flask_name", wrong, "choose another one")
    elif name.startswith(workshop.PREFIX):
        yield Mistake("gunicorn_flask_name", f"'{name}' is what a build is called", "choose another one")


def wsgi_names_a_callable(values: RoleValues) -> Iterator[Mistake]:
    wsgi = text(values.values.get("gunicorn_flask_wsgi"))
    if wsgi is not None and not WSGI.fullmatch(wsgi):
        yield Mistake("gunicorn_flask_wsgi", f"'{wsgi}' is not module:callable", "write it as in guestbook.wsgi:app")


def listener_is_an_address_or_a_path(values: RoleValues) -> Iterator[Mistake]:
    listen = text(values.values.get("gunicorn_flask_listen"))
    if listen is not None and not LISTEN.fullmatch(listen):
        name = text(values.values.get("gunicorn_flask_name")) or "guestbook"
        right = f"write it as in 0.0.0.0:8000, [::]:8000 or /run/{name}/{name}.sock"
        yield Mistake("gunicorn_flask_listen", f"'{listen}' is neither address:port nor a path", right)


def environment_has_names_of_variables(values: RoleValues) -> Iterator[Mistake]:
    for place, name, _value in _environment(values):
        if not VARIABLE.fullmatch(name):
            yield Mistake(place, f"'{name}' cannot be the name of a variable", "use letters, digits and underscores")


def environment_has_texts_and_numbers(values: RoleValues) -> Iterator[Mistake]:
    for place, name, value in _environment(values):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            yield Mistake(place, f"the value of '{name}' is neither a text nor a number", "quote it")
        elif isinstance(value, str) and NO_TEXT.search(value):
            wrong = f"the value of '{name}' holds a control character, or a code that is no character"
            yield Mistake(place, wrong, "encode it")


def arguments_for_gunicorn_are_read_and_leave_the_switch_to_the_role(values: RoleValues) -> Iterator[Mistake]:
    for place, name, value in _environment(values):
        if name != "GUNICORN_CMD_ARGS" or not isinstance(value, str):
            continue
        try:
            words = shlex.split(value)
        except ValueError as error:
            wrong = f"'{name}' is no list of words as a shell reads it ({error})"
            yield Mistake(place, wrong, "write each quote twice or escape it with a backslash")
            continue
        for option in dict.fromkeys(word.partition("=")[0] for word in words):
            if option in OWN_OPTIONS:
                wrong = f"'{name}' holds {option}, which the role sets or which keeps a release from being renewed"
                yield Mistake(place, wrong, "leave it out")


def writable_paths_are_absolute(values: RoleValues) -> Iterator[Mistake]:
    for path in texts(values.values.get("gunicorn_flask_writable_paths")):
        if not DIRECTORY.fullmatch(path):
            wrong = f"'{path}' is not an absolute path below /"
            yield Mistake("gunicorn_flask_writable_paths", wrong, "write it as in /srv/uploads")


def writable_paths_are_not_below_one_another(values: RoleValues) -> Iterator[Mistake]:
    """The application may make a link of any directory below one that it owns."""
    name = text(values.values.get("gunicorn_flask_name"))
    paths = texts(values.values.get("gunicorn_flask_writable_paths"))
    own = [f"/var/lib/{name}"] if name else []
    for path in paths:
        whole = posixpath.normpath(path)
        for place in dict.fromkeys([*own, *map(posixpath.normpath, paths)]):
            if whole.startswith(f"{place}/"):
                wrong = f"'{path}' is below {place}, which the application may write to"
                yield Mistake(
                    "gunicorn_flask_writable_paths", wrong, "leave it out: the application can make it itself"
                )
                break


def _files(values: RoleValues) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each file with the place that it is named at."""
    for entry in mappings(values.values.get("gunicorn_flask_files")):
        path = text(entry.get("path"))
        if path is not None:
            yield f"gunicorn_flask_files, '{path}'", entry


def files_stay_in_their_place(values: RoleValues) -> Iterator[Mistake]:
    for place, entry in _files(values):
        path = str(entry["path"])
        parts = path.split("/")
        if not path or path.startswith(("/", "~")) or ".." in parts or path in (".", "") or not path.isprintable():
            wrong = "it leads out of the directory of the application's files"
            yield Mistake(place, wrong, "write a path below that, such as shop.ini or conf/shop.ini")
        elif path != posixpath.normpath(path):
            yield Mistake(place, "it is written in a roundabout way", f"write {posixpath.normpath(path)}")


def files_are_listed_once(values: RoleValues) -> Iterator[Mistake]:
    paths = [str(entry["path"]) for _place, entry in _files(values)]
    for path in repeated(paths):
        yield Mistake("gunicorn_flask_files", f"'{path}' stands twice", "keep one")
    for path in dict.fromkeys(paths):
        if any(other.startswith(f"{path}/") for other in paths):
            wrong = f"'{path}' is a file and the directory of another one"
            yield Mistake("gunicorn_flask_files", wrong, "choose another path for one of them")


def files_have_one_source(values: RoleValues) -> Iterator[Mistake]:
    for place, entry in _files(values):
        given = [key for key in ("src", "content") if entry.get(key) is not None]
        if len(given) != 1:
            wrong = "it has both src and content" if given else "it has neither src nor content"
            yield Mistake(place, wrong, "write one of them")
        elif given == ["src"] and text(entry["src"]) in OWN_TEMPLATES:
            wrong = f"'{entry['src']}' is a template of the role"
            yield Mistake(place, wrong, "name yours with its directory, such as templates/" + str(entry["src"]))


def modes_of_files_keep_secrets(values: RoleValues) -> Iterator[Mistake]:
    for place, entry in _files(values):
        mode = entry.get("mode")
        if mode is None:
            continue
        if not isinstance(mode, str) or not MODE.fullmatch(mode):
            yield Mistake(place, f"{mode!r} is not a mode", 'write a quoted octal number such as "0640"')
        elif _is_true(entry.get("secret")) and int(mode, 8) & 0o007:
            yield Mistake(place, f"it is secret, and everybody may read it with mode {mode}", 'write "0640" or tighter')


def _is_true(value: Any) -> bool:
    try:
        return boolean(value)
    except TypeError:
        return False


def files_have_variables_of_their_own(values: RoleValues) -> Iterator[Mistake]:
    taken = {name for _place, name, _value in _environment(values)} | {"APP_FILES", "APP_RELEASE"}
    named = [(place, text(entry.get("variable"))) for place, entry in _files(values) if entry.get("variable")]
    for place, name in named:
        if name is None or not VARIABLE.fullmatch(name):
            wrong = f"'{name}' cannot be the name of a variable"
            yield Mistake(place, wrong, "use letters, digits and underscores")
        elif name in taken:
            yield Mistake(place, f"the variable '{name}' is set by somebody else as well", "choose another one")
    for name in repeated(name for _place, name in named if name):
        yield Mistake("gunicorn_flask_files", f"two files have the variable '{name}'", "choose another one for one")


def _helpers(values: RoleValues) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each service and timer with the place that it is named at."""
    for variable in ("gunicorn_flask_services", "gunicorn_flask_timers"):
        for entry in mappings(values.values.get(variable)):
            name = text(entry.get("name"))
            if name is not None:
                yield f"{variable}, '{name}'", entry


def services_and_timers_have_names_for_units(values: RoleValues) -> Iterator[Mistake]:
    found = list(_helpers(values))
    for place, entry in found:
        if not HELPER_NAME.fullmatch(str(entry["name"])):
            yield Mistake(place, "that cannot be part of a unit's name", "use lower case letters, digits and dashes")
    for name in repeated(str(entry["name"]) for _place, entry in found):
        wrong = f"'{name}' is the name of two services or timers"
        yield Mistake("gunicorn_flask_services and gunicorn_flask_timers", wrong, "choose another one for one of them")


def services_and_timers_have_commands(values: RoleValues) -> Iterator[Mistake]:
    right = "write a program and its arguments, such as [flask, digest, send]"
    for place, entry in _helpers(values):
        command = entry.get("command")
        words = texts(command)
        if not isinstance(command, list) or len(words) != len(command) or not words or not words[0]:
            yield Mistake(place, "its command is no list of words", right)
        elif words[0].startswith("-") or "=" in words[0]:
            yield Mistake(place, f"'{words[0]}' is no program", right)
        elif any(NO_TEXT.search(word) or "\n" in word for word in words):
            yield Mistake(place, "its command holds a line break or a control character", right)


def schedules_are_one_line(values: RoleValues) -> Iterator[Mistake]:
    for place, entry in _helpers(values):
        schedule = text(entry.get("schedule"))
        if schedule is not None and (not schedule.strip() or not schedule.isprintable()):
            yield Mistake(place, f"{schedule!r} is no time", "write it as in *-*-* 03:00, or daily")


def times_of_services_and_timers_are_positive(values: RoleValues) -> Iterator[Mistake]:
    for place, entry in _helpers(values):
        for key in ("stop_timeout", "timeout"):
            value = number(entry.get(key))
            if value is not None and value < 1:
                yield Mistake(place, f"{key} {value} is too little", "write at least 1")


def unit_lines_are_lines_of_a_unit(values: RoleValues) -> Iterator[Mistake]:
    listed = [("gunicorn_flask_unit_extra", values.values.get("gunicorn_flask_unit_extra"))]
    listed += [(f"{place}, unit_extra", entry.get("unit_extra")) for place, entry in _helpers(values)]
    for place, extra in listed:
        for line in texts(extra):
            if not UNIT_LINE.fullmatch(line):
                wrong = f"'{line}' is not a line of [Service]"
                yield Mistake(place, wrong, "write it as in MemoryDenyWriteExecute=no")


def health_path_is_a_path(values: RoleValues) -> Iterator[Mistake]:
    path = text(values.values.get("gunicorn_flask_health_path"))
    if path and not HEALTH_PATH.fullmatch(path):
        yield Mistake("gunicorn_flask_health_path", f"'{path}' is not a path of a URL", "write it as in /health")


def required_commands_can_be_run(values: RoleValues) -> Iterator[Mistake]:
    for place in ("gunicorn_flask_requires", "gunicorn_flask_service_requires"):
        for command in texts(values.values.get(place)):
            try:
                words = shlex.split(command)
            except ValueError:
                words = []
            if not words:
                right = "write a program and its arguments, such as /usr/bin/test -e /srv/licence"
                yield Mistake(place, f"'{command}' is no command", right)


def settings_of_the_role_are_its_own(values: RoleValues) -> Iterator[Mistake]:
    settings = values.values.get("gunicorn_flask_extra_settings")
    for name in OWN_SETTINGS:
        if isinstance(settings, Mapping) and name in settings:
            yield Mistake("gunicorn_flask_extra_settings", f"'{name}' is set by the role", "leave it out")


def what_is_removed_is_another_application(values: RoleValues) -> Iterator[Mistake]:
    for entry in mappings(values.values.get("gunicorn_flask_absent")):
        name = text(entry.get("name"))
        if name is None:
            continue
        if name == text(values.values.get("gunicorn_flask_name")):
            yield Mistake("gunicorn_flask_absent", f"'{name}' is the application to deploy", "leave it out")
        elif not NAME.fullmatch(name) or name in FOREIGN_NAMES:
            wrong = f"'{name}' cannot have been the name of an application"
            yield Mistake("gunicorn_flask_absent", wrong, "write what gunicorn_flask_name was")


def a_release_is_kept(values: RoleValues) -> Iterator[Mistake]:
    value = number(values.values.get("gunicorn_flask_releases_kept"))
    if value is not None and value < 1:
        yield Mistake("gunicorn_flask_releases_kept", f"{value} is too few", "keep at least 1")


def times_and_threads_are_positive(values: RoleValues) -> Iterator[Mistake]:
    for name in POSITIVE:
        value = number(values.values.get(f"gunicorn_flask_{name}"))
        if value is not None and value < 1:
            yield Mistake(f"gunicorn_flask_{name}", f"{value} is too little", "write at least 1")


def headers_have_a_size(values: RoleValues) -> Iterator[Mistake]:
    yield from header_mistakes("gunicorn_flask_header_kb", values.values.get("gunicorn_flask_header_kb"))


RULES: tuple[Rule, ...] = (
    name_is_free_for_a_user_and_units,
    wsgi_names_a_callable,
    listener_is_an_address_or_a_path,
    environment_has_names_of_variables,
    environment_has_texts_and_numbers,
    arguments_for_gunicorn_are_read_and_leave_the_switch_to_the_role,
    writable_paths_are_absolute,
    writable_paths_are_not_below_one_another,
    files_stay_in_their_place,
    files_are_listed_once,
    files_have_one_source,
    modes_of_files_keep_secrets,
    files_have_variables_of_their_own,
    services_and_timers_have_names_for_units,
    services_and_timers_have_commands,
    schedules_are_one_line,
    times_of_services_and_timers_are_positive,
    unit_lines_are_lines_of_a_unit,
    health_path_is_a_path,
    required_commands_can_be_run,
    settings_of_the_role_are_its_own,
    what_is_removed_is_another_application,
    a_release_is_kept,
    times_and_threads_are_positive,
    headers_have_a_size,
)
