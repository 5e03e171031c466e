# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reports every mistake of an inventory at once, on the controller, before any host is touched."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as core_version
from ansible.utils.vars import load_extra_vars
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import preloaded  # noqa: F401
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.hostvars import rendered
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.plain import plain
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import applications, roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import inventory as rules
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import (
    Inventory,
    RoleValues,
    Unreadable,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.wiring import fixed_values
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import APPLICATIONS, OPTIONS
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.specs import typed_variable
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import STAGES

# Only set by Ansible itself; reading some of them is slow, and none is an operator's.
MAGIC = re.compile(
    r"^(ansible_(?!host$|port$).*|inventory_.*|group_names|groups|hostvars|omit|playbook_dir|play_hosts|role_.*|environment)$"
)
FACT_IS_MISSING = re.compile(r"'ansible_\w+' is undefined")
# The role that runs applications, the first and further ones.
RUNS = "gunicorn_flask"
# What playbooks/vars/site.yml makes for all other wiring.
SHARED = {"__site", "__edges", "__applications", "__further_applications"}


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec({"stage": {"type": "str", "required": True}})
        mistakes = rules.find_version_mistakes(core_version) or self._mistakes(args["stage"], task_vars or {})
        result["changed"] = False
        if mistakes:
            numbered = [f"{number}. {line}" for number, line in enumerate(mistakes, 1)]
            count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
            result["failed"] = True
            result["msg"] = "\n".join([f"The inventory has {count}; no host has been touched.", *numbered])
        return result

    def _mistakes(self, stage: str, task_vars: Mapping[str, Any]) -> list[str]:
        groups = {name: list(hosts) for name, hosts in task_vars["groups"].items()}
        names = {name for hosts in groups.values() for name in hosts}
        of_ansible = rendered(task_vars["hostvars"])
        specs = {role: roles.options(role) for role in roles.RULES}
        others = {name for role in roles.RULES for name in roles.all_options(role)}
        ours = {*OPTIONS, *others, "ansible_host", "ansible_port"}
        hostvars = {name: dict(_readable(of_ansible[name], ours)) for name in names}
        playbook = Path(task_vars.get("playbook_dir", "."))
        inventory = Inventory(
            stage=stage,
            groups=groups,
            hostvars=hostvars,
            specs=specs,
            others=others,
            given=list(load_extra_vars(self._loader)),
            is_directory=lambda path: (playbook / path).is_dir(),
        )
        if stage not in STAGES:
            return rules.find_mistakes(inventory)
        # The wiring of the playbooks: what the play reads, whatever the variables of its first host are.
        names = self._names_of_the_play() & task_vars.keys()
        wiring = {name: task_vars[name] for name in names}
        # As they have been read above: Ansible would put the variables of a host together anew for each question.
        unreadable = any(isinstance(value, Unreadable) for values in hostvars.values() for value in values.values())
        wiring |= {"groups": task_vars["groups"], "hostvars": task_vars["hostvars"] if unreadable else hostvars}
        wirings = {host: self._wiring_of(host, inventory, wiring) for host in inventory.hosts}
        for host in inventory.hosts:
            self._read_again(hostvars[host], wirings[host], task_vars["hostvars"].raw_get(host))
        values = [(role, self._role_values(role, host, inventory, wirings[host])) for role, host in inventory.roles]
        for host in inventory.groups.get("appservers", ()):
            for entry in applications.entries_of(inventory, host):
                values.append((RUNS, self._role_values(RUNS, host, inventory, wirings[host], entry)))
        return rules.find_mistakes(inventory.with_role_values(values))

    def _names_of_the_play(self) -> set[str]:
        """Names of the variables in the files that the play reads."""
        files = self._task.get_play().get_vars_files()
        paths = [self._loader.path_dwim_relative_stack([self._loader.get_basedir()], "vars", file) for file in files]
        return {name for path in paths for name in self._loader.load_from_file(path, cache="all") or {}}

    def _wiring_of(self, host: str, inventory: Inventory, wiring: Mapping[str, Any]) -> dict[str, Any]:
        """The wiring, with what the rest of it is made from rendered for a host, once instead of in each use."""
        variables = {**wiring, **inventory.hostvars[host], "inventory_hostname": host}
        templar = self._templar.copy_with_new_env(available_variables=variables)
        for name in SHARED & wiring.keys():
            try:
                variables[name] = templar.template(variables[name])
            except AnsibleError:
                # It needs what is missing, which is a finding itself.
                continue
        return {name: variables[name] for name in wiring}

    def _read_again(self, variables: dict[str, Any], wiring: Mapping[str, Any], raw: Mapping[str, Any]) -> None:
        """Values that name what the playbooks publish for inventories can be read in a play alone."""
        unreadable = [name for name, value in variables.items() if isinstance(value, Unreadable)]
        templar = self._templar.copy_with_new_env(available_variables={**raw, **wiring})
        for name in unreadable:
            try:
                variables[name] = plain(templar.template(raw[name]))
            except AnsibleError:
                # It stays a finding.
                continue
        # Of these only the outlines have been read.
        if isinstance(variables.get(APPLICATIONS), list) and isinstance(raw[APPLICATIONS], list):
            try:
                without = {name: value for name, value in {**raw, **wiring}.items() if name != "ansible_facts"}
                bare = self._templar.copy_with_new_env(available_variables=without)
                read = _readable_part(raw[APPLICATIONS], templar.template, bare.template)
                variables[APPLICATIONS] = typed_variable(APPLICATIONS, plain(read))
            except AnsibleError as error:
                variables[APPLICATIONS] = Unreadable(" ".join(str(error.message).split()))

    def _role_values(
        self,
        role: str,
        host: str,
        inventory: Inventory,
        wiring: Mapping[str, Any],
        entry: applications.Entry | None = None,
    ) -> RoleValues:
        """The variables of a role on a host, as far as they can be known before it is asked; rendered as for it.

        Those of a further application are what its entry says, and what the playbooks wire for that.
        """
        defaults = self._loader.load_from_file(str(roles.DIRECTORY / role / "defaults/main.yml"), cache="all") or {}
        # What the stage fixes comes out of the model: a rule of its own compares it with what the inventory says.
        fixed = {name: value for name, (value, _reason) in fixed_values(inventory, host).items()}
        variables = {**defaults, **wiring, **inventory.hostvars[host], **fixed, "inventory_hostname": host}
        if entry:
            own = {name: value for name, value in entry.role.items() if name not in applications.NOT_OF_AN_ENTRY}
            variables |= defaults | {name: wiring[name] for name in inventory.specs[role] if name in wiring}
            variables |= {f"{applications.PREFIX}{name}": value for name, value in own.items()}
            variables |= {f"{applications.PREFIX}name": entry.name, "__further_number": entry.number}
        templar = self._templar.copy_with_new_env(available_variables=variables)
        values = {}
        for name in inventory.specs[role]:
            if name not in variables or isinstance(variables[name], Unreadable):
                continue
            try:
                values[name] = typed_variable(name, plain(templar.template(variables[name])))
            except AnsibleError:
                # It needs facts, or a value whose absence is a finding itself.
                continue
        application = entry.name if entry else ""
        return RoleValues(host=host, values=values, hostvars=inventory.hostvars, application=application)


def _readable(variables: Mapping[str, Any], ours: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The operator's variables with their values; a template that fails becomes a finding instead of an end.

    Of variables that this collection does not know there are only the names: what a template of somebody else's does
    is no business of the preflight.
    """
    for name in variables:
        if MAGIC.match(name):
            continue
        if name not in ours:
            yield name, None
            continue
        try:
            yield name, typed_variable(name, plain(variables[name]))
        except AnsibleError as error:
            # Facts are gathered later: the role checks what needs them.
            if not _needs_facts(variables, name):
                yield name, Unreadable(" ".join(str(error.message).split()))


def _readable_part(value: Any, read: Callable[[Any], Any], bare: Callable[[Any], Any]) -> Any:
    """A value without the parts that are made from facts, which are gathered later.

    Args:
        value: what is to be read.
        read: makes values of templates.
        bare: the same, and knows no facts.
    """
    if isinstance(value, list):
        return [_readable_part(part, read, bare) for part in value]
    if not isinstance(value, Mapping):
        return read(value)
    found = {}
    for key, part in value.items():
        try:
            found[key] = _readable_part(part, read, bare)
        except AnsibleError:
            try:
                bare(part)
            except AnsibleError as error:
                if not FACT_IS_MISSING.search(str(error)):
                    raise
    return found


def _needs_facts(variables: Mapping[str, Any], name: str) -> bool:
    """Whether a variable that cannot be read yet is made from facts, as far as its own templates go."""
    try:
        variables.without("ansible_facts")[name]
    except AnsibleError as error:
        return FACT_IS_MISSING.search(str(error)) is not None
    return False
