"""Any inventory gets its mistakes, one line each, and no secret is in one; the model is built or says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils import topology
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import inventory as preflight
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules import roles
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.model import (
    Inventory,
    RoleValues,
    Unreadable,
)
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.rules.wiring import fixed_values
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.site import OPTIONS, SECRETS
from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.stages import STAGES, TIERS
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from . import values

SPECS = {role: roles.options(role) for role in roles.RULES}
OTHERS = {name for role in roles.RULES for name in roles.all_options(role)}
HOSTS = ["s1", "s2", "lb1", "db1", "vip"]
GROUPS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys([*TIERS, "webserver", "europe"], st.lists(st.sampled_from(HOSTS), max_size=3, unique=True)),
)
KNOWN = {name: values.of(option) for name, option in OPTIONS.items()}
KNOWN |= {name: values.of(option) for options in SPECS.values() for name, option in options.items()}
KNOWN |= {"ansible_host": values.TEXTS, "ansible_port": values.PLAIN, "nginx_sitez": values.ANY, "other": values.ANY}
# Those from which the model is made come more often.
OF_THE_MODEL = [
    *OPTIONS,
    *("ansible_host", "ansible_port", "nginx_sites", "gunicorn_flask_name", "gunicorn_flask_absent"),
    *(f"haproxy_keepalived_{noun}" for noun in ("frontends", "backends", "listens")),
]
USUAL = {
    "site_domain": "www.foobar.com",
    "site_network": "198.18.0.0/24",
    "site_vip": "198.18.0.10",
    "site_database_password": "a-long-and-random-one",
    "site_replication_password": "another-long-and-random-one",
}
VARIABLES = st.lists(st.one_of(st.sampled_from(OF_THE_MODEL), st.sampled_from(sorted(KNOWN))), max_size=5).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: st.one_of(KNOWN[name], KNOWN[name], KNOWN[name], st.just(Unreadable("x"))) for name in names}
    )
)
HOSTVARS = st.tuples(VARIABLES, st.fixed_dictionaries(dict.fromkeys(HOSTS, VARIABLES))).map(
    lambda parts: {
        host: {**USUAL, "ansible_host": f"198.18.0.{number}", **parts[0], **own}
        for number, (host, own) in enumerate(parts[1].items(), 21)
    }
)
MARK = "Zq7v"
STAGE = st.sampled_from(sorted(STAGES))
# One example has hundreds of values.
FEWER = settings(max_examples=settings.default.max_examples // 4)


def inventory_of(stage: str, groups: Mapping[str, list[str]], hostvars: Mapping[str, Mapping[str, Any]]) -> Inventory:
    inventory = Inventory(stage, groups, hostvars, SPECS, {"/srv"}.__contains__, others=OTHERS, given=["nginx_sites"])
    pairs = []
    for role, host in inventory.roles:
        fixed = {name: value for name, (value, _reason) in fixed_values(inventory, host).items()}
        pairs.append((role, RoleValues(host, {**inventory.readable[host], **fixed}, hostvars=hostvars)))
    return inventory.with_role_values(pairs)


@FEWER
@given(STAGE, GROUPS, HOSTVARS)
def test_any_inventory_gets_its_mistakes(stage, groups, hostvars):
    found = preflight.find_mistakes(inventory_of(stage, groups, hostvars))
    assert all(isinstance(line, str) and "; " in line for line in found)
    assert len(found) == len(set(found))


@FEWER
@given(STAGE, GROUPS, HOSTVARS, st.sampled_from(SECRETS), st.sampled_from(["{}", "{}\n", "'{}", "{}\u00e9", " {}"]))
def test_no_secret_is_in_a_sentence(stage, groups, hostvars, name, form):
    for variables in hostvars.values():
        variables[name] = form.format(MARK)
        variables["site_applications"] = [
            {"name": "shop", "database": {"password": form.format(MARK), "user": "shop"}, "domains": "x"}
        ]
        variables["mysql_replication_users"] = [{"name": "shop", "password": form.format(MARK)}]
    assert not [line for line in preflight.find_mistakes(inventory_of(stage, groups, hostvars)) if MARK in line]


@FEWER
@given(STAGE, GROUPS, HOSTVARS)
def test_a_model_is_built_or_says_what_is_wrong(stage, groups, hostvars):
    readable = inventory_of(stage, groups, hostvars).readable
    try:
        model = topology.build(stage, groups, readable)
    except topology.TopologyError as error:
        assert str(error)
        return
    names = {node.name for node in model.nodes}
    assert names == {host for tier in TIERS for host in groups.get(tier, [])}
    for edge in model.edges:
        assert edge.port is None or isinstance(edge.port, int)
        assert isinstance(edge.source, str) and isinstance(edge.destination, str)
    assert topology.listeners(model).keys() == names


@FEWER
@given(STAGE, GROUPS, HOSTVARS)
def test_a_host_has_the_edges_that_the_whole_model_has_for_it(stage, groups, hostvars):
    readable = inventory_of(stage, groups, hostvars).readable
    hosts = [host for tier in TIERS for host in groups.get(tier, [])]
    assume(hosts)
    try:
        model = topology.build(stage, groups, readable)
        found = topology.host_edges(stage, groups, readable, hosts[0])
    except topology.TopologyError:
        return
    whole = {edge.link for edge in model.edges if edge.source == hosts[0] and not edge.added}
    assert whole == {name for name in found["connects"] if not name.startswith(("haproxy_", "nginx_"))}


@FEWER
@given(GROUPS, HOSTVARS, st.one_of(st.text(max_size=9), values.ANY))
def test_another_stage_is_told(groups, hostvars, stage):
    assume(not isinstance(stage, str) or stage not in STAGES)
    try:
        topology.build(str(stage), groups, hostvars)
    except topology.TopologyError as error:
        assert str(error).startswith("site_stage: ")
    else:
        raise AssertionError(stage)
