"""A word of a unit is one word to systemd, with the text that was meant."""

from __future__ import annotations

import re

from ansible_collections.foobar.web_infrastructure.plugins.filter.systemd import systemd_word
from hypothesis import given
from hypothesis import strategies as st

ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}
TEXTS = st.one_of(
    st.text("ab \"'\\$%;#\n\t{}x0", max_size=20), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)


def read_words(line: str) -> list[str]:
    """The words of a line, systemd.syntax(7): quotes part and join nothing here, escapes are C's."""
    words, quote, here = [], "", ""
    signs, inside = iter(line), False
    for sign in signs:
        if sign == "\\":
            escape = next(signs)
            here += chr(int(next(signs) + next(signs), 16)) if escape == "x" else ESCAPES[escape]
        elif sign == quote:
            quote = ""
        elif not quote and sign in "\"'":
            quote, inside = sign, True
        elif not quote and sign in " \t\n\r":
            words += [here] if here or inside else []
            here, inside = "", False
        else:
            here += sign
    assert not quote
    return words + ([here] if here or inside else [])


def read_specifiers(text: str) -> str:
    assert re.fullmatch(r"([^%]|%%)*", text, re.S), text
    return text.replace("%%", "%")


@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_words_of_a_command_are_the_texts(texts):
    line = " ".join(systemd_word(text) for text in texts)
    found = [read_specifiers(word) for word in read_words(line)]
    assert all(re.fullmatch(r"([^$]|\$\$)*", word, re.S) for word in found)
    assert [word.replace("$$", "$") for word in found] == texts


@given(TEXTS)
def test_a_word_of_a_list_is_the_text(text):
    assert [read_specifiers(word) for word in read_words(systemd_word(text, command=False))] == [text]


@given(TEXTS)
def test_a_word_is_one_line_and_ends_no_command(text):
    word = systemd_word(text)
    # What ends a line for systemd, src/basic/fileio.c.
    assert not set(word) & set("\n\r\0")
    assert word != ";"
