#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: Have UFW let in what is listed, and keep SSH
version_added: 0.4.0
description:
  - Compares what is wanted with C(ufw show added), the files of ufw and the kernel, and changes what differs, in one
    remote execution. Where nothing differs nothing is changed.
  - SSH stays open for O(admin_networks) on the port that this connection has come to and on those that the SSH server
    listens on. A connection from outside of these networks is refused before anything changes.
  - A change is taken back by the host itself after O(rescue_seconds), unless a fresh connection confirms it. That
    outlives a run that dies, and a boot.
  - Rules that this module has made have a comment that begins with C(foobar:). Those that are no longer listed go.
    Rules without it are somebody else's and stay.
options:
  enabled:
    description:
      - Whether the firewall is on.
    type: bool
    default: true
  admin_networks:
    description:
      - Addresses and networks that SSH is open for. Example V([198.51.100.0/24, "2001:db8::/32"]).
    type: list
    elements: str
    required: true
  ssh_ports:
    description:
      - Ports of SSH besides those that are in use. Example V([2222]).
    type: list
    elements: str
    default: []
  ssh_rate_limit:
    description:
      - Whether an address that begins a sixth connection of SSH in thirty seconds has to wait.
    type: bool
    default: true
  rules:
    description:
      - What may come in besides SSH, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name, which stands in the comment. Example V(smtp).
        type: str
        required: true
      ports:
        description:
          - Ports and ranges of ports; all if empty. Example V([25, 6000-6010]).
        type: list
        elements: str
        default: []
      protocol:
        description:
          - Protocol. V(any) with ports is V(tcp) and V(udp).
        type: str
        choices: [tcp, udp, any, vrrp, esp, ah, gre]
        default: tcp
      interface:
        description:
          - Interface; all if empty. Example V(eth1).
        type: str
        default: ""
      sources:
        description:
          - Addresses and networks, or V(any). Example V([198.51.100.7]).
        type: list
        elements: str
        required: true
      action:
        description:
          - What happens to such packets.
        type: str
        choices: [allow, limit, deny, reject]
        default: allow
  egress:
    description:
      - What goes out, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name, which stands in the comment. Example V(relay).
        type: str
        required: true
      ports:
        description:
          - Ports and ranges of ports; all if empty. Example V([587]).
        type: list
        elements: str
        default: []
      protocol:
        description:
          - Protocol. V(any) with ports is V(tcp) and V(udp).
        type: str
        choices: [tcp, udp, any, vrrp, esp, ah, gre]
        default: tcp
      interface:
        description:
          - Interface; all if empty. Example V(eth1).
        type: str
        default: ""
      destinations:
        description:
          - Addresses and networks, or V(any). Example V([203.0.113.25]).
        type: list
        elements: str
        required: true
      action:
        description:
          - What happens to such packets.
        type: str
        choices: [allow, deny, reject]
        default: allow
  incoming:
    description:
      - What happens to what comes in and has no rule.
    type: str
    choices: [deny, reject]
    default: deny
  outgoing:
    description:
      - What happens to what goes out and has no rule.
    type: str
    choices: [allow, deny, reject]
    default: allow
  routed:
    description:
      - What happens to what the host would forward.
    type: str
    choices: [allow, deny, reject]
    default: deny
  logging:
    description:
      - How much the kernel logs.
    type: str
    choices: ["off", low, medium, high, full]
    default: low
  rescue_seconds:
    description:
      - Seconds after which an unconfirmed change is taken back.
    type: int
    default: 60
  variables:
    description:
      - What the names of the variables begin with that messages name instead of these options.
        Example V(ufw_firewall_).
    type: str
    default: ""
attributes:
  check_mode:
    description: Predicts the change and its diff without changing anything.
    support: full
  diff_mode:
    description: Shows rules of ours and settings, before and after.
    support: full
  platform:
    description: Debian and its relatives with systemd, as root.
    platforms: debian
    support: full
requirements:
  - ufw 0.36.2 or newer on the target
author:
  - Foobar Web Infrastructure contributors (@foobar)
"""

EXAMPLES = r"""
- name: Let visitors in
  foobar.web_infrastructure.firewall:
    admin_networks: [198.51.100.0/24]
    rules:
      - name: www
        ports: [80, 443]
        sources: [any]
"""

RETURN = r"""
added:
  description: Rules that were missing or stood in the wrong place, as ufw shows them.
  returned: always
  type: list
  elements: str
  sample: ["ufw allow 80/tcp comment 'foobar: www'"]
removed:
  description: Rules of ours that are no longer listed.
  returned: always
  type: list
  elements: str
  sample: []
foreign:
  description: Rules of somebody else, which stay.
  returned: always
  type: list
  elements: str
  sample: ["ufw allow 25/tcp"]
unconfirmed:
  description: What a fresh connection has to confirm; the action plugin has done it when the task ends.
  returned: always
  type: str
  sample: ""
"""

import os  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import model  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall.run import Run  # noqa: E402


def main() -> None:
    module = AnsibleModule(argument_spec=model.ARGUMENT_SPEC, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="firewall changes what the kernel lets in; run it as root (become: true)")
    run = Run(module.params, check_mode=module.check_mode)
    try:
        result = run.execute()
    except (model.FirewallError, host_lock.HostLockError) as error:
        module.fail_json(msg=f"firewall: {error}")
    for warning in run.warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
