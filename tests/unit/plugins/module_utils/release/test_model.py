"""release: which sources make sense, and which id a source has."""

from __future__ import annotations

import os
import shutil

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

from .conftest import DIRECTORY, PYPI, release_id

GIT = {**DIRECTORY, "type": "git", "path": None, "url": "https://x/y.git", "revision": "main"}
ARCHIVE = {**DIRECTORY, "type": "archive", "path": "/a.tar", "checksum": f"sha256:{64 * '0'}"}


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


def test_a_pointer_of_git_lfs_is_refused(source):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (source / "web/text.md").write_text(pointer + "x" * 2000)
    model.refuse_pointers(source, model.scan(source))
    (source / "web/logo.png").write_text(pointer)
    with pytest.raises(ReleaseError, match="'web/logo.png' is a pointer of Git LFS and not the file itself; run"):
        model.refuse_pointers(source, model.scan(source))
    model.refuse_pointers(source, model.scan(source, ["*.png"]))


def test_a_build_command_makes_another_release_and_none_the_same_as_ever(source):
    wish = {"type": "directory", "requirements": "requirements.txt", "packages": []}
    plain = model.release_id(wish, "x", "27.*", "python3")
    assert plain == model.release_id(wish | {"build": [], "submodules": True}, "x", "27.*", "python3")
    assert plain != model.release_id(wish | {"build": ["make"]}, "x", "27.*", "python3")
