# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which OpenPGP keys a file holds. A bare Debian has no program that says it: 12 brings gpgv only, 13 sqv.

Format: https://www.rfc-editor.org/rfc/rfc9580
"""

from __future__ import annotations

import base64
import binascii
import collections
import hashlib
import itertools
from collections.abc import Collection, Iterator

SIGNATURE, PRIMARY, TRUST, USER_ID, SUBKEY, USER_ATTRIBUTE = 2, 6, 12, 13, 14, 17
OF_KEYS = (SIGNATURE, PRIMARY, TRUST, USER_ID, SUBKEY, USER_ATTRIBUTE)
BEGIN, END = b"-----BEGIN PGP PUBLIC KEY BLOCK-----", b"-----END PGP PUBLIC KEY BLOCK-----"
# What Base64 ends before: a checksum that nobody has to write, or the end of the block.
AFTER = (b"=", b"-----")
LINE = 64


class KeyFileError(ValueError):
    """What is wrong with a file of keys."""


def proved(content: bytes, wanted: Collection[str]) -> bytes:
    """Return the keys of a file in binary form.

    Args:
        content: armored or binary.
        wanted: fingerprints of the primary keys that it may hold, as plain() returns them.

    Raises:
        KeyFileError: it holds no key, another one, or what no program reads in one way only.
    """
    keys = dearmored(content)
    found = fingerprints(keys)
    if others := [one for one in found if one not in wanted]:
        raise KeyFileError(f"holds the key {', '.join(others)}, not {' or '.join(wanted)} alone")
    if not found:
        raise KeyFileError("holds no OpenPGP key")
    return keys


def plain(fingerprint: str) -> str:
    """A fingerprint without the spaces that people read it by."""
    return "".join(fingerprint.split()).upper()


def armored(keys: bytes) -> bytes:
    text = base64.b64encode(keys)
    lines = [text[begin : begin + LINE] for begin in range(0, len(text), LINE)]
    return b"\n".join([BEGIN, b"", *lines, END, b""])


def dearmored(content: bytes) -> bytes:
    """The binary form of all keys; text around them is dropped."""
    if BEGIN not in content:
        return content
    keys, lines = b"", iter(content.splitlines())
    try:
        for line in lines:
            if line.strip() == BEGIN:
                collections.deque(itertools.takewhile(bytes.strip, lines), maxlen=0)
                text = itertools.takewhile(lambda line: not line.startswith(AFTER), lines)
                keys += base64.b64decode(b"".join(map(bytes.strip, text)), validate=True)
    except binascii.Error:
        raise KeyFileError("is damaged: its Base64 cannot be read") from None
    return keys


def fingerprints(keys: bytes) -> list[str]:
    """Those of the primary keys of a binary file."""
    found = []
    for kind, body in _packets(keys):
        if kind not in OF_KEYS:
            raise KeyFileError(f"holds what belongs to no public key (packet {kind})")
        if kind == PRIMARY:
            if body[:1] != b"\x04":
                raise KeyFileError("holds a key of another version than 4")
            # A fingerprint names a key and hides nothing: nobody can make another key for a given one.
            made = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False)
            found.append(made.hexdigest().upper())
    return found


def _packets(keys: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body. Lengths that end somewhere are the only ones that every program reads alike."""
    place = 0
    while place < len(keys):
        first = keys[place]
        if not first & 0x80:
            raise KeyFileError("holds no OpenPGP key")
        if first & 0x40:
            kind, size, head = first & 0x3F, *_new_length(keys, place + 1)
        else:
            kind, octets = first >> 2 & 0x0F, 1 << (first & 0x03)
            if octets == 8:
                raise KeyFileError("holds a packet without a length")
            size, head = int.from_bytes(keys[place + 1 : place + 1 + octets], "big"), octets
        begin = place + 1 + head
        place = begin + size
        if place > len(keys):
            raise KeyFileError("is damaged: it ends too early")
        yield kind, keys[begin:place]


def _new_length(keys: bytes, place: int) -> tuple[int, int]:
    """A length in the newer form, and how many octets it takes."""
    octets = keys[place : place + 5]
    first = octets[0] if octets else 0
    if 224 <= first < 255:
        raise KeyFileError("holds a packet in parts")
    if first == 255:
        return int.from_bytes(octets[1:], "big"), 5
    if first >= 192:
        return ((first - 192) << 8) + int.from_bytes(octets[1:2], "big") + 192, 2
    return first, 1
