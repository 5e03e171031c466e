"""Filters that compute what templates and tasks cannot."""

from __future__ import annotations

from ansible_collections.ansible.mysql.plugins.module_utils.implementations.mysql.hash import (
    mysql_sha256_password_hash,
)
from ansible_collections.foobar.web_infrastructure.plugins.filter.mysql import mysql_password_changes

SALT = "0123456789abcdefghi\x01"


def account(password: str, user: str = "web", host: str = "localhost", has_two: int = 0) -> dict:
    stored = mysql_sha256_password_hash(password, SALT)
    return {"user": user, "host": host, "hash": stored, "salt": SALT, "has_two": has_two}


def test_only_another_password_is_replaced_and_with_the_salt_that_is_kept():
    users = [{"name": "web", "password": "new"}, {"name": "job", "host": "DB.example", "password": "same"}]
    accounts = [account("old"), account("same", "job", "db.example")]
    found = mysql_password_changes(users, accounts)
    wanted = mysql_sha256_password_hash("new", SALT)
    assert found == {"replaced": [["web", "localhost", wanted]], "doubled": [["web", "localhost"]]}


def test_an_old_password_that_counts_is_not_replaced_by_one_that_never_did():
    found = mysql_password_changes([{"name": "web", "password": "new"}], [account("old", has_two=1)])
    assert found == {"replaced": [], "doubled": [["web", "localhost"]]}


def test_accounts_that_are_new_or_without_such_a_password_are_left_out():
    users = [{"name": "web", "password": "new"}, {"name": "other", "password": "new"}]
    accounts = [account("old") | {"hash": "", "salt": ""}, account("old", "other", "198.18.0.1")]
    assert mysql_password_changes(users, accounts) == {"replaced": [], "doubled": []}
