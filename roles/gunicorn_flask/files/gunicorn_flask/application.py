"""The settings that the role has written beside activate.py, and the places that follow from them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
MARK = ".complete"


class Failure(Exception):
    """What is wrong, for the user."""


@dataclass(frozen=True)
class Helper:
    """A further command of the release: a service that runs for ever, or a job that a timer starts."""

    unit: str
    place: str
    command: Sequence[str]
    stop_timeout: int = 30
    trial: bool = True
    schedule: str = ""

    @property
    def service(self) -> str:
        return f"{self.unit}.service"

    @property
    def started(self) -> str:
        """What is enabled and has to be up: the service, or the timer that starts it."""
        return f"{self.unit}.timer" if self.schedule else self.service

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys([self.service, self.started]))


class Application:
    """The settings of one application."""

    def __init__(self, here: Path = HERE, root: Path | None = None) -> None:
        settings = json.loads((here / "deployment.json").read_text())
        self.here = here
        self.name: str = settings["name"]
        self.wsgi: str = settings["wsgi"]
        self.listen: str = settings["listen"]
        self.health_path: str = settings["health_path"]
        self.health_timeout: int = settings["health_timeout"]
        self.migrate_timeout: int = settings["migrate_timeout"]
        self.graceful_timeout: int = settings["graceful_timeout"]
        self.kept: int = settings["releases_kept"]
        self.chosen: bool = settings["chosen"]
        self.requires: list[str] = settings.get("requires", [])
        self.writable = [Path(path) for path in settings["writable_paths"]]
        self.root = root or Path("/srv", self.name)
        self.release = self.root / "releases" / settings["release"]
        self.service, self.socket = f"{self.name}.service", f"{self.name}.socket"
        self.helpers = [Helper(**helper) for helper in settings.get("helpers", [])]

    @property
    def units(self) -> list[str]:
        """Every unit that the role has written, those that others start among them."""
        return [self.socket, self.service, *(file for helper in self.helpers for file in helper.files)]

    @property
    def release_id(self) -> str:
        """Of the code: its release has a number besides where one of the same id was damaged."""
        return self.release.name.partition(".")[0]

    def target(self, link: str) -> Path | None:
        path = self.root / link
        return self.root / path.readlink() if path.is_symlink() else None

    def point(self, link: str, release: Path) -> None:
        """rename(2) replaces the link in one step, so there is no moment without it."""
        new = self.root / f"{link}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(release.relative_to(self.root))
        new.rename(self.root / link)

    def environment(self) -> dict[str, str]:
        return parse_environment((self.here / "environment").read_text())


def parse_environment(text: str) -> dict[str, str]:
    """The template's quoting means the same to systemd and to shlex."""
    return dict(word.split("=", 1) for word in shlex.split(text, comments=True))


def environment_line(name: str, value: str) -> str:
    """A variable as the template writes it."""
    return f'{name}="' + re.sub(r'([\\"])', r"\\\1", value) + '"\n'
