# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The units of systemd that live on a tree: which of them are not up, and how to get them up for good."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.command import (
    PATH,
    Outcome,
    run_command,
)
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError

PROPERTIES = "LoadState,ActiveState,UnitFileState,FragmentPath,NeedDaemonReload,Triggers,Type,NRestarts"
RUNNING = frozenset(("active", "reloading", "refreshing"))
# Nothing of these promises that the unit comes up with the host. All other states do, or there is nothing to enable.
DISABLED = frozenset(("disabled", "enabled-runtime"))
LINKED = frozenset(("linked", "linked-runtime"))
# Of these, systemd only knows that a process was there, so one that dies at once is seen a moment later.
UNPROVEN = frozenset(("simple", "exec", "idle"))
MOMENT = 0.5
# systemd answers a question in milliseconds.
ANSWER_S = 30


class UnitError(ConfigTreeError):
    """A unit that does not come up."""


@dataclass(frozen=True)
class Unit:
    """What systemd says of a unit."""

    name: str
    loaded: str
    active: str
    file: str
    stale: bool = False
    installable: bool = True
    triggers: tuple[str, ...] = ()
    kind: str = ""
    restarts: int = 0

    @property
    def exists(self) -> bool:
        return self.loaded != "not-found"

    @property
    def masked(self) -> bool:
        return self.file.startswith("masked") or self.loaded == "masked"

    @property
    def running(self) -> bool:
        return self.active in RUNNING

    @property
    def enabled(self) -> bool:
        return self.file not in DISABLED and not (self.file in LINKED and self.installable)

    @property
    def good(self) -> bool:
        return self.exists and self.running and self.enabled and not self.masked

    def __str__(self) -> str:
        return f"{self.active}, {self.file or self.loaded}" if self.exists else "missing"

    @property
    def once_good(self) -> str:
        return f"active, {self.file}" if self.enabled and self.file and not self.masked else "active, enabled"


def read_units(names: Sequence[str]) -> list[Unit]:
    """All units in two calls of a few milliseconds."""
    if not names:
        return []
    shown = _query("show", f"--property={PROPERTIES}", "--", *names)
    blocks = [_properties(block) for block in shown.stdout.strip("\n").split("\n\n")]
    if shown.returncode != 0 or len(blocks) != len(names):
        raise ConfigTreeError(f"units: systemd does not tell how {', '.join(names)} are: {shown.stderr.strip()}")
    known = [name for name, block in zip(names, blocks, strict=True) if block["LoadState"] != "not-found"]
    # systemd remembers what `show` says of the file until its next reload; a link removed by hand is only seen here.
    files = _query("is-enabled", "--", *known).stdout.split() if known else []
    fresh = dict(zip(known, files, strict=True)) if len(files) == len(known) else {}
    return [_unit(name, block, fresh.get(name)) for name, block in zip(names, blocks, strict=True)]


def _query(*arguments: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(
            ["systemctl", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PATH": PATH, "LC_ALL": "C.UTF-8"},
            timeout=ANSWER_S,
        )
    except FileNotFoundError:
        raise ConfigTreeError("units: there is no systemctl on this host; leave units empty") from None
    except subprocess.TimeoutExpired:
        raise ConfigTreeError(
            f"units: systemd has not answered `systemctl {arguments[0]}` within {ANSWER_S} s; look at the host"
        ) from None


def _properties(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _unit(name: str, block: Mapping[str, str], file: str | None) -> Unit:
    restarts = block.get("NRestarts", "")
    return Unit(
        name=name,
        loaded=block["LoadState"],
        active=block["ActiveState"],
        file=file or block.get("UnitFileState", ""),
        stale=block.get("NeedDaemonReload") == "yes",
        installable=_is_installable(block.get("FragmentPath", "")),
        triggers=tuple(block.get("Triggers", "").split()) if name.endswith(".socket") else (),
        kind=block.get("Type", ""),
        restarts=int(restarts) if restarts.isdecimal() else 0,
    )


def _is_installable(fragment: str) -> bool:
    try:
        lines = Path(fragment).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return "[Install]" in (line.strip() for line in lines)


def clear(names: Sequence[str], timeout: int) -> None:
    """Take away what would make any start fail, a restart by `apply` too: a mask, and a count of failed starts."""
    units = read_units(names)
    for unit in units:
        if unit.masked:
            _must("cannot be unmasked", unit, timeout, "unmask", unit.name)
            if unit.file == "masked-runtime":
                _must("cannot be unmasked", unit, timeout, "unmask", "--runtime", unit.name)
        if unit.active == "failed":
            _must("cannot be reset", unit, timeout, "reset-failed", unit.name)
    if any(unit.stale or unit.masked for unit in units):
        _systemctl(timeout, "daemon-reload")


def bring_up(names: Sequence[str], timeout: int) -> list[str]:
    """Unmask, enable and start what is not up, in the order of the names, and return these names."""
    lacking = [unit.name for unit in read_units(names) if not unit.good]
    if not lacking:
        return []
    clear(lacking, timeout)
    units = read_units(lacking)
    for unit in units:
        if not unit.exists:
            raise UnitError(f"there is no unit {unit.name} on this host; a package or apply must bring it")
        if not unit.enabled:
            _must("cannot be enabled", unit, timeout, "enable", unit.name)
        if unit.triggers and not unit.running:
            # A socket does not start under the nose of its running service. What is listed is started again below.
            _must("cannot get its service out of its way", unit, timeout, "stop", *unit.triggers)
    started = [unit for unit in read_units(names) if not unit.running]
    for unit in started:
        _must("does not start", unit, timeout, "start", unit.name)
    if any(unit.kind in UNPROVEN for unit in started):
        time.sleep(MOMENT)
    for unit in read_units(names):
        if not unit.good or (unit.restarts and unit.name in {other.name for other in started}):
            raise UnitError(f"{unit.name} does not stay up (it is {unit}). Its journal ends: {journal(unit.name)}")
    return [name for name in names if name in {*lacking, *(unit.name for unit in started)}]


def _must(problem: str, unit: Unit, timeout: int, *arguments: str) -> None:
    outcome = _systemctl(timeout, *arguments)
    if not outcome.ok:
        raise UnitError(f"{unit.name} {problem}: {outcome.said}. Its journal ends: {journal(unit.name)}")


def _systemctl(timeout: int, *arguments: str) -> Outcome:
    return run_command(["systemctl", "--no-ask-password", *arguments], timeout)


def journal(name: str) -> str:
    """The last lines, with what is still on its way to the disk."""
    run_command(["journalctl", "--sync"], 10)
    return run_command(["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=15", f"--unit={name}"], 10).said
