#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: release_static
short_description: Read the static files of an application's releases
version_added: 0.2.0
description:
  - Brings the static files of the releases that M(foobar.web_infrastructure.release) has built on a host to the
    controller, for web servers that answer them themselves.
  - The files of all releases that the host keeps are there, so that a page of the release before finds its own. Of two
    with the same name, the one of O(wanted) counts, and the other is there below the id of its release.
options:
  root:
    description: Directory with C(releases) and C(current). Example V(/srv/guestbook).
    type: path
    required: true
  wanted:
    description: Name of the release that is going to be live; the live one if empty. Example V(4f0c2b9be1d7).
    type: str
    default: ""
  places:
    description: What is read. Each has exactly one of O(places[].release) and O(places[].package).
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Path of the URL, by which the directory is found in RV(directories). Example V(/static/).
        type: str
        required: true
      release:
        description: Directory in the source of the release. Example V(guestbook/static).
        type: str
      package:
        description: Directory below C(site-packages) of the release. Example V(flask_admin/static).
        type: str
  required:
    description:
      - Whether a release has to be there, with all of O(places).
      - C(false) is for an application that the run is not for. What it does not have yet is not given out yet.
    type: bool
    default: true
  variable:
    description: What a mistake is named by. Example V(site_static).
    type: str
    default: site_static
attributes:
  check_mode:
    description: Nothing is changed. A release that check mode has not built has no files yet.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  platform:
    description: Linux.
    platforms: linux
    support: full
notes:
  - Up to 32 MiB.
author:
  - Foobar Web Infrastructure contributors (@foobar)
"""

EXAMPLES = r"""
- name: Read the static files of the guest book
  foobar.web_infrastructure.release_static:
    root: /srv/guestbook
    places:
      - path: /static/
        release: guestbook/static
  register: guestbook_static
"""

RETURN = r"""
directories:
  description:
    - Directories of the controller by path of the URL, as C(nginx_sites[].static) takes them.
    - They are removed at the end of the run.
  returned: always
  type: dict
  sample: {"/static/": {"directory": "/home/me/.ansible/tmp/x/0", "releases": "/home/me/.ansible/tmp/x/0-releases"}}
releases:
  description: Names of the releases whose files these are, the one that is going to be live first.
  returned: always
  type: list
  elements: str
  sample: [4f0c2b9be1d7, 0e3a5f21c9d4]
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import build, model, static  # noqa: E402


def main() -> None:
    module = AnsibleModule(argument_spec=static.ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    variable = params["variable"]
    store = build.Store(Path(params["root"]), "", "python3")
    try:
        releases = static.order(store, params["wanted"])
        here = params["wanted"] in releases if params["wanted"] else bool(releases)
        if not here and params["required"] and not module.check_mode:
            missing = f"no release {params['wanted']}".rstrip()
            module.fail_json(msg=f"{variable}: {params['root']} has {missing} to read; run the playbook of the stage")
        # A release that check mode would have built has no files to show: those of the others stay as they are.
        complete = here and params["required"]
        found = static.collect(store, params["wanted"], params["places"], complete, variable) if releases else {}
    except model.ReleaseError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{variable}: {error.filename}: {error.strerror}")
    module.exit_json(changed=False, releases=releases, packed=static.pack(found))


if __name__ == "__main__":
    main()
