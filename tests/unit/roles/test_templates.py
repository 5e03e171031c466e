"""What templates make of odd but right values, as the products have to see them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def rendered(role: str, **given: Any) -> str:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("rendering.py")],
        input=json.dumps({"role": role, "given": [given]}),
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(_texts(json.loads(json.loads(done.stdout)[0])))


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
