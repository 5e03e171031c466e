# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a text is written into a unit of systemd."""

from __future__ import annotations

import re

PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
# A carriage return ends a line of systemd as a line break does.
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


def systemd_word(text, command=True):
    """See the filter's documentation beside this file."""
    text = str(text)
    if PLAIN.fullmatch(text):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    quoted = CONTROL_CHARACTER.sub(lambda match: f"\\x{ord(match[0]):02x}", quoted).replace("%", "%%")
    return '"' + (quoted.replace("$", "$$") if command else quoted) + '"'


class FilterModule:
    """Filters for units of systemd."""

    def filters(self):
        return {"systemd_word": systemd_word}
