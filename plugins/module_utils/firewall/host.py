# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the host says of its firewall, of who else filters there, and of the connection that this comes by."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import units
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.command import PATH
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall.model import TAG, FirewallError, Shown

ETC = Path("/etc")
DEFAULTS = ETC / "default/ufw"
CONF = ETC / "ufw/ufw.conf"
#: By version of IP: where ufw keeps its rules, how it calls its chains, and what lists those of the kernel.
RULES = {4: ETC / "ufw/user.rules", 6: ETC / "ufw/user6.rules"}
PREFIXES = {4: "ufw", 6: "ufw6"}
LISTS = {4: "iptables", 6: "ip6tables"}
UNIT = "ufw.service"
SECONDS = 60
#: What iptables makes; each other table of nftables is somebody else's.
OF_IPTABLES = re.compile(r"table (ip|ip6) (filter|nat|mangle|raw|security)")
POLICY_WORDS = {"ACCEPT": "allow", "DROP": "deny", "REJECT": "reject"}
CHAINS = ("input", "output", "forward")
DOCKER_BRIDGE = Path("/sys/class/net/docker0")


@dataclass(frozen=True)
class State:
    """What the firewall is.

    Attributes:
        rules: as ``ufw show added`` has them.
        counted: by version of IP, how many rules of ours the files of ufw have.
        settings: by name, as Settings of a run has them.
        is_live: whether the kernel has what the files say.
        unit: of systemd, which loads the rules at boot.
    """

    rules: list[Shown]
    counted: dict[int, int]
    settings: dict[str, str]
    is_live: bool
    unit: units.Unit


def said(*argv: str) -> str:
    """What a command says; it ends in a bounded time.

    Raises:
        FirewallError: it fails, or there is no such command.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            env=os.environ | {"PATH": PATH, "LC_ALL": "C.UTF-8", "LANGUAGE": "C"},
        )
    except FileNotFoundError:
        raise FirewallError(f"there is no {argv[0]} on this host; the package of its name brings it") from None
    except subprocess.TimeoutExpired:
        raise FirewallError(f"`{' '.join(argv)}` has not ended within {SECONDS} s; run again") from None
    if done.returncode != 0:
        raise FirewallError(f"`{' '.join(argv)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def is_installed() -> bool:
    return shutil.which("ufw", path=PATH) is not None


def read() -> State:
    """Ask ufw, its files and the kernel."""
    texts = {version: _text(path) for version, path in RULES.items()}
    settings = _settings()
    try:
        (unit,) = units.read_units([UNIT])
    except ConfigTreeError as error:
        raise FirewallError(str(error)) from None
    return State(
        rules=model.shown(said("ufw", "show", "added")),
        counted={version: _count(text) for version, text in texts.items()},
        settings=settings,
        is_live=settings["enabled"] == "yes" and all(_is_live(version, text) for version, text in texts.items()),
        unit=unit,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _count(text: str) -> int:
    """How many rules of ours there are; ufw keeps comments as hexadecimal digits."""
    return len(re.findall(rf"^### tuple ### .* comment={TAG.encode().hex()}", text, re.M))


def _settings() -> dict[str, str]:
    found = {}
    for path in (DEFAULTS, CONF):
        for line in _text(path).splitlines():
            name, sign, value = line.partition("=")
            if sign and not line.startswith("#"):
                found[name.strip()] = value.strip().strip("\"'")
    policies = {"incoming": "INPUT", "outgoing": "OUTPUT", "routed": "FORWARD"}
    return {
        "enabled": found.get("ENABLED", "no").lower(),
        "ipv6": found.get("IPV6", "no").lower(),
        "logging": found.get("LOGLEVEL", ""),
        **{
            name: POLICY_WORDS.get(found.get(f"DEFAULT_{chain}_POLICY", "").upper(), "")
            for name, chain in policies.items()
        },
    }


def _is_live(version: int, text: str) -> bool:
    """Whether the kernel has as many rules as the file, and comes to them."""
    prefix = PREFIXES[version]
    lines = said(LISTS[version], "-S").splitlines()
    for chain in CHAINS:
        own = f"-A {prefix}-user-{chain} "
        in_file = sum(line.startswith(own) for line in text.splitlines())
        if in_file != sum(line.startswith(own) for line in lines):
            return False
        if f"-A {chain.upper()} -j {prefix}-before-{chain}" not in lines:
            return False
    return True


# --- who else filters -------------------------------------------------------------------------------------------------


def warnings() -> Iterator[str]:
    """Sentences about what the rules do not decide alone."""
    if has_docker():
        yield (
            "Docker runs on this host, and ports that it publishes are reached past the firewall: publish them on "
            "127.0.0.1, or refuse who may not come in Docker's own chain DOCKER-USER"
        )
    tables = foreign_tables()
    if tables:
        yield (
            f"nftables has rules of somebody else, which stay and may refuse what is let in here: {', '.join(tables)}; "
            "`nft list ruleset` shows them"
        )


def has_docker() -> bool:
    """Whether Docker has a network here: its usual bridge, or its chains where that has another name."""
    return DOCKER_BRIDGE.exists() or "-N DOCKER-USER" in said(LISTS[4], "-S").splitlines()


def foreign_tables() -> list[str]:
    """Tables of nftables that iptables has not made; none where no command shows them."""
    if shutil.which("nft", path=PATH) is None:
        return []
    tables = [line.strip() for line in said("nft", "list", "tables").splitlines()]
    return [table.removeprefix("table ") for table in tables if table and not OF_IPTABLES.fullmatch(table)]


# --- the connection ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Connection:
    """Where this run comes from, and the port of the host that it has come to."""

    source: str
    port: int


def connection() -> Connection | None:
    """Return the SSH connection that this process comes by; None if it comes by none.

    sudo takes the variable away, so the processes above are asked; the highest one is the session itself.
    """
    found = None
    process = os.getppid()
    while process > 1:
        try:
            values = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            process = int(re.search(r"^PPid:\s*(\d+)", Path(f"/proc/{process}/status").read_text(), re.M)[1])
        except (OSError, TypeError):
            break
        for value in values:
            name, _sign, words = value.decode(errors="replace").partition("=")
            parts = words.split()
            if name == "SSH_CONNECTION" and len(parts) == 4 and parts[3].isdecimal():
                found = Connection(parts[0].partition("%")[0], int(parts[3]))
    return found


def ssh_ports() -> set[int]:
    """Ports on which an SSH server of root's listens, but for the loopback interface.

    Anybody may call a program sshd, and would have its port opened.
    """
    if shutil.which("ss", path=PATH) is None:
        return set()
    found = set()
    for line in said("ss", "--no-header", "--listening", "--tcp", "--numeric", "--processes").splitlines():
        match = re.match(r"LISTEN\s+\d+\s+\d+\s+(\S+):(\d+)\s.*\(\"sshd\",pid=(\d+),", line)
        if match and not match[1].strip("[]").startswith(("127.", "::1")) and _is_of_root(int(match[3])):
            found.add(int(match[2]))
    return found


def _is_of_root(process: int) -> bool:
    try:
        return Path(f"/proc/{process}").stat().st_uid == 0
    except FileNotFoundError:
        return False
