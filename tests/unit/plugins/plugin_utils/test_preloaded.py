"""What an action plugin loads before Ansible forks the workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[4]
PLUGINS = "ansible_collections.foobar.web_infrastructure.plugins"
# In a process of its own, as Ansible starts it: here everything has been loaded by other tests.
PROGRAM = f"""
import sys
from ansible.plugins.loader import action_loader, init_plugin_loader
init_plugin_loader()
assert action_loader.get("foobar.web_infrastructure." + sys.argv[1], class_only=True)
missing = {{"{PLUGINS}.filter." + name for name in sys.argv[2:]}} - set(sys.modules)
assert not missing, missing
"""


@pytest.mark.parametrize("action", ["chosen_application", "config_tree", "preflight", "release", "validate_values"])
def test_filters_are_there_before_the_first_worker(action):
    ours = sorted(path.stem for path in (PROJECT / "plugins/filter").glob("*.py"))
    command = [sys.executable, "-c", PROGRAM, action, *ours]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
