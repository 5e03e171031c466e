"""Who gets in and who does not, whatever happens to the firewall; and nobody is shut out who should not be."""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.run import PROJECT, note_figure

ROLE = "ufw_firewall"
WALL, PEER, STRANGER = "foobar-wall1", "foobar-wall2", "foobar-stranger"
WALLS = (WALL, PEER)
OPEN = {80, 443}
PREFIX = "fd5a:f00b:a5::"
ADDRESSES = {WALL: "198.18.0.181", PEER: "198.18.0.182", STRANGER: "198.18.0.183"}
WWW = {"name": "www", "ports": [80, 443], "sources": ["any"]}
ELECTION = {"name": "election", "protocol": "vrrp", "sources": ["198.18.0.181", "198.18.0.182"]}
RULES = [
    WWW,
    {
        "name": "metrics",
        "ports": [9100],
        "sources": ["198.18.0.181", "198.18.0.182", f"{PREFIX}181", f"{PREFIX}182"],
    },
    ELECTION,
]


@pytest.fixture(scope="session")
def inside(docker):
    """Return a function that runs a line of shell on a host, whatever its firewall does."""
    return lambda name, line: docker("exec", name, "sh", "-c", line)


@pytest.fixture
def wall(role):
    """Return a function that applies the role to the first host, or to others."""

    def run(*arguments: str, limit: str = WALL, **variables):
        return role(ROLE, "--limit", limit, *arguments, **{f"{ROLE}_{name}": one for name, one in variables.items()})

    return run


@pytest.fixture
def scan(inside):
    """Return a function that says which TCP ports of the first host a stranger finds open, over IPv4 and IPv6."""

    def ports(arguments: str) -> set[int]:
        line = f"nmap -n -Pn -p- -sS -T5 --min-rate 20000 --max-retries 1 -oG - {arguments}"
        return {int(port) for port in re.findall(r"(\d+)/open/", inside(STRANGER, line))}

    def both() -> list[set[int]]:
        with ThreadPoolExecutor() as pool:
            return list(pool.map(ports, (ADDRESSES[WALL], f"-6 {PREFIX}181")))

    return both


@pytest.fixture
def reaches(inside):
    """Return a function that says whether a host gets an answer from a port of another one."""

    def try_it(source: str, address: str, port: int) -> bool:
        program = (
            f"import socket; s = socket.create_connection(('{address}', {port}), 2); s.settimeout(2); "
            "print(s.recv(9).decode())"
        )
        return "hello" in inside(source, f'python3 -c "{program}" 2>&1 || true')

    return try_it


def fresh_ssh(address: str = ADDRESSES[WALL], *words: str, seconds: int = 3) -> subprocess.CompletedProcess:
    """A new connection of the administrator."""
    key, known = PROJECT / ".local/ssh/id_ed25519", PROJECT / ".local/known_hosts"
    options = ["ControlPath=none", "BatchMode=yes", f"ConnectTimeout={seconds}", f"UserKnownHostsFile={known}"]
    command = ["ssh", "-i", str(key), *(word for option in options for word in ("-o", option)), f"ansible@{address}"]
    return subprocess.run([*command, *(words or ["true"])], capture_output=True, text=True)


def rules_of(inside, name: str = WALL) -> list[str]:
    return inside(name, "ufw show added").splitlines()[1:]


# --- who gets in ------------------------------------------------------------------------------------------------------


def test_a_stranger_finds_what_is_listed_and_nothing_else(scan, inside):
    start = time.monotonic()
    assert scan() == [OPEN, OPEN]
    note_figure(f"scan of all ports over IPv4 and IPv6: {time.monotonic() - start:.0f} s")
    inside(WALL, "ufw reload")
    assert scan() == [OPEN, OPEN]


def test_a_boot_changes_nothing(docker, scan, inside, eventually):
    before = rules_of(inside)
    docker("restart", "--time", "5", WALL)
    eventually(lambda: "Status: active" in inside(WALL, "ufw status || true"), seconds=60)
    eventually(lambda: inside(WALL, "systemctl is-active listen || true") == "active", seconds=60)
    assert rules_of(inside) == before
    assert scan() == [OPEN, OPEN]
    eventually(lambda: fresh_ssh().returncode == 0, seconds=30)


def test_hosts_that_are_named_get_in_over_both_versions_of_ip(reaches):
    for address in (ADDRESSES[WALL], f"{PREFIX}181"):
        assert reaches(PEER, address, 9100)
        assert not reaches(STRANGER, address, 9100)
        assert reaches(STRANGER, address, 80)


def test_signs_of_the_election_pass_between_peers_alone(docker, inside):
    program = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)\n"
        "s.settimeout(6)\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    while True: print(s.recvfrom(99)[1][0], flush=True)\n"
        "except TimeoutError: pass\n"
    )
    send = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 112).sendto(b'sign', ('198.18.0.181', 0))"
    with subprocess.Popen(
        ["docker", "exec", WALL, "python3", "-c", program], stdout=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stdout.readline() == "ready\n"
        # The stranger first: what he has sent would be there before the peer's.
        inside(STRANGER, f'python3 -c "{send}"')
        inside(PEER, f'python3 -c "{send}"')
        assert receiver.stdout.read().split() == [ADDRESSES[PEER]]


# --- runs -------------------------------------------------------------------------------------------------------------


def test_what_is_ours_and_no_longer_listed_goes_and_what_is_not_ours_stays(wall, inside, reaches):
    inside(WALL, "ufw allow 8080/tcp comment 'of the operator' && ufw deny from 198.18.0.77")
    theirs = {"ufw allow 8080/tcp comment 'of the operator'", "ufw deny from 198.18.0.77"}
    run = wall("--check", "--diff", rules=[WWW])
    assert run.recap("changed") == {WALL: 1}, run.output
    assert "-ufw allow from 198.18.0.181 to any port 9100 proto tcp comment 'foobar: metrics'" in run.output
    assert any("9100" in line for line in rules_of(inside))
    run = wall(rules=[WWW])
    assert run.code == 0 and run.recap("changed") == {WALL: 1}, run.output
    left = rules_of(inside)
    assert theirs <= set(left)
    assert not any("9100" in line for line in left)
    assert reaches(STRANGER, ADDRESSES[WALL], 8080)
    assert not reaches(PEER, ADDRESSES[WALL], 9100)
    inside(WALL, "ufw delete allow 8080/tcp && ufw delete deny from 198.18.0.77")
    # A rule that refuses comes before one that lets in, as it is listed.
    no = {"name": "not him", "protocol": "any", "sources": [ADDRESSES[STRANGER]], "action": "deny"}
    run = wall(rules=[no, *RULES])
    assert run.code == 0, run.output
    assert not reaches(STRANGER, ADDRESSES[WALL], 80) and reaches(PEER, ADDRESSES[WALL], 80)
    run = wall(rules=[no, *RULES])
    assert run.recap("changed") == {WALL: 0}, run.output
    assert wall().code == 0
    assert reaches(STRANGER, ADDRESSES[WALL], 80) and reaches(PEER, ADDRESSES[WALL], 9100)


def test_a_session_that_is_open_outlives_the_switch_and_what_was_done_by_hand_is_healed(wall, inside, scan):
    """Off, without IPv6, one half of a rule gone, and not loaded at the next boot."""
    number = re.search(r"\[ *(\d+)\] 443/tcp \(v6\)", inside(WALL, "ufw status numbered"))[1]
    inside(WALL, f"ufw --force delete {number} && ufw disable && systemctl disable --quiet ufw")
    inside(WALL, "sed -i s/IPV6=yes/IPV6=no/ /etc/default/ufw")
    key, known = PROJECT / ".local/ssh/id_ed25519", PROJECT / ".local/known_hosts"
    command = ["ssh", "-i", str(key), "-o", "ControlPath=none", "-o", f"UserKnownHostsFile={known}"]
    with subprocess.Popen(
        [*command, f"ansible@{ADDRESSES[WALL]}", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:
        session.stdin.write("before\n")
        session.stdin.flush()
        assert session.stdout.readline() == "before\n"
        run = wall()
        assert run.code == 0 and run.recap("changed") == {WALL: 1}, run.output
        session.stdin.write("after\n")
        session.stdin.close()
        assert session.stdout.readline() == "after\n"
    assert inside(WALL, "systemctl is-enabled ufw") == "enabled"
    assert scan() == [OPEN, OPEN]
    # What the kernel has lost while the files are as they should be.
    inside(WALL, "iptables -F ufw-user-input")
    run = wall()
    assert run.code == 0 and run.recap("changed") == {WALL: 1}, run.output
    again = wall()
    assert again.recap("changed") == {WALL: 0}, again.output
    note_figure(f"unchanged run: {again.seconds:.1f} s")


def test_where_outgoing_traffic_is_refused_what_is_listed_goes_out_and_what_others_filter_with_stays(
    wall, inside, reaches
):
    inside(PEER, "nft add table inet theirs && nft 'add chain inet theirs in' && ip link add docker0 type bridge")
    egress = [{"name": "the wall", "ports": [80], "destinations": [ADDRESSES[WALL], f"{PREFIX}181"]}]
    run = wall(limit=PEER, outgoing="deny", egress=egress)
    assert run.code == 0, run.output
    assert "nftables has rules of somebody else" in run.said and "inet theirs" in run.said
    assert "Docker runs on this host" in run.said and "DOCKER-USER" in run.said
    for address in (ADDRESSES[WALL], f"{PREFIX}181"):
        assert reaches(PEER, address, 80)
        assert not reaches(PEER, address, 443)
    inside(PEER, "ip link delete docker0 && ufw reload")
    assert "chain in" in inside(PEER, "nft list table inet theirs")
    inside(PEER, "nft delete table inet theirs")
    run = wall(limit=PEER)
    assert run.code == 0 and "somebody else" not in run.said and "Docker" not in run.said, run.output
    assert reaches(PEER, ADDRESSES[WALL], 443)


# --- nobody is shut out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "sentences"),
    [
        (
            {"admin_networks": ["10.0.0.0/8"]},
            ["ufw_firewall_admin_networks: this connection comes from 198.18.0.1, which is in none of 10.0.0.0/8"],
        ),
        (
            {"rules": [WWW | {"ports": [80808], "sources": ["www.foobar.com"]}]},
            ["ufw_firewall_rules, 'www' (on foobar-wall1): 80808 is no port", "'www.foobar.com' is a host name"],
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_changes(wall, inside, variables, sentences):
    look = "cat /etc/ufw/user*.rules /etc/ufw/ufw.conf; iptables -S; ip6tables -S"
    before = inside(WALL, look)
    run = wall(**variables)
    assert run.recap("failed") == {WALL: 1}, run.output
    for sentence in sentences:
        assert sentence in run.said
    assert inside(WALL, look) == before
    assert fresh_ssh().returncode == 0


def test_a_jump_host_and_another_port_are_kept_as_they_are_used(wall, inside, role):
    """The fresh connection goes the same way. The stranger is the jump host here."""
    # Somebody has let it in already, or nobody could come by it for the first time.
    inside(WALL, "/usr/sbin/sshd -p 2222 -o PidFile=/run/second.pid && ufw allow 2222/tcp")
    known = f"-o UserKnownHostsFile={PROJECT}/.local/known_hosts"
    jump = f"ssh -i {PROJECT}/.local/ssh/id_ed25519 {known} -W %h:%p ansible@{ADDRESSES[STRANGER]}"
    way = {
        "ansible_port": 2222,
        "ansible_ssh_common_args": f"{known} -o HostKeyAlias={ADDRESSES[WALL]} -o ProxyCommand='{jump}'",
    }
    run = role(ROLE, "--limit", WALL, **way)
    assert run.recap("failed") == {WALL: 1}, run.output
    assert f"this connection comes from {ADDRESSES[STRANGER]}, which is in none of 198.18.0.1" in run.said
    networks = ["198.18.0.1", ADDRESSES[STRANGER]]
    run = role(ROLE, "--limit", WALL, **way, ufw_firewall_admin_networks=networks)
    assert run.code == 0 and run.recap("changed") == {WALL: 1}, run.output
    ssh = {line.partition(" comment")[0] for line in rules_of(inside) if "foobar: ssh" in line}
    assert {f"ufw limit from {one} to any port {port} proto tcp" for one in networks for port in (22, 2222)} == ssh
    inside(WALL, "kill $(cat /run/second.pid) && ufw delete allow 2222/tcp")
    assert wall().code == 0
    assert not any("2222" in line for line in rules_of(inside))


def test_who_is_shut_out_gets_back_in(wall, inside, eventually):
    """Somebody has written a rule before all others that ufw does not list."""
    line = "-A ufw-before-input -p tcp --dport 22 -s 198.18.0.1 -m conntrack --ctstate NEW -j DROP"
    inside(WALL, "ufw disable && cp /etc/ufw/before.rules /root/before.rules")
    inside(WALL, f"sed -i '/^-A ufw-before-input -i lo/i {line}' /etc/ufw/before.rules")
    try:
        start = time.monotonic()
        run = wall()
        assert run.recap("failed") == {WALL: 1}, run.output
        assert "no fresh connection reaches the host through the new rules" in run.said
        eventually(lambda: fresh_ssh().returncode == 0, seconds=30)
        note_figure(f"shut out, and back in after {time.monotonic() - start:.0f} s from the start of the run")
        assert inside(WALL, "ufw status") == "Status: inactive"
    finally:
        inside(WALL, "mv /root/before.rules /etc/ufw/before.rules")
    run = wall()
    assert run.code == 0, run.output
    assert "Status: active" in inside(WALL, "ufw status")


def test_a_run_that_died_is_taken_back_by_the_host_even_at_a_boot(docker, inside, eventually, wall):
    before = rules_of(inside)
    inside(WALL, "/var/lib/ufw_firewall/rescue arm dead 3600 && ufw prepend deny 22/tcp")
    assert rules_of(inside) != before
    docker("restart", "--time", "5", WALL)
    eventually(lambda: fresh_ssh().returncode == 0, seconds=60)
    assert rules_of(inside) == before
    assert inside(WALL, "ls -A /var/lib/ufw_firewall").split() == ["lock", "rescue"]
    # One that is repeated before the host has taken it back is confirmed by the next run.
    inside(WALL, "/var/lib/ufw_firewall/rescue arm dead 3600")
    run = wall()
    assert run.code == 0 and run.recap("changed") == {WALL: 1}, run.output
    assert "rescue" not in inside(WALL, "systemctl list-timers --all")
    assert wall().recap("changed") == {WALL: 0}
