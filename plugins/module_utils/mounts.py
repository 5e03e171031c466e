# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where filesystems are mounted on this host."""

from __future__ import annotations

from pathlib import Path


def mount_points() -> list[Path]:
    """All of them, also those that show another directory of the same filesystem."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    # The kernel writes space, tab, newline and backslash as octal escapes.
    escapes = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}
    points = []
    for line in lines:
        point = line.split(" ")[4]
        for code, character in escapes.items():
            point = point.replace(code, character)
        points.append(Path(point))
    return points
