# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a playbook wires and what an operator lists, joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def joined(
    wired: Iterable[Mapping[str, Any]],
    listed: Iterable[Mapping[str, Any]],
    keys: Sequence[str] = ("name",),
    defaults: Mapping[str, Any] | None = None,
) -> list[Mapping[str, Any]]:
    """Return the wired entries and then the listed ones; of two with the same keys the listed one, in the wired place.

    Two listed entries with the same keys both stay: refusing them is the rules' work.

    Args:
        wired: entries of the playbook, as in ``nginx_service_sites``.
        listed: entries of the operator, as in ``nginx_sites``.
        keys: what tells one entry from another, as ``["name"]``.
        defaults: values of keys that an entry may leave out, as ``{"host": "localhost"}``.
    """

    def identity(entry: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(entry.get(key, (defaults or {}).get(key, ""))) for key in keys)

    rest = list(listed)
    found: list[Mapping[str, Any]] = []
    for entry in wired:
        replacements = [other for other in rest if identity(other) == identity(entry)]
        rest = [other for other in rest if identity(other) != identity(entry)]
        found += replacements or [entry]
    return found + rest
