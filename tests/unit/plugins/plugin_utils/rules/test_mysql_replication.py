"""Every sentence of the rules of mysql_replication, each broken once."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import mysql_replication, roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import RoleValues, lines

ADDRESSES = {"db1": "192.0.2.1", "db2": "192.0.2.2"}
FACTS = {"memtotal_mb": 4000, "distribution_release": "bookworm"}
SERVER = {
    "mysql_replication_mode": "standalone",
    "mysql_replication_port": 3306,
    "mysql_replication_check_port": 9200,
    "mysql_replication_check_clients": ["192.0.2.7/24", "fd5a::/64", "::ffff:192.0.2.7", "monitoring.example.com"],
    "mysql_replication_service_check_clients": ["192.0.2.31", "app1"],
    "mysql_replication_apt_repository": {},
    "mysql_replication_memory_percent": 50,
    "mysql_replication_buffer_pool_mb": 0,
    "mysql_replication_user": "replication",
    "mysql_replication_bind_address": "127.0.0.1",
    "mysql_replication_address": "192.0.2.1",
    "mysql_replication_server_id": 0,
    "mysql_replication_databases": [{"name": "guestbook"}],
    "mysql_replication_service_databases": [{"name": "wired"}],
    "mysql_replication_users": [{"name": "guestbook", "host": "192.0.2.0/24", "password": "x"}],
    "mysql_replication_service_users": [{"name": "wired", "password": "x"}],
}
MEMBER = SERVER | {
    "mysql_replication_mode": "source_replica",
    "mysql_replication_members": ADDRESSES,
    "mysql_replication_network": "192.0.2.0/24",
    "mysql_replication_password": "x",
    "mysql_replication_bind_address": "127.0.0.1, 192.0.2.1",
}
REPOSITORY = {"name": "x", "uris": ["y"], "suites": ["bookworm"], "signed_by": "/z"}


def found(values: dict, facts: dict | None = FACTS, hostvars: dict | None = None) -> list[str]:
    hostvars = {"db1": {}, "db2": {}} if hostvars is None else hostvars
    return lines(roles.find_mistakes("mysql_replication", RoleValues("db1", values, facts, hostvars)))


def user(**changes: object) -> dict:
    return {"mysql_replication_users": [{"name": "u", "password": "x"} | changes]}


# The sentence, what breaks it, and the values that it is broken in.
ROWS = [
    (
        "mysql_replication_apt_repository (on db1): suites is missing; give it, or {} for the host's own repositories",
        {"mysql_replication_apt_repository": {"name": "x", "uris": ["y"], "signed_by": "z"}},
        SERVER,
    ),
    (
        "mysql_replication_apt_repository.fingerprints (on db1): whatever key https://x gives would be trusted; "
        "give that of the key, as its makers publish it",
        {"mysql_replication_apt_repository": REPOSITORY | {"signed_by": "https://x"}},
        SERVER,
    ),
    (
        "mysql_replication_apt_repository.fingerprints (on db1): 'A8D3785C' is no fingerprint; "
        "give all 40 hexadecimal digits, such as BCA4 3417 C3B4 85DD 128E C6D4 B7B3 B788 A8D3 785C",
        {"mysql_replication_apt_repository": REPOSITORY | {"signed_by": "https://x", "fingerprints": ["A8D3785C"]}},
        SERVER,
    ),
    (
        "mysql_replication_apt_repository.fingerprints (on db1): only a key that is fetched is held to them; "
        "leave them out, or give signed_by as the address of the key",
        {"mysql_replication_apt_repository": REPOSITORY | {"fingerprints": [40 * "A"]}},
        SERVER,
    ),
    (
        "mysql_replication_apt_repository (on db1): db1 is Debian bookworm, and MySQL of sid needs a newer C library; "
        "take Debian 13 for it, or MySQL's own repository, which is the default",
        {"mysql_replication_apt_repository": {"name": "x", "uris": ["y"], "signed_by": "z", "suites": ["sid"]}},
        SERVER,
    ),
    (
        "mysql_replication_users (on db1): u@localhost is listed twice; keep one",
        {
            "mysql_replication_users": [
                {"name": "u", "password": "x"},
                {"name": "u", "host": "localhost", "password": "x"},
            ]
        },
        SERVER,
    ),
    (
        "mysql_replication_users (on db1): 'root' is an account of the server's own; choose another name",
        user(name="root"),
        SERVER,
    ),
    (
        "mysql_replication_users (on db1): 'mysql_replication_check' is an account of this role's own; "
        "choose another name",
        user(name="mysql_replication_check"),
        SERVER,
    ),
    (
        "mysql_replication_users (on db1): 'replication' is an account of this role's own; choose another name",
        user(name="replication"),
        MEMBER,
    ),
    ("mysql_replication_users (on db1): the password of u is empty; give it one", user(password=""), SERVER),
    (
        "mysql_replication_users (on db1): the host 'app.example' of u is a name, and names are not resolved; "
        "give localhost (the socket), an address or a network such as 198.18.0.0/24",
        user(host="app.example"),
        SERVER,
    ),
    (
        "mysql_replication_users (on db1): the host of u: the addresses of ::/0 have no beginning in common, by which "
        "MySQL could know them; give a network such as fd5a:f00b:a5::/64",
        user(host="::/0"),
        SERVER,
    ),
    (
        "mysql_replication_databases (on db1): 'd' is listed twice; keep one",
        {"mysql_replication_databases": [{"name": "d"}, {"name": "d"}]},
        SERVER,
    ),
    (
        "mysql_replication_databases (on db1): 'mysql' belongs to the server; choose another name",
        {"mysql_replication_service_databases": [{"name": "mysql"}]},
        SERVER,
    ),
    *(
        (
            f"mysql_replication_databases (on db1): '{name}' is no name for a database; "
            "letters, digits, $, _ and -, at most 64 of them",
            {"mysql_replication_databases": [{"name": name}]},
            SERVER,
        )
        for name in ("web.shop", "web%", "a b", "-x", "x" * 65)
    ),
    (
        f"mysql_replication_users (on db1): '{'u' * 40}' has 40 characters; MySQL takes 32 at most",
        user(name="u" * 40),
        SERVER,
    ),
    *(
        (
            f"mysql_replication_users (on db1): {name!r} is no name for an account; leave out spaces, quotes, "
            "commas and the signs ; @ % \\",
            user(name=name),
            SERVER,
        )
        for name in ("shop,mysql.sys", "shop@localhost", "a b", "a'b", "a\\b")
    ),
    (
        "mysql_replication_user (on db1): 'a,b' is no name for an account; leave out spaces, quotes, commas and the "
        "signs ; @ % \\",
        {"mysql_replication_user": "a,b"},
        MEMBER,
    ),
    (
        f"mysql_replication_user (on db1): '{'r' * 33}' has 33 characters; give it 1 to 32",
        {"mysql_replication_user": "r" * 33},
        MEMBER,
    ),
    *(
        (
            f"mysql_replication_users (on db1): '{place}' in the privileges of u names no database and table; "
            "write guestbook.* or guestbook.entries; each database by its name, not as a pattern",
            user(privileges={place: ["SELECT"]}),
            SERVER,
        )
        for place in ("web%.*", "guestbook", "web.shop.*")
    ),
    (
        "mysql_replication_options (on db1): the value of init_connect has a line break; an option is one line",
        {"mysql_replication_options": {"init_connect": "SET @a = 1\nlog_bin"}},
        SERVER,
    ),
    (
        "mysql_replication_password (on db1): it has characters that the members' driver sends in another way than "
        "MySQL stores them; take letters, digits and signs of ASCII",
        {"mysql_replication_password": "pässword"},
        MEMBER,
    ),
    (
        "mysql_replication_memory_percent (on db1): 90 is not between 1 and 80; give a share of the host's memory",
        {"mysql_replication_memory_percent": 90},
        SERVER,
    ),
    (
        "mysql_replication_buffer_pool_mb (on db1): 3700 MB do not fit into the 4000 MB of db1; "
        "give less, or 0 for a share",
        {"mysql_replication_buffer_pool_mb": 3700},
        SERVER,
    ),
    (
        "mysql_replication_check_port (on db1): 3306 is the port of MySQL too; give the role check one of its own",
        {"mysql_replication_check_port": 3306},
        MEMBER,
    ),
    *(
        (
            f"{name} (on db1): '{client}' is neither an address nor a network nor the name of a host; "
            "write one such as 192.0.2.7, 192.0.2.0/24 or monitoring.example.com",
            {name: [client]},
            SERVER,
        )
        for name, client in (
            ("mysql_replication_check_clients", "192.0.2.256"),
            ("mysql_replication_check_clients", "192.0.2.0/33"),
            ("mysql_replication_check_clients", "192.0.2.0/255.255.255.0"),
            ("mysql_replication_check_clients", "monitoring.example.com:9200"),
            ("mysql_replication_check_clients", "fe80::1%eth0"),
            ("mysql_replication_check_clients", ""),
            ("mysql_replication_service_check_clients", "app 1"),
        )
    ),
    (
        "mysql_replication_members (on db1): a source and a replica are needed; it lists db1; list all members",
        {"mysql_replication_members": {"db1": "192.0.2.1"}},
        MEMBER,
    ),
    (
        "mysql_replication_members (on db1): db9 is no host of the inventory; give its name there",
        {"mysql_replication_members": ADDRESSES | {"db9": "192.0.2.9"}},
        MEMBER,
    ),
    (
        "mysql_replication_members (on db1): db1 is not in it with its own address; "
        "db1 has to be in it with the address 192.0.2.1 (mysql_replication_address)",
        {"mysql_replication_members": {"db1": "192.0.2.7", "db2": "192.0.2.2"}},
        MEMBER,
    ),
    (
        "mysql_replication_members (on db1): 192.0.2.1 is listed twice; each member has an address of its own",
        {"mysql_replication_members": {"db1": "192.0.2.1", "db2": "192.0.2.1"}, "mysql_replication_server_id": 7},
        MEMBER,
    ),
    (
        "mysql_replication_members (on db1): 'db.example' is a name, and names are not resolved; give an address",
        {"mysql_replication_members": {"db1": "192.0.2.1", "db2": "db.example"}},
        MEMBER,
    ),
    (
        "mysql_replication_password (on db1): the account of replication has none, or one of more than 32 characters; "
        "give the account of replication a password of 1 to 32 characters, from Ansible Vault",
        {"mysql_replication_password": "x" * 33},
        MEMBER,
    ),
    (
        "mysql_replication_network (on db1): '192.0.2.1' is no network; "
        "give the one that the members are in, such as 198.18.0.0/24",
        {"mysql_replication_network": "192.0.2.1"},
        MEMBER,
    ),
    (
        "mysql_replication_network (on db1): the addresses of fc00::/7 have no beginning in common, by which MySQL "
        "could know them; give the one that the members are in, such as fd5a:f00b:a5::/64",
        {"mysql_replication_network": "fc00::/7"},
        MEMBER,
    ),
    (
        "mysql_replication_network (on db1): 192.0.2.0/31 does not contain db2 (192.0.2.2); "
        "give the one that all members are in",
        {"mysql_replication_network": "192.0.2.0/31"},
        MEMBER,
    ),
    (
        "mysql_replication_bind_address (on db1): the other members cannot reach 127.0.0.1; add 192.0.2.1",
        {"mysql_replication_bind_address": "127.0.0.1"},
        MEMBER,
    ),
]


@pytest.mark.parametrize("values", [SERVER, MEMBER])
def test_sound_variables_have_no_mistake(values):
    assert found(values) == []
    assert found(values, facts=None, hostvars={}) == []


@pytest.mark.parametrize(("sentence", "changes", "values"), ROWS, ids=[row[0].partition(";")[0] for row in ROWS])
def test_each_mistake_has_its_sentence(sentence, changes, values):
    assert found(values | changes) == [sentence]


@pytest.mark.parametrize("place", ["*.*", "web_shop.*", "web\\_shop.*", "web-shop.orders", "FUNCTION shop.price"])
def test_databases_and_tables_may_be_named_in_privileges(place):
    assert found(SERVER | user(privileges={place: ["SELECT"]})) == []


def test_equal_server_ids_are_named_with_the_members():
    hostvars = {"db1": {}, "db2": {"mysql_replication_server_id": 7}}
    assert found(MEMBER | {"mysql_replication_server_id": 7}, hostvars=hostvars) == [
        "mysql_replication_server_id (on db1): db1 and db2 have the same, 7; "
        "give each one of its own, or 0 to make it of the address"
    ]


def test_a_member_that_is_no_host_is_never_looked_up():
    """Ansible's mapping of hosts raises where a dictionary has a default."""

    class Hosts(dict):
        def get(self, name: str, default: object = None) -> object:
            return self[name]

    values = MEMBER | {"mysql_replication_members": ADDRESSES | {"db9": "192.0.2.9"}}
    assert len(found(values, hostvars=Hosts(db1={}, db2={}))) == 1


def test_every_rule_is_broken_by_a_test():
    broken = set()
    for _, changes, values in [*ROWS, ("", {"mysql_replication_server_id": 7}, MEMBER)]:
        everywhere = {"db1": {}, "db2": {"mysql_replication_server_id": 7}}
        checked = RoleValues("db1", values | changes, FACTS, everywhere)
        broken |= {rule for rule in mysql_replication.RULES if list(rule(checked))}
    assert set(mysql_replication.RULES) - broken == set()


def test_an_entry_of_the_operator_replaces_the_wired_one():
    assert found(SERVER | {"mysql_replication_databases": [{"name": "wired"}]}) == []
    assert found(SERVER | user(name="wired")) == []


def test_no_secret_is_shown():
    values = MEMBER | user(**{"name": "root", "password": "canary"}) | {"mysql_replication_password": "canary" * 8}
    assert found(values) != []
    assert "canary" not in " ".join(found(values))


ODD = [None, "", "text", 0, -1, 1.5, True, [], [None], ["x"], [{}], [{"name": None}], {}, {"x": None}, {"name": ["x"]}]


@pytest.mark.parametrize("name", sorted(MEMBER))
def test_no_rule_raises_on_values_of_any_type(name):
    for value, facts in itertools.product(ODD, (None, {}, {"memtotal_mb": "x"})):
        found(MEMBER | {name: value}, facts)
    found({key: value for key, value in MEMBER.items() if key != name})
    for value in ODD:
        found(MEMBER, hostvars={"db2": {"mysql_replication_server_id": value}})
