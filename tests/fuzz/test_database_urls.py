"""The address of a database says to SQLAlchemy what was put into it."""

from __future__ import annotations

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.database_url import database_url
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

TEXTS = st.one_of(
    st.text("ab:/@?#[]%& +$\"'\\", min_size=1, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
)
NAMES = st.from_regex(r"[0-9A-Za-z$_][0-9A-Za-z$_-]{0,20}", fullmatch=True)
HOSTS = st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z][a-z0-9-]{0,9}(\.[a-z]{2,5})?", fullmatch=True))


@given(TEXTS, TEXTS, NAMES, HOSTS, st.integers(1, 65535), st.booleans())
def test_a_server_in_the_network(user, password, name, host, port, tls):
    where = {"name": name, "host": host, "port": port, "tls": tls}
    url = make_url(database_url({"user": user, "password": password, **where}))
    assert (url.username, url.password, url.database) == (user, password, name)
    assert (url.host, url.port, url.drivername) == (host, port, "mysql+pymysql")
    assert dict(url.query) == ({"ssl_check_hostname": "false"} if tls else {})


@given(TEXTS, TEXTS, NAMES, st.from_regex(r"/[a-z0-9 &?#%+=/]{1,20}", fullmatch=True))
def test_a_server_behind_a_socket(user, password, name, socket):
    url = make_url(database_url({"user": user, "password": password, "name": name, "socket": socket}))
    assert (url.username, url.password, url.database, url.host) == (user, password, name, "localhost")
    assert dict(url.query) == {"unix_socket": socket}
