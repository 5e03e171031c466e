#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin preflight: nothing of it runs on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Report every mistake of an inventory at once, before any host is touched
version_added: 0.1.0
description:
  - Looks at the groups, addresses and variables of the whole inventory on the controller and reports everything that
    cannot work, each with the host, group or variable, what is wrong and what is right.
  - Runs the rules of every role on the values that its variables will have, with those that the play wires.
  - Contacts no host. Run it once, in a play of its own without facts, before all others.
options:
  stage:
    description:
      - Stage that the inventory is for. It decides which groups and site-wide variables are needed.
        Example V(3-scale_up).
    type: str
    required: true
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
author:
  - Foobar Web Infrastructure contributors (@foobar)
"""

EXAMPLES = r"""
- name: Refuse an inventory with mistakes
  hosts: all
  gather_facts: false
  tasks:
    - name: Report every mistake before any host is touched
      foobar.web_infrastructure.preflight:
        stage: 3-scale_up
      run_once: true
"""

RETURN = r"""
msg:
  description: All mistakes, one numbered line for each.
  returned: failure
  type: str
  sample: "1. site_vip (on 7 hosts): 198.18.0.21 is the address of foobar-web1; give an address that no host has"
"""
