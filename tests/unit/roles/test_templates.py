"""What templates make of odd but right values, as the products have to see them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def rendered(role: str, **given: Any) -> str:
    return "\n".join(texts(role, **given))


def texts(role: str, **given: Any) -> list[str]:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("rendering.py")],
        input=json.dumps({"role": role, "given": [given]}),
        capture_output=True,
        text=True,
        check=True,
    )
    return _texts(json.loads(json.loads(done.stdout)[0]))


def _texts(found: Any) -> list[str]:
    """Files and arguments, as deep as they are."""
    if isinstance(found, list | dict):
        return [text for part in (found.values() if isinstance(found, dict) else found) for text in _texts(part)]
    return [str(found)]


def test_braces_and_spaces_of_nginx_are_quoted():
    site = {
        "name": "www",
        "server_names": ["www.foobar.com", r"~^www\d{1,3}\.foobar\.com$", '"~^a{2}$"', '~"{2}'],
        "root": "/srv/my files",
        "static": [{"path": "/a b/", "directory": "/nowhere"}],
        "locations": [
            {"path": r"~ ^/x{2}/(\d{4});$", "return": "204"},
            {"path": "= /y{2}", "root": "/srv/{x}"},
            {"path": "/plain/", "return": "204"},
            {"path": '~ "^/z{2}$"', "return": "204"},
            {"path": "@named", "return": "204"},
        ],
    }
    text = rendered("nginx", nginx_sites=[site])
    for line in (
        r"""server_name www.foobar.com "~^www\d{1,3}\.foobar\.com$" "~^a{2}$" "~\"{2}";""",
        'root "/srv/my files";',
        'location ^~ "/a b/" {',
        r'location ~ "^/x{2}/(\d{4});$" {',
        'location = "/y{2}" {',
        'root "/srv/{x}";',
        "location /plain/ {",
        'location ~ "^/z{2}$" {',
        "location @named {",
    ):
        assert line in text, line


def test_servers_of_haproxy_may_have_ports_of_their_own():
    servers = {"a": "192.0.2.1", "b": "192.0.2.1:8001", "c": "[fd00::1]:8002", "d": "fd00::1", "e": "app.example:8003"}
    backend = {"name": "web", "servers": servers, "port": 80}
    frontend = {"name": "www", "port": 80, "default_backend": "web"}
    text = rendered(
        "haproxy_keepalived", haproxy_keepalived_backends=[backend], haproxy_keepalived_frontends=[frontend]
    )
    for name, place in {
        "a": "192.0.2.1:80",
        "b": "192.0.2.1:8001",
        "c": "[fd00::1]:8002",
        "d": "fd00::1:80",
        "e": "app.example:8003",
    }.items():
        assert f"server {name} {place} check" in text


def test_headers_have_room_in_each_program():
    assert "tune.bufsize 43008" in rendered("haproxy_keepalived", haproxy_keepalived_header_kb=32)
    text = rendered("nginx", nginx_header_kb=32)
    for line in ("large_client_header_buffers 4 32k;", "proxy_buffer_size 32k;", "proxy_buffers 8 32k;"):
        assert line in text


# --- the sandboxes of what runs all the time --------------------------------------------------------------------------

MEMBER = {
    "mysql_replication_mode": "source_replica",
    "mysql_replication_address": "192.0.2.1",
    "mysql_replication_network": "192.0.2.0/24",
    "mysql_replication_members": {"one": "192.0.2.1", "two": "192.0.2.2"},
    "mysql_replication_password": "p",
}
#: Where a unit is from, what it is allowed besides, and ten times the figure of systemd-analyze.
UNITS = {
    "Makes the MySQL source writable": (
        *("mysql_replication", MEMBER, 15),
        {
            **{"CapabilityBoundingSet": [""], "ProtectProc": ["invisible"]},
            **{"RestrictAddressFamilies": ["AF_INET AF_INET6 AF_UNIX"], "MemoryDenyWriteExecute": ["yes"]},
            # The other members, and nobody else.
            **{"IPAddressAllow": ["localhost 192.0.2.1 192.0.2.2"], "IPAddressDeny": ["any"]},
            **{"RuntimeDirectory": ["mysql_replication"], "RuntimeDirectoryPreserve": ["yes"]},
        },
    ),
    "Says over HTTP whether this MySQL is": (
        *("mysql_replication", MEMBER, 12),
        {
            **{"CapabilityBoundingSet": [""], "ProtectProc": ["invisible"], "User": ["mysql_replication_check"]},
            **{"RestrictAddressFamilies": ["AF_INET AF_INET6 AF_UNIX"], "MemoryDenyWriteExecute": ["yes"]},
        },
    ),
    "Kills a HAProxy that hangs": (
        *("haproxy_keepalived", {}, 17),
        {
            **{"CapabilityBoundingSet": ["CAP_KILL"], "MemoryDenyWriteExecute": ["yes"]},
            **{"RestrictAddressFamilies": ["AF_INET AF_UNIX"]},
            **{"IPAddressAllow": ["localhost"], "IPAddressDeny": ["any"]},
        },
    ),
}
SANDBOX = {
    **dict.fromkeys(("LockPersonality", "NoNewPrivileges", "PrivateDevices", "PrivateMounts", "PrivateTmp"), ["yes"]),
    **dict.fromkeys(("ProtectClock", "ProtectControlGroups", "ProtectHome", "ProtectHostname"), ["yes"]),
    **dict.fromkeys(("ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"), ["yes"]),
    **dict.fromkeys(("RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"), ["yes"]),
    **{"ProtectSystem": ["strict"], "SystemCallArchitectures": ["native"], "UMask": ["0077"], "TasksMax": ["16"]},
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
}


@pytest.fixture(scope="module", params=UNITS, ids=lambda name: name.split()[0])
def unit(request) -> tuple[str, int, dict[str, list[str]]]:
    """The unit, its figure, and the settings that it needs."""
    role, given, figure, own = UNITS[request.param]
    (text,) = {text for text in texts(role, **given) if f"\nDescription={request.param}" in text}
    return text, figure, SANDBOX | own


def test_what_runs_all_the_time_runs_in_a_sandbox(unit):
    text, _figure, needed = unit
    settings: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.M):
        settings.setdefault(name, []).append(value)
    assert {name: settings.get(name) for name in needed} == needed
    assert "ReadWritePaths" not in settings
    # Or the watchdog would not see what it watches.
    assert ("ProtectProc" in settings) == ("ProtectProc" in needed)


def knows_offline() -> bool:
    """Whether systemd is here and new enough to judge a file."""
    if not shutil.which("systemd-analyze"):
        return False
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[1]) >= 250


@pytest.mark.skipif(not knows_offline(), reason="asks systemd 250 or newer")
def test_the_sandbox_is_as_tight_as_systemd_counts(unit, tmp_path):
    text, figure, _needed = unit
    path = tmp_path / "one.service"
    path.write_text(re.sub(r"(?m)^ExecStart=.*", "ExecStart=/bin/true", text))
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={figure}", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def versions(**changes: Any) -> dict[str, str]:
    """What the services of a member are restarted for, by unit."""
    (text,) = {text for text in texts("mysql_replication", **{**MEMBER, **changes}) if text.startswith('{\n    "mode"')}
    return json.loads(text)["versions"]


def test_the_guard_is_restarted_for_the_members_that_its_sandbox_names():
    guard, check = (f"mysql_replication_{name}.service" for name in ("guard", "check"))
    before, after = versions(), versions(mysql_replication_members={"one": "192.0.2.1", "two": "192.0.2.3"})
    assert before[guard] != after[guard] and before[check] == after[check]


def test_a_list_of_the_role_checks_clients_restarts_nothing():
    assert versions() == versions(
        mysql_replication_check_clients=["192.0.2.9"], mysql_replication_service_check_clients=["192.0.2.31"]
    )
