"""Callback plugin: kill a run of Ansible, and all that it has started, between two of its tasks.

FOOBAR_KILL_AFTER="3 tasks" does it after the third task that has sent something to a host: in between nothing of it can
have changed. "3 changes" means the third task that says that it has changed something and has not said so to an earlier
run with the same file FOOBAR_KILL_RECORD. A run with fewer of them ends.
"""

from __future__ import annotations

import functools
import os
import signal
import tempfile
from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: killed
type: aggregate
short_description: Kill a run between two tasks
description:
  - For tests.
"""


class CallbackModule(CallbackBase):
    """Kill the run between two tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "killed"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        # Whoever has started the run lives on.
        if os.getpgrp() != os.getpid():
            os.setpgrp()
        number, self.what = os.environ["FOOBAR_KILL_AFTER"].split()
        self.number = int(number)
        self.counted = {"tasks": 0, "changes": 0}
        self.seen = 0
        self.record = Path(os.environ["FOOBAR_KILL_RECORD"])
        # Workers are forks: each command leaves a byte in a file that they share with this process.
        self.sent = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the run
        original, sent = ActionBase._low_level_execute_command, self.sent

        @functools.wraps(original)
        def command(action, *arguments, **options):
            if action._connection.transport != "local":
                sent.write(b".")
            return original(action, *arguments, **options)

        ActionBase._low_level_execute_command = command

    def v2_runner_on_ok(self, result) -> None:
        if result.is_changed():
            place = f"{result.task.get_path()}\n"
            known = self.record.read_text().splitlines(keepends=True) if self.record.exists() else []
            if place not in known:
                self.counted["changes"] += 1
                self.record.write_text("".join([*known, place]))

    def v2_playbook_on_task_start(self, task, is_conditional) -> None:
        self._between_tasks()

    def v2_playbook_on_handler_task_start(self, task) -> None:
        self._between_tasks()

    def _between_tasks(self) -> None:
        sent = os.fstat(self.sent.fileno()).st_size
        self.counted["tasks"] += sent > self.seen
        self.seen = sent
        if self.counted[self.what] >= self.number:
            os.killpg(0, signal.SIGKILL)
