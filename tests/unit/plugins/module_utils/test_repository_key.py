"""What is put where apt reads keys, and what is not."""

from __future__ import annotations

from pathlib import Path

import openpgp_keys
import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import openpgp, repository_key
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.repository_key import RepositoryKeyError

WANTED = ["BCA4 3417 C3B4 85DD 128E  C6D4 B7B3 B788 A8D3 785C"]
MYSQL = openpgp_keys.OF_MYSQL.encode()
RIGHT = openpgp.armored(openpgp.dearmored(MYSQL))


@pytest.fixture
def apt(tmp_path) -> Path:
    return tmp_path / "keyrings/mysql.asc"


@pytest.fixture
def key(tmp_path) -> Path:
    """The file that the address gives."""
    file = tmp_path / "key"
    file.write_bytes(MYSQL)
    return file


def put(key: Path, apt: Path, wanted=WANTED, check_mode: bool = False) -> bool:
    return repository_key.put(key.as_uri(), str(apt), wanted, check_mode)


def test_the_right_key_is_put_in_place_once(key, apt):
    assert put(key, apt, check_mode=True)
    assert not apt.exists()
    assert put(key, apt)
    assert apt.read_bytes() == RIGHT
    assert apt.stat().st_mode & 0o777 == 0o644
    key.unlink()
    assert not put(key, apt)
    assert sorted(apt.parent.iterdir()) == [apt]


def test_a_binary_file_holds_binary_keys(key, tmp_path):
    apt = tmp_path / "mysql.gpg"
    assert put(key, apt)
    assert apt.read_bytes() == openpgp.dearmored(MYSQL)
    assert not put(key, apt)


@pytest.mark.parametrize("check_mode", [False, True])
def test_nothing_of_another_key_is_left(key, apt, check_mode):
    key.write_bytes(openpgp_keys.OTHER)
    said = (
        f"mysql_replication_apt_repository.fingerprints: what {key.as_uri()} gives holds the key "
        f"{openpgp_keys.FINGERPRINT_OF_OTHER}, not {openpgp_keys.FINGERPRINT_OF_MYSQL} alone; nothing of it was kept"
    )
    with pytest.raises(RepositoryKeyError, match=said):
        put(key, apt, check_mode=check_mode)
    assert not apt.parent.exists()


def test_another_key_that_is_there_goes_even_if_the_right_one_cannot_be_had(key, apt):
    apt.parent.mkdir()
    apt.write_bytes(openpgp.armored(openpgp_keys.OTHER))
    assert put(key, apt, check_mode=True)
    assert apt.exists()
    key.unlink()
    with pytest.raises(RepositoryKeyError, match=r"signed_by: file://.* cannot be fetched: .*; give an address"):
        put(key, apt)
    assert not apt.exists()


def test_a_file_from_before_is_held_to_the_same_without_fetching(key, apt):
    apt.parent.mkdir()
    apt.write_bytes(b"of the year before\n" + MYSQL)
    key.unlink()
    assert put(key, apt)
    assert apt.read_bytes() == RIGHT


def test_a_key_that_was_added_by_hand_is_noticed(key, apt):
    put(key, apt)
    apt.write_bytes(openpgp.armored(openpgp.dearmored(MYSQL) + openpgp_keys.OTHER))
    assert put(key, apt)
    assert apt.read_bytes() == RIGHT


def test_an_endless_key_is_not_read_to_its_end(key, apt):
    key.write_bytes(bytes(repository_key.MOST_BYTES + 1))
    with pytest.raises(RepositoryKeyError, match="more than 1048576 bytes, so it is no key"):
        put(key, apt)


def test_an_address_that_gives_a_byte_now_and_then_is_not_waited_for(dripping, apt, monkeypatch):
    monkeypatch.setattr(repository_key, "LONGEST_S", 0.3)
    with pytest.raises(RepositoryKeyError, match=r"cannot be fetched: not complete after 0.3 s"):
        repository_key.put(dripping, str(apt), WANTED, False)
