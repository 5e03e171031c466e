#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Build a release of a Python web application with its own virtual environment
version_added: 0.1.0
description:
  - Makes a directory below C(releases) that holds the application in C(app) and everything it needs in C(venv).
  - The release's id is a digest of its source and its requirements. One that is there and sound is not built again, and
    that costs one remote execution. A source directory is only sent to hosts that lack the release.
  - A release that was not finished, or that somebody changed afterwards, is built again.
  - Nothing is switched. The release that runs stays as it is until C(current) leads to another one.
options:
  root:
    description:
      - Directory of the application. Example V(/srv/guestbook).
    type: path
    required: true
  source:
    description:
      - Where the application comes from.
    type: dict
    required: true
    suboptions:
      type:
        description:
          - V(directory) for a directory of the controller, V(pypi) for something that pip can install.
        type: str
        required: true
        choices: [directory, pypi]
      path:
        description:
          - The directory, absolute or relative to the playbook. Example V(examples/guestbook).
        type: path
      requirements:
        description:
          - File in the directory with what pip has to install first. It may be missing if it is the default.
          - If it holds hashes, pip insists on them.
        type: str
        default: requirements.txt
      requirement:
        description:
          - What pip installs as the application. Pin it, since only a new text makes a new release.
            Example V(httpbin==0.10.4).
        type: str
      packages:
        description:
          - More requirements. Example V([PyMySQL==1.1.2]).
        type: list
        elements: str
        default: []
  exclude:
    description:
      - Names or paths in the directory that are not part of the application, with wildcards. Example V([.git, docs/*]).
    type: list
    elements: str
    default: []
  gunicorn:
    description:
      - Version of gunicorn if the requirements do not bring it. Example V(27.*).
    type: str
    required: true
  python:
    description:
      - Python of the host that the virtual environment is made with.
    type: str
    default: python3
attributes:
  check_mode:
    description: Says whether a release would be built.
    support: full
  diff_mode:
    description: Shows which release is live and which one shall be.
    support: full
  platform:
    description: Linux, as root.
    platforms: linux
    support: full
requirements:
  - Python 3.11 or newer on the target, with venv
author:
  - Foobar Web Infrastructure contributors (@foobar)
"""

EXAMPLES = r"""
- name: Build the release of a local directory
  foobar.web_infrastructure.release:
    root: /srv/guestbook
    source:
      type: directory
      path: examples/guestbook
    exclude: [.git, .venv]
    gunicorn: 27.*

- name: Build the release of a published application
  foobar.web_infrastructure.release:
    root: /srv/httpbin
    source:
      type: pypi
      requirement: httpbin==0.10.4
    gunicorn: 27.*
"""

RETURN = r"""
id:
  description: Digest of the source and the requirements.
  returned: always
  type: str
  sample: 4f0c2b9be1d7
path:
  description: The release. In check mode the one that would be built.
  returned: always
  type: str
  sample: /srv/guestbook/releases/4f0c2b9be1d7
live:
  description: Whether C(current) leads to this release.
  returned: always
  type: bool
  sample: true
built:
  description: Whether it was built now.
  returned: always
  type: bool
  sample: false
"""

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import release as model  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import release_build as steps  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import tree_swap  # noqa: E402

PRIVATE = {
    "_id": {"type": "str", "required": True},
    "_digest": {"type": "str", "required": True},
    "_archive": {"type": "path"},
}


def ensure(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The wanted release, built if needed and possible without the archive that is only sent on request."""
    root = Path(params["root"])
    store = steps.Store(root, params["_id"], params["python"])
    live = store.live()
    path = store.find()
    missing = path is None
    result = {"id": params["_id"], "built": False}
    if path is None:
        path = store.next_place()
        if not check_mode and params["source"]["type"] == "directory" and params["_archive"] is None:
            return result | {"changed": True, "archive_wanted": True}
        if not check_mode:
            archive = Path(params["_archive"]) if params["_archive"] else None
            path = store.build(params["source"], archive, params["_digest"], params["gunicorn"])
            result["built"] = True
    shown = {"before": f"{live.name if live else 'none'}\n", "after": f"{path.name}\n"}
    headers = {"before_header": f"{root}/current", "after_header": f"{root}/current"}
    # A release that is not live will be: the tasks that follow see to that, or fail.
    return result | {
        "changed": missing or path != live,
        "path": str(path),
        "live": path == live,
        "diff": shown | headers,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=model.ARGUMENT_SPEC | PRIVATE, supports_check_mode=True)
    try:
        if module.check_mode:
            result = ensure(module.params, check_mode=True)
        else:
            with tree_swap.exclusive(Path(module.params["root"])), steps.umask():
                result = ensure(module.params, check_mode=False)
    except (model.ReleaseError, tree_swap.ConfigTreeError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{module.params['root']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
