"""Words for units mean to systemd what they mean to whoever wrote them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.filter.systemd import systemd_word

WORDS = [
    "shop:create_app('production')",
    """a "b" $HOME ${HOME} $$ %n %% \\ \\n 'c' ; # \t end""",
    ";",
    "",
    "ü b",
    "-x",
    "a\nb",
]


@pytest.mark.parametrize("word", ["guestbook.wsgi:app", "/srv/up-loads", "a=b,c@d"])
def test_a_plain_word_stays_as_it_is(word):
    assert systemd_word(word) == word


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("shop:create_app('production')", "\"shop:create_app('production')\""),
        ('say "100%" of $it\\', '"say \\"100%%\\" of $$it\\\\"'),
        ("a b", '"a b"'),
        ("a\nb\rc\x7f", '"a\\nb\\x0dc\\x7f"'),
        ("", '""'),
    ],
)
def test_what_systemd_would_read_otherwise_is_quoted(word, written):
    assert systemd_word(word) == written


def test_a_dollar_sign_is_only_doubled_in_commands():
    assert systemd_word("/srv/a$b", command=False) == '"/srv/a$b"'


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="asks systemd")
def test_systemd_understands_every_word(tmp_path):
    words = " ".join(systemd_word(word) for word in WORDS)
    (tmp_path / "words.service").write_text(f"[Service]\nExecStart=/bin/echo {words}\n")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "words.service")]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert str(tmp_path) not in said, said
