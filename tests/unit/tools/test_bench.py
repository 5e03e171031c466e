"""What `make bench` makes of its measurements."""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bench():
    loader = importlib.machinery.SourceFileLoader("bench", str(PROJECT / "tools/bench"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
    sys.modules["bench"] = module
    loader.exec_module(module)
    yield module
    del sys.modules["bench"]


@pytest.mark.parametrize(
    ("limits", "value", "verdict"),
    [
        ({"most": 2}, 2.0, "met"),
        ({"most": 2}, 2.01, "MISSED"),
        ({"least": 0.8}, 0.8, "met"),
        ({"least": 0.8}, 0.79, "MISSED"),
        ({"least": 0.8}, None, "not measured"),
    ],
)
def test_a_goal_is_met_or_missed(bench, limits, value, verdict):
    goal = bench.Goal("a figure", value, **limits)
    assert goal.verdict == verdict
    assert goal.row().endswith(verdict)


def test_a_ratio_of_nothing_is_nothing(bench):
    assert bench.ratio(3.0, 2.0) == 1.5
    assert bench.ratio(None, 2.0) is None
    assert bench.ratio(3.0, None) is None
    assert bench.median([]) is None


def test_a_series_shows_all_of_it(bench):
    assert bench.spread("cold", [3.0, 1.0, 2.0], "s").split() == ["cold", "2.0", "s", "n=3", "(3.0,", "1.0,", "2.0)"]
    assert bench.spread("cold", [], "s").endswith("not measured")


def test_requests_per_second_count_only_without_failures(bench):
    said = "  1200 requests in 3.00s, 1.2MB read\nRequests/sec:    400.25\nTransfer/sec:    0.4MB\n"
    assert bench.requests_per_second(said) == 400.25
    for failure in ("  Non-2xx or 3xx responses: 7\n", "  Socket errors: connect 0, read 3, write 0, timeout 0\n"):
        with pytest.raises(ValueError, match=r"7|read 3"):
            bench.requests_per_second(said + failure)


def test_only_what_goes_to_a_host_is_an_execution(bench):
    row = {"what": "execution", "task": "foobar.web_infrastructure.nginx : a", "module": "a.b.apt", "seconds": 1.5}
    rows = [{**row, "local": False}, {**row, "local": True}, {"what": "task", "task": "b", "seconds": 9.0}]
    assert bench.executions(rows) == [("nginx : a [apt]", 1.5)]
    assert bench.slowest([*rows, {"what": "task", "task": "c", "seconds": 10.0}], 1) == [("c", 10.0)]


def test_the_script_gets_the_repository_of_the_inventory(bench, tmp_path, monkeypatch):
    secrets = tmp_path / "secrets.yml"
    secrets.write_text("site_database_password: abc\n")
    monkeypatch.setattr(bench, "SECRETS", secrets)
    folder = tmp_path / "floor"
    folder.mkdir()
    bench.pack(folder)
    assert (folder / "password").read_text() == "abc"
    assert "Pin: release n=sid\nPin-Priority: 50\n\nPackage: mysql-* " in (folder / "pins").read_text()
    assert "Suites: sid\n" in (folder / "sources").read_text()
    assert (folder / "guestbook/requirements.txt").exists()
    assert "log_format json escape=json" in (folder / "log_format.conf").read_text()


def test_the_bare_nginx_logs_what_the_role_logs(bench):
    template = bench.NGINX.read_text()
    logged = bench.access_log(template)
    assert logged.strip().startswith("log_format json ")
    assert logged.strip().endswith(";")
    # What the role's maps make of a request is not there without them.
    known = {"time_iso8601", "remote_addr", "realip_remote_addr", "scheme", "host", "status", "body_bytes_sent"}
    prefixes = ("request", "upstream_", "http_", "server_protocol")
    variables = set(re.findall(r"\$(\w+)", logged))
    assert {name for name in variables - known if not name.startswith(prefixes)} == set()
    written = next(line.strip() for line in template.splitlines() if line.strip().startswith("access_log /"))
    assert written in (PROJECT / "tools/bench.d/floor.sh").read_text()


def test_the_slope_is_that_of_the_nearest_line(bench):
    assert bench.slope([(2, 10.0), (6, 12.0), (12, 15.0)]) == pytest.approx(0.5)
    assert bench.slope([(1, 1.0), (1, 3.0), (3, 4.0), (3, 6.0)]) == pytest.approx(1.5)
    assert bench.slope([(2, 10.0), (2, 11.0)]) is None


def test_executions_are_counted_by_host(bench):
    sent = {"what": "execution", "local": False}
    rows = [
        {**sent, "host": "198.18.0.1"},
        {**sent, "host": "198.18.0.1"},
        {**sent, "host": "198.18.0.2"},
        {**sent, "host": "198.18.0.2", "local": True},
        {"what": "task", "host": "web1"},
    ]
    assert bench.executions_per_host(rows) == {"198.18.0.1": 2, "198.18.0.2": 1}


def test_a_run_that_changes_something_is_no_unchanged_run(bench, monkeypatch):
    rows = [{"what": "task", "task": "a", "state": "ok"}, {"what": "task", "task": "b", "state": "changed"}]
    monkeypatch.setattr(bench, "playbook", lambda name, inventory: (1.0, rows))
    with pytest.raises(SystemExit, match="has changed: b"):
        bench.unchanged_run("playbook.yml")
    rows.pop()
    assert bench.unchanged_run("playbook.yml") == (1.0, rows)


def test_the_inventory_of_the_slope_is_stage_3_elsewhere(bench, tmp_path):
    path = Path(bench.growing_inventory(["foobar-bench-app1", "foobar-bench-app2"], tmp_path))
    tiers = yaml.safe_load(path.read_text())["all"]["children"]
    stage = yaml.safe_load((PROJECT / "inventories/3-scale_up/hosts.yml").read_text())["all"]["children"]
    assert tiers.keys() == stage.keys()
    assert tiers["appservers"]["hosts"]["foobar-bench-app2"] == {"ansible_host": "198.18.0.152"}
    theirs = {host["ansible_host"] for tier in stage.values() for host in tier["hosts"].values()}
    ours = {address for tier in bench.FIXED_HOSTS.values() for address in tier.values()}
    ours |= {*bench.APPLICATION_HOSTS.values(), bench.VIP, *bench.ADDRESS.values()}
    assert not ours & theirs
    site = yaml.safe_load((tmp_path / "group_vars/all/site.yml").read_text())
    original = yaml.safe_load((PROJECT / "inventories/3-scale_up/group_vars/all/site.yml").read_text())
    assert site == {**original, "site_vip": bench.VIP}


def test_each_size_starts_only_the_hosts_that_are_missing(bench, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(bench, "GROWING_INVENTORY", tmp_path)
    monkeypatch.setattr(bench, "growing_inventory", lambda names: f"{len(names)}.yml")
    monkeypatch.setattr(bench, "containers", lambda state, inventory, *rest: started.append(Path(inventory).name))
    monkeypatch.setattr(bench, "further_applications", lambda names: started.append([name[-2:] for name in names]))
    rows = [{"what": "execution", "local": False, "host": address} for address in ("198.18.0.151", "198.18.0.141")]
    monkeypatch.setattr(bench, "playbook", lambda name, inventory: (2.0, rows))
    monkeypatch.setattr(bench, "check_room", lambda hosts, running, limit: started.append((hosts, running)))
    monkeypatch.setattr(bench, "run", lambda command: "a\nb\n")
    sizes = list(bench.growth(3))
    assert started == [(18, 2), "2.yml", ["p3", "p4", "p5", "p6"], ["p7", "p8", "p9", "10", "11", "12"]]
    assert [(size.applications, size.seconds) for size in sizes] == [(2, [2.0] * 3), (6, [2.0] * 3), (12, [2.0] * 3)]
    assert sizes[0].executions == {"foobar-bench-app1": 1, "foobar-bench-lb1": 1}


def test_more_containers_than_the_kernel_has_room_for_are_refused(bench):
    bench.check_room(18, 3, limit=128)
    with pytest.raises(SystemExit, match=r"18 containers .* beside the 4 .* \(128\) is enough for 21"):
        bench.check_room(18, 4, limit=128)


def test_only_parts_that_there_are_can_be_chosen(bench):
    assert bench.chosen("unchanged,slope") == ["unchanged", "slope"]
    with pytest.raises(argparse.ArgumentTypeError, match="there is no part 'nothing'; there are cold, "):
        bench.chosen("slope,nothing")


def test_the_cached_site_takes_the_place_of_the_wired_one(bench):
    [site] = json.loads(bench.cached_site())["nginx_sites"]
    values = yaml.safe_load((PROJECT / "inventories/0-simple_web_stack/group_vars/all/site.yml").read_text())
    application = yaml.safe_load((PROJECT / "playbooks/vars/site.yml").read_text())["__first_application"]
    assert site["name"] == values["site_domain"]
    assert {location["upstream"] for location in site["locations"]} == {application["upstream"]}
