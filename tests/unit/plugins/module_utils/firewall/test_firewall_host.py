"""What the files of ufw, the kernel and the processes above say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import host
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall.model import FirewallError

OURS = "666f6f6261723a20777777"
USER_RULES = f"""*filter
### RULES ###

### tuple ### allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in comment={OURS}
-A ufw-user-input -p tcp --dport 80 -j ACCEPT

### tuple ### allow tcp 81 0.0.0.0/0 any 0.0.0.0/0 in comment=6d696e65
-A ufw-user-input -p tcp --dport 81 -j ACCEPT
"""
KERNEL = """-P INPUT DROP
-A INPUT -j ufw-before-input
-A FORWARD -j ufw-before-forward
-A OUTPUT -j ufw-before-output
-A ufw-user-input -p tcp -m tcp --dport 80 -j ACCEPT
-A ufw-user-input -p tcp -m tcp --dport 81 -j ACCEPT
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files of ufw, in another place."""
    for name, path in (("DEFAULTS", "default"), ("CONF", "conf")):
        monkeypatch.setattr(host, name, tmp_path / path)
    return tmp_path


def test_settings_are_those_of_both_files(files):
    (files / "default").write_text('# IPV6=no\nIPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="REJECT"\n')
    (files / "conf").write_text("#\nENABLED=yes\nLOGLEVEL=low\n")
    assert host._settings() == {
        **{"enabled": "yes", "ipv6": "yes", "logging": "low"},
        **{"incoming": "deny", "outgoing": "reject", "routed": ""},
    }


def test_settings_of_no_files_are_those_of_no_firewall(files):
    assert host._settings()["enabled"] == "no"


def test_rules_of_ours_are_counted_by_their_comments():
    assert host._count(USER_RULES) == 1


@pytest.mark.parametrize(
    ("lost", "live"),
    [
        ("", True),
        ("-A ufw-user-input -p tcp -m tcp --dport 80 -j ACCEPT\n", False),
        ("-A OUTPUT -j ufw-before-output\n", False),
    ],
)
def test_a_kernel_that_has_lost_something_is_noticed(monkeypatch, lost, live):
    monkeypatch.setattr(host, "said", lambda *argv: KERNEL.replace(lost, "") if lost else KERNEL)
    assert host._is_live(4, USER_RULES) is live


def test_tables_of_others_are_told_from_those_of_iptables(monkeypatch):
    monkeypatch.setattr(host.shutil, "which", lambda name, path: name)
    listed = "table ip filter\ntable ip6 filter\ntable inet theirs\ntable ip mine\n"
    monkeypatch.setattr(host, "said", lambda *argv: listed)
    assert host.foreign_tables() == ["inet theirs", "ip mine"]


@pytest.mark.parametrize(
    ("bridge", "chains", "found"), [(True, "", True), (False, "-N DOCKER-USER", True), (False, "", False)]
)
def test_docker_is_seen_by_its_bridge_or_its_chains(tmp_path, monkeypatch, bridge, chains, found):
    monkeypatch.setattr(host, "DOCKER_BRIDGE", tmp_path if bridge else tmp_path / "nowhere")
    monkeypatch.setattr(host, "said", lambda *argv: f"-P INPUT ACCEPT\n{chains}\n")
    monkeypatch.setattr(host, "foreign_tables", lambda: [])
    assert any("DOCKER-USER" in sentence for sentence in host.warnings()) is found


def test_where_an_ssh_server_listens(monkeypatch):
    listed = (
        'LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\n'
        'LISTEN 0 128 [::]:2222 [::]:* users:(("sshd",pid=1,fd=4),("systemd",pid=1,fd=9))\n'
        'LISTEN 0 128 127.0.0.1:6010 0.0.0.0:* users:(("sshd",pid=9,fd=3))\n'
        'LISTEN 0 128 [::1]:6010 [::]:* users:(("sshd",pid=9,fd=4))\n'
        'LISTEN 0 128 *:80 *:* users:(("nginx",pid=2,fd=4))\n'
        # A user has called his program so.
        'LISTEN 0 128 *:4444 *:* users:(("sshd",pid=7,fd=4))\n'
    )
    monkeypatch.setattr(host.shutil, "which", lambda name, path: name)
    monkeypatch.setattr(host, "said", lambda *argv: listed)
    monkeypatch.setattr(host, "_is_of_root", lambda process: process != 7)
    assert host.ssh_ports() == {22, 2222}


def test_the_connection_is_that_of_the_session_above(tmp_path):
    """sudo leaves the variable out, and what a process below says of itself does not count."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import host\n"
        "print(host.connection())\n"
    )
    collections = Path(__file__).resolve().parents[5] / ".ansible/collections"
    inner = f"exec env -u SSH_CONNECTION {sys.executable} -c '{program}' {collections}; true"
    command = ["env", "SSH_CONNECTION=fe80::1%eth0 50000 fe80::2 2222", "sh", "-c", '"$@"; true', "sh"]
    forged = ["env", "SSH_CONNECTION=10.0.0.1 1 10.0.0.2 9", "sh", "-c", f"({inner}); true"]
    done = subprocess.run([*command, *forged], capture_output=True, text=True)
    assert done.stdout == "Connection(source='fe80::1', port=2222)\n", done.stderr


def test_a_command_that_fails_or_is_not_there_says_so():
    with pytest.raises(FirewallError, match="`false` failed"):
        host.said("false")
    with pytest.raises(FirewallError, match="there is no nowhere on this host"):
        host.said("nowhere")
