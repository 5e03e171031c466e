"""What `make bench` makes of its measurements."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


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
