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
          - V(directory) for a directory of the controller, V(git) for a revision of a repository, V(archive) for a tar
            archive, V(pypi) for something that pip can install.
          - The controller fetches repositories and archives, once for all hosts of a run. Hosts need no access to them.
        type: str
        required: true
        choices: [directory, git, archive, pypi]
      path:
        description:
          - The directory or the archive, absolute or relative to the playbook. Example V(examples/guestbook).
        type: path
      url:
        description:
          - Address of the repository or the archive. Example V(https://git.example.com/guestbook.git).
          - Nobody is asked for a password. The controller's SSH agent and Git's credential helpers are used.
        type: str
      revision:
        description:
          - Branch, tag or whole commit of the repository. A branch that moves makes a new release. Example V(v1.4.0).
        type: str
      checksum:
        description:
          - What the archive must be. Example
            V(sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08).
        type: str
      subdirectory:
        description:
          - Directory of the repository or the archive that holds the application. Example V(services/web).
        type: str
      submodules:
        description:
          - Whether the submodules of the repository are fetched, and theirs.
        type: bool
        default: true
      build:
        description:
          - Command that finishes the code, as a list of words. Example V([python, -m, web.assets]).
          - It runs as root in the directory of the application when the requirements are installed, with the programs
            of the release before those of the host, and before the release counts as complete.
        type: list
        elements: str
        default: []
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
  release:
    description:
      - Name of a release that is on the host, or V(previous) for the one before the live one. Then O(source) is not
        looked at and nothing is built.
    type: str
    default: ""
  config:
    description:
      - Directory with the C(deployment.json) that says which release was put in place last, and with its units.
    type: path
  user:
    description:
      - User that runs the application. It is only looked at, for RV(user_is_sound).
      - With O(config), nothing is built where an account, a group, a unit or a directory of this name is there that no
        earlier run has made.
    type: str
  units:
    description:
      - Further units of the application besides those of O(user). Example V([guestbook-worker.service]).
    type: list
    elements: str
    default: []
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
  - Git on the controller for repositories
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

- name: Build the release of a branch
  foobar.web_infrastructure.release:
    root: /srv/guestbook
    source:
      type: git
      url: https://git.example.com/guestbook.git
      revision: main
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
name:
  description: Name of the release's directory, which is the id, or the id and a number.
  returned: always
  type: str
  sample: 4f0c2b9be1d7
live_release:
  description: Name of the release that C(current) leads to, empty if there is none.
  returned: always
  type: str
  sample: 4f0c2b9be1d7
previous_release:
  description:
    - Name of the release that C(previous) leads to, which a rollback goes back to. Empty if there is none, as after a
      rollback.
  returned: always
  type: str
  sample: 0e3a5f21c9d4
live:
  description: Whether C(current) leads to this release.
  returned: always
  type: bool
  sample: true
missing:
  description: Whether the host had no sound release of this id.
  returned: always
  type: bool
  sample: false
changes:
  description: The same as C(changed), for tasks that report none.
  returned: always
  type: bool
  sample: false
undone:
  description:
    - Whether this release was put in place, and somebody has moved C(current) or taken its units from systemd since.
  returned: always
  type: bool
  sample: false
user_is_sound:
  description:
    - Whether O(user) exists, with C(/var/lib) and its name as home, C(/usr/sbin/nologin) as shell, a locked password
      and no group but its own.
  returned: always
  type: bool
  sample: true
group_exists:
  description: Whether there is a group of the name of O(user).
  returned: always
  type: bool
  sample: true
first:
  description: Whether this host has had no finished release yet.
  returned: always
  type: bool
  sample: false
built:
  description: Whether it was built now.
  returned: always
  type: bool
  sample: false
"""

import json  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.release import (  # noqa: E402
    build,
    model,
    ownership,
)

UNITS = Path("/etc/systemd/system")
PRIVATE = {
    "_id": {"type": "str", "required": True},
    "_digest": {"type": "str", "required": True},
    "_archive": {"type": "path"},
}


def ensure(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The wanted release, built if needed and possible without the archive that is only sent on request."""
    root = Path(params["root"])
    config = Path(params["config"]) if params["config"] else None
    if params["user"] and config:
        ownership.refuse_foreign(ownership.names_of(params))
    store = build.Store(root, params["_id"], params["python"])
    live = store.live()
    previous = store.target("previous")
    if live == previous:
        # As earlier versions left it after a rollback.
        previous = None
    first = not store.finished() if store.releases.is_dir() else True
    path = store.choose(params["release"], is_chosen(live, config)) if params["release"] else store.find()
    missing = path is None
    result = {"built": False}
    if path is None:
        path = store.next_place()
        # In check mode, too: the controller looks at what it would send.
        result["archive_wanted"] = params["source"]["type"] != "pypi" and params["_archive"] is None
        if not check_mode:
            if result["archive_wanted"]:
                return result
            archive = Path(params["_archive"]) if params["_archive"] else None
            path = store.build(params["source"], archive, params["_digest"], params["gunicorn"])
            result["built"] = True
    undone = is_undone(path, live, config) if config else False
    shown = {"before": f"{live.name if live else 'none'}\n", "after": f"{path.name}\n"}
    headers = {"before_header": f"{root}/current", "after_header": f"{root}/current"}
    # A release that is not live will be: the tasks that follow see to that, or fail.
    return result | {
        "changed": missing or undone or path != live,
        "changes": missing or undone or path != live,
        "undone": undone,
        "user_is_sound": ownership.is_sound(params["user"]) if params["user"] else False,
        "group_exists": ownership.group_of(params["user"]) is not None if params["user"] else False,
        "first": first,
        "missing": missing,
        "id": path.name.partition(".")[0],
        "name": path.name,
        "path": str(path),
        "live_release": live.name if live else "",
        "previous_release": previous.name if previous else "",
        "live": path == live,
        "diff": shown | headers,
    }


def is_chosen(live: Path | None, config: Path | None) -> bool:
    """Whether the live release was not deployed but chosen: a rollback led to it, and there is none before it."""
    try:
        deployment = json.loads((config / "deployment.json").read_bytes()) if config else {}
        return bool(live and deployment["chosen"] and deployment["release"] == live.name)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def is_undone(path: Path, live: Path | None, config: Path) -> bool:
    """Whether the release was put in place with this configuration, and its link or a unit's is not as then."""
    try:
        deployment = json.loads((config / "deployment.json").read_bytes())
        if deployment["release"] != path.name:
            return False
        # Earlier versions had two and did not say so.
        units = deployment.get("units") or [f"{deployment['name']}.{kind}" for kind in ("socket", "service")]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return path != live or any((UNITS / unit).resolve() != (config / unit).resolve() for unit in units)


def main() -> None:
    module = AnsibleModule(argument_spec=model.ARGUMENT_SPEC | PRIVATE, supports_check_mode=True)
    try:
        if module.check_mode:
            result = ensure(module.params, check_mode=True)
        else:
            with host_lock.exclusive(Path(module.params["root"])), build.umask():
                result = ensure(module.params, check_mode=False)
    except (model.ReleaseError, host_lock.HostLockError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        said = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        module.fail_json(msg=f"{module.params['root']}: {said}; nothing that runs was touched")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
