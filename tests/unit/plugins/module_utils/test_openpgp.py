"""Which keys a file holds, whoever has written it."""

from __future__ import annotations

from pathlib import Path

import openpgp_keys
import pytest
import yaml
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import openpgp
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.openpgp import KeyFileError

MYSQL = openpgp_keys.OF_MYSQL.encode()
VARS = Path(__file__).resolve().parents[4] / "roles/mysql_replication/vars/main.yml"


def test_the_default_is_the_key_of_the_reference_manual():
    vendor = yaml.safe_load(VARS.read_text())["__mysql_replication_vendor_repositories"]["Debian"]
    wanted = [openpgp.plain(one) for one in vendor["fingerprints"]]
    assert openpgp.fingerprints(openpgp.proved(MYSQL, wanted)) == wanted == [openpgp_keys.FINGERPRINT_OF_MYSQL]


def test_every_primary_key_counts_and_no_other_packet():
    assert openpgp.fingerprints(openpgp_keys.OTHER) == [openpgp_keys.FINGERPRINT_OF_OTHER]
    both = MYSQL + b"text in between\n" + openpgp.armored(openpgp_keys.OTHER)
    assert openpgp.fingerprints(openpgp.dearmored(both)) == [
        openpgp_keys.FINGERPRINT_OF_MYSQL,
        openpgp_keys.FINGERPRINT_OF_OTHER,
    ]


@pytest.mark.parametrize(
    "content", [MYSQL, MYSQL.replace(b"\n", b"\r\n"), b"\n" + MYSQL.replace(b"\n-----END", b"\n=AbCd\n-----END")]
)
def test_an_armored_key_is_read_however_it_is_written(content):
    binary = openpgp.proved(content, [openpgp_keys.FINGERPRINT_OF_MYSQL])
    assert (
        openpgp.dearmored(openpgp.armored(binary))
        == binary
        == openpgp.proved(binary, [openpgp_keys.FINGERPRINT_OF_MYSQL])
    )


def test_a_second_key_beside_the_wanted_one_is_refused():
    both = openpgp.dearmored(MYSQL) + openpgp_keys.OTHER
    said = f"holds the key {openpgp_keys.FINGERPRINT_OF_OTHER}, not {openpgp_keys.FINGERPRINT_OF_MYSQL} alone"
    with pytest.raises(KeyFileError, match=said):
        openpgp.proved(both, [openpgp_keys.FINGERPRINT_OF_MYSQL])
    assert openpgp.proved(both, [openpgp_keys.FINGERPRINT_OF_MYSQL, openpgp_keys.FINGERPRINT_OF_OTHER]) == both


def packet(kind: int, body: bytes) -> bytes:
    return bytes([0xC0 | kind, 255]) + len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no OpenPGP key"),
        (b"<html>moved</html>", "no OpenPGP key"),
        (openpgp.BEGIN, "no OpenPGP key"),
        (openpgp.BEGIN + b"\n\nA\n" + openpgp.END, "Base64 cannot be read"),
        (packet(13, b"a name alone"), "no OpenPGP key"),
        (packet(5, b"\4secret"), "belongs to no public key .packet 5"),
        (packet(8, b"compressed"), "belongs to no public key .packet 8"),
        (packet(6, b"\6key"), "another version than 4"),
        (packet(6, b"\4key")[:-1], "ends too early"),
        (bytes([0xC0 | 6, 224]), "in parts"),
        (bytes([0x80 | 6 << 2 | 3]) + b"\4key", "without a length"),
        (bytes([0xC0 | 6]), "ends too early"),
    ],
)
def test_what_programs_could_read_in_two_ways_is_no_key(content, said):
    with pytest.raises(KeyFileError, match=said):
        openpgp.proved(content, [openpgp_keys.FINGERPRINT_OF_MYSQL])


def test_all_lengths_of_packets_are_read():
    bodies = [b"\4" + bytes(size) for size in (0, 190, 191, 8382, 8383)]
    heads = [bytes([1]), bytes([191]), bytes([192, 0]), bytes([223, 255]), bytes([255, 0, 0, 0x20, 0xC0])]
    new = [bytes([0xC6]) + head + body for head, body in zip(heads, bodies, strict=True)]
    old = [bytes([0x99]) + len(body).to_bytes(2, "big") + body for body in bodies]
    assert openpgp.fingerprints(b"".join(new)) == openpgp.fingerprints(b"".join(old))


def test_a_file_of_empty_lines_costs_no_time():
    content = openpgp.BEGIN + b"\n" + b" \n" * 500_000
    assert openpgp.dearmored(content) == b""
