"""Addresses of databases, as SQLAlchemy and PyMySQL read them."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.foobar.web_infrastructure.plugins.filter.database import database_url
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.engine import make_url

LOGIN = {"user": "u", "password": "p", "name": "d"}
PLACE = {"host": "127.0.0.1", "port": 3306, "tls": True}
SOCKET = {"host": "localhost", "port": 3306, "socket": "/run/mysqld/mysqld.sock"}
ALL_SIGNS = "".join(map(chr, range(32, 127)))


def arguments(**database: object) -> dict:
    """What the driver is called with."""
    return MySQLDialect_pymysql().create_connect_args(make_url(database_url(database)))[1]


@pytest.mark.parametrize("word", [ALL_SIGNS, "a/b+c=", "%2F", "ü"])
def test_any_character_of_user_and_password_arrives(word):
    found = arguments(user=word, password=word, name="web_shop-1$", **PLACE)
    assert (found["user"], found["password"], found["database"]) == (word, word, "web_shop-1$")
    assert (found["host"], found["port"]) == ("127.0.0.1", 3306)


def test_tls_is_the_drivers_own_option():
    assert arguments(**LOGIN, **PLACE)["ssl"] == {"check_hostname": False}
    assert "ssl" not in arguments(**LOGIN, **(PLACE | {"tls": False}))


def test_the_database_of_the_same_host_is_reached_through_its_socket():
    found = arguments(**LOGIN, **SOCKET)
    assert (found["unix_socket"], "ssl" in found) == ("/run/mysqld/mysqld.sock", False)


def test_an_address_of_ipv6_stands_in_brackets():
    assert arguments(**LOGIN, host="::1", port=3306)["host"] == "::1"


def test_what_is_missing_is_named():
    with pytest.raises(AnsibleFilterError, match="user is missing"):
        database_url({"host": "h"})
