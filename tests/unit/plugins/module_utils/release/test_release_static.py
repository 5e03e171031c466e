"""The module release_static: an application that a run is not for may have no release yet."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import build, static
from ansible_collections.foobar.web_infrastructure.plugins.modules import release_static

PLACES = [{"path": "/static/", "release": "web/static"}]


@pytest.fixture
def read(tmp_path, capsys):
    """Return a function that runs the module: what it returns."""

    def run(**arguments: object) -> dict:
        check = {"_ansible_check_mode": arguments.pop("check", False)}
        given = {"root": str(tmp_path), "places": PLACES, "variable": "site_applications, 'blog', static", **arguments}
        with patch_module_args({**given, **check}), pytest.raises(SystemExit):
            release_static.main()
        return json.loads(capsys.readouterr().out)

    return run


def release(place, *files: str) -> None:
    folder = place / "releases/a"
    (folder / "app").mkdir(parents=True)
    for file in files:
        (folder / "app" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "app" / file).write_text("x")
    (folder / build.MARK).write_text("{}")
    (place / "current").symlink_to("releases/a")


def test_no_release_is_no_file_of_one_that_the_run_is_not_for(read):
    said = read(required=False)
    assert "failed" not in said
    assert (said["releases"], static.unpack(said["packed"], ["/static/"])) == ([], {})


def test_one_that_the_run_is_for_has_to_be_there(read, tmp_path):
    said = read()
    assert said["failed"] is True
    assert f"{tmp_path} has no release to read; run the playbook of the stage" in said["msg"]


def test_a_directory_that_only_the_next_release_has_stops_nobody_else(read, tmp_path):
    release(tmp_path)
    assert "has no directory 'web/static'" in read()["msg"]
    said = read(required=False)
    assert static.unpack(said["packed"], ["/static/"]) == {"/static/": {}}


def test_files_of_one_that_the_run_is_not_for_stay(read, tmp_path):
    release(tmp_path, "web/static/site.css")
    assert static.unpack(read(required=False)["packed"], ["/static/"])["/static/"]["site.css"][1] == b"x"
