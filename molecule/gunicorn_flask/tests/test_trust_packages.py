"""Packages of an application, its build command and its migrations try to become more than they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

HOSTILE = Path(__file__).resolve().parent.parent / "files/hostile"
# The command of a build has no network, and only reads what pip has installed.
BUILD = """
import json, pathlib, socket, sysconfig
said = {}
try:
    socket.create_connection(("ADDRESS", 22), timeout=5)
    said["network"] = "connected"
except OSError as error:
    said["network"] = error.strerror
try:
    pathlib.Path(sysconfig.get_path("purelib"), "more.py").touch()
    said["packages"] = "written"
except OSError as error:
    said["packages"] = error.strerror
pathlib.Path("web/build.json").write_text(json.dumps(said))
"""
MIGRATION = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "stays-behind"], start_new_session=True)
time.sleep(600)
"""


def setuid_files(host) -> set[str]:
    return set(host.check_output("find / -xdev -perm /6000 -type f").split())


def test_a_build_is_nobody_and_leaves_nothing_but_the_release(good, deploy, version, host, addresses):
    before = setuid_files(host)
    shutil.copytree(HOSTILE, good.path / "hostile")
    (good.path / "requirements.txt").write_text("flask==3.1.3\n./hostile\n")
    (good.path / "build.py").write_text(BUILD.replace("ADDRESS", addresses["foobar-app-b"]))
    source = {"type": "directory", "path": str(good.path), "build": ["python", "build.py"]}
    done = deploy(gunicorn_flask_source=source)
    assert done.code == 0, done.output
    web = f"/srv/web/releases/{version()['release']}/app/web"
    report = json.loads(host.file(f"{web}/report.json").content_string)
    assert report.pop("uid") not in (0, host.user("web").uid) and report.pop("namespace") == -1
    read_only, denied, refused = "Read-only file system", "Permission denied", "Operation not permitted"
    assert report == {
        "root": refused,
        "setuid": refused,
        "swap": read_only,
        "shadow": denied,
        "environment": denied,
        "keys": denied,
        "program": read_only,
        "job": read_only,
        "release": read_only,
        "data": denied,
    }
    said = json.loads(host.file(f"{web}/build.json").content_string)
    assert said == {"network": "Network is unreachable", "packages": read_only}
    # What it has left is root's, without further rights, and it does not run any more.
    owners = host.check_output(
        "find /srv/web/releases /srv/web/venvs ! -user root -o ! -group root -o -perm /6022 ! -type l"
    )
    assert owners == "" and setuid_files(host) == before
    assert host.check_output("pgrep --full '[w]eb/daemon' || true") == ""
    size = host.file(f"{web}/daemon").size
    assert not host.check_output(
        "ls -d /var/lib/private/gunicorn_flask-build-* /var/lib/gunicorn_flask-build-* || true"
    )
    assert deploy(gunicorn_flask_source=source).changed == 0 and host.file(f"{web}/daemon").size == size


def test_a_migration_ends_with_its_time_and_so_does_what_it_has_started(refused, bad, host):
    bad.edit("import os", f"{MIGRATION}\nimport os", "web/migrate.py")
    said = " ".join(refused(source=bad, gunicorn_flask_migrate_timeout=3).split())
    assert "gunicorn_flask_migrate: `python -m web.migrate` failed" in said and "it did not end within 3 s" in said
    assert host.check_output("pgrep --full '[s]tays-behind' || true") == ""
