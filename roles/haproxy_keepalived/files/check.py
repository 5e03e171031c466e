#!/usr/bin/python3
"""Asks HAProxy what it thinks of /etc/haproxy/haproxy.cfg, and the kernel whether the given addresses can be bound.

HAProxy tries to bind only when it reloads. Where that fails, it answers nobody for two seconds.
"""

import errno
import socket
import subprocess
import sys

HOLDER_BYTES = 4096


def holder(port: str) -> str:
    """Return what ss says of the program that listens on a port."""
    try:
        # Whoever listens decides how much that is.
        with subprocess.Popen(["ss", "-Hltnp", f"sport = :{port}"], stdout=subprocess.PIPE) as process:
            said = process.stdout.read(HOLDER_BYTES).decode(errors="replace")
            process.kill()
    except FileNotFoundError:
        return ""
    return " ".join(said.split())


def problem(address: str) -> str:
    """Return why HAProxy cannot listen on an address; empty if it can. It shares its ports, as this socket does."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]").replace("*", "")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, int(port)))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return f"cannot listen on {address}: {error.strerror}"
        if '("haproxy"' not in (who := holder(port)):
            return f"cannot listen on {address}: another program does: {who}"
    return ""


done = subprocess.run(
    ["haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
)
# States of servers are there during a reload only, which is no news.
print(*(line for line in done.stdout.splitlines() if "global server state file" not in line), sep="\n", flush=True)
if done.returncode != 0:
    sys.exit(1)
sys.exit("\n".join(filter(None, map(problem, sys.argv[1:]))) or 0)
