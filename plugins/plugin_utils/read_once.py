# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables by host, those of each host read once: Ansible puts them together anew each time they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class ReadOnce(Mapping):
    """The variables of all hosts.

    Args:
        hostvars: variables by host.
    """

    def __init__(self, hostvars: Mapping[str, Mapping[str, Any]]) -> None:
        self._hostvars = hostvars
        self._known: dict[str, Mapping[str, Any]] = {}

    def read(self, name: str) -> Mapping[str, Any]:
        """Return the variables of one host as they are kept. KeyError where there is no such host."""
        return self._hostvars[name]

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        if name not in self._known:
            self._known[name] = self.read(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._hostvars

    def __iter__(self) -> Iterator[str]:
        return iter(self._hostvars)

    def __len__(self) -> int:
        return len(self._hostvars)
