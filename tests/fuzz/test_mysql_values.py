"""What is computed for MySQL means to it what it means to the operator: hosts of accounts, options, rights."""

from __future__ import annotations

import ipaddress
import re
import socket

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import mysql
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.mysql_replication import DATABASE
from hypothesis import given
from hypothesis import strategies as st

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "s": " ", '"': '"', "'": "'", "\\": "\\"}
# Zeros in a row are what a text leaves out.
GROUPS = st.lists(st.one_of(st.just(0), st.integers(0, 0xFFFF)), min_size=8, max_size=8)
SIX = GROUPS.map(lambda groups: ipaddress.IPv6Address(":".join(f"{group:x}" for group in groups)))


@given(SIX, st.integers(0, 128), st.data())
def test_an_account_knows_every_address_of_its_network(address, length, data):
    network = ipaddress.IPv6Network((address, length), strict=False)
    try:
        pattern = mysql.account_host(str(network))
    except ValueError as error:
        assert "have no beginning in common" in str(error)
        return
    assert pattern.endswith("%") and "%" not in pattern[:-1] and "_" not in pattern
    last = int(network.network_address) + data.draw(st.integers(0, network.num_addresses - 1))
    for number in (int(network.network_address), last, int(network.broadcast_address)):
        # As the server writes an address.
        text = socket.inet_ntop(socket.AF_INET6, number.to_bytes(16, "big"))
        assert text.startswith(pattern[:-1]), (network, pattern, text)


@given(st.one_of(st.ip_addresses().map(str), st.ip_addresses(v=4).map(lambda one: f"{one}/32"), st.just("localhost")))
def test_what_mysql_knows_itself_stays(host):
    assert mysql.account_host(host) == host


@given(st.one_of(st.text(":/0123456789abcdef.%", max_size=20), st.text(max_size=10)))
def test_what_is_no_network_is_told(host):
    try:
        assert isinstance(mysql.account_host(host), str)
    except ValueError as error:
        assert str(error)


def read_option(text: str) -> str:
    """A value of an option file as MySQL reads it, mysys/my_default.cc."""
    quote, escaped, end = "", False, len(text)
    for place, sign in enumerate(text):
        if sign in "\"'" and not escaped:
            quote = sign if not quote else "" if quote == sign else quote
        if not quote and sign == "#":
            end = place
            break
        escaped = bool(quote) and sign == "\\" and not escaped
    text = text[:end].strip(" \t\n\v\f\r")
    if len(text) > 1 and text[0] in "\"'" and text[0] == text[-1]:
        text = text[1:-1]
    return re.sub(r"\\(.)", lambda match: ESCAPES.get(match[1], match[0]), text)


@given(
    st.one_of(st.text("ab \t\"'\\#;=ns%", max_size=12), st.text(st.characters(exclude_characters="\r\n\0"), max_size=9))
)
def test_a_value_of_an_option_is_read_as_it_was_meant(value):
    assert read_option(mysql.option(value)) == value


DATABASES = st.from_regex(DATABASE, fullmatch=True)
PRIVILEGES = st.dictionaries(
    st.tuples(DATABASES, st.sampled_from(["*", "a_table", "entries"])).map(".".join),
    st.lists(st.sampled_from(["SELECT", "INSERT", "ALL"]), min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)


def reaches(pattern: str, name: str) -> bool:
    """Whether a name of a database in GRANT, which is a pattern for all of its tables, means a database."""
    expression = "".join(
        "." if sign == "_" else ".*" if sign == "%" else re.escape(sign[-1])
        for sign in re.findall(r"\\.|.", pattern, re.S)
    )
    return re.fullmatch(expression, name, re.S) is not None


@given(PRIVILEGES, st.booleans(), DATABASES)
def test_rights_reach_the_named_databases_and_no_other(privileges, literal, other):
    databases = {other, other.replace("_", "x"), *(place.rpartition(".")[0] for place in privileges)}
    for place, names in mysql.rights(privileges, literal).items():
        pattern, _, table = place.rpartition(".")
        by_pattern = table == "*" and not literal
        [reached] = [name for name in databases if (reaches(pattern, name) if by_pattern else name == pattern)]
        assert names == ",".join(privileges[f"{reached}.{table}"])


@given(st.ip_addresses().map(str), st.integers(0, 2**32 - 1))
def test_a_server_id_is_32_bits_and_never_none(address, given_id):
    found = mysql.server_id(address, given_id)
    assert 0 < found < 2**32
    assert found == (given_id or mysql.server_id(address))
