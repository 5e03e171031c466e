"""Callback plugin: write a line for each command that a run sends to a host, and for each task that it runs.

A task may be no execution (skipped, or its action plugin works on the controller), one, or several (template, loops).
So what is counted is what goes over the connection. Enable it with ANSIBLE_CALLBACK_PLUGINS, ANSIBLE_CALLBACKS_ENABLED
and FOOBAR_EXECUTIONS, the file to write to.
"""

from __future__ import annotations

import functools
import json
import os
import time

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: executions
type: aggregate
short_description: Count remote executions
description:
  - Writes each command that is sent to a host as a line of JSON.
"""


class Recorder:
    """Appends to the file. Workers are forks of the process that made it, and one short write does not mix."""

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, **row) -> None:
        with open(self.path, "a", encoding="utf-8") as file:  # noqa: PTH123 - Path.open buffers just the same
            file.write(json.dumps(row) + "\n")


def observe(recorder: Recorder) -> None:
    """Record the time of ``_low_level_execute_command``, which sends every command of every action."""
    original = ActionBase._low_level_execute_command
    module = ActionBase._execute_module

    @functools.wraps(original)
    def command(self, *arguments, **options):
        start = time.time()
        try:
            return original(self, *arguments, **options)
        finally:
            recorder.write(
                what="execution",
                host=self._task_vars_host,
                task=self._task.get_name(),
                module=getattr(self, "_foobar_module", None) or "command of the action",
                local=self._connection.transport == "local",
                start=start,
                seconds=time.time() - start,
            )

    @functools.wraps(module)
    def execute_module(self, module_name=None, *arguments, **options):
        self._foobar_module = module_name or self._task.action
        try:
            return module(self, module_name, *arguments, **options)
        finally:
            self._foobar_module = None

    ActionBase._task_vars_host = property(lambda self: self._play_context.remote_addr)
    ActionBase._low_level_execute_command = command
    ActionBase._execute_module = execute_module


class CallbackModule(CallbackBase):
    """Count remote executions."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "executions"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.recorder = Recorder(os.environ["FOOBAR_EXECUTIONS"])
        self.started: dict[str, float] = {}
        observe(self.recorder)

    def v2_playbook_on_start(self, playbook) -> None:
        self.recorder.write(what="playbook", start=time.time())

    def v2_runner_on_start(self, host, task) -> None:
        self.started[task._uuid] = time.time()

    def _ended(self, result, state: str) -> None:
        start = self.started.get(result.task._uuid, time.time())
        self.recorder.write(
            what="task",
            host=result.host.get_name(),
            task=result.task.get_name(),
            state=state,
            start=start,
            seconds=time.time() - start,
        )

    def v2_runner_on_ok(self, result) -> None:
        self._ended(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_skipped(self, result) -> None:
        self._ended(result, "skipped")

    def v2_runner_on_failed(self, result, ignore_errors=False) -> None:
        self._ended(result, "failed")

    def v2_playbook_on_stats(self, stats) -> None:
        self.recorder.write(what="end", start=time.time())
