"""release_static: which files of which release a web server gets."""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import build, static
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError

PLACES = [{"path": "/static/", "release": "web/static", "package": None}]


@pytest.fixture
def releases(tmp_path):
    """Make releases: name, and the static files of its source; the later, the newer."""

    def make(**contents: dict[str, str] | None) -> build.Store:
        for age, (name, files) in enumerate(contents.items()):
            release = tmp_path / "releases" / name
            (release / "app/web").mkdir(parents=True)
            for path, content in (files or {}).items():
                file = release / "app/web/static" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
                os.utime(file, (1_000_000 + age, 1_000_000 + age))
            mark = release / build.MARK
            mark.write_text("{}")
            os.utime(mark, (2_000_000 + age, 2_000_000 + age))
        return build.Store(tmp_path, "", "python3")

    return make


def live(store: build.Store, name: str) -> None:
    (store.root / "current").symlink_to(f"releases/{name}")


def test_the_wanted_release_goes_before_the_live_one_and_others_stay(releases):
    store = releases(
        a={"site.css": "a", "a.1234abcd.css": "old"}, b={"site.css": "b", "img/b.svg": "b"}, c={"site.css": "c"}
    )
    live(store, "a")
    assert static.order(store, "b") == ["b", "a", "c"]
    files = static.collect(store, "b", PLACES)["/static/"]
    assert {path: content for path, (_time, content) in files.items()} == {
        "site.css": b"b",
        "img/b.svg": b"b",
        "a.1234abcd.css": b"old",
        # What pages of these releases ask for with their id.
        ".releases/a/site.css": b"a",
        ".releases/c/site.css": b"c",
    }
    assert files["site.css"][0] == 1_000_001


def test_without_a_wish_the_live_release_counts(releases):
    store = releases(a={"site.css": "a"}, b={"site.css": "b"})
    live(store, "a")
    assert static.collect(store, "", PLACES)["/static/"]["site.css"][1] == b"a"


def test_a_release_that_was_not_finished_has_no_files(releases):
    store = releases(a={"site.css": "a"}, b={"site.css": "b"})
    (store.releases / "b" / build.MARK).unlink()
    assert static.order(store, "b") == ["a"]


def test_package_data_is_found_by_its_name_alone(releases):
    store = releases(a={})
    place = store.releases / "a/venv/lib/python3.13/site-packages/admin/static"
    place.mkdir(parents=True)
    (place / "admin.css").write_text("admin")
    found = static.collect(store, "a", [{"path": "/admin/", "release": None, "package": "admin/static"}])
    assert found["/admin/"]["admin.css"][1] == b"admin"
    with pytest.raises(ReleaseError, match="release a has no package data adm"):
        static.collect(store, "a", [{"path": "/admin/", "release": None, "package": "adm*/static"}])


def test_a_release_before_may_lack_the_directory_the_wanted_one_may_not(releases):
    store = releases(a=None, b={"site.css": "b"})
    assert list(static.collect(store, "b", PLACES)["/static/"]) == ["site.css"]
    with pytest.raises(ReleaseError, match=r"site_static, /static/: release a has no directory 'web/static'; name one"):
        static.collect(store, "a", PLACES)
    # What it is called where it stands: a further application has its own list.
    with pytest.raises(ReleaseError, match=r"^site_applications, 'shop', static, /static/: release a has no"):
        static.collect(store, "a", PLACES, variable="site_applications, 'shop', static")
    assert list(static.collect(store, "a", PLACES, complete=False)["/static/"]) == ["site.css"]


def link_to_a_secret(path: Path) -> None:
    (path / "secret").symlink_to("/etc/passwd")


def link_to_another_directory(path: Path) -> None:
    (path / "code").symlink_to("../../..")


@pytest.mark.parametrize("spoil", [link_to_a_secret, link_to_another_directory])
def test_a_link_out_of_the_directory_is_refused(releases, spoil):
    store = releases(a={"site.css": "a"})
    spoil(store.releases / "a/app/web/static")
    with pytest.raises(ReleaseError, match="is a link out of"):
        static.collect(store, "a", PLACES)


def test_a_link_within_the_directory_is_a_file(releases):
    store = releases(a={"site.css": "a"})
    (store.releases / "a/app/web/static/main.css").symlink_to("site.css")
    assert static.collect(store, "a", PLACES)["/static/"]["main.css"][1] == b"a"


@pytest.mark.parametrize("path", ["../..", "web/../../../../etc", "/etc"])
def test_a_path_out_of_the_release_is_none(releases, path):
    store = releases(a={"site.css": "a"})
    with pytest.raises(ReleaseError, match="has no directory"):
        static.collect(store, "a", [{"path": "/static/", "release": path, "package": None}])


def test_too_much_is_refused(releases, monkeypatch):
    store = releases(a={"one.css": "1234", "two.css": "1234"})
    monkeypatch.setattr(static, "LIMIT_BYTES", 7)
    with pytest.raises(ReleaseError, match="more than 0 MiB of static files; what is larger belongs"):
        static.collect(store, "a", PLACES)


def test_what_is_packed_arrives_with_its_times(releases, tmp_path):
    store = releases(a={"img/logo.svg": "logo"}, b={"img/logo.svg": "new"})
    folder = tmp_path / "controller"
    folder.mkdir()
    directories = static.write(static.unpack(static.pack(static.collect(store, "b", PLACES)), ["/static/"]), folder)
    file = Path(directories["/static/"]["directory"], "img/logo.svg")
    assert (file.read_text(), int(file.stat().st_mtime)) == ("new", 1_000_001)
    assert Path(directories["/static/"]["releases"], "a/static/img/logo.svg").read_text() == "logo"


def sent(path: str) -> str:
    document = {"/static/": {path: [0, base64.b64encode(b"x").decode()]}}
    return base64.b64encode(zlib.compress(json.dumps(document).encode())).decode()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a\0b"])
def test_a_host_cannot_write_elsewhere_on_the_controller(path):
    with pytest.raises(ReleaseError, match="leads out of its place"):
        static.unpack(sent(path), ["/static/"])


def test_a_host_sends_what_it_was_asked_for():
    with pytest.raises(ReleaseError, match="for '/static/', which it was not asked for"):
        static.unpack(sent("x"), ["/admin/"])


def test_the_name_of_the_other_releases_is_taken(releases):
    store = releases(a={".releases/b/site.css": "a"})
    with pytest.raises(ReleaseError, match=r"the name \.releases is taken"):
        static.collect(store, "a", PLACES)


def test_a_host_cannot_fill_the_memory_of_the_controller(monkeypatch):
    monkeypatch.setattr(static, "LIMIT_BYTES", 1000)
    bomb = base64.b64encode(zlib.compress(b" " * 1_000_000)).decode()
    with pytest.raises(ReleaseError, match="the host has sent more than"):
        static.unpack(bomb, ["/static/"])
