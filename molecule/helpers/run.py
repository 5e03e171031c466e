"""Runs of playbooks and programs against the hosts of the running scenario, and the figures that they leave."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]
FIGURES: list[str] = []
# The long form, ``make soak``; and from what moments are chosen at random, the same for all of a day.
SOAK = os.environ.get("FOOBAR_SOAK") == "1"
SEED = os.environ.get("FOOBAR_SEED") or datetime.now(UTC).strftime("%Y-%m-%d")
# For runs with an environment of their own: as tools/test has it for the others.
KEPT = {"ANSIBLE_CALLBACK_PLUGINS": str(PROJECT / "molecule/shared/callbacks"), "ANSIBLE_CALLBACKS_ENABLED": "kept"}
# In the page and in the style sheet of a release of the sample application that a test has made.
RELEASE_MARK = "test-release"
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)\s+skipped=(\d+)", re.M)


def note_figure(text: str) -> None:
    """Keep a measured figure for the end of the report, where it is seen whether or not its test passes."""
    FIGURES.append(text)


def inventory_arguments() -> list[str]:
    """The ``--inventory`` arguments that the running scenario's configuration gives to Ansible."""
    scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
    config = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text())
    arguments = config["ansible"]["executor"]["args"]["ansible_playbook"]
    places = {"MOLECULE_PROJECT_DIRECTORY": str(PROJECT), "MOLECULE_SCENARIO_DIRECTORY": str(scenario)}
    return [re.sub(r"\$\{(\w+)\}", lambda name: places[name[1]], argument) for argument in arguments]


@dataclass(frozen=True)
class Run:
    """A finished command: return code, whole output, seconds, and for ansible-playbook the recap of each host."""

    code: int
    output: str
    seconds: float

    def recap(self, field: str) -> dict[str, int]:
        """Return one number of the recap (``ok``, ``changed``, ``failed``, ...) for each host."""
        place = ("ok", "changed", "unreachable", "failed", "skipped").index(field)
        return {row[0]: int(row[1 + place]) for row in RECAP.findall(self.output)}

    @property
    def changed(self) -> int:
        """Number of changed tasks over all hosts."""
        return sum(self.recap("changed").values())

    @property
    def said(self) -> str:
        """The output without the line breaks that the callback puts into long messages."""
        return " ".join(self.output.split())


def run(command: Sequence[str | Path], environment: Mapping[str, str]) -> Run:
    """Run a command in the checkout."""
    start = time.monotonic()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=PROJECT,
        env=dict(environment),
        # Nobody is there to answer a question.
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return Run(done.returncode, done.stdout + done.stderr, time.monotonic() - start)


def run_playbook(path: Path | str, *arguments: str, **variables) -> Run:
    """Run a playbook against the scenario's hosts: ``run_playbook(path, "--check", secret=1)``."""
    command = ["ansible-playbook", *inventory_arguments(), *arguments]
    if variables:
        command += ["--extra-vars", json.dumps(variables)]
    settings = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    return run([*command, path], {**os.environ, **settings})


def run_at_a_terminal(path: Path, question: str, answer: str, seconds: float = 300) -> Run:
    """Run a playbook as a person does, who answers a question, and once more if nothing happens.

    Ansible throws away what was typed before it listens, and it listens a moment after it has asked.
    """
    start, seen = time.monotonic(), b""
    pid, terminal = pty.fork()
    if pid == 0:
        settings = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
        os.chdir(PROJECT)
        words = ["ansible-playbook", *inventory_arguments(), str(path)]
        os.execvpe(words[0], words, {**os.environ, **settings})  # noqa: S606 - a terminal, no shell
    while True:
        if not select.select([terminal], [], [], 1)[0]:
            _before, asked, after = seen.partition(question.encode())
            if asked and b"TASK [" not in after:
                os.write(terminal, answer.encode() + b"\r")
            if time.monotonic() - start > seconds:
                os.kill(pid, signal.SIGKILL)
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:
            part = b""
        if not part:
            break
        seen += part
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return Run(code, seen.decode(errors="replace").replace("\r\n", "\n"), time.monotonic() - start)


def run_as_typed(command: str, **environment: str) -> Run:
    """Run a command line in the checkout exactly as an operator types it, without the scenario's settings."""
    own = ("ANSIBLE_", "MOLECULE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return run(command.split(), {**inherited, **environment})


def killed_after(number: int, what: str, record: Path) -> dict[str, str]:
    """The environment of a run that is killed between two tasks, after so many ``tasks`` or ``changes``.

    Runs with the same ``record``, a file, get further and further: what has changed something in one counts no more.
    """
    return {
        **KEPT,
        "ANSIBLE_CALLBACKS_ENABLED": "killed,kept",
        "FOOBAR_KILL_AFTER": f"{number} {what}",
        "FOOBAR_KILL_RECORD": str(record),
        # Otherwise a task is named when it has ended.
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "True",
        "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "False",
    }


def last_task(output: str) -> str:
    """The last task that a run has named: one that was under way, or that it was killed before."""
    titles = [line for line in output.splitlines() if line.startswith("TASK [")]
    return titles[-1].strip("* ") if titles else "before the first task"


def run_rejoin(name: str) -> Run:
    """Bring a database back that was the source, and return the last run.

    What it had written and no other member had acknowledged is given up by its name, after a refusal only.
    """
    path = PROJECT / "playbooks/mysql_rejoin.yml"
    back = run_playbook(path)
    if back.code != 0:
        assert "which the source" in back.said and f"mysql_rejoin_reseed={name}" in back.said, back.output
        back = run_playbook(path, mysql_rejoin_reseed=name)
    assert back.code == 0, back.output
    return back


def add_release(application: Path, text: str) -> None:
    """Change code, page and style sheet of a copy of the sample application: its next deployment is another release."""
    with (application / "guestbook/views.py").open("a") as file:
        file.write(f"\n# {text}\n")
    base = application / "guestbook/templates/base.html"
    lines = [line for line in base.read_text().splitlines() if RELEASE_MARK not in line]
    lines.insert(lines.index("</head>"), f'  <meta name="{RELEASE_MARK}" content="{text}">')
    base.write_text("\n".join(lines) + "\n")
    sheet = application / "guestbook/static/site.css"
    rules = [line for line in sheet.read_text().splitlines() if RELEASE_MARK not in line]
    sheet.write_text("\n".join([*rules, f"/* {RELEASE_MARK}: {text} */"]) + "\n")
