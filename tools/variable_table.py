#!/usr/bin/env python3
"""Writes the variable tables of role READMEs and docs/site.md from argument_specs.

variable_table.py [--check] roles/nginx ... docs/site.md
"""

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
        # What a playbook fills has the keys of what an operator lists, which stand there.
        if "_service_" not in name:
            yield from rows(option.get("options", {}), depth + 1)


def role_table(role: Path) -> str:
    """The generated block of a role's README, markers included.

    Args:
        role: directory of the role.
    """
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    head = ["| variable | type | default | what it is |", "|---|---|---|---|"]
    options = {name: option for entry_point in specs.values() for name, option in entry_point["options"].items()}
    return "\n".join([BEGIN, *head, *rows(options), END])


def site_table(path: Path) -> str:
    """The generated block of docs/site.md, markers included: as a role's, with the stages that use a variable.

    Args:
        path: meta/site.yml.
    """
    options = yaml.safe_load(path.read_text())["argument_specs"]["site"]["options"]
    lines = ["| stages | variable | type | default | what it is |", "|---|---|---|---|---|"]
    for name, option in options.items():
        stages = ", ".join(map(str, option["stages"]))
        lines += [f"| {stages if n == 0 else ''} {row}" for n, row in enumerate(rows({name: option}))]
    return "\n".join([BEGIN, *lines, END])


def renewed(document: Path, table: str) -> tuple[str, str]:
    """A document as it is and as it should be.

    Raises:
        SystemExit: the document has no pair of markers.
    """
    text = document.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"error: {document} needs one line {BEGIN} and after it one line {END}")
    start, rest = text.split(BEGIN)
    return text, start + table + rest.split(END)[1]


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    stale = []
    for place in (Path(argument) for argument in arguments if argument != "--check"):
        document = place / "README.md" if place.is_dir() else place
        table = role_table(place) if place.is_dir() else site_table(place.parents[1] / "meta/site.yml")
        old, new = renewed(document, table)
        if old != new and check:
            stale.append(str(document))
        elif old != new:
            document.write_text(new)
    if stale:
        print(f"error: stale variable table in {', '.join(stale)}; run: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
