"""A host for plugins that ask it one question before they send their module."""

from __future__ import annotations

from types import SimpleNamespace


class Answered:
    """A plugin with a host that answers ``said``; what it hands over to its module is kept."""

    def __init__(self, said: str, **arguments) -> None:
        self._task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, diff=False)
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        self.said, self.asked, self.handed_over = said, [], []

    def _low_level_execute_command(self, command):
        self.asked.append(command)
        return {"stdout": self.said, "rc": 0}

    def _execute_module(self, module_name, module_args, task_vars):
        self.handed_over.append((module_name, module_args))
        return {"changed": True}
