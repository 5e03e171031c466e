#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: config_tree
short_description: Put a service's whole configuration in place as one transaction
version_added: 0.1.0
description:
  - Renders templates on the controller and brings one directory of the target into the wanted state in one remote
    execution.
  - Nothing is written where nothing differs.
  - Otherwise the next tree is built beside the live one, checked by the product itself, and exchanged with the live
    one in a single step, so that no process ever sees half of it. If O(apply) fails, the old tree comes back.
  - Files that an earlier run put there and that are no longer listed are removed. Files of others are left alone, their
    owners, ACLs and extended attributes included.
  - A run that died is put in order by the next one. If it died before O(apply) had succeeded, the next run checks and
    applies again, or goes back to the last tree that worked.
options:
  root:
    description:
      - Directory that is staged, checked and exchanged as a whole. Example V(/etc/nginx).
      - It must not be a symbolic link or a mount point, or contain one. Missing parents are created.
    type: str
    required: true
  files:
    description:
      - The files that must be there, each with exactly one of O(files[].src), O(files[].copy) and O(files[].content).
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - Destination relative to O(root), without V(..). Example V(conf.d/site.conf).
          - V(.) together with O(files[].copy) stands for O(root) itself.
        type: str
        required: true
      src:
        description:
          - Template on the controller, found as M(ansible.builtin.template) finds it. Example V(nginx.conf.j2).
          - Both C(trim_blocks) and C(lstrip_blocks) are on. A C(#jinja2:) header in the template can change that.
        type: str
      copy:
        description:
          - Local file, or local directory with all files below it, taken verbatim and found as M(ansible.builtin.copy)
            finds it. Example V(pages/).
          - Links are followed where they lead to another place in that directory.
          - New files get the modification time of their source, so that hosts which serve them agree on it.
        type: str
      content:
        description:
          - Literal text. Example V("vm.swappiness = 1").
        type: raw
      vars:
        description:
          - Additional variables for the template of this entry. Example C(port) with the value V(8080).
        type: dict
      owner:
        description:
          - Name or number of the file's owner. O(owner) if not given.
        type: str
      group:
        description:
          - Name or number of the file's group. O(group) if not given.
        type: str
      mode:
        description:
          - Mode of the file, a quoted octal number. Example V("0640").
          - O(mode) if not given, for a secret without the rights of others.
        type: raw
      secret:
        description:
          - The contents never appear in a diff, in the result or in the invocation. Words of the file are masked in the
            output of O(check) and O(apply).
        type: bool
        default: false
      mtime:
        description:
          - Modification time in seconds since 1970, set by the action plugin. A task that sets it is refused.
        type: int
      program:
        description:
          - Whether it is a program of a role, which a diff only names; set by the action plugin. A task that sets it is
            refused.
        type: bool
        default: false
  companions:
    description:
      - Further directories with files that the configuration refers to, as pages of a web server, in the same
        transaction.
      - New files are there before O(apply), and those that are no longer listed go when it has succeeded. Where
        O(check) refuses the configuration or O(apply) fails, these directories are as before.
    type: list
    elements: dict
    default: []
    suboptions:
      root:
        description:
          - Directory as O(root). Example V(/srv/www).
        type: str
        required: true
      files:
        description:
          - Its files as O(files). O(owner), O(group), O(mode) and O(directory_mode) hold here too.
        type: list
        elements: dict
        required: true
  absent:
    description:
      - Files of others to remove for good, relative to O(root). Example V([sites-enabled/default]).
    type: list
    elements: str
    default: []
  owner:
    description:
      - Owner of O(root), of the directories made in it and of the files. Name or number.
    type: str
    default: root
  group:
    description:
      - Group of the same. Name or number.
    type: str
    default: root
  mode:
    description:
      - Mode of the files, a quoted octal number.
    type: raw
    default: "0644"
  directory_mode:
    description:
      - Mode of O(root) and of the directories made in it, a quoted octal number.
    type: raw
    default: "0755"
  check:
    description:
      - Command that checks the new tree before it becomes live, as a list of words. Example V([nginx, -t]).
      - It runs in a mount namespace of its own in which the new tree is found at O(root), read-only.
    type: list
    elements: str
    default: []
  check_also:
    description:
      - When O(check) runs besides where the tree differs. For one that only looks.
      - V(unchanged) judges the live tree where nothing differs; files of others in it may have spoilt it.
      - V(check_mode) judges a copy of the new tree in check mode, or says that the product is not installed yet.
    type: list
    elements: str
    choices: [unchanged, check_mode]
    default: []
  product:
    description:
      - Program that O(check) asks, where that is not its first word. Example V(haproxy).
    type: str
  apply:
    description:
      - Command that makes the service use the new tree, as a list of words.
        Example V([systemctl, reload-or-restart, nginx]).
      - If it fails, the old tree comes back, the command runs again, and the task fails.
    type: list
    elements: str
    default: []
  units:
    description:
      - Units of systemd that must be running, enabled and not masked, by their full names. Example V([nginx.service]).
      - They are looked at in the same execution. What is not up is unmasked before O(apply), and enabled and started
        after it, in the order of the list.
      - A unit that has nothing to enable (V(static), V(indirect), V(generated), V(alias)) is only started.
      - If a unit does not start, the task fails with the end of its journal, and the new tree stays. If O(apply) failed
        and the old tree is back, the units are brought up too, so that a run that fails leaves no service down.
      - In check mode, a unit that does not exist yet counts as one to be started.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - Seconds after which O(check), O(apply) or the start of one of O(units) is killed and counts as failed.
    type: int
    default: 60
  _contents:
    description:
      - The rendered files, set by the action plugin. A task that sets it is refused.
    type: str
attributes:
  check_mode:
    description:
      - Predicts the change and its diff without changing anything. O(apply) does not run, O(check) if O(check_also) has
        V(check_mode).
    support: full
  diff_mode:
    description: Shows the text files that are not secret. Programs of the role are named.
    support: full
  platform:
    description: Linux with C(renameat2) and C(unshare), as root.
    platforms: linux
    support: full
requirements:
  - Python 3.11 or newer on the target
notes:
  - The trees live beside O(root) as C(.<name>.staged) and C(.<name>.previous), on the same filesystem, and are gone
    when the task ends. O(root) gains the file C(.config_tree.json), which lists the managed paths.
  - Commands do not run through a shell.
author:
  - Foobar Web Infrastructure contributors (@foobar)
"""

EXAMPLES = r"""
- name: Configure nginx
  foobar.web_infrastructure.config_tree:
    root: /etc/nginx
    files:
      - path: nginx.conf
        src: nginx.conf.j2
      - path: conf.d/site.conf
        src: site.conf.j2
        vars:
          site_port: 8080
      - path: htpasswd
        content: "{{ site_htpasswd }}"
        group: www-data
        mode: "0640"
        secret: true
      - path: snippets
        copy: snippets
    absent:
      - sites-enabled/default
    check: [nginx, -t]
    apply: [systemctl, reload-or-restart, nginx]
    units: [nginx.service]
"""

RETURN = r"""
added:
  description: Files that were missing.
  returned: always
  type: list
  elements: str
  sample: [conf.d/site.conf]
changed_files:
  description: Files whose content, owner, group, mode or kind differed.
  returned: always
  type: list
  elements: str
  sample: [nginx.conf]
removed:
  description: Files that are no longer listed, or listed under O(absent).
  returned: always
  type: list
  elements: str
  sample: [sites-enabled/default]
restored_pending:
  description: Whether an earlier run had ended before its O(apply) succeeded, and this one made up for it.
  returned: always
  type: bool
  sample: false
started_units:
  description: Those of O(units) that were not running, not enabled or masked.
  returned: always
  type: list
  elements: str
  sample: [nginx.service]
companions:
  description: Each of O(companions) with its C(root), C(changed), C(added), C(changed_files) and C(removed).
  returned: where there are any
  type: list
  elements: dict
check_output:
  description: Last lines of the output of O(check).
  returned: when it ran
  type: str
  sample: "nginx: configuration file /etc/nginx/nginx.conf test is successful"
apply_output:
  description: Last lines of the output of O(apply).
  returned: when it ran
  type: str
  sample: ""
rollback_output:
  description: Last lines of the output of O(apply) for the old tree.
  returned: when O(apply) failed and the old tree came back
  type: str
  sample: ""
"""

import os  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import model  # noqa: E402
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.run import Run  # noqa: E402


def main() -> None:
    module = AnsibleModule(
        argument_spec=model.ARGUMENT_SPEC
        | {
            "files": model.ARGUMENT_SPEC["files"] | {"options": model.MODULE_ENTRY_SPEC},
            "companions": model.ARGUMENT_SPEC["companions"] | {"options": model.MODULE_COMPANION_SPEC},
            "_contents": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(
            msg=f"{module.params['root']}: config_tree changes owners and mounts; run it as root (become: true)"
        )
    if module.params["_contents"] is None:
        module.fail_json(msg="config_tree works with its action plugin of the same name only, which renders the files")
    try:
        run = Run(module.params, check_mode=module.check_mode, want_diff=module._diff)
        result = run.execute()
    except model.ConfigTreeError as error:
        module.fail_json(msg=str(error), **error.outputs)
    except host_lock.HostLockError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{module.params['root']}: {error}")
    for warning in run.warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
