#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin chosen_application: nothing of it runs on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: chosen_application
short_description: Refuse a choice of applications that cannot be meant
version_added: 0.2.0
description:
  - For playbooks that deploy all applications of a site, or the one that C(-e site_application) names.
  - Refuses the name of an application that there is not, and variables of the role gunicorn_flask with C(-e) where they
    would count for several applications.
  - Runs on the controller and contacts no host.
options:
  names:
    description: Names of all applications, the first one first. Example V([guestbook, shop]).
    type: list
    elements: str
    required: true
  chosen:
    description: The one that is meant; all of them if empty. Example V(shop).
    type: str
    default: ""
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
- name: Refuse an application that there is not
  foobar.web_infrastructure.chosen_application:
    names: [guestbook, shop]
    chosen: "{{ site_application | default('') }}"
"""

RETURN = r"""
msg:
  description: What cannot be meant, one line for each.
  returned: failure
  type: str
  sample: "site_application: there is no application 'shopp'; there are guestbook, shop"
"""
