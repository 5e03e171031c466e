"""What visitors see of two applications, and what they do not see of deployments, good and bad ones."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

A, B = "foobar-app-a", "foobar-app-b"
APPLICATION = Path(__file__).resolve().parent.parent / "files/app"


@pytest.fixture(scope="module")
def host(hosts):
    return hosts[A]


@pytest.fixture(scope="module")
def page(get, addresses):
    """Return a function that asks the first application for a page."""
    return lambda path: get(f"http://{addresses[A]}:8000{path}", host="app")


@pytest.fixture(scope="module")
def version(page):
    """Return a function that says what the first application is made of."""
    return lambda: page("/version").json()


class Source:
    """A copy of the application that tests change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(APPLICATION, path)

    def edit(self, old: str, new: str, name: str = "web/wsgi.py") -> None:
        file = self.path / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The application as it was last deployed."""
    return Source(tmp_path_factory.mktemp("good") / "app")


@pytest.fixture
def bad(good, tmp_path):
    """A copy of that, to be broken."""
    bad = object.__new__(Source)
    bad.path = tmp_path / "app"
    shutil.copytree(good.path, bad.path)
    return bad


@pytest.fixture
def deploy(role, good):
    """Return a function that applies the role to the first host: ``deploy("--check", source, gunicorn_flask_x=1)``."""

    def run(*arguments, source: Source | None = None, **variables):
        wish = {"type": "directory", "path": str((source or good).path)}
        variables = {"gunicorn_flask_source": wish, **variables}
        return role("gunicorn_flask", "--limit", A, *arguments, **variables)

    return run


@pytest.fixture
def refused(deploy, version):
    """Return a function that deploys something bad and returns the one error. What ran before still runs."""

    def run(**arguments) -> str:
        before = version()["release"]
        done = deploy(**arguments)
        assert done.code != 0, done.output
        assert done.output.count("fatal: ") == 1, done.output
        assert version()["release"] == before
        return done.output

    return run


def releases(host) -> set[str]:
    return set(host.check_output("ls /srv/web/releases").split())


# --- what runs --------------------------------------------------------------------------------------------------------


def test_both_applications_answer(version, get, addresses):
    assert version()["edition"] == "first"
    answer = get(f"http://{addresses[B]}:8000/anything/here?x=1", host="httpbin")
    assert (answer.status_code, answer.json()["args"]) == (200, {"x": "1"})


def test_the_environment_arrives_as_it_was_written(page):
    wanted = {"QUOTES": "a \"b\" $c `d` \\e 'f' #g", "LINES": "one\n# two", "NUMBER": "1"}
    assert {name: page(f"/environment/{name}").text for name in wanted} == wanted


def test_the_application_has_few_rights(host, page):
    main = host.check_output("systemctl show --value --property MainPID web.service")
    assert host.check_output(f"ps -o user= --pid {main} --ppid {main}").split() == ["web"] * 3
    assert page("/writable").json() == ["/var/lib/web"]
    file = host.file("/etc/gunicorn/web/environment")
    assert (file.mode, file.user, file.group) == (0o640, "root", "web")
    exposure = host.check_output("systemd-analyze security web.service | tail -n 1")
    assert float(exposure.split(":")[1].split()[0]) <= 1.7, exposure


def test_the_chosen_host_has_migrated_once(host, version):
    assert host.file("/var/lib/web/migrations").content_string.split() == [version()["release"]]


# --- changes ----------------------------------------------------------------------------------------------------------


def test_a_changed_application_replaces_the_old_one_unnoticed(host, good, deploy, page, version, request_loop):
    before = version()
    good.edit('"first"', '"second"')
    predicted = deploy("--check", "--diff")
    assert (predicted.code, predicted.changed, version()["edition"]) == (0, 2, "first"), predicted.output
    assert releases(host) == {before["release"]}
    with ThreadPoolExecutor() as pool, request_loop(lambda: page("/version")) as visitor:
        deployment = pool.submit(deploy)
        slow = []
        while not deployment.done():
            slow.append(pool.submit(page, "/slow"))
            visitor.wait_for_answers(20)
        visitor.wait_for_answers(max(20, 200 - len(visitor.answered)))
        assert deployment.result().code == 0, deployment.result().output
        assert {answer.result().text for answer in slow} <= {"first", "second"}
    visitor.report("deployment of changed code")
    assert not visitor.failed
    after = version()
    assert (after["edition"], after["master"]) == ("second", before["master"])
    assert releases(host) == {before["release"], after["release"]}
    assert host.file("/var/lib/web/migrations").content_string.split() == [before["release"], after["release"]]
    assert deploy().changed == 0


def test_a_changed_environment_arrives_and_stays_secret(deploy, page, version, request_loop):
    before, canary = version(), "Kn4ry7Bird"
    environment = {"DATABASE_URL": f"mysql://app:{canary}@db/app", "TOKEN": f"{canary}2"}
    with request_loop(lambda: page("/version")) as visitor:
        done = deploy("-vvv", "--diff", gunicorn_flask_environment=environment)
    visitor.report("restart for a changed environment")
    assert (done.code, visitor.failed) == (0, []), done.output
    assert page("/environment/TOKEN").text == f"{canary}2" and page("/environment/NUMBER").text == ""
    assert canary not in done.output
    after = version()
    assert after["release"] == before["release"] and after["master"] != before["master"]
    assert deploy().changed == 1


def test_a_listener_may_move_to_a_socket_that_only_the_web_server_opens(host, deploy, version):
    path = "/run/web/web.sock"
    assert deploy(gunicorn_flask_listen=path).code == 0
    ask = f"curl --silent --max-time 5 --unix-socket {path} http://app/health"
    assert host.check_output(f"runuser -u www-data -- {ask}") == "well"
    assert host.run(f"runuser -u nobody -- {ask}").rc != 0
    with pytest.raises(requests.ConnectionError):
        version()
    assert deploy().code == 0 and version()["edition"] == "second"


# --- mishaps ----------------------------------------------------------------------------------------------------------


def test_no_request_is_lost_over_restarts(host, page, version, request_loop):
    with request_loop(lambda: page("/version")) as visitor:
        for command in ("systemctl restart web", "systemctl daemon-reexec", "systemctl restart web"):
            host.check_output(command)
            visitor.wait_for_answers(10)
    visitor.report("two restarts and a daemon-reexec")
    assert not visitor.failed


def test_a_killed_worker_is_replaced(host, version, eventually):
    before = version()["worker"]
    host.check_output(f"kill -9 {before}")
    eventually(lambda: {version()["worker"] for _ in range(10)} - {before})
    main = host.check_output("systemctl show --value --property MainPID web.service")
    eventually(lambda: len(host.check_output(f"pgrep --parent {main}").split()) == 2)


def test_what_was_stopped_is_started_and_what_was_switched_is_switched_back(host, deploy, version):
    before = version()["release"]
    host.check_output("systemctl disable --now web.socket web.service")
    host.check_output("ln --symbolic --force --no-dereference $(readlink /srv/web/previous) /srv/web/current")
    done = deploy()
    assert (done.code, version()["release"]) == (0, before), done.output
    assert host.check_output("systemctl is-enabled web.socket web.service").split() == ["enabled"] * 2


def test_a_release_that_somebody_changed_is_built_again(host, deploy, version):
    before = version()["release"]
    host.check_output("sed -i s/second/tampered/ /srv/web/releases/*/app/web/wsgi.py")
    done = deploy()
    assert (done.code, version()["release"], version()["edition"]) == (0, before, "second"), done.output
    assert f"{before}.1" in releases(host)


def die(host, run, program: str, eventually) -> None:
    """Begin a run, and kill that program on the host together with what started it, as a power cut would."""
    with ThreadPoolExecutor() as pool:
        died = pool.submit(run)
        child = eventually(lambda: host.run(f"pgrep --oldest --full '{program}'").stdout.strip())
        host.run(f"kill -9 $(ps -o ppid= {child}) {child}")
        assert died.result().code != 0, died.result().output


def test_a_run_that_died_twice_is_made_up_for(host, good, deploy, version, eventually):
    good.edit('"second"', '"third"')
    good.edit("app = Flask", "time.sleep(1)\napp = Flask")
    die(host, deploy, "[-]m pip .*install", eventually)
    assert version()["edition"] == "second"
    die(host, deploy, "[a]ctivate.py$", eventually)
    done = deploy()
    assert (done.code, version()["edition"]) == (0, "third"), done.output
    assert done.changed > 0 and len(releases(host)) == 2


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_variables_with_mistakes_are_named(refused):
    said = refused(
        gunicorn_flask_listen="8000",
        gunicorn_flask_environment={"9LIVES": "x", "DEBUG": True, "BELL": "\a"},
        gunicorn_flask_extra_settings={"workers": 3},
        gunicorn_flask_health_path="health",
    )
    for words in (
        "'8000' is neither address",
        "'9LIVES' cannot",
        "'DEBUG' is neither",
        "'BELL' holds",
        "'workers' is set",
    ):
        assert words in said
    assert "'health' is not a path" in said


def test_a_missing_source_is_named(refused):
    said = refused(gunicorn_flask_source={"type": "directory", "path": "/nowhere"})
    assert "gunicorn_flask_source.path: there is no directory /nowhere on the controller" in said


def test_a_requirement_that_does_not_exist_is_refused(refused):
    said = refused(gunicorn_flask_source={"type": "pypi", "requirement": "flask==999"})
    assert "pip cannot install flask==999" in said and "No matching distribution found" in said


def test_a_wrong_callable_is_refused(refused):
    said = refused(gunicorn_flask_wsgi="web.wsgi:nothing")
    assert "gunicorn_flask_wsgi: gunicorn cannot load 'web.wsgi:nothing'" in said
    assert "Failed to find attribute 'nothing'" in said


def test_an_unknown_setting_is_refused(refused):
    said = refused(gunicorn_flask_extra_settings={"max_request": 1})
    assert "gunicorn refuses its configuration: ValueError: gunicorn_flask_extra_settings: gunicorn 27" in said
    assert "has no setting max_request" in said


def test_an_address_of_somebody_else_is_refused(refused):
    said = refused(gunicorn_flask_listen="192.0.2.1:8000")
    assert "gunicorn_flask_listen: systemd cannot listen on 192.0.2.1:8000" in said
    assert "Cannot assign requested address" in said


def test_code_that_cannot_be_imported_is_refused(refused, bad):
    bad.edit("from flask", "import nothing_of_that_name\nfrom flask")
    assert "No module named 'nothing_of_that_name'" in refused(source=bad)


def test_a_migration_that_fails_is_refused(refused, bad):
    bad.edit("import os", "raise SystemExit('no such table')\nimport os", "web/migrate.py")
    said = refused(source=bad)
    assert "gunicorn_flask_migrate: `python -m web.migrate` failed" in said and "no such table" in said


def test_a_release_that_does_not_answer_is_taken_back(refused, bad, host):
    bad.edit('return "well"', "raise RuntimeError('out of order')")
    said = refused(source=bad)
    assert "GET /health on 0.0.0.0:8000 answered 500" in said and "RuntimeError: out of order" in said
    assert "the old one is back in place and applied" in said


def test_a_first_release_that_does_not_answer_leaves_nothing_running(deploy, bad, host, get, addresses):
    bad.edit('return "well"', "raise RuntimeError('out of order')")
    fresh = {"gunicorn_flask_name": "fresh", "gunicorn_flask_listen": "0.0.0.0:8001", "gunicorn_flask_migrate": []}
    done = deploy(source=bad, **fresh)
    assert done.code != 0 and "GET /health on 0.0.0.0:8001 answered 500" in done.output
    with pytest.raises(requests.ConnectionError):
        get(f"http://{addresses[A]}:8001/health")
    assert host.check_output("systemctl list-units --all --plain --no-legend 'fresh.*'") == ""
    assert not host.file("/etc/gunicorn/fresh").exists and not host.file("/srv/fresh/current").exists


def test_after_all_mistakes_two_good_runs_at_once_bring_the_next_edition(deploy, good, host, version):
    good.edit('"third"', '"last"')
    good.edit("time.sleep(1)\napp = Flask", "app = Flask")
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(deploy), pool.submit(deploy)]
    assert [run.result().code for run in runs] == [0, 0], "\n".join(run.result().output for run in runs)
    assert version()["edition"] == "last" and len(releases(host)) == 2
    assert deploy().changed == 0
