#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin packages: on the host it runs dpkg-query and, if need be, ansible.builtin.apt."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Have Debian packages installed, at no cost where they are
version_added: 0.2.0
description:
  - Asks C(dpkg-query) first. Where all packages are installed that is the whole work, a few milliseconds instead of the
    second or more in which M(ansible.builtin.apt) reads its lists.
  - Otherwise what a killed dpkg has left is finished, and M(ansible.builtin.apt) does the work with the same arguments.
  - Packages are never removed or upgraded.
options:
  name:
    description:
      - Packages. Example V([nginx, logrotate]).
      - A version, a pattern or a virtual package is left to M(ansible.builtin.apt) in every run.
    type: list
    elements: str
    required: true
  update_cache:
    description:
      - Whether to refresh the lists before something is installed.
    type: bool
    default: false
  cache_valid_time:
    description:
      - Seconds for which lists count as fresh. Example V(86400).
    type: int
    default: 0
  install_recommends:
    description:
      - Whether to install recommended packages as well. Without it apt's own setting counts.
    type: bool
  fail_on_autoremove:
    description:
      - Whether to fail rather than to remove a package that is in the way.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says whether something would be installed.
    support: full
  diff_mode:
    description: As M(ansible.builtin.apt) does.
    support: full
  platform:
    description: Debian and its relatives, as root.
    platforms: debian
    support: full
author:
  - Foobar Web Infrastructure contributors (@foobar)
"""

EXAMPLES = r"""
- name: Install nginx and what rotates its logs
  foobar.web_infrastructure.packages:
    name: [nginx, logrotate]
    update_cache: true
    cache_valid_time: 86400
"""

RETURN = r"""
stdout:
  description: What apt said.
  returned: when it ran
  type: str
  sample: ""
"""
