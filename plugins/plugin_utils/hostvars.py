# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables of all hosts, each read once and as a task of its host would read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.read_once import ReadOnce
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import APPLICATIONS, outlines


class RenderedHostVars(ReadOnce):
    """Ansible's hostvars, whose variables may themselves speak of hostvars, as ``groups | map('extract', hostvars)``.

    Ansible's own view has no hostvars inside of a host's variables, and puts these together anew for each question.

    Args:
        hostvars: what Ansible keeps under that name.
    """

    def read(self, name: str) -> RenderedVariables:
        if name not in self._hostvars:
            raise KeyError(name)
        return RenderedVariables(dict(self._hostvars.raw_get(name)), self._hostvars)


class RenderedVariables(Mapping):
    """The variables of one host; a value is rendered when it is read, and of site_applications the outlines alone.

    Raises:
        AnsibleError: on reading, if a template cannot be rendered.
    """

    def __init__(self, raw: dict[str, Any], hostvars: HostVars) -> None:
        self._raw, self._hostvars = raw, hostvars
        self._templar = Templar(loader=getattr(hostvars, "_loader", None), variables={**raw, "hostvars": hostvars})

    def without(self, name: str) -> RenderedVariables:
        """Return the same variables, one of them unknown to all templates."""
        return RenderedVariables({key: value for key, value in self._raw.items() if key != name}, self._hostvars)

    def __getitem__(self, name: str) -> Any:
        if name == APPLICATIONS:
            return outlines(self._raw[name], self._templar.template)
        return self._templar.template(self._raw[name])

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def rendered(hostvars: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Return Ansible's hostvars as RenderedHostVars; any other mapping as it is.

    Args:
        hostvars: variables by host.
    """
    return RenderedHostVars(hostvars) if isinstance(hostvars, HostVars) else hostvars
