#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_key
short_description: Put the key of MySQL's package repository in place, proved by its fingerprint
version_added: 0.2.0
description:
  - Fetches the file and puts it in place when every primary key in it is one of O(fingerprints).
  - A file that is there already is held to the same. One with another key is removed, then fetched anew.
  - The file holds the keys alone, without the text around them, so that apt reads the same keys as this module.
  - Where the file is as it should be, that costs one command of a few milliseconds.
options:
  url:
    description:
      - Where the key is, armored or binary. Example V(https://repo.mysql.com/RPM-GPG-KEY-mysql-2025).
      - Up to a megabyte, and up to a minute.
    type: str
    required: true
  path:
    description:
      - File that apt reads, armored unless it ends in V(.gpg). Example V(/etc/apt/keyrings/mysql.asc).
    type: str
    required: true
  fingerprints:
    description:
      - Fingerprints of the primary keys that the file may hold, 40 hexadecimal digits each. Spaces do not count.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    description: Fetches and proves the key where it would be put in place, and changes nothing.
    support: full
  diff_mode:
    description: Shows nothing.
    support: none
  platform:
    description: Debian and its relatives, as root.
    platforms: debian
    support: full
author:
  - Foobar Web Infrastructure contributors (@foobar)
"""

EXAMPLES = r"""
- name: Fetch the key of MySQL's repository
  foobar.web_infrastructure.repository_key:
    url: https://repo.mysql.com/RPM-GPG-KEY-mysql-2025
    path: /etc/apt/keyrings/mysql.asc
    fingerprints: [BCA4 3417 C3B4 85DD 128E C6D4 B7B3 B788 A8D3 785C]
"""

RETURN = r"""
# The state of the file is all that there is.
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import repository_key  # noqa: E402


def main() -> None:
    module = AnsibleModule(argument_spec=repository_key.ARGUMENT_SPEC, supports_check_mode=True)
    try:
        changed = repository_key.put(**module.params, check_mode=module.check_mode)
    except repository_key.RepositoryKeyError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{module.params['path']}: {error.strerror}; run as root (become: true)")
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
