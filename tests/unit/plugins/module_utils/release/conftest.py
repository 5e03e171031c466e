"""The module release on a host in a directory, and a pip without a network."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import build, model, workshop
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError
from ansible_collections.foobar.web_infrastructure.plugins.modules import release as module

DIRECTORY = {"type": "directory", "path": "/x", "requirements": "requirements.txt", "packages": []}
PYPI = {"type": "pypi", "requirement": "httpbin==0.10.4", "requirements": "requirements.txt", "packages": []}


class FakePip:
    """Makes what venv and pip would make, without a network, and fails on request."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = ""
        # What stands for the build command.
        self.build = None

    def __call__(self, argv, problem, cwd=None, **more) -> None:
        if self.build and "PATH" in more:
            self.build(argv, problem, cwd, more["PATH"])
            return
        if "compileall" in " ".join(argv):
            return
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
def pip(monkeypatch, tmp_path) -> FakePip:
    """Its workshop has no unit: what a command is told of final paths is said of their copies."""
    pip = FakePip()

    class FakeWorkshop(workshop.Workshop):
        def remove(self) -> None:
            shutil.rmtree(self.folder, ignore_errors=True)

        def run(self, argv, problem, cwd=None, network=False, files=None, **more) -> None:
            words = [self.moved(str(word)) for word in argv]
            pip(words, problem, Path(self.moved(str(cwd))) if cwd else None, **more)

        def moved(self, word: str) -> str:
            for target, copy in self.copies.items():
                word = word.replace(str(target), str(copy))
            return word

    monkeypatch.setattr(workshop, "STATE", tmp_path / "private")
    monkeypatch.setattr(build, "Workshop", FakeWorkshop)
    return pip


def release_id(root: Path, **other) -> str:
    wish = {"gunicorn": "27.*", "python": "python3", "source": DIRECTORY, **other}
    return model.release_id(wish["source"], model.digest(model.scan(root)), wish["gunicorn"], wish["python"])


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
            "units": [],
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


def change_content(path: Path) -> None:
    (path / "app/web/wsgi.py").write_text("app = 2\n")


def change_package(path: Path) -> None:
    (path / "venv/lib/python3/site-packages/flask.py").write_text("other")
