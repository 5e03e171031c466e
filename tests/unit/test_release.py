"""release: which id a source has, what counts as a sound release, and how activate.py switches and cleans up."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import release as model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import release_build as steps
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import release_fetch as fetching
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
    return model.release_id(wish["source"], model.digest(model.scan(root)), wish["gunicorn"], wish["python"])


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
        params = {
            "root": str(self.root),
            "source": DIRECTORY,
            "gunicorn": "27.*",
            "python": "python3",
            "release": "",
            "config": None,
            "user": None,
        }
        params |= other
        params |= {"_id": release_id(self.source), "_digest": model.digest(entries), "_archive": None}
        result = module.ensure(params, check_mode)
        if result.get("archive_wanted") and not check_mode:
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
    "chosen": False,
    "writable_paths": [],
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


# --- repositories and archives ----------------------------------------------------------------------------------------


GIT = {**DIRECTORY, "type": "git", "path": None, "url": "https://x/y.git", "revision": "main"}
ARCHIVE = {**DIRECTORY, "type": "archive", "path": "/a.tar", "checksum": f"sha256:{64 * '0'}"}


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        ({**GIT, "revision": ""}, "type git needs 'revision'"),
        ({**GIT, "url": "--upload-pack=x"}, "gunicorn_flask_source.url: it may hold no space and not begin"),
        ({**GIT, "revision": "-x"}, "gunicorn_flask_source.revision: it may"),
        ({**GIT, "subdirectory": "../x"}, "subdirectory: '../x' leads out of the source"),
        ({**GIT, "subdirectory": "/etc"}, "subdirectory: '/etc' leads out of the source"),
        ({**GIT, "checksum": "x"}, "'checksum' is not for type git"),
        ({**ARCHIVE, "checksum": None}, "type archive needs 'checksum'"),
        ({**ARCHIVE, "checksum": "md5:0"}, "'md5:0' is none; write sha256:"),
        ({**ARCHIVE, "path": None}, "needs either 'path' or 'url'"),
        ({**ARCHIVE, "url": "https://x/y"}, "needs either 'path' or 'url'"),
        ({**ARCHIVE, "path": None, "url": "file:///etc"}, "an archive is fetched from https"),
    ],
)
def test_a_repository_or_an_archive_that_makes_no_sense_is_named(wish, complaint):
    with pytest.raises(ReleaseError, match=complaint):
        model.check_source(wish)


def git(path: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(path), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(source) -> Path:
    git(source.parent, "init", str(source))
    git(source, "add", ".")
    git(source, "commit", "--message", "one")
    return source


def test_a_revision_means_a_commit(repository, tmp_path):
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "--annotate", "--message", "x", "v1")
    git(repository, "commit", "--allow-empty", "--message", "two")
    second = git(repository, "rev-parse", "HEAD")
    git(repository, "branch", "v2")
    git(repository, "tag", "v2")
    wish = {**GIT, "url": str(repository)}
    assert fetching.resolve(wish) == second
    assert fetching.resolve({**wish, "revision": "v1"}) == first
    assert fetching.resolve({**wish, "revision": first}) == first
    assert fetching.resolve({**wish, "revision": "refs/heads/v2"}) == second
    with pytest.raises(ReleaseError, match="is a tag and a branch; write refs/tags/v2 or refs/heads/v2"):
        fetching.resolve({**wish, "revision": "v2"})
    with pytest.raises(ReleaseError, match="has no branch or tag 'v9'"):
        fetching.resolve({**wish, "revision": "v9"})
    with pytest.raises(ReleaseError, match=f"has no commit {40 * '0'}|git cannot read"):
        fetching.fetch({**wish, "revision": 40 * "0"}, tmp_path / "run")


def test_all_hosts_of_a_run_get_the_same_commit(repository, tmp_path):
    wish = {**GIT, "url": str(repository)}
    seen = fetching.content_id(wish, [], tmp_path / "run")
    (repository / "run").write_text("moved on")
    git(repository, "commit", "--all", "--message", "two")
    assert fetching.content_id(wish, [], tmp_path / "run") == seen
    assert fetching.fetch(wish, tmp_path / "run").joinpath("run").read_text() == "#!/bin/sh\n"
    assert fetching.content_id(wish, [], tmp_path / "next run") != seen
    assert fetching.fetch(wish, tmp_path / "next run").joinpath("run").read_text() == "moved on"


def test_a_checkout_is_the_code_and_nothing_of_git(repository, tmp_path):
    code = fetching.fetch({**GIT, "url": str(repository)}, tmp_path / "run")
    assert model.digest(model.scan(code)) == model.digest(model.scan(repository, [".git"]))
    below = fetching.fetch({**GIT, "url": str(repository), "subdirectory": "web"}, tmp_path / "run")
    assert (below / "wsgi.py").exists()
    with pytest.raises(ReleaseError, match=r"there is no directory 'app' in the source; it holds link, run, web"):
        fetching.fetch({**GIT, "url": str(repository), "subdirectory": "app"}, tmp_path / "run")


def test_an_error_is_found_once_for_all_hosts(tmp_path):
    asked = []

    def make(_place):
        asked.append(1)
        raise ReleaseError("refused")

    for _host in range(3):
        with pytest.raises(ReleaseError, match="refused"):
            fetching.once(tmp_path, ["x"], make)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://me:pw@host/x.git now", "at https://***@host/x.git now"),
        ("https://token@host/x", "https://***@host/x"),
        ("ssh://git:pw@host/x", "ssh://git:***@host/x"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("https://host/a.tar?token=abc end", "https://host/a.tar?*** end"),
    ],
)
def test_credentials_of_an_address_are_not_shown(text, shown):
    assert fetching.without_credentials(text) == shown


def archive_of(path: Path, *members: tarfile.TarInfo) -> dict:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return {**ARCHIVE, "path": str(path), "checksum": f"sha256:{checksum}"}


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, 1 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (member("../x"), "its '../x' leads out"),
        (member("a/../../x"), "leads out of the archive"),
        (member("/etc/x"), "its '/etc/x' leads out"),
        (member("a", tarfile.SYMTYPE, "/etc"), "'a' is a link to /etc, out of the archive"),
        (member("b/a", tarfile.SYMTYPE, "../../etc"), "is a link to ../../etc"),
        (member("b/a", tarfile.LNKTYPE, "../etc"), "is a link to ../etc"),
        (member("a", tarfile.CHRTYPE), "is neither file nor directory nor link"),
        (member("a", tarfile.FIFOTYPE), "is neither file nor directory nor link"),
    ],
)
def test_an_archive_that_climbs_out_is_refused_as_a_whole(tmp_path, bad, complaint):
    wish = archive_of(tmp_path / "a.tar.gz", member("good"), bad)
    with pytest.raises(ReleaseError, match=complaint):
        fetching.fetch(wish, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("good")) and not (tmp_path / "x").exists()


def test_links_within_an_archive_are_taken(tmp_path):
    wish = archive_of(tmp_path / "a.tar", member("a/x"), member("b", tarfile.SYMTYPE, "a/x"))
    assert (fetching.fetch(wish, tmp_path / "run") / "b").read_text() == "x"


def test_an_archive_of_another_checksum_is_refused(tmp_path):
    wish = archive_of(tmp_path / "a.tar", member("x"))
    other = {**wish, "checksum": ARCHIVE["checksum"]}
    with pytest.raises(ReleaseError, match=f"a.tar is {wish['checksum']}, not {other['checksum']}"):
        fetching.content_id(other, [], tmp_path / "run")
    assert fetching.content_id(wish, [], tmp_path / "run") != fetching.content_id(wish, ["*.md"], tmp_path / "run")
    (tmp_path / "b").write_text("no archive")
    checksum = hashlib.sha256(b"no archive").hexdigest()
    with pytest.raises(ReleaseError, match="b cannot be unpacked"):
        fetching.fetch({**wish, "path": str(tmp_path / "b"), "checksum": f"sha256:{checksum}"}, tmp_path / "run")
    with pytest.raises(ReleaseError, match="nowhere cannot be read on the controller"):
        fetching.verify(wish, tmp_path / "nowhere")


# --- environments -----------------------------------------------------------------------------------------------------


def test_changed_code_shares_the_environment_and_changed_requirements_do_not(host, pip):
    first = Path(host.ensure()["path"])
    pip.calls.clear()
    (host.source / "run").write_text("new")
    second = Path(host.ensure()["path"])
    assert pip.calls == [] and (first / "venv").resolve() == (second / "venv").resolve() and first != second
    (host.source / "requirements.txt").write_text("flask\n")
    third = Path(host.ensure()["path"])
    assert pip.calls and (third / "venv").resolve() != (first / "venv").resolve()


def test_a_tampered_environment_is_not_shared_but_left_to_those_who_run_it(host):
    first = Path(host.ensure()["path"])
    host.switch(str(first))
    change_package(first)
    (host.source / "run").write_text("new")
    second = Path(host.ensure()["path"])
    assert (second / "venv").resolve().name == f"{(first / 'venv').resolve().name}.1"
    assert (second / "venv/lib/python3/site-packages/flask.py").read_text() == "flask"
    assert (first / "venv/lib/python3/site-packages/flask.py").read_text() == "other"


def test_environments_go_with_their_last_release(host):
    first = Path(host.ensure()["path"])
    (host.source / "requirements.txt").write_text("flask\n")
    second = Path(host.ensure()["path"])
    shutil.rmtree(first)
    (host.source / "run").write_text("new")
    host.ensure()
    assert [path.name for path in (host.root / "venvs").iterdir()] == [(second / "venv").resolve().name]


@pytest.mark.parametrize(
    ("requirements", "shared"),
    [
        ("flask==3.1.3  # why\nwerkzeug [a,b] >= 1 ; python_version > '3'\n", True),
        ("--index-url https://x/simple\nflask==1 \\\n    --hash=sha256:0\n", True),
        ("-r more.txt\n", True),
        ("-e .\n", False),
        ("./libs/x.whl\n", False),
        ("libs/x.whl\n", False),
        ("x @ file:///srv/x.whl\n", False),
        ("--find-links libs\n", False),
        ("-r local.txt\n", False),
    ],
)
def test_an_environment_that_depends_on_the_code_belongs_to_one_release(tmp_path, requirements, shared):
    ids = []
    for name in ("one", "two"):
        app = tmp_path / name / "app"
        app.mkdir(parents=True)
        (app / "requirements.txt").write_text(requirements)
        (app / "more.txt").write_text("flask\n-r requirements.txt\n")
        (app / "local.txt").write_text(".\n")
        ids.append(steps.environment_id(DIRECTORY, app.parent, "27.*", "python3"))
    assert (ids[0] == ids[1]) == shared
    (tmp_path / "one/app/more.txt").write_text("flask==2\n")
    again = steps.environment_id(DIRECTORY, tmp_path / "one", "27.*", "python3")
    assert (again != ids[0]) == requirements.startswith("-r more")


# --- going back -------------------------------------------------------------------------------------------------------


def test_a_release_of_the_host_can_be_chosen(host):
    first = Path(host.ensure()["path"])
    (host.source / "run").write_text("new")
    second = Path(host.ensure()["path"])
    host.switch(str(second))
    with pytest.raises(ReleaseError, match=f"no release before the live one in .*; there are: {second.name}, "):
        host.ensure(release="previous")
    with pytest.raises(ReleaseError, match="there is no release 'x'"):
        host.ensure(release="x")
    with pytest.raises(ReleaseError, match="there is no release '../releases/x'"):
        host.ensure(release="../releases/x")
    (host.root / "previous").symlink_to(f"releases/{first.name}")
    result = host.ensure(release="previous")
    assert (result["name"], result["live_release"], result["built"]) == (first.name, second.name, False)
    change_content(first)
    with pytest.raises(ReleaseError, match="was changed after it was built"):
        host.ensure(release=first.name)


def test_after_a_rollback_there_is_nothing_to_go_back_to(program, app, system):
    app.chosen = True
    program.activate(app)
    assert app.target("previous") == app.target("current") == app.release


# --- migrations and trials --------------------------------------------------------------------------------------------


def test_a_migration_runs_once_for_a_release_a_command_and_a_database(program, app, monkeypatch):
    ran, environment = [], {"DATABASE_URL": "mysql://app:old@db/app", "TOKEN": "1"}
    monkeypatch.setattr(app, "environment", lambda: environment)
    monkeypatch.setattr(program, "run_in_release", lambda app, command: ran.append(command) or done(""))

    def runs(*command: str) -> bool:
        before = len(ran)
        program.migrate(app, command or ("migrate",))
        return len(ran) > before

    assert runs() and not runs()
    environment |= {"TOKEN": "2", "DATABASE_URL": "mysql://app:new@db/app"}
    assert not runs()
    environment["DATABASE_URL"] = "mysql://app:new@db/other"
    assert runs()
    assert runs("migrate", "--all") and not runs("migrate", "--all")
    app.release = app.root / "releases/new.1"
    assert not runs()
    app.release = app.root / "releases/three"
    assert runs() and not runs()


def test_a_migration_that_failed_is_tried_again(program, app, monkeypatch):
    monkeypatch.setattr(app, "environment", dict)
    answers = iter([subprocess.CompletedProcess([], 1, "half"), done("")])
    monkeypatch.setattr(program, "run_in_release", lambda app, command: next(answers))
    with pytest.raises(program.Failure, match="`migrate` failed in release new .*half"):
        program.migrate(app, ["migrate"])
    program.migrate(app, ["migrate"])
    program.migrate(app, ["migrate"])


@pytest.mark.parametrize(
    ("answers", "workers", "said"),
    [
        ([None], [[1.0]], None),
        (["starting", "starting", None], [[1.0]], None),
        (["answered 500"], [[1.0]], "answered 500 for 1 s"),
        (["redirects (302) to /login"], [[1.0]], "redirects"),
        ([None], [[float(number)] for number in range(500)], "its workers end after a moment"),
        ([None], [[]], "gunicorn had no worker"),
    ],
)
def test_a_trial_wants_an_answer_that_lasts(program, app, monkeypatch, answers, workers, said):
    given, living = iter(answers), iter(workers)
    monkeypatch.setattr(program, "show", lambda *words: "1")
    monkeypatch.setattr(program, "is_active", lambda unit: True)
    monkeypatch.setattr(program, "ask", lambda app, listener: next(given, answers[-1]))
    monkeypatch.setattr(program, "children", lambda main: next(living, workers[-1]))
    found = program.watch(app, "web-trial.service", "/x", pause=0.01, proof=0.1)
    assert found == said if said is None else said in found
    monkeypatch.setattr(program, "is_active", lambda unit: False)
    assert program.watch(app, "web-trial.service", "/x") == "it did not stay up"


def test_a_trial_runs_the_new_files_with_the_old_ones_untouched(program, app, tmp_path):
    app.here = here = tmp_path / "etc"
    here.mkdir()
    (here / "gunicorn.conf.py").write_text("workers = 5\n")
    (here / "environment").write_text('GUNICORN_CMD_ARGS="--threads 2"\n')
    (here / "web.service").write_text(
        "[Unit]\nRequires=web.socket\nAfter=network.target web.socket\n\n"
        f"[Service]\nEnvironmentFile={here}/environment\n"
        f"ExecStart={app.root}/current/venv/bin/python --config {here}/gunicorn.conf.py\n"
        "Restart=always\n\n[Install]\n"
    )
    folder, listener, service = tmp_path / "run", tmp_path / "t.socket", tmp_path / "t.service"
    program.lay_out(app, folder, listener, service)
    text = service.read_text()
    assert f"ExecStart={app.release}/venv/bin/python --config {folder}/gunicorn.conf.py" in text
    assert "Requires=t.socket" in text and "web.socket" not in text and text.count("[Install]") == 1
    assert text.index("Restart=no") > text.index("Restart=always") and f"={folder}/environment" in text
    assert program.parse_environment((folder / "environment").read_text()) == {
        "GUNICORN_CMD_ARGS": "--threads 2 --workers 1"
    }
    assert (folder / "environment").stat().st_mode & 0o777 == 0o600


def test_a_health_path_that_redirects_is_told_where_to(program, app):
    class Redirect(Page):
        def do_GET(self):  # noqa: N802
            self.send_response(301)
            self.send_header("Location", "https://elsewhere/login")
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Redirect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    app.listen = f"127.0.0.1:{server.server_port}"
    assert r"redirects (301) to https://elsewhere/login" in program.ask(app)
    server.shutdown()
    server.server_close()


def test_a_release_that_was_put_aside_is_noticed(host, tmp_path, monkeypatch):
    config, units = tmp_path / "etc", tmp_path / "systemd"
    monkeypatch.setattr(module, "UNITS", units)
    config.mkdir()
    units.mkdir()
    path = Path(host.ensure(config=str(config))["path"])
    host.switch(str(path))
    (config / "deployment.json").write_text(json.dumps({"release": path.name, "name": "web"}))
    for unit in ("web.socket", "web.service"):
        (config / unit).touch()
        (units / unit).symlink_to(config / unit)
    good = host.ensure(config=str(config))
    assert (good["undone"], good["changed"]) == (False, False)
    (units / "web.service").unlink()
    assert host.ensure(config=str(config))["undone"]
    (units / "web.service").symlink_to(os.devnull)
    assert host.ensure(config=str(config))["undone"]
    (units / "web.service").unlink()
    (units / "web.service").symlink_to(config / "web.service")
    host.switch(f"{path}.1")
    assert host.ensure(config=str(config), check_mode=True)["undone"]
    (config / "deployment.json").write_text(json.dumps({"release": "another", "name": "web"}))
    assert not host.ensure(config=str(config))["undone"]


@pytest.mark.parametrize(
    ("passwd", "shadow", "groups", "sound"),
    [
        (("/var/lib/web", "/usr/sbin/nologin"), "web:!*:1::::::", [], True),
        (("/var/lib/web", "/usr/sbin/nologin"), "web:*:1::::::", [], True),
        (("/root", "/usr/sbin/nologin"), "web:!:1::::::", [], False),
        (("/var/lib/web", "/bin/bash"), "web:!:1::::::", [], False),
        (("/var/lib/web", "/usr/sbin/nologin"), "web::1::::::", [], False),
        (("/var/lib/web", "/usr/sbin/nologin"), "web2:!:1::::::", [], False),
        (("/var/lib/web", "/usr/sbin/nologin"), "web:!:1::::::", ["web"], False),
        (None, "", [], False),
    ],
)
def test_an_account_is_sound_if_it_can_do_nothing_but_run_the_service(
    passwd, shadow, groups, sound, tmp_path, monkeypatch
):
    def account(_name):
        if passwd is None:
            raise KeyError
        return SimpleNamespace(pw_dir=passwd[0], pw_shell=passwd[1])

    (tmp_path / "shadow").write_text(f"root:*:1::::::\n{shadow}\n")
    monkeypatch.setattr(module, "SHADOW", tmp_path / "shadow")
    monkeypatch.setattr(module.pwd, "getpwnam", account)
    monkeypatch.setattr(module.grp, "getgrall", lambda: [SimpleNamespace(gr_mem=groups)])
    assert module.is_sound("web") is sound


def test_why_nobody_can_listen_is_told(program):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert program.refusal(f"127.0.0.1:{taken.getsockname()[1]}") == "Address already in use"
    assert program.refusal("192.0.2.1:8000") == "Cannot assign requested address"
    assert program.refusal("127.0.0.1:0") == "nothing stands in the way now"
    assert "directory" in program.refusal("/run/web/web.sock")
