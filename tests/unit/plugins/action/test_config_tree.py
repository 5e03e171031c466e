"""config_tree from a playbook: what its action plugin renders, refuses and hides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import model

PROJECT = Path(__file__).resolve().parents[4]
ME = {"owner": str(os.geteuid()), "group": str(os.getegid())}


TEMPLATE = """\
{{ ansible_managed | comment }}
{% for word in words %}
  {% if loop.first %}
  to {{ template_destpath }}
  {% endif %}
  {{ word }} \\1 {{ own | default('none') }}
{% endfor %}
{% include 'part.j2' %}
"""


class Controller:
    """A directory with a playbook in it, which is run against this machine."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "host" / "app"
        for folder in ("templates", "files/tree/sub"):
            (place / folder).mkdir(parents=True)
        (place / "templates/main.j2").write_text(TEMPLATE)
        (place / "templates/part.j2").write_text("included\n")
        (place / "templates/header.j2").write_text("#jinja2: trim_blocks: False\n{% if true %}\nx\n{% endif %}\n")
        (place / "templates/undefined.j2").write_text("{{ no_such_variable }}\n")
        (place / "files/tree/binary").write_bytes(bytes(range(256)))
        (place / "files/tree/sub/text").write_text("{{ verbatim }}\n")
        os.utime(place / "files/tree/sub/text", (1_000_000_000, 1_000_000_000))
        (place / "files/tree/alias").symlink_to("sub/text")
        for name, target in (("circle", "."), ("outside", "/etc/hostname"), ("nowhere", "missing")):
            (place / "files" / name).mkdir()
            (place / "files" / name / "link").symlink_to(target)

    def tree(self, *files: dict, **arguments) -> dict:
        arguments = {"root": str(self.root), **ME, "files": list(files), **arguments}
        return {"foobar.web_infrastructure.config_tree": arguments}

    def play(self, tasks: list[dict], *options: str) -> subprocess.CompletedProcess:
        variables = {"words": ["a", "b"]}
        book = [{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": tasks}]
        (self.place / "play.yml").write_text(json.dumps(book))
        return subprocess.run(
            ["ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml", *options],
            cwd=self.place,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(PROJECT / ".ansible/collections"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
                "ANSIBLE_FORCE_COLOR": "0",
            },
            capture_output=True,
            text=True,
        )


@pytest.fixture
def controller(tmp_path) -> Controller:
    if os.geteuid() != 0:
        pytest.skip("the lock directory in /run is root's")
    return Controller(tmp_path)


def test_templates_are_rendered_as_the_template_module_renders_them(controller):
    reference = controller.place / "reference"
    template = {"src": "main.j2", "dest": str(reference), "lstrip_blocks": True}
    tasks = [
        {"ansible.builtin.template": template, "vars": {"own": "mine"}},
        {"ansible.builtin.template": {**template, "src": "header.j2", "dest": f"{reference}.header"}},
        controller.tree(
            {"path": "main.conf", "src": "main.j2", "vars": {"own": "mine"}},
            {"path": "header.conf", "src": "header.j2"},
            {"path": "copied", "copy": "tree"},
            {"path": "one", "copy": "tree/binary"},
            {"path": "literal", "content": "{{ words | first }}\n"},
        ),
    ]
    first = controller.play(tasks)
    assert first.returncode == 0, first.stdout + first.stderr
    made = (controller.root / "main.conf").read_text()
    assert made == reference.read_text().replace(str(reference), str(controller.root / "main.conf"))
    assert "a \\1 mine" in made and "included" in made and "Ansible managed" in made
    assert (controller.root / "header.conf").read_text() == Path(f"{reference}.header").read_text() == "\nx\n"
    assert (
        (controller.root / "copied/binary").read_bytes() == (controller.root / "one").read_bytes() == bytes(range(256))
    )
    assert (controller.root / "copied/sub/text").read_text() == "{{ verbatim }}\n"
    assert (controller.root / "copied/alias").read_text() == "{{ verbatim }}\n"
    # Two web servers must agree on Last-Modified and ETag; a touched source alone is no change.
    assert (controller.root / "copied/sub/text").stat().st_mtime == 1_000_000_000
    (controller.place / "files/tree/sub/text").touch()
    assert (controller.root / "literal").read_text() == "a\n"
    assert "changed=0" in controller.play(tasks[2:], "--diff").stdout


def test_bad_input_gets_one_error_that_says_what_is_wrong(controller):
    good = {"path": "a", "content": ""}
    cases = {
        "files, entry 1, path: '/a' is absolute": controller.tree({"path": "/a", "content": ""}),
        "two entries make 'copied/binary'": controller.tree(
            {"path": "copied", "copy": "tree"}, {"path": "copied/binary", "content": ""}
        ),
        "files.colour. Supported parameters include: content": controller.tree({**good, "colour": "red"}),
        "needs exactly one of src, copy and content": controller.tree({"path": "a"}),
        "missing required arguments: path": controller.tree({"content": ""}),
        "check must be a list of words such as [nginx, -t]": controller.tree(good, check="nginx -t"),
        "_contents. Supported parameters include: absent": controller.tree(good, _contents="x"),
        "files.mtime. Supported parameters include: content": controller.tree({**good, "mtime": 1}),
        "'missing.j2' is not to be found": controller.tree({"path": "a", "src": "missing.j2"}),
        "undefined.j2 for ROOT/u: 'no_such_variable' is undefined": controller.tree(
            {"path": "u", "src": "undefined.j2"}
        ),
        "link is a link into a circle": controller.tree({"path": "a", "copy": "circle"}),
        "link is a link out of the copied directory": controller.tree({"path": "a", "copy": "outside"}),
        "link is a link to nowhere": controller.tree({"path": "a", "copy": "nowhere"}),
        "path '.' stands for a whole directory": controller.tree({"path": ".", "copy": "tree/binary"}),
        "directory_mode must be a quoted octal": controller.tree(good, directory_mode=755),
        "timeout must be at least 1": controller.tree(good, timeout=0),
        "there is no user 'nobody-yet'": controller.tree(good, owner="nobody-yet"),
    }
    show = [{"ansible.builtin.debug": {"msg": "MESSAGE {{ ansible_failed_result.msg | replace('\n', ' ') }}"}}]
    result = controller.play([{"block": [task], "rescue": show} for task in cases.values()])
    said = [line for line in result.stdout.splitlines() if "MESSAGE" in line]
    assert len(said) == len(cases), result.stdout + result.stderr
    for wanted, line in zip(cases, said, strict=True):
        assert wanted.replace("ROOT", str(controller.root)) in line
    assert not controller.root.exists()


def test_no_output_of_a_run_shows_a_secret(controller):
    (controller.place / "templates/key.j2").write_text("password = {{ words | first }}-s3cret-{{ own }}\n")
    entry = {"path": "key", "src": "key.j2", "secret": True}
    outputs = []
    for own in ("first", "second"):
        task = controller.tree({**entry, "vars": {"own": own}}, {"path": "b", "content": own})
        for options in (("--check", "--diff", "-vvvv"), ("--diff", "-vvvv")):
            result = controller.play([task], *options)
            assert result.returncode == 0
            outputs.append(result.stdout + result.stderr)
        assert (controller.root / "key").read_text() == f"password = a-s3cret-{own}\n"
    packed = model.pack({"key": b"password = a-s3cret-first\n", "b": b"first"})
    for output in outputs:
        assert "+first" in output or "+second" in output
        assert "s3cret" not in output and packed[:40] not in output
