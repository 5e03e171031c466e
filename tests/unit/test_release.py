"""release: which id a source has, what counts as a sound release, and how activate.py switches and cleans up."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import release as model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import release_build as steps
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import ReleaseError
from ansible_collections.foobar.web_infrastructure.plugins.modules import release as module

PROJECT = Path(__file__).resolve().parents[2]
DIRECTORY = {"type": "directory", "path": "/x", "requirements": "requirements.txt", "packages": []}
PYPI = {"type": "pypi", "requirement": "httpbin==0.10.4", "requirements": "requirements.txt", "packages": []}


@pytest.fixture(scope="module")
def program():
    """activate.py as a module."""
    path = PROJECT / "roles/gunicorn_flask/files/activate.py"
    spec = importlib.util.spec_from_file_location("activate", path)
    activate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(activate)
    return activate


@pytest.fixture
def source(tmp_path) -> Path:
    root = tmp_path / "source"
    (root / "web" / "static").mkdir(parents=True)
    (root / "web" / "wsgi.py").write_text("app = 1\n")
    (root / "web" / "static" / "a.css").write_text("a")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o700)
    (root / "link").symlink_to("web/wsgi.py")
    return root


# --- the source -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        ({**DIRECTORY, "path": None}, "type directory needs 'path'"),
        ({**PYPI, "requirement": ""}, "type pypi needs 'requirement'"),
        ({**DIRECTORY, "requirement": "x"}, "'requirement' is not for type directory"),
        ({**PYPI, "path": "/x"}, "'path' is not for type pypi"),
        ({**PYPI, "requirement": "--index-url=x"}, "is not a requirement"),
        ({**DIRECTORY, "packages": ["a", "-e ."]}, "'-e .' is not a requirement"),
    ],
)
def test_a_source_that_makes_no_sense_is_named(wish, complaint):
    with pytest.raises(ReleaseError, match=complaint):
        model.check_source(wish)


def test_sound_sources_are_taken():
    model.check_source(DIRECTORY)
    model.check_source(PYPI)


def test_what_is_excluded_is_not_part_of_the_source(source):
    (source / ".git").mkdir()
    (source / ".git" / "HEAD").write_text("x")
    (source / "web" / "__pycache__").mkdir()
    (source / "web" / "__pycache__" / "wsgi.pyc").write_text("x")
    (source / "docs").mkdir()
    (source / "docs" / "a.md").write_text("x")
    paths = [entry.path for entry in model.scan(source, [".git", "*.css", "docs/*"])]
    assert paths == ["docs", "link", "run", "web", "web/static", "web/wsgi.py"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "nowhere"])
def test_a_link_that_leads_nowhere_on_the_host_is_refused(source, target):
    (source.parent / "outside").write_text("x")
    (source / "bad").symlink_to(target)
    with pytest.raises(ReleaseError, match=f"bad is a link to {target}"):
        model.scan(source)


def test_a_source_that_is_none_is_refused(source, tmp_path):
    os.mkfifo(source / "pipe")
    with pytest.raises(ReleaseError, match="pipe is neither file nor directory nor link"):
        model.scan(source)
    with pytest.raises(ReleaseError, match="there is no directory .*/nowhere on the controller"):
        model.scan(tmp_path / "nowhere")
    with pytest.raises(ReleaseError, match="holds no file"):
        model.scan(source, ["*"])


def release_id(root: Path, **other) -> str:
    wish = {"gunicorn": "27.*", "python": "python3", "source": DIRECTORY, **other}
    return model.release_id(wish["source"], model.scan(root), wish["gunicorn"], wish["python"])


def test_the_same_code_has_the_same_id_wherever_it_lies(source, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, symlinks=True, copy_function=shutil.copyfile)
    (copy / "run").chmod(0o777)
    assert release_id(source) == release_id(copy, source={**DIRECTORY, "path": "/elsewhere"})


def test_everything_that_makes_a_difference_makes_another_id(source):
    ids = [release_id(source)]
    ids.append(release_id(source, gunicorn="26.*"))
    ids.append(release_id(source, python="python3.14"))
    ids.append(release_id(source, source={**DIRECTORY, "packages": ["x"]}))
    (source / "run").chmod(0o600)
    ids.append(release_id(source))
    (source / "run").write_text("#!/bin/bash\n")
    ids.append(release_id(source))
    (source / "run").rename(source / "walk")
    ids.append(release_id(source))
    (source / "link").unlink()
    (source / "link").symlink_to("walk")
    ids.append(release_id(source))
    (source / "empty").mkdir()
    ids.append(release_id(source))
    assert len(set(ids)) == len(ids)


def test_an_archive_brings_everything_and_nothing_of_the_controller(source, tmp_path):
    os.utime(source / "web" / "wsgi.py", (1, 1_000_000_000))
    os.utime(source / "web", (1, 1_000_000_000))
    entries = model.scan(source)
    model.pack(source, entries, tmp_path / "a.tar.gz")
    target = tmp_path / "target"
    target.mkdir()
    model.unpack(tmp_path / "a.tar.gz", target)
    assert model.digest(model.scan(target)) == model.digest(entries)
    assert (target / "run").stat().st_mode & 0o777 == 0o755
    assert (target / "web" / "wsgi.py").stat().st_mode & 0o777 == 0o644
    assert (target / "web" / "wsgi.py").stat().st_mtime == 1_000_000_000
    # Python's import trusts a directory's time of change.
    assert (target / "web").stat().st_mtime > 1_000_000_000


# --- the release ------------------------------------------------------------------------------------------------------


class FakePip:
    """Makes what venv and pip would make, without a network, and fails on request."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = ""

    def __call__(self, argv, problem, cwd=None) -> None:
        call = " ".join(map(str, argv[1:]))
        self.calls.append(call)
        if self.broken and self.broken in call:
            raise ReleaseError(problem)
        if "venv" in argv:
            packages = Path(argv[-1]) / "lib/python3/site-packages"
            packages.mkdir(parents=True)
            (packages / "flask.py").write_text("flask")
            (packages.parents[2] / "bin").mkdir()
            (packages.parents[2] / "bin/python").symlink_to(sys.executable)
        if any(str(word).startswith("gunicorn==") for word in argv):
            (Path(argv[0]).parents[1] / "lib/python3/site-packages/gunicorn-27.0.1.dist-info").mkdir()


@pytest.fixture
def pip(monkeypatch) -> FakePip:
    pip = FakePip()
    monkeypatch.setattr(steps, "_run", pip)
    return pip


class Host:
    """The module on a host in a directory."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root = root
        self.source = source

    def ensure(self, check_mode: bool = False, **other) -> dict:
        entries = model.scan(self.source)
        params = {"root": str(self.root), "source": DIRECTORY, "gunicorn": "27.*", "python": "python3", **other}
        params |= {"_id": release_id(self.source), "_digest": model.digest(entries), "_archive": None}
        result = module.ensure(params, check_mode)
        if result.get("archive_wanted"):
            archive = self.root.parent / "a.tar.gz"
            model.pack(self.source, entries, archive)
            result = module.ensure(params | {"_archive": str(archive)}, check_mode)
        return result

    def switch(self, path: str) -> None:
        (self.root / "current").unlink(missing_ok=True)
        (self.root / "current").symlink_to(Path(path).relative_to(self.root))

    @property
    def releases(self) -> list[str]:
        return sorted(path.name for path in (self.root / "releases").iterdir())


@pytest.fixture
def host(tmp_path, source, pip) -> Host:
    (tmp_path / "srv").mkdir()
    return Host(tmp_path / "srv" / "web", source)


def test_a_release_is_built_once(host, pip):
    first = host.ensure()
    assert (first["changed"], first["built"], first["live"]) == (True, True, False)
    assert Path(first["path"], "app/web/wsgi.py").read_text() == "app = 1\n"
    host.switch(first["path"])
    pip.calls.clear()
    second = host.ensure()
    assert (second["changed"], second["built"], second["live"], second["path"]) == (False, False, True, first["path"])
    assert pip.calls == []


def test_a_release_that_is_not_live_is_a_change_but_not_built_again(host):
    path = host.ensure()["path"]
    again = host.ensure()
    assert (again["changed"], again["built"], again["path"]) == (True, False, path)


def test_check_mode_builds_nothing(host):
    result = host.ensure(check_mode=True)
    assert (result["changed"], result["built"]) == (True, False)
    assert result["path"].endswith(f"releases/{result['id']}") and not host.root.exists()


def change_content(path: Path) -> None:
    (path / "app/web/wsgi.py").write_text("app = 2\n")


def add_file(path: Path) -> None:
    (path / "app/web/more.py").write_text("")


def change_package(path: Path) -> None:
    (path / "venv/lib/python3/site-packages/flask.py").write_text("other")


def remove_package(path: Path) -> None:
    (path / "venv/lib/python3/site-packages/flask.py").unlink()


def damage_mark(path: Path) -> None:
    (path / steps.MARK).write_text("[")


@pytest.mark.parametrize("change", [change_content, add_file, change_package, remove_package, damage_mark])
def test_a_release_that_somebody_changed_is_built_again(host, change):
    """The live one stays where it is, because it is being served."""
    path = Path(host.ensure()["path"])
    change(path)
    again = host.ensure()
    assert (again["built"], again["path"], host.releases) == (True, str(path), [path.name])
    host.switch(again["path"])
    change(path)
    beside = host.ensure()
    assert (beside["built"], beside["path"]) == (True, f"{path}.1") and path.exists()
    host.switch(beside["path"])
    assert not host.ensure()["changed"]


def test_compiled_python_is_no_change(host):
    path = Path(host.ensure()["path"])
    for folder in (path / "app/web/__pycache__", path / "venv/lib/python3/site-packages/__pycache__"):
        folder.mkdir(exist_ok=True)
        (folder / "x.pyc").write_text("x")
    assert not host.ensure()["built"]


def test_another_python_needs_another_release(host):
    path = host.ensure()["path"]
    mark = Path(path, steps.MARK)
    mark.write_text(mark.read_text().replace(os.path.realpath(shutil.which("python3")), "/usr/bin/python3.9"))
    assert host.ensure()["built"]


def test_a_python_that_is_not_there_is_named(host):
    with pytest.raises(ReleaseError, match="gunicorn_flask_python: there is no such program"):
        host.ensure(python="python9")


@pytest.mark.parametrize("step", ["venv", "install", "gunicorn==", "check"])
def test_a_build_that_fails_leaves_nothing(host, pip, source, step):
    (source / "requirements.txt").write_text("flask\n")
    pip.broken = step
    with pytest.raises(ReleaseError):
        host.ensure()
    assert host.releases == []


def test_what_died_while_it_was_built_goes(host):
    live = host.ensure()["path"]
    host.switch(live)
    (host.root / "releases/dead").mkdir()
    assert not host.ensure()["changed"] and "dead" in host.releases
    (host.source / "run").write_text("new")
    host.ensure()
    assert "dead" not in host.releases and Path(live).name in host.releases


def test_a_source_that_changes_meanwhile_is_noticed(host, monkeypatch):
    def late(root, entries, archive, pack=model.pack):
        (root / "run").write_text("changed")
        pack(root, entries, archive)

    monkeypatch.setattr(model, "pack", late)
    with pytest.raises(ReleaseError, match="changed while it was packed"):
        host.ensure()
    assert host.releases == []


@pytest.mark.parametrize(
    ("requirements", "wish", "calls"),
    [
        (None, {}, []),
        (None, {"packages": ["a"]}, [["a"]]),
        ("flask\n", {"packages": ["a"]}, [["-r", "requirements.txt", "a"]]),
        ("flask==1 --hash=sha256:0\n", {}, [["--require-hashes", "-r", "requirements.txt"]]),
        ("flask==1 --hash=sha256:0\n", {"packages": ["a"]}, [["--require-hashes", "-r", "requirements.txt"], ["a"]]),
    ],
)
def test_what_pip_is_told_to_install(tmp_path, requirements, wish, calls):
    if requirements is not None:
        (tmp_path / "requirements.txt").write_text(requirements)
    assert steps.installs({**DIRECTORY, **wish}, tmp_path) == calls


def test_what_pip_is_told_otherwise(tmp_path):
    assert steps.installs({**PYPI, "packages": ["a"]}, tmp_path) == [["httpbin==0.10.4", "a"]]
    with pytest.raises(ReleaseError, match=r"there is no file 'other.txt' in the source"):
        steps.installs({**DIRECTORY, "requirements": "other.txt"}, tmp_path)


def test_gunicorn_of_the_requirements_is_left_alone(host, pip, source):
    (source / "requirements.txt").write_text("flask\n")
    host.ensure()
    assert sum("gunicorn==27.*" in call for call in pip.calls) == 1
    pip.calls.clear()
    (source / "run").write_text("another")
    host.ensure(source={**DIRECTORY, "packages": ["gunicorn==26.1.0"]})
    assert sum("gunicorn==" in call for call in pip.calls) == 1


# --- activate.py ------------------------------------------------------------------------------------------------------


SETTINGS = {
    "name": "web",
    "release": "new",
    "wsgi": "web:app",
    "listen": "127.0.0.1:1",
    "health_path": "/health",
    "health_timeout": 1,
    "graceful_timeout": 1,
    "releases_kept": 2,
}


@pytest.fixture
def app(program, tmp_path, monkeypatch):
    """An application with the releases one, two, three and new, of which two is live."""
    monkeypatch.setattr(program, "RUN", tmp_path)
    (tmp_path / "deployment.json").write_text(json.dumps(SETTINGS))
    for age, name in enumerate(["new", "three", "two", "one"]):
        release = tmp_path / "srv/releases" / name
        release.mkdir(parents=True)
        (release / program.MARK).touch()
        os.utime(release / program.MARK, (time.time() - age, time.time() - age))
    app = program.Application(tmp_path, tmp_path / "srv")
    app.point("current", app.root / "releases/two")
    return app


@pytest.fixture
def system(program, monkeypatch):
    """No systemd: records what it would be asked, and says that all is well unless told otherwise."""

    class System:
        asked: list[tuple[str, ...]] = []
        problem: str | None = None

    system = System()
    system.asked = []
    monkeypatch.setattr(program, "run", lambda argv, **_: system.asked.append(tuple(argv)) or done(""))
    monkeypatch.setattr(program, "bring_up", lambda app, switched: system.asked.append(("bring up", switched)) or 0.0)
    monkeypatch.setattr(program, "look", lambda app, since: (system.problem, False))
    return system


def done(output: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], 0, output)


def names(app) -> list[str]:
    return sorted(path.name for path in (app.root / "releases").iterdir())


def test_a_good_release_becomes_live_and_old_ones_go(program, app, system):
    assert program.activate(app) == "release new is live"
    assert (app.target("current"), app.target("previous")) == (app.release, app.root / "releases/two")
    assert names(app) == ["new", "two"] and ("bring up", True) in system.asked


def test_releases_are_kept_by_age_and_never_the_two_that_matter(program, app):
    app.kept = 3
    app.point("previous", app.root / "releases/one")
    (app.root / "releases/building").mkdir()
    program.prune(app)
    assert names(app) == ["building", "new", "one", "two"]


def test_a_release_that_fails_gives_way_to_the_old_one(program, app, system):
    system.problem = "GET /health answered 500"
    with pytest.raises(program.Failure, match="release new: GET /health answered 500 for 1 s"):
        program.activate(app)
    assert app.target("current") == app.root / "releases/two" and app.target("previous") is None
    assert not (app.release / program.MARK).exists() and len(names(app)) == 4


def test_a_first_release_that_fails_leaves_nothing(program, app, system):
    (app.root / "current").unlink()
    system.problem = "no"
    with pytest.raises(program.Failure):
        program.activate(app)
    assert app.target("current") is None
    assert ("systemctl", "disable", "--now", "--quiet", "web.socket", "web.service") in system.asked


@pytest.mark.parametrize("link", ["current", "previous"])
def test_a_configuration_that_fails_does_not_void_a_release_that_has_proved_well(program, app, system, link):
    app.point(link, app.release)
    before = app.target("current")
    system.problem = "no"
    with pytest.raises(program.Failure):
        program.activate(app)
    assert app.target("current") == before and (app.release / program.MARK).exists()


def test_a_release_that_is_not_there_is_not_switched_to(program, app, system):
    (app.release / program.MARK).unlink()
    with pytest.raises(program.Failure, match="release new is not on this host"):
        program.activate(app)
    assert app.target("current") == app.root / "releases/two" and system.asked == []


def test_the_link_is_never_missing(program, app):
    stop, seen = threading.Event(), []

    def watch():
        while not stop.is_set():
            seen.append((app.root / "current").is_dir())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(200):
        app.point("current", app.root / "releases" / ("new", "two")[number % 2])
    stop.set()
    watcher.join()
    assert all(seen)


@pytest.mark.parametrize(
    ("running", "switched", "wanted"),
    [
        (None, True, "restart"),
        (["process", "code"], True, "reload"),
        (["process", "code"], False, None),
        (["process", "old"], False, "reload"),
        (["old", "code"], True, "restart"),
    ],
)
def test_a_reload_where_it_is_enough(program, app, monkeypatch, running, switched, wanted):
    asked = []
    monkeypatch.setattr(program, "systemctl", lambda *words: asked.append(words))
    monkeypatch.setattr(program, "is_active", lambda unit: True)
    monkeypatch.setattr(program, "show", lambda *words: "invocation")
    monkeypatch.setattr(program, "run", lambda argv: asked.append(tuple(argv[1:])) or done(""))
    monkeypatch.setattr(program, "interpreter", lambda release: "")
    prints = {app.socket: "listener", app.service: "process", "gunicorn.conf.py": "code"}
    monkeypatch.setattr(program, "fingerprint", lambda files, *words: prints[files[0].name])
    record = program.Record(app.name)
    record.write(app.socket, "listener")
    if running:
        record.write(app.service, running)
    since = program.bring_up(app, switched)
    assert [words[0] for words in asked] == ["daemon-reload", "enable"] + ([wanted] if wanted else [])
    assert (since > 0) == bool(wanted) and record.read(app.service) == ["process", "code"]
    asked.clear()
    prints[app.socket] = "other"
    program.bring_up(app, switched)
    assert asked[2:4] == [("stop", app.socket, app.service), ("start", app.socket)]


def test_a_record_of_another_start_does_not_count(program, app, monkeypatch):
    monkeypatch.setattr(program, "show", lambda *words: "first")
    record = program.Record("web")
    record.write("web.service", "x")
    assert record.read("web.service") == "x" and record.path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(program, "show", lambda *words: "second")
    assert record.read("web.service") is None
    record.path.write_text("{")
    assert record.read("web.service") is None


@pytest.mark.parametrize("value", ["", "plain", "a \"b\" $c `d` \\e 'f' #g", "one\n# two\n", "\\", '"', "a=b", "ü"])
def test_the_environment_file_is_read_as_systemd_reads_it(program, value):
    # The template's quoting.
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    text = f'#\n# It\'s managed\n#\nFIRST="1"\nVALUE="{quoted}"\n'
    assert program.parse_environment(text) == {"FIRST": "1", "VALUE": value}


@pytest.mark.parametrize(
    ("listen", "place"),
    [("0.0.0.0:8000", ("127.0.0.1", 8000)), ("[::]:80", ("::1", 80)), ("198.18.0.1:1", ("198.18.0.1", 1))],
)
def test_where_a_listener_is_asked(program, listen, place):
    assert program.reachable(listen) == place


class Page(BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_only_200_is_healthy(program, app):
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    app.listen = f"127.0.0.1:{server.server_port}"
    assert program.ask(app) is None
    app.health_path = "/other"
    assert "answered 503 Service Unavailable instead of 200" in program.ask(app)
    server.shutdown()
    server.server_close()
    assert "had no answer" in program.ask(app)


def test_old_workers_get_their_time_to_finish(program, app, monkeypatch):
    answers = iter([("busy", True)] * 3 + [(None, False)])
    app.health_timeout = 0
    monkeypatch.setattr(program, "look", lambda app, since: next(answers))
    program.wait_until_healthy(app, 0.0, pause=0.01)
    monkeypatch.setattr(program, "look", lambda app, since: ("wrong", False))
    with pytest.raises(program.Failure, match="wrong"):
        program.wait_until_healthy(app, 0.0, pause=0.01)


def test_children_and_their_age(program):
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    with subprocess.Popen(["sleep", "60"]) as child:
        ages = program.children(str(os.getpid()))
        child.kill()
    assert any(before - 0.02 <= started <= before + 5 for started in ages)
