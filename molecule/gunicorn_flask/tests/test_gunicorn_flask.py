"""What visitors see of two applications, and what they do not see of deployments, good and bad ones."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jinja2
import pytest
import requests
import yaml
from helpers.load import within
from helpers.run import note_figure

A, B = "foobar-app-a", "foobar-app-b"


def releases(host) -> set[str]:
    return set(host.check_output("ls /srv/web/releases").split())


# --- what runs --------------------------------------------------------------------------------------------------------


def test_both_applications_answer(version, get, addresses):
    assert version()["edition"] == "first"
    answer = get(f"http://{addresses[B]}:8000/anything/here?x=1", host="httpbin")
    assert (answer.status_code, answer.json()["args"]) == (200, {"x": "1"})


def test_environment_values_are_quoted_correctly(page):
    wanted = {"QUOTES": "a \"b\" $c `d` \\e 'f' #g", "LINES": "one\n# two", "NUMBER": "1"}
    assert {name: page(f"/environment/{name}").text for name in wanted} == wanted


def test_variables_of_the_inventory_join_the_wired_ones_and_replace_those_of_their_name(page):
    wanted = {"WIRED": "by a playbook", "REPLACED": "by the inventory"}
    assert {name: page(f"/environment/{name}").text for name in wanted} == wanted


@pytest.mark.parametrize("name", [A, B])
def test_published_places_are_there(hosts, inventory, addresses, get, name):
    host, variables = hosts[name], inventory["_meta"]["hostvars"][name]
    text = (Path(__file__).parents[3] / "roles/gunicorn_flask/vars/published.yml").read_text()
    text = jinja2.Template(text, undefined=jinja2.StrictUndefined).render(variables)
    published = yaml.safe_load(text)["gunicorn_flask_published"]
    assert all(host.service(unit).is_running for unit in published["units"])
    assert published["listen"] == "0.0.0.0:8000"
    assert get(f"http://{addresses[name]}:8000{published['health_path']}").status_code == 200
    file = host.file(published["environment_file"])
    assert (file.mode, file.group) == (0o640, published["group"])
    main = host.check_output(f"systemctl show --value --property MainPID {published['log_unit']}")
    assert host.check_output(f"ps -o user= --pid {main}") == published["user"]
    assert host.check_output(f"readlink --canonicalize {published['current']}").startswith(published["releases"])
    assert host.file(published["state_directory"]).user == published["user"]
    # What it is told already runs.
    host.check_output(" ".join(published["activate"]))


def test_application_runs_sandboxed_as_its_own_user(host, page):
    main = host.check_output("systemctl show --value --property MainPID web.service")
    assert host.check_output(f"ps -o user= --pid {main} --ppid {main}").split() == ["web"] * 3
    assert page("/writable").json() == ["/var/lib/web"]
    file = host.file("/etc/gunicorn/web/environment")
    assert (file.mode, file.user, file.group) == (0o640, "root", "web")
    assert page("/sandbox").text == "refused"
    exposure = host.check_output("systemd-analyze security web.service | tail -n 1")
    assert float(exposure.split(":")[1].split()[0]) <= 1.3, exposure


def test_migrations_run_once(host, version):
    assert host.file("/var/lib/web/migrations").content_string.split() == [version()["release"]]


# --- changes ----------------------------------------------------------------------------------------------------------


def test_deployment_of_changed_code_fails_no_request(host, good, deploy, page, version, request_loop):
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
    assert page("/environment/WIRED").text == page("/environment/REPLACED").text == "by a playbook"
    assert canary not in done.output
    after = version()
    assert after["release"] == before["release"] and after["master"] != before["master"]
    assert deploy().changed == 1


def test_unix_socket_is_open_to_the_web_servers_group_only(host, deploy, version):
    path = "/run/web/web.sock"
    assert deploy(gunicorn_flask_listen=path).code == 0
    ask = f"curl --silent --max-time 5 --unix-socket {path} http://app/health"
    assert host.check_output(f"runuser -u www-data -- {ask}") == "well"
    assert host.run(f"runuser -u nobody -- {ask}").rc != 0
    with pytest.raises(requests.ConnectionError):
        version()
    assert deploy().code == 0 and version()["edition"] == "second"


# --- sources ----------------------------------------------------------------------------------------------------------


def git(path: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", "-C", str(path), *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(good, tmp_path):
    """A repository with the good application in a subdirectory."""
    path = tmp_path / "repository"
    shutil.copytree(good.path, path / "services/web")
    git(tmp_path, "init", str(path))
    git(path, "add", ".")
    git(path, "commit", "--message", "one")
    return path


def test_a_branch_is_followed_and_a_commit_stays(repository, deploy, version):
    wish = {"type": "git", "url": f"file://{repository}", "revision": "main", "subdirectory": "services/web"}
    predicted = deploy("--check", gunicorn_flask_source=wish)
    assert predicted.code == 0 and predicted.changed, predicted.output
    first = git(repository, "rev-parse", "HEAD")
    assert deploy(gunicorn_flask_source=wish).code == 0
    assert deploy(gunicorn_flask_source=wish).changed == 0
    before = version()["release"]
    file = repository / "services/web/web/wsgi.py"
    file.write_text(file.read_text().replace('"second"', '"of the branch"'))
    git(repository, "commit", "--all", "--message", "two")
    assert deploy(gunicorn_flask_source=wish).code == 0
    assert version()["edition"] == "of the branch"
    assert deploy(gunicorn_flask_source={**wish, "revision": first}).code == 0
    assert (version()["edition"], version()["release"]) == ("second", before)


def packed(path: Path, source: Path, prefix: str = "web-1.0/") -> dict:
    with tarfile.open(path, "w:gz") as tar:
        for file in sorted(source.rglob("*.*")):
            tar.add(file, prefix + str(file.relative_to(source)))
    checksum = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return {"type": "archive", "path": str(path), "checksum": checksum}


def test_an_archive_becomes_a_release(good, tmp_path, deploy, version):
    wish = {**packed(tmp_path / "a.tar.gz", good.path), "subdirectory": "web-1.0"}
    done = deploy(gunicorn_flask_source=wish)
    assert done.code == 0, done.output
    assert version()["edition"] == "second" and deploy(gunicorn_flask_source=wish).changed == 0
    assert deploy().code == 0


# --- playbooks --------------------------------------------------------------------------------------------------------


def test_deploy_and_rollback(good, playbook, version, page, request_loop):
    # There is no web server of the stage here, so the application goes on listening on its port.
    port = {"gunicorn_flask_listen": "0.0.0.0:8000"}
    source = port | {"gunicorn_flask_source": {"type": "directory", "path": str(good.path)}}
    assert playbook("playbooks/deploy.yml", **source).code == 0
    before = version()
    good.edit('"second"', '"a mistake"')
    predicted = playbook("playbooks/deploy.yml", "--check", **source)
    # Any of its workers answers.
    assert predicted.code == 0 and version() | {"worker": 0} == before | {"worker": 0}, predicted.output
    said = " ".join(predicted.output.split())
    assert f"live is {before['release']}, then " in said and "(to be built)" in said
    assert f"a rollback would lead to {before['release']}" in said
    with request_loop(lambda: page("/version")) as visitor:
        done = playbook("playbooks/deploy.yml", **source)
        assert (done.code, version()["edition"]) == (0, "a mistake"), done.output
        note_figure(f"deploy of changed code, requirements unchanged: {done.seconds:.1f} s")
        good.edit('"a mistake"', '"second"')
        predicted = playbook("playbooks/rollback.yml", "--check", **port)
        assert predicted.code == 0 and version()["edition"] == "a mistake", predicted.output
        said = " ".join(predicted.output.split())
        assert f"then back to {before['release']} (is on the host); there is nothing before that to go" in said, said
        back = playbook("playbooks/rollback.yml", **port)
        assert (back.code, version()["release"]) == (0, before["release"]), back.output
        note_figure(f"rollback: {back.seconds:.1f} s")
    assert not visitor.failed
    # Once more does not bring the mistake back.
    again = playbook("playbooks/rollback.yml", **port)
    assert (again.code, again.changed, version()["release"]) == (0, 0, before["release"]), again.output
    said = " ".join(again.output.split())
    assert f"live is {before['release']}, which stays; there is nothing before that to go back to" in said, said
    unknown = playbook("playbooks/rollback.yml", gunicorn_flask_release="000000000000", **port)
    assert unknown.code != 0 and "there is no release '000000000000' in /srv/web/releases" in unknown.output


# --- files, services and timers ---------------------------------------------------------------------------------------


def work(*words: str) -> list[str]:
    return ["python", "-m", "web.work", *words]


def test_files_services_and_timers_are_switched_with_the_release(host, good, deploy, page, version, refused, bad):
    beside = {
        "gunicorn_flask_files": [
            {"path": "conf/web.ini", "content": "colour = Kn4ryBlue", "secret": True, "variable": "WEB_SETTINGS"}
        ],
        "gunicorn_flask_services": [{"name": "worker", "command": work("worker", "for ever"), "stop_timeout": 2}],
        "gunicorn_flask_timers": [{"name": "nightly", "command": work("nightly"), "schedule": "*-*-* 03:00"}],
    }
    done = deploy("--diff", **beside)
    assert done.code == 0 and "Kn4ryBlue" not in done.output, done.output
    live = version()["release"]
    assert page("/settings").text == "colour = Kn4ryBlue"
    place = host.file("/etc/gunicorn/web/files/conf/web.ini")
    assert (place.mode, place.user, place.group) == (0o640, "root", "web")
    line = f"{live} colour = Kn4ryBlue"
    # In its trial, and live.
    assert host.check_output("cat /var/lib/web/worker").splitlines() == [line] * 2
    units = ["web-worker.service", "web-nightly.timer"]
    assert host.check_output(f"systemctl is-active {' '.join(units)}").split() == ["active"] * 2
    main = host.check_output("systemctl show --value --property MainPID web-worker.service")
    assert host.check_output(f"ps -o user= --pid {main}") == "web"
    assert float(host.check_output("systemd-analyze security web-worker.service | tail -n 1").split()[-3]) <= 2
    host.check_output("systemctl start web-nightly.service")
    assert host.check_output("cat /var/lib/web/nightly") == line
    # A bad one changes nothing, its new release neither.
    bad.edit('"second"', '"a mistake"')
    for word, said in (
        ("dies", "ended at once (exit code or signal 1)"),
        ("deaf", "did not end within 2 s of"),
    ):
        services = [beside["gunicorn_flask_services"][0] | {"command": work("worker", word)}]
        found = " ".join(refused(source=bad, **beside | {"gunicorn_flask_services": services}).split())
        assert "gunicorn_flask_services, 'worker'" in found and said in found, found
    assert host.check_output("systemctl show --value --property MainPID web-worker.service") == main
    # Drift is found, and what is no longer wanted goes.
    host.check_output("systemctl stop web-worker.service web-nightly.timer")
    again = deploy(gunicorn_flask_runs_timers=False, **beside)
    assert again.code == 0, again.output
    assert host.run(f"systemctl is-active {' '.join(units)}").stdout.split() == ["active", "inactive"]
    assert deploy(gunicorn_flask_runs_timers=False, **beside).changed == 0
    assert deploy().code == 0
    assert host.check_output("systemctl list-units --all --plain --no-legend 'web-*'") == ""
    assert host.check_output("find /etc/systemd/system -name 'web-*'") == ""


# --- rights -----------------------------------------------------------------------------------------------------------


def test_writable_paths_and_unit_lines_loosen_the_sandbox(host, deploy, page):
    done = deploy(gunicorn_flask_writable_paths=["/srv/uploads"], gunicorn_flask_unit_extra=["LimitNOFILE=4321"])
    assert done.code == 0, done.output
    assert page("/writable?also=/srv/uploads").json() == ["/var/lib/web", "/srv/uploads"]
    main = host.check_output("systemctl show --value --property MainPID web.service")
    assert "4321" in host.check_output(f"grep 'open files' /proc/{main}/limits")
    assert host.file("/srv/uploads").user == "web"
    assert deploy().code == 0 and page("/writable?also=/srv/uploads").json() == ["/var/lib/web"]


MAKE = """app = Flask(__name__)
MADE = []


def make(name, price):
    MADE.append(f"{name} for {price}")
    return app


@app.get("/made")
def made():
    return MADE[0]
"""


def test_two_applications_share_a_host(hosts, playbook, get, addresses, copy, tmp_path):
    # Both find their code by way of what a master looks for once: an editable install, which
    # a reload does not renew, and a path of gunicorn's, which it does.
    source = copy
    (source.path / "src").mkdir()
    (source.path / "web").rename(source.path / "src/web")
    (source.path / "pyproject.toml").write_text('[project]\nname = "web"\nversion = "1"\n')
    (source.path / "editable.txt").write_text("flask\n-e .\n")
    source.edit("app = Flask(__name__)", MAKE, "src/web/wsgi.py")
    one = {
        "gunicorn_flask_source": {"type": "directory", "path": str(source.path), "requirements": "editable.txt"},
        "gunicorn_flask_wsgi": 'web.wsgi:make(\'of "one"\', price="$5 \\\\ 100%")',
        "gunicorn_flask_environment": {"GUNICORN_CMD_ARGS": """--access-logformat '%(h)s "%(r)s" it\\'"'"'s'"""},
    }
    one |= {
        "gunicorn_flask_name": "one",
        "gunicorn_flask_listen": "0.0.0.0:8003",
        "gunicorn_flask_health_path": "/health",
    }
    # An old gunicorn, which knows less.
    two = {
        **one,
        "gunicorn_flask_name": "two",
        "gunicorn_flask_source": {"type": "directory", "path": str(source.path)},
        "gunicorn_flask_listen": "0.0.0.0:8004",
        "gunicorn_flask_version": "23.0.0",
        "gunicorn_flask_extra_settings": {"pythonpath": "src"},
    }
    role = "foobar.web_infrastructure.gunicorn_flask"
    play = {"hosts": B, "become": True, "gather_facts": False}
    play["roles"] = [{"role": role, "vars": one}, {"role": role, "vars": two}]
    path = tmp_path / "two.yml"
    path.write_text(yaml.safe_dump([play]))
    done = playbook(path)
    assert done.code == 0, done.output
    answers = [get(f"http://{addresses[B]}:{port}/version").json() for port in (8003, 8004)]
    assert answers[0]["release"] != answers[1]["release"]
    assert get(f"http://{addresses[B]}:8000/status/200").status_code == 200
    assert playbook(path).changed == 0
    assert get(f"http://{addresses[B]}:8003/made").text == """of "one" for $5 \\ 100%"""
    source.edit('"first"', '"changed"', "src/web/wsgi.py")
    done = playbook(path)
    assert done.code == 0, done.output
    answers = [get(f"http://{addresses[B]}:{port}/version").json() for port in (8003, 8004)]
    for port in (8003, 8004):
        # Any of its workers may answer.
        seen = {get(f"http://{addresses[B]}:{port}/version").json()["edition"] for _ in range(12)}
        assert seen == {"changed"}, port
    # The first one is renamed; its port is free for the other in the same run.
    play["roles"] = [{"role": role, "vars": two | {"gunicorn_flask_listen": "0.0.0.0:8003"}}]
    play["roles"][0]["vars"]["gunicorn_flask_absent"] = [{"name": "one"}]
    path.write_text(yaml.safe_dump([play]))
    done = playbook(path)
    assert done.code == 0, done.output
    assert get(f"http://{addresses[B]}:8003/version").json()["release"] == answers[1]["release"]
    left = hosts[B].check_output("ls -d /srv/one /etc/gunicorn/one /var/lib/one /etc/systemd/system/one* 2>&1; true")
    assert [line for line in left.splitlines() if not line.startswith("ls:")] == ["/var/lib/one"]
    assert playbook(path).changed == 0


# --- failures ---------------------------------------------------------------------------------------------------------


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


def test_stopped_units_are_started_and_a_manual_switch_is_reverted(host, deploy, version):
    before = version()["release"]
    host.check_output("systemctl disable --now web.socket web.service")
    host.check_output("ln --symbolic --force --no-dereference $(readlink /srv/web/previous) /srv/web/current")
    done = deploy()
    assert (done.code, version()["release"]) == (0, before), done.output
    assert host.check_output("systemctl is-enabled web.socket web.service").split() == ["enabled"] * 2


@pytest.mark.parametrize(
    "command",
    [
        "systemctl disable --now web.socket web.service",
        "systemctl disable web.service",
        "systemctl stop web.service",
        "ln --symbolic --force /dev/null /etc/systemd/system/web.service && systemctl daemon-reload",
    ],
)
def test_units_come_back(command, host, deploy, version):
    before = version()["release"]
    host.check_output(command)
    predicted = deploy("--check")
    assert predicted.code == 0 and predicted.changed, predicted.output
    done = deploy()
    assert (done.code, version()["release"]) == (0, before), done.output
    assert host.check_output("systemctl is-enabled web.socket web.service").split() == ["enabled"] * 2
    assert deploy().changed == 0


def test_manually_changed_release_is_built_again(host, deploy, version):
    before = version()["release"]
    host.check_output("sed -i s/second/tampered/ /srv/web/releases/*/app/web/wsgi.py")
    done = deploy()
    assert (done.code, version()["release"], version()["edition"]) == (0, before, "second"), done.output
    assert f"{before}.1" in releases(host)


def die(host, run, program: str, eventually) -> None:
    """Begin a run, and kill that program on the host together with what started it, as a power cut would."""
    with ThreadPoolExecutor() as pool:
        died = pool.submit(run)
        child = eventually(lambda: host.run(f"pgrep --oldest --full '{program}'").stdout.strip(), seconds=240)
        host.run(f"kill -9 $(ps -o ppid= {child}) {child}")
        assert died.result().code != 0, died.result().output


def test_run_after_two_killed_runs_completes_the_deployment(host, good, deploy, version, eventually):
    good.edit('"second"', '"third"')
    good.edit("app = Flask", "time.sleep(1)\napp = Flask")
    # With the same requirements there is nothing to install.
    good.edit("flask", "click\nflask", "requirements.txt")
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


def test_a_repository_that_refuses_is_named_without_its_password(refused, repository):
    canary = "Kn4ry8Bird"
    url = f"http://me:{canary}@127.0.0.1:9/web.git"
    said = refused(gunicorn_flask_source={"type": "git", "url": url, "revision": "main"})
    assert "gunicorn_flask_source.url: git cannot read http://***@127.0.0.1:9/web.git" in said and canary not in said
    wish = {"type": "git", "url": f"file://{repository}", "revision": "nothing"}
    assert "has no branch or tag 'nothing'" in refused(gunicorn_flask_source=wish)


def test_an_archive_that_is_not_what_it_should_be_is_refused(refused, good, tmp_path, host):
    wish = packed(tmp_path / "a.tar.gz", good.path)
    said = refused(gunicorn_flask_source={**wish, "checksum": "sha256:" + 64 * "0"})
    assert "gunicorn_flask_source.checksum: " in said and wish["checksum"] in said
    before = releases(host)
    said = refused(gunicorn_flask_source=packed(tmp_path / "b.tar.gz", good.path, "../web/"))
    assert "the archive is refused: its '../web/" in said and "leads out of the archive" in said
    assert releases(host) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("games", "this host has an account 'games' that no deployment has made"),
        ("apt", "/var/lib/apt is there, belongs to root and was made by no deployment"),
    ],
)
def test_what_is_somebody_elses_is_refused_and_stays(name, said, refused, host):
    def state() -> str:
        return host.check_output(f"getent passwd games; ls -ld /var/lib/apt; ls /srv /etc/gunicorn | grep {name}; true")

    before = state()
    assert said in " ".join(refused(gunicorn_flask_name=name, gunicorn_flask_listen="0.0.0.0:8009").split())
    assert state() == before


def test_a_requirement_that_does_not_exist_is_refused(refused):
    said = refused(gunicorn_flask_source={"type": "pypi", "requirement": "flask==999"})
    assert "pip cannot install flask==999" in said and "No matching distribution found" in said


def test_a_wrong_callable_is_refused(refused):
    said = refused(gunicorn_flask_wsgi="web.wsgi:nothing")
    assert "gunicorn_flask_wsgi: gunicorn cannot load 'web.wsgi:nothing'" in said
    assert "Failed to find attribute 'nothing'" in said


@pytest.mark.parametrize("mode", [(), ("--check",)], ids=["", "in check mode"])
def test_an_unknown_setting_is_refused(mode, refused):
    said = refused(*mode, gunicorn_flask_extra_settings={"max_request": 1})
    assert "gunicorn refuses its configuration: ValueError: gunicorn_flask_extra_settings: gunicorn 27" in said
    assert "has no setting max_request" in said


def test_address_of_another_host_is_refused(refused):
    said = refused(gunicorn_flask_listen="192.0.2.1:8000")
    assert "gunicorn_flask_listen: systemd cannot listen on 192.0.2.1:8000" in said
    assert "Cannot assign requested address" in said


def test_code_that_cannot_be_imported_is_refused(refused, bad):
    bad.edit("from flask", "import nothing_of_that_name\nfrom flask")
    assert "No module named 'nothing_of_that_name'" in refused(source=bad)


def test_a_death_by_a_signal_is_named_with_what_to_loosen(refused, bad):
    bad.edit("app = Flask", "os.kill(os.getpid(), 31)\napp = Flask")
    said = " ".join(refused(source=bad).split())
    assert "it was killed by SIGSYS" in said and "gunicorn_flask_unit_extra with SystemCallFilter=" in said


def test_requirement_of_the_host_that_fails_is_refused(refused):
    said = refused(gunicorn_flask_requires=["/bin/true", "/bin/sh -c 'echo no licence; exit 3'"])
    assert "required, and fails: /bin/sh -c 'echo no licence; exit 3': no licence" in said


def test_a_migration_that_fails_is_refused(refused, bad):
    bad.edit("import os", "raise SystemExit('no such table')\nimport os", "web/migrate.py")
    said = refused(source=bad)
    assert "gunicorn_flask_migrate: `python -m web.migrate` failed" in said and "no such table" in said


BROKEN = {
    # Not before it serves: on a busy machine the check of the configuration takes longer than that.
    "starts and dies": (
        "app = Flask",
        "if '--check-config' not in sys.argv:\n    threading.Timer(0.5, lambda: os._exit(7)).start()\napp = Flask",
    ),
    "answers 500": ('return "well"', "raise RuntimeError('out of order')"),
    "never answers": ('return "well"', "time.sleep(60)"),
    "redirects": ('return "well"', "return redirect('https://elsewhere.example/login')"),
}
SAID = {
    "starts and dies": "its workers end after a moment|it did not stay up|had no answer",
    "answers 500": "GET /health on 0.0.0.0:8000 answered 500 .*RuntimeError: out of order",
    "never answers": "GET /health on 0.0.0.0:8000 had no answer",
    "redirects": r"redirects \(302\) to https://elsewhere.example/login; gunicorn_flask_health_path",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_no_request_reaches_a_release_that(kind, refused, bad, page, request_loop):
    bad.edit("import time\n", "import sys\nimport threading\nimport time\n")
    bad.edit("import Flask,", "import Flask, redirect,")
    bad.edit(*BROKEN[kind])
    with request_loop(lambda: page("/health")) as visitor:
        # What is written in one line stands in several of Ansible's.
        said = " ".join(refused(source=bad).split())
    visitor.report(f"deployment of a release that {kind}")
    assert re.search(SAID[kind], said.replace("\\n", " ")), said
    assert not visitor.failed


def test_failure_after_the_switch_is_rolled_back(refused, bad):
    bad.edit('return "well"', "return 'well' if 'GUNICORN_CMD_ARGS' in os.environ else 1 / 0")
    said = refused(source=bad)
    assert "GET /health on 0.0.0.0:8000 answered 500" in said and "ZeroDivisionError" in said
    assert "the old one is back in place and applied" in said


def test_full_disk_fails_no_request(host, good, deploy, bad, get, addresses, request_loop):
    tiny = {"gunicorn_flask_name": "tiny", "gunicorn_flask_listen": "0.0.0.0:8002", "gunicorn_flask_migrate": []}
    host.check_output("mkdir -p /srv/tiny && mount -t tmpfs -o size=100m tmpfs /srv/tiny")
    try:
        first = deploy(**tiny)
        assert first.code == 0, first.output
        host.check_output("dd if=/dev/zero of=/srv/tiny/filler bs=64k 2>&1 || true")
        bad.edit("app = Flask", "# changed\napp = Flask")
        with request_loop(lambda: get(f"http://{addresses[A]}:8002/health", timeout=within(5))) as visitor:
            done = deploy(source=bad, **tiny)
        visitor.report("deployment to a full disk")
        assert done.code != 0 and "No space left on device" in done.output, done.output
        assert (done.output.count("fatal: "), visitor.failed) == (1, [])
        host.check_output("rm /srv/tiny/filler")
        healed = deploy(source=bad, **tiny)
        assert healed.code == 0, healed.output
        # Same requirements: the second release has the first one's environment.
        assert len(host.check_output("ls /srv/tiny/venvs").split()) == 1
        assert len(host.check_output("ls /srv/tiny/releases").split()) == 2
    finally:
        host.run("systemctl disable --now tiny.socket tiny.service; umount -l /srv/tiny; rm -r /etc/gunicorn/tiny")


def test_a_first_release_that_does_not_answer_leaves_nothing_running(deploy, bad, host, get, addresses):
    bad.edit('return "well"', "raise RuntimeError('out of order')")
    # What an account left that is gone, or what was restored from another machine.
    state = "/var/lib/fresh"
    host.check_output(f"mkdir {state} && touch {state}/of_old && ln -s /etc/passwd {state}/link")
    host.check_output(f"chown --recursive --no-dereference 64999:64999 {state}")
    fresh = {"gunicorn_flask_name": "fresh", "gunicorn_flask_listen": "0.0.0.0:8001", "gunicorn_flask_migrate": []}
    done = deploy(source=bad, **fresh)
    assert done.code != 0 and "GET /health on 0.0.0.0:8001 answered 500" in done.output
    with pytest.raises(requests.ConnectionError):
        get(f"http://{addresses[A]}:8001/health")
    assert host.check_output("systemctl list-units --all --plain --no-legend 'fresh.*'") == ""
    owners = host.check_output(f"stat --format %U {state} {state}/of_old {state}/link /etc/passwd").split()
    assert owners == ["fresh"] * 3 + ["root"]
    assert not host.file("/etc/gunicorn/fresh").exists and not host.file("/srv/fresh/current").exists


def test_two_runs_at_once_deploy_the_next_edition(deploy, good, host, version):
    good.edit('"third"', '"last"')
    good.edit("time.sleep(1)\napp = Flask", "app = Flask")
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(deploy), pool.submit(deploy)]
    assert [run.result().code for run in runs] == [0, 0], "\n".join(run.result().output for run in runs)
    assert version()["edition"] == "last" and len(releases(host)) == 2
    assert deploy().changed == 0
