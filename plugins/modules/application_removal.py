#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: application_removal
short_description: Take Python web applications off a host that releases were deployed of
version_added: 0.2.0
description:
  - Stops an application's units, which frees its port, and removes them, its configuration and its releases.
  - Its data and the account that they belong to stay unless asked for, and what else is in its directory below C(/srv)
    stays in any case. What no deployment has made is refused.
  - Nothing is deleted through a mount point. Where something is mounted in what would be deleted, that is refused.
  - One that is not there is no change.
options:
  applications:
    description:
      - The applications.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the application, of its account and of its units. Example V(guestbook).
        type: str
        required: true
      data:
        description:
          - Whether its state directory and its account go as well.
        type: bool
        default: false
attributes:
  check_mode:
    description: Says which applications would be removed.
    support: full
  diff_mode:
    description: Shows nothing.
    support: none
  platform:
    description: Linux with systemd, as root.
    platforms: linux
    support: full
author:
  - Foobar Web Infrastructure contributors (@foobar)
"""

EXAMPLES = r"""
- name: Remove the application that is called shop now
  foobar.web_infrastructure.application_removal:
    applications:
      - name: guestbook
"""

RETURN = r"""
removed:
  description: Names of those that were there.
  returned: always
  type: list
  elements: str
  sample: [guestbook]
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import ownership, removal  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release.model import ReleaseError  # noqa: E402

APPLICATION = {"name": {"type": "str", "required": True}, "data": {"type": "bool", "default": False}}


def main() -> None:
    spec = {"applications": {"type": "list", "elements": "dict", "required": True, "options": APPLICATION}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    removed = []
    try:
        for application in module.params["applications"]:
            name = application["name"]
            params = {"user": name, "root": f"/srv/{name}", "config": f"/etc/gunicorn/{name}", "units": []}
            wish = removal.Removal(ownership.names_of(params), application["data"])
            if not wish.is_needed():
                continue
            removed.append(name)
            if not module.check_mode:
                with host_lock.exclusive(Path(params["root"])), host_lock.exclusive(Path(params["config"])):
                    wish.run()
    except (ReleaseError, host_lock.HostLockError) as error:
        module.fail_json(msg=str(error).replace("gunicorn_flask_name", "gunicorn_flask_absent"))
    except OSError as error:
        module.fail_json(msg=f"gunicorn_flask_absent: {error.strerror}: {error.filename}; run again")
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
