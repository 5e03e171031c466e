#!/usr/bin/env python3
"""Writes the variable table of role READMEs from their argument_specs: variable_table.py [--check] roles/nginx ..."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

BEGIN, END = "<!-- BEGIN_VARIABLES -->", "<!-- END_VARIABLES -->"
MARKUP = re.compile(r"\b([A-Z])\(((?:[^()\\]|\\.|\([^()]*\))*)\)")


def plain(text: str) -> str:
    """Ansible's markup as Markdown: V(x), C(x), O(x) and the like become code."""
    text = MARKUP.sub(lambda found: f"`{found[2]}`", " ".join(text.split()))
    return text.replace("|", "\\|")


def default_of(option: Mapping) -> str:
    """What stands in the column of defaults. A long one is in defaults/main.yml, where it can be read."""
    if option.get("required"):
        return "**required**"
    if "default" not in option:
        return ""
    value = option["default"]
    text = value.strip() if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`".replace("|", "\\|") if len(text) <= 60 and "\n" not in text else "see `defaults/main.yml`"


def kind_of(option: Mapping) -> str:
    kind = option.get("type", "str")
    if "elements" in option:
        kind += f" of {option['elements']}"
    if "choices" in option:
        kind += ": " + ", ".join(f"`{choice}`" for choice in option["choices"])
    return kind


def rows(options: Mapping[str, Mapping], depth: int = 0) -> Iterator[str]:
    """A row for each option, each followed by those nested in it."""
    for name, option in options.items():
        description = option.get("description", "")
        sentences = [description] if isinstance(description, str) else description
        mark = "&nbsp;&nbsp;" * depth + ("&rarr; " if depth else "")
        text = " ".join(plain(sentence) for sentence in sentences)
        yield f"| {mark}`{name}` | {kind_of(option)} | {default_of(option)} | {text} |"
        yield from rows(option.get("options", {}), depth + 1)


def table(role: Path) -> str:
    """The generated block of a role's README, markers included.

    Args:
        role: directory of the role.
    """
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    head = ["| variable | type | default | what it is |", "|---|---|---|---|"]
    return "\n".join([BEGIN, *head, *rows(specs["main"]["options"]), END])


def renewed(role: Path) -> tuple[str, str]:
    """The role's README as it is and as it should be.

    Raises:
        SystemExit: the README has no pair of markers.
    """
    text = (role / "README.md").read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"error: {role / 'README.md'} needs one line {BEGIN} and after it one line {END}")
    start, rest = text.split(BEGIN)
    return text, start + table(role) + rest.split(END)[1]


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    stale = []
    for role in (Path(argument) for argument in arguments if argument != "--check"):
        old, new = renewed(role)
        if old != new and check:
            stale.append(str(role / "README.md"))
        elif old != new:
            (role / "README.md").write_text(new)
    if stale:
        print(f"error: stale variable table in {', '.join(stale)}; run: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
