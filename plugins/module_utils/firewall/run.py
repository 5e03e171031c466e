# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One run of firewall on the target, from the arguments to the result."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import units
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import host, model, rescue
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall.model import FirewallError, Plan, Rule

POLICIES = ("incoming", "outgoing", "routed")


class Run:
    """The arguments made fit for use, and the course of a run."""

    def __init__(self, params: Mapping[str, Any], check_mode: bool = False) -> None:
        self.params = params
        self.check_mode = check_mode
        self.enabled = params["enabled"]
        self.settings = {
            "enabled": "yes" if self.enabled else "no",
            "ipv6": "yes",
            "logging": params["logging"],
            **{name: params[name] for name in POLICIES},
        }
        self.warnings: list[str] = []

    def execute(self) -> dict[str, Any]:
        with nullcontext() if self.check_mode else host_lock.exclusive(rescue.LOCKED):
            self._want()
            if not host.is_installed():
                return self._without_ufw()
            self.state = host.read()
            self.warnings += host.warnings()
            self._refuse_contradictions()
            plan, lost = self._plan()
            pending = rescue.is_pending()
            result = {
                "changed": bool(plan.changed or lost or pending or self._lacks()),
                "added": [_text(rule) for rule in [*reversed(plan.first), *plan.added, *lost]],
                "removed": [str(one) for one in plan.deleted],
                "foreign": [str(one) for one in self.state.rules if not one.is_ours],
                "diff": {"before": self._seen(), "after": self._hoped()},
                "unconfirmed": "",
            }
            if result["changed"] and not self.check_mode:
                result["unconfirmed"] = self._change(plan)
            return result

    # --- before anything changes

    def _want(self) -> None:
        """Keep the ports that SSH has here, and refuse networks in which the address of this run is not."""
        connection, ports = host.connection(), host.ssh_ports()
        allowed = self.params["admin_networks"]
        try:
            self.ssh = model.ssh_rules(self.params, ports | ({connection.port} if connection else set()))
            self.rules = model.wanted(self.params, self.ssh)
            if not self.ssh:
                raise FirewallError("ssh_ports: no SSH server listens on this host; say on which port one will")
            if connection and self.enabled and not model.is_within(connection.source, allowed):
                raise FirewallError(
                    f"admin_networks: this connection comes from {connection.source}, which is in none of "
                    f"{', '.join(allowed)}, so no other one could; nothing has changed: add it or its network"
                )
        except FirewallError as error:
            raise FirewallError(f"{self.params['variables']}{error}") from None

    def _without_ufw(self) -> dict[str, Any]:
        if not self.check_mode:
            raise FirewallError("there is no ufw on this host; install its package first")
        self.state = None
        rules = [_text(rule) for rule in self.rules]
        diff = {"before": "", "after": self._hoped()}
        return {"changed": True, "added": rules, "removed": [], "foreign": [], "diff": diff, "unconfirmed": ""}

    def _refuse_contradictions(self) -> None:
        for rule, other in model.contradictions(self.rules, self.state.rules):
            raise FirewallError(
                f"'{rule.name}' wants {rule.action} where somebody else has put `{other}`, and ufw keeps one rule for "
                f"these packets; nothing has changed: give both the same action, or take the other one out with "
                f"`ufw delete {' '.join(other.words)}`"
            )

    def _plan(self) -> tuple[Plan, list[Rule]]:
        plan = model.difference(self.rules, self.ssh, self.state.rules)
        if plan.changed:
            return plan, []
        return plan, model.missing_versions(self.rules, self.state.rules, self.state.counted)

    def _lacks(self) -> list[str]:
        """What else is not as it should be, as words for a sentence."""
        found = [name for name, value in self.settings.items() if self.state.settings[name] != value]
        if self.enabled and not self.state.is_live:
            found.append("the rules in the kernel")
        if self.enabled and not self.state.unit.good:
            found.append(host.UNIT)
        return found

    # --- the difference

    def _seen(self) -> str:
        rules = [str(one) for one in self.state.rules if one.is_ours]
        return _lines(self.state.settings, rules, self.state.is_live)

    def _hoped(self) -> str:
        there = {one.words: str(one) for one in self.state.rules if one.is_ours} if self.state else {}
        theirs = {one.content for one in self.state.rules if not one.is_ours} if self.state else set()
        wanted = {rule.words: _text(rule) for rule in self.rules if rule.content not in theirs}
        # As ufw lists them: what stays, in its place, then what comes.
        stay = [text for words, text in there.items() if words in wanted]
        come = [text for words, text in wanted.items() if words not in there]
        return _lines(self.settings, stay + come, self.enabled)

    # --- changing

    def _change(self, plan: Plan) -> str:
        """Rules, then policies, then the switch; returns the token that a fresh connection has to confirm."""
        token = uuid.uuid4().hex
        seconds = self.params["rescue_seconds"]
        # With time for the change itself: a rescue that has begun to wait would keep ufw.service from starting.
        rescue.arm(token, seconds + rescue.WAIT)
        try:
            self._apply(plan)
            self._prove()
            rescue.rearm(token, seconds)
        except (FirewallError, ConfigTreeError, OSError) as error:
            raise FirewallError(f"the firewall could not be changed, {rescue.restore()}: {error}") from error
        return token

    def _apply(self, plan: Plan) -> None:
        there = self.state.settings
        if there["ipv6"] != "yes":
            _set_ipv6()
            if there["enabled"] == "yes":
                host.said("ufw", "reload")
        for one in plan.moved:
            host.said("ufw", "delete", *one.words)
        for rule in plan.first:
            host.said("ufw", "prepend", *rule.words)
        for rule in plan.added:
            host.said("ufw", *rule.words)
        for one in plan.deleted:
            host.said("ufw", "delete", *one.words)
        # ufw adds the half that there is not.
        now = host.read()
        for rule in model.missing_versions(self.rules, now.rules, now.counted):
            host.said("ufw", *rule.words)
        for name in POLICIES:
            if there[name] != self.settings[name]:
                host.said("ufw", "default", self.settings[name], name)
        if there["logging"] != self.settings["logging"]:
            host.said("ufw", "logging", self.settings["logging"])
        if not self.enabled:
            if there["enabled"] == "yes":
                host.said("ufw", "disable")
            return
        if there["enabled"] != "yes":
            host.said("ufw", "--force", "enable")
        elif not host.read().is_live:
            host.said("ufw", "reload")
        units.bring_up([host.UNIT], host.SECONDS)

    def _prove(self) -> None:
        """ufw takes some rules and leaves them out, such as a limit where the kernel has none."""
        self.state = host.read()
        plan, lost = self._plan()
        missing = [_text(rule) for rule in [*plan.first, *plan.added, *lost]]
        missing += [f"not {one}" for one in plan.deleted] + self._lacks()
        if missing:
            raise FirewallError(f"ufw has said nothing and left out: {'; '.join(missing)}")


def _text(rule: Rule) -> str:
    return str(model.Shown(rule.words))


def _lines(settings: Mapping[str, str], rules: Sequence[str], live: bool) -> str:
    words = [f"{name}: {value}" for name, value in settings.items()]
    return "".join(f"{line}\n" for line in [*words, f"in the kernel: {'yes' if live else 'no'}", *rules])


def _set_ipv6() -> None:
    lines = [line for line in host.DEFAULTS.read_text().splitlines() if not line.startswith("IPV6=")]
    rescue.write(host.DEFAULTS, "\n".join([*lines, "IPV6=yes"]) + "\n", 0o644)
