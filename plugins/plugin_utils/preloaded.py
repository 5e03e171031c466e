# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Finds the filters and tests of templates once in a run.

Ansible forks a worker for each task of each host, and what a worker has found is gone with it: some 20 ms for each. An
action plugin is imported before its first worker starts, and what it has imported is there in that one and all later.
"""

from __future__ import annotations

from ansible.plugins.loader import filter_loader, test_loader
from ansible.utils.collection_loader import AnsibleCollectionConfig

# One of each plugin file of the collection.
OURS = ("database_url", "host_edges", "joined", "mysql_rights", "systemd_word", "typed")


def preload() -> None:
    """Find them, and Ansible's own, which it finds all together."""
    for name in OURS:
        filter_loader.get(f"foobar.web_infrastructure.{name}")
    filter_loader.get("ansible.builtin.combine")
    test_loader.get("ansible.builtin.defined")


# Not where a plugin is imported outside of Ansible, which has no collections then.
if AnsibleCollectionConfig.collection_finder:
    preload()
