"""release: what is built, what is shared, and what counts as a sound release."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import build, made, model, ownership
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError
from ansible_collections.foobar.web_infrastructure.plugins.modules import release as module

from .conftest import DIRECTORY, PYPI, change_content, change_package

HASHED = "flask==1 --hash=sha256:0\ngunicorn==27.0.1 --hash=sha256:1\n"


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


def add_file(path: Path) -> None:
    (path / "app/web/more.py").write_text("")


def remove_package(path: Path) -> None:
    (path / "venv/lib/python3/site-packages/flask.py").unlink()


def damage_mark(path: Path) -> None:
    (path / build.MARK).write_text("[")


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
    mark = Path(path, build.MARK)
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
    dead = "0123456789ab"
    (host.root / "releases" / dead / "app").mkdir(parents=True)
    assert not host.ensure()["changed"] and dead in host.releases
    (host.source / "run").write_text("new")
    host.ensure()
    assert dead not in host.releases and Path(live).name in host.releases


@pytest.mark.parametrize("name", ["20260101120000", "0123456789ab", "notes"])
def test_what_somebody_else_has_put_beside_the_releases_stays(host, name):
    host.ensure()
    for folder in ("releases", "venvs"):
        (host.root / folder / "notes").mkdir()
        (host.root / folder / "file").touch()
    (host.root / "releases" / name / "public").mkdir(parents=True)
    (host.source / "run").write_text("new")
    host.ensure()
    assert {"notes", "file", name} <= set(host.releases) and (host.root / "venvs/notes").exists()
    assert (host.root / "releases" / name / "public").exists()


def test_a_name_that_somebody_else_has_taken_is_left_to_them(host):
    wanted = host.ensure(check_mode=True)["name"]
    host.root.mkdir()
    made.claim(host.root)
    (host.root / "releases" / wanted / "public").mkdir(parents=True)
    assert host.ensure()["name"] == f"{wanted}.1" and (host.root / "releases" / wanted / "public").exists()


def test_a_directory_of_releases_of_somebody_else_is_refused_and_stays(host):
    releases = host.root / "releases"
    for release in ("20260101120000", "20260102120000"):
        (releases / release / "public").mkdir(parents=True)
    (host.root / "current").symlink_to("releases/20260102120000")
    with pytest.raises(ReleaseError, match=f"{releases} was made by no deployment"):
        host.ensure()
    assert host.releases == ["20260101120000", "20260102120000"]
    assert sorted(path.name for path in host.root.iterdir()) == ["current", "releases"]


def test_a_first_build_that_was_killed_at_any_moment_is_finished_by_the_next(host, monkeypatch, tmp_path):
    """It is killed before its nth change to the disk."""

    class Killed(BaseException):
        pass

    for step in range(200):
        host.root = tmp_path / "srv" / f"web{step}"
        left = [step]

        def change(real, left=left):
            def dying(*arguments, **options):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return real(*arguments, **options)

            return dying

        with monkeypatch.context() as patch:
            for name in ("mkdir", "touch", "symlink_to", "rename", "write_text"):
                patch.setattr(Path, name, change(getattr(Path, name)))
            for name in ("rmtree", "copyfileobj"):
                patch.setattr(build.shutil, name, change(getattr(shutil, name)))
            try:
                host.ensure()
                killed = False
            except Killed:
                killed = True
        names = {"user": "web", "root": host.root, "config": tmp_path / "etc", "units": []}
        ownership.refuse_foreign_directories(ownership.names_of(names), account_is_ours=False)
        if not killed:
            assert step > 10
            return
        result = host.ensure()
        assert host.releases == [result["name"]] and (Path(result["path"]) / build.MARK).is_file()
        assert len(list((host.root / "venvs").iterdir())) == 1


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
        (HASHED, {}, [["--require-hashes", "-r", "requirements.txt"]]),
    ],
)
def test_what_pip_is_told_to_install(tmp_path, requirements, wish, calls):
    if requirements is not None:
        (tmp_path / "requirements.txt").write_text(requirements)
    assert build.installs({**DIRECTORY, **wish}, tmp_path) == [(call, "") for call in calls]


def test_what_pip_is_told_otherwise(tmp_path):
    assert build.installs({**PYPI, "packages": ["a"]}, tmp_path) == [(["httpbin==0.10.4", "a"], "")]
    with pytest.raises(ReleaseError, match=r"there is no file 'other.txt' in the source"):
        build.installs({**DIRECTORY, "requirements": "other.txt"}, tmp_path)


def test_where_requirements_have_hashes_everything_has(tmp_path):
    def installs(packages: list[str], text: str = "flask==1 --hash=sha256:0\n") -> list:
        (tmp_path / "requirements.txt").write_text(text)
        return build.installs({**DIRECTORY, "packages": packages}, tmp_path)

    first = (["--require-hashes", "-r", "requirements.txt"], "")
    gunicorn, click = "gunicorn==27.0.1 --hash=sha256:1", "click==8 --hash=sha256:2"
    assert installs([gunicorn, click]) == [first, (["--require-hashes"], f"{gunicorn}\n{click}")]
    assert installs([], f"{HASHED}Gunicorn [gevent]==27 \\\n --hash=sha256:1\n") == [first]
    with pytest.raises(ReleaseError, match=r"_source.packages: 'click==8' has no hash, and 'requirements.txt' has"):
        installs([gunicorn, "click==8"])
    with pytest.raises(ReleaseError, match=r"_source.requirements: 'requirements.txt' has hashes, and gunicorn has"):
        installs([click])


def test_gunicorn_of_the_requirements_is_left_alone(host, pip, source):
    (source / "requirements.txt").write_text("flask\n")
    host.ensure()
    assert sum("gunicorn==27.*" in call for call in pip.calls) == 1
    pip.calls.clear()
    (source / "run").write_text("another")
    host.ensure(source={**DIRECTORY, "packages": ["gunicorn==26.1.0"]})
    assert sum("gunicorn==" in call for call in pip.calls) == 1


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
        ids.append(build.environment_id(DIRECTORY, app, "27.*", "python3", name))
    assert (ids[0] == ids[1]) == shared
    if shared:
        for package, depends in ((".", True), ("libs", True), ("click==8.1", False)):
            source = DIRECTORY | {"packages": [package]}
            (tmp_path / "one/app/libs").mkdir(exist_ok=True)
            own = [
                build.environment_id(source, tmp_path / name / "app", "27.*", "python3", name)
                for name in ("one", "one", "two")
            ]
            assert own[0] == own[1] and (own[0] != own[2]) == depends, package
    (tmp_path / "one/app/more.txt").write_text("flask==2\n")
    again = build.environment_id(DIRECTORY, tmp_path / "one/app", "27.*", "python3", "one")
    assert (again != ids[0]) == requirements.startswith("-r more")


def test_environments_go_with_their_last_release(host):
    first = Path(host.ensure()["path"])
    (host.source / "requirements.txt").write_text("flask\n")
    second = Path(host.ensure()["path"])
    shutil.rmtree(first)
    (host.source / "run").write_text("new")
    host.ensure()
    assert [path.name for path in (host.root / "venvs").iterdir()] == [(second / "venv").resolve().name]


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
    # A rollback has led to the live one: the next changes nothing.
    config = host.root.parent / "etc"
    config.mkdir()
    (config / "deployment.json").write_text(json.dumps({"release": second.name, "name": "web", "chosen": True}))
    again = host.ensure(release="previous", config=str(config))
    assert (again["name"], again["previous_release"], again["live"]) == (second.name, "", True)
    (config / "deployment.json").write_text(json.dumps({"release": second.name, "name": "web", "chosen": False}))
    with pytest.raises(ReleaseError, match="no release before the live one"):
        host.ensure(release="previous", config=str(config))
    # As earlier versions left it.
    (host.root / "previous").symlink_to(f"releases/{second.name}")
    assert host.ensure(release="previous")["previous_release"] == ""
    (host.root / "previous").unlink()
    (host.root / "previous").symlink_to(f"releases/{first.name}")
    result = host.ensure(release="previous")
    assert (result["name"], result["live_release"], result["built"]) == (first.name, second.name, False)
    change_content(first)
    with pytest.raises(ReleaseError, match="was changed after it was built"):
        host.ensure(release=first.name)


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
    monkeypatch.setattr(ownership, "SHADOW", tmp_path / "shadow")
    monkeypatch.setattr(ownership.pwd, "getpwnam", account)
    monkeypatch.setattr(ownership.grp, "getgrall", lambda: [SimpleNamespace(gr_mem=groups)])
    assert ownership.is_sound("web") is sound


def test_the_build_command_runs_in_the_code_before_the_release_is_complete(host, pip):
    seen = []

    def run(argv, problem, cwd, path):
        seen.append((argv, cwd.name, path.split(":")[0]))
        if "fails" in argv:
            raise ReleaseError(problem)
        (cwd / "assets.css").write_text("made")

    pip.build = run
    first = Path(host.ensure(source=DIRECTORY | {"build": ["python", "-m", "web.assets"]})["path"])
    assert seen == [(["python", "-m", "web.assets"], "0", f"{first}/venv/bin")]
    # What it has made is part of the release.
    assert not host.ensure(source=DIRECTORY | {"build": ["python"]})["built"]
    (first / "app/assets.css").write_text("changed")
    with pytest.raises(ReleaseError, match="gunicorn_flask_source.build: `true fails` failed"):
        host.ensure(source=DIRECTORY | {"build": ["true", "fails"]})
    with pytest.raises(ReleaseError, match="_source.build: there is no program 'bin/assets' in the release"):
        host.ensure(source=DIRECTORY | {"build": ["bin/assets"]})
    assert host.releases == []
