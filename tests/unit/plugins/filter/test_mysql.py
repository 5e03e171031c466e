"""Filters that compute what templates and tasks cannot."""

from __future__ import annotations

import fnmatch
import ipaddress
import socket

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.ansible.mysql.plugins.module_utils.implementations.mysql.hash import (
    mysql_sha256_password_hash,
)
from ansible_collections.foobar.web_infrastructure.plugins.filter.mysql import (
    mysql_account_host,
    mysql_option,
    mysql_password_changes,
    mysql_rights,
)

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


@pytest.mark.parametrize(
    ("place", "granted"),
    [
        ("web_shop.*", r"web\_shop.*"),
        (r"web\_shop.*", r"web\_shop.*"),
        # Only for all tables of a database its name is a pattern.
        ("web_shop.order_items", "web_shop.order_items"),
        ("*.*", "*.*"),
    ],
)
def test_a_name_of_a_database_means_that_one_alone(place, granted):
    assert mysql_rights({place: ["SELECT", "INSERT"]}) == {granted: "SELECT,INSERT"}


def test_a_server_that_knows_no_patterns_gets_names_as_they_are():
    assert mysql_rights({"web_shop.*": ["SELECT"]}, literal=True) == {"web_shop.*": "SELECT"}


def test_who_has_no_right_may_log_in():
    assert mysql_rights({}) == {"*.*": "USAGE"}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "ON"),
        (False, "OFF"),
        (0, "0"),
        ("256M", "256M"),
        ("SET @a = '#'", "\"SET @a = '#'\""),
        ('say "#1"', r'"say \"#1\""'),
        (" x", '" x"'),
        (r"C:\temp", r"C:\\temp"),
    ],
)
def test_an_option_is_read_as_it_was_meant(value, written):
    assert mysql_option(value) == written


@pytest.mark.parametrize(
    ("network", "host"),
    [
        ("fd5a:f00b:a5::/64", "fd5a:f00b:a5:%"),
        ("2001:db8:0:1::/64", "2001:db8:0:1:%"),
        ("2001:db8:0:0:1::/80", "2001:db8:%"),
        ("2001:db8:7:8:9:a::/96", "2001:db8:7:8:9:a:%"),
        ("fd00:1234:5670::/44", "fd00:1234:%"),
    ],
)
def test_a_network_of_ipv6_is_what_its_addresses_begin_with(network, host):
    """As the C library writes them, which MySQL compares."""
    assert mysql_account_host(network) == host
    numbers = ipaddress.ip_network(network)
    for offset in (0, 1, 0x41, 0x10000, 0x100000001, 0x1000200000003, 0xFFFFFFFF):
        if offset >= numbers.num_addresses:
            continue
        text = socket.inet_ntop(socket.AF_INET6, (numbers.network_address + offset).packed)
        assert fnmatch.fnmatchcase(text, host.replace("%", "*")), text


@pytest.mark.parametrize("host", ["localhost", "198.18.0.0/24", "198.18.0.41", "fd5a:f00b:a5::41", "fd5a:%", "%"])
def test_whatever_mysql_knows_stays_as_it_is(host):
    assert mysql_account_host(host) == host


@pytest.mark.parametrize("network", ["::/0", "fc00::/7", "::ffff:0:0/96", "fd5a::41/64"])
def test_a_network_without_a_common_beginning_is_refused(network):
    with pytest.raises(AnsibleFilterError, match="no beginning in common|has host bits set"):
        mysql_account_host(network)
