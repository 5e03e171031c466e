"""tasks/static.yml: files of an application that nobody has read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[4]


def run(place: Path, **variables: object) -> tuple[int, str]:
    """Run the tasks on this machine until they would put files in place; return the code and what was said."""
    role = {"name": "foobar.web_infrastructure.nginx", "tasks_from": "static"}
    tasks = [
        {"ansible.builtin.include_role": role | {"public": True, "apply": {"when": "not skipped"}}},
        {"ansible.builtin.debug": {"msg": "unread: {{ __nginx_static_unread | to_json }}"}},
    ]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    (place / "play.yml").write_text(json.dumps([play]))
    given = {"ansible_python_interpreter": sys.executable, "skipped": False, **variables}
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "-i", "localhost,", place / "play.yml", "-e", json.dumps(given)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_live_files_that_nobody_has_read_do_not_go(tmp_path):
    (tmp_path / "live").mkdir()
    (tmp_path / "live/site.css").write_text("a")
    code, said = run(tmp_path, __nginx_static_unread=[str(tmp_path / "never"), str(tmp_path / "live")])
    assert code != 0
    assert f"{tmp_path}/live: no release has been found with these files, which are live; nothing was changed" in said
    assert "Deploy the static files" not in said


@pytest.mark.parametrize("directory", [{}, {"directory": "/tmp/read"}])  # noqa: S108 - not opened
def test_what_has_no_directory_is_unread(tmp_path, directory):
    sites = [
        {"name": "blog.foobar.com", "static": [{"path": "/static/", **directory}]},
        {"name": "www.foobar.com"},
    ]
    code, said = run(tmp_path, nginx_sites=sites, skipped=True)
    assert code == 0
    unread = [] if directory else ["/srv/www/blog.foobar.com/static"]
    assert f"unread: {json.dumps(unread)}" in said.replace('\\"', '"')
