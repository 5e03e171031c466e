#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin validate_values: nothing of it runs on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_values
short_description: Refuse variables of a role that contradict each other
version_added: 0.2.0
description:
  - Runs the rules of one role of this collection on the values that its variables have on the host, and reports all
    that contradict each other, each with the variable, what is wrong and what is right.
  - For the first task of that role. Runs on the controller and contacts no host.
options:
  role:
    description:
      - Name of a role of this collection. Example V(nginx).
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
- name: Refuse variables that contradict each other
  foobar.web_infrastructure.validate_values:
    role: nginx
"""

RETURN = r"""
msg:
  description: All mistakes, one line for each.
  returned: failure
  type: str
  sample: "nginx_sites: the name 'www' is used twice; give each site its own"
"""
