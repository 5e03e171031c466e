#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin host_facts: on the host it runs one command."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Read memory and distribution of a host, a few facts at little cost
version_added: 0.2.0
description:
  - Reads C(/proc/meminfo) and C(/etc/os-release) in a few milliseconds. M(ansible.builtin.setup) knows more and takes
    half a second or more, because it starts Python on the host and looks at all disks.
  - What it finds has the names that M(ansible.builtin.setup) gives it.
options: {}
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  platform:
    description: Debian and its relatives.
    platforms: debian
    support: full
author:
  - Foobar Web Infrastructure contributors (@foobar)
"""

EXAMPLES = r"""
- name: Read memory and distribution
  foobar.web_infrastructure.host_facts:
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: always
  type: dict
  contains:
    memtotal_mb:
      description: Memory of the host in MB.
      type: int
      sample: 2048
    distribution:
      description: Name of the distribution.
      type: str
      sample: Debian
    distribution_release:
      description: Code name of its release.
      type: str
      sample: trixie
"""
