"""The state directory is given back to its application, and nothing else is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn_flask import application, places, system

from .conftest import done

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
USER = SimpleNamespace(pw_uid=4321, pw_gid=4322)


def owners(root: Path) -> dict[str, tuple[int, int]]:
    found = {".": root.lstat()} | {str(path.relative_to(root)): path.lstat() for path in root.rglob("*")}
    return {name: (status.st_uid, status.st_gid) for name, status in found.items()}


@as_root
def test_a_state_directory_of_an_old_account_goes_to_the_new_one_and_links_are_not_followed(tmp_path):
    outside, state = tmp_path / "outside", tmp_path / "state"
    outside.mkdir()
    (outside / "shadow").touch()
    (state / "uploads/deep").mkdir(parents=True)
    for path in (state / "uploads/deep/a", state / "uploads/b", state / "of_somebody_else"):
        path.touch()
    (state / "uploads/folder").symlink_to(outside)
    (state / "uploads/file").symlink_to(outside / "shadow")
    for path in [state, *state.rglob("*")]:
        os.chown(path, 990, 990, follow_symlinks=False)
    os.chown(state / "of_somebody_else", 33, 33)
    before = owners(outside)
    places.take_over(state, 4321, 4322)
    assert {name: owner for name, owner in owners(state).items() if owner != (4321, 4322)} == {
        "of_somebody_else": (33, 33)
    }
    assert owners(outside) == before and state.stat().st_mode & 0o777 == 0o750


@as_root
def test_a_state_directory_that_is_the_applications_is_left_alone(tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    os.chown(tmp_path / "state", 4321, 4322)
    (tmp_path / "state/of_root").touch()
    places.take_over(tmp_path / "state", 4321, 4322)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert owners(tmp_path / "state")["of_root"] == (0, 0)


@as_root
def test_a_link_in_the_place_of_the_state_directory_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(application.Failure, match="state is not a directory"):
        places.take_over(tmp_path / "state", 4321, 4322)


@as_root
def test_a_writable_path_of_somebody_else_is_refused_and_the_state_directory_is_not(app, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "STATE", tmp_path / "lib")
    monkeypatch.setattr(places.pwd, "getpwnam", lambda name: USER)
    monkeypatch.setattr(system, "run", lambda argv, **_: done("", 1))
    (tmp_path / "lib/web").mkdir(parents=True)
    places.make_writable_places(app)
    assert owners(tmp_path / "lib/web")["."] == (4321, 4322)
    app.writable = [tmp_path / "new", tmp_path / "lib"]
    with pytest.raises(application.Failure, match="_writable_paths: the user web may not write to .*/lib,"):
        places.make_writable_places(app)
    assert owners(tmp_path / "new")["."] == (4321, 4322)


@pytest.fixture
def grounds(tmp_path):
    """A directory on the way to which nobody but root can put links."""
    place = Path("/srv", f"test-{os.getpid()}-{tmp_path.name}")
    place.mkdir(mode=0o755)
    yield place
    shutil.rmtree(place)


@as_root
@pytest.mark.parametrize("depth", ["middle", "middle/deeper"])
def test_no_directory_is_made_behind_a_link_of_the_application(grounds, depth):
    outside, owned = grounds / "etc", grounds / "owned"
    (outside / "deeper").mkdir(parents=True)
    owned.mkdir()
    os.chown(owned, 4321, 4322)
    (owned / "middle").symlink_to(outside)
    # Root's own link may lead into that directory, too.
    (grounds / "link").symlink_to(owned)
    before = owners(outside)
    for way in (owned, grounds / "link"):
        with pytest.raises(application.Failure, match="_writable_paths: .*/new cannot be made: "):
            places.make(way / depth / "new", USER)
    assert owners(outside) == before


@as_root
@pytest.mark.parametrize("target", ["real", "../{name}/real", "{grounds}/real", "second"])
def test_roots_own_links_lead_to_where_it_is_made(grounds, target):
    (grounds / "real").mkdir()
    (grounds / "second").symlink_to("real")
    (grounds / "link").symlink_to(target.format(name=grounds.name, grounds=grounds))
    assert places.make(grounds / "link/new", USER)
    made = grounds / "real/new"
    assert owners(made)["."] == (4321, 4322) and made.stat().st_mode & 0o7777 == 0o750
    assert not places.make(grounds / "link/new", USER)


@as_root
def test_links_that_go_round_are_no_way(grounds):
    (grounds / "one").symlink_to("two")
    (grounds / "two").symlink_to("one")
    with pytest.raises(application.Failure, match="cannot be made: "):
        places.make(grounds / "one/new", USER)


@as_root
@pytest.mark.parametrize("trick", ["link", "directory"])
def test_what_the_application_has_put_in_its_place_meanwhile_is_not_given_to_it(grounds, monkeypatch, trick):
    owned, secret = grounds / "owned", grounds / "owned/secret"
    secret.mkdir(parents=True)
    (secret / "key").touch()
    before = owners(secret)

    def mkdir(name, mode=0o777, dir_fd=None, real=os.mkdir):
        real(name, mode, dir_fd=dir_fd)
        (owned / "new").rmdir()
        if trick == "link":
            (owned / "new").symlink_to(secret)
        else:
            secret.rename(owned / "new")

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", mkdir)
        with pytest.raises(application.Failure, match="cannot be made|was replaced while it was made"):
            places.make(owned / "new", USER)
    assert owners(owned / "new" if trick == "directory" else secret) == before
