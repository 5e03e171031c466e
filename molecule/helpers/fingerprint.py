"""What a run has left on a host: mode, owner and content of files, and the processes of services."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

LOOK = Path(__file__).with_name("look_at_host.py")
# Of each host its own, or written by the system itself as time goes by.
OF_ONE_HOST = re.compile(
    r"/etc/(machine-id|ssh/ssh_host_.*|hosts|resolv\.conf|mtab|\.pwd\.lock|(passwd|group|shadow|gshadow)-|shadow"
    r"|ld\.so\.cache|\.updated|subuid-|subgid-)"
    r"|/var/(lib|cache|log)/(apt|dpkg|systemd|private|debconf|journal|nginx)/.*|/var/log/.*"
)


def fingerprint(name: str, units: Sequence[str]) -> dict:
    """Look at a container: files of /etc and /srv, places of services, processes of these units."""
    command = ["docker", "exec", "--interactive", name, "python3", "-", *units]
    said = subprocess.run(command, input=LOOK.read_text(), check=True, capture_output=True, text=True).stdout
    return json.loads(said)


def comparable(files: dict, others: re.Pattern) -> dict:
    """The files without what two hosts may not have in common, and without what ``others`` matches."""
    kept = {}
    for path, said in files.items():
        if OF_ONE_HOST.fullmatch(path) or others.fullmatch(path):
            continue
        # Compiled code carries the time of its source, a finished release that of its end.
        drop = {"written"} | ({"content"} if path.endswith((".pyc", "/.complete")) else set())
        kept[path] = {key: value for key, value in said.items() if key not in drop}
    return kept


def differences(before: dict, after: dict) -> list[str]:
    """One line for each path that is not the same."""
    paths = sorted(before.keys() | after.keys())
    return [f"{path}: {before.get(path)} -> {after.get(path)}" for path in paths if before.get(path) != after.get(path)]
