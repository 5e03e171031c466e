"""config_tree: which units are up, and what brings up the others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import (
    command,
    model,
    run,
    units,
)
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError

from .conftest import FILES, Death, Host

UNITS = ["app.socket", "app.service"]


def test_units_that_are_up_cost_no_command(host, systemd):
    for unit in UNITS:
        systemd.add(unit)
    host.run(FILES, units=UNITS)
    before = host.snapshot()
    result = host.run(FILES, units=UNITS)
    assert (result["changed"], result["started_units"], systemd.calls) == (False, [], [])
    assert host.snapshot() == before


@pytest.mark.parametrize(
    ("active", "file", "calls"),
    [
        ("inactive", "enabled", ["start app.service"]),
        ("failed", "enabled", ["reset-failed app.service", "start app.service"]),
        ("activating", "enabled", ["start app.service"]),
        ("active", "disabled", ["enable app.service"]),
        ("active", "enabled-runtime", ["enable app.service"]),
        ("active", "linked", ["enable app.service"]),
        ("inactive", "static", ["start app.service"]),
        ("inactive", "indirect", ["start app.service"]),
        ("inactive", "generated", ["start app.service"]),
        ("inactive", "masked", ["unmask app.service", "daemon-reload", "enable app.service", "start app.service"]),
        ("active", "static", []),
        ("active", "alias", []),
    ],
)
def test_a_unit_that_is_not_up_is_brought_up_and_nothing_else_happens(host, systemd, active, file, calls):
    systemd.add("app.socket")
    systemd.add("app.service", "active", "enabled")
    host.run(FILES, units=UNITS)
    systemd.add("app.service", active, file)
    before = host.snapshot()
    lacking = ["app.service"] if calls else []
    predicted = host.run(FILES, units=UNITS, check_mode=True, want_diff=True)
    assert (predicted["changed"], predicted["started_units"], systemd.calls) == (bool(calls), lacking, [])
    assert [diff["before_header"] for diff in predicted["diff"]] == lacking
    result = host.run(FILES, units=UNITS)
    assert (result["changed"], result["started_units"], systemd.calls) == (bool(calls), lacking, calls)
    assert host.snapshot() == before
    assert not host.run(FILES, units=UNITS)["changed"]


def test_a_linked_unit_that_has_nothing_to_enable_is_up(host, systemd):
    Path(systemd.fragment).write_text("[Service]\n")
    systemd.add("app.service", "active", "linked")
    host.run(FILES, units=["app.service"])
    assert not host.run(FILES, units=["app.service"])["changed"] and systemd.calls == []


def test_units_are_started_in_their_order_and_a_socket_before_its_running_service(host, systemd):
    systemd.add("app.socket", "inactive", Triggers="app.service")
    systemd.add("app.service")
    result = host.run(FILES, units=UNITS)
    assert systemd.calls[-3:] == ["stop app.service", "start app.socket", "start app.service"]
    assert result["started_units"] == UNITS


def test_a_mask_is_gone_before_apply_that_would_fail_of_it(host, systemd):
    host.run(FILES)
    systemd.add("app.service", "inactive", "masked")
    seen = []
    run_command = run.run_command

    def apply(argv, timeout):
        seen.append(dict(systemd.units["app.service"]))
        return run_command(argv, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "run_command", apply)
        host.run({"a.conf": "new\n"}, units=["app.service"])
    assert seen[0]["LoadState"] == "loaded"
    assert systemd.units["app.service"]["ActiveState"] == "active"


def test_a_unit_that_apply_brings_is_predicted_and_not_started_twice(host, systemd, monkeypatch):
    assert host.run(FILES, units=["app.service"], check_mode=True)["started_units"] == ["app.service"]
    run_command = run.run_command

    def apply(argv, timeout):
        systemd.add("app.service")
        return run_command(argv, timeout)

    monkeypatch.setattr(run, "run_command", apply)
    assert host.run(FILES, units=["app.service"])["started_units"] == ["app.service"] and systemd.calls == []


def test_a_unit_that_nobody_brings_is_named(host, systemd):
    with pytest.raises(ConfigTreeError, match="configuration is in place, but there is no unit app.service on this"):
        host.run(FILES, units=["app.service"])
    assert host.read() == "one\n" and host.siblings == [] and not host.has(model.PENDING)


@pytest.mark.parametrize(("bad", "said"), [("start", "does not start"), ("later", r"does not stay up \(it is failed")])
def test_a_unit_that_does_not_start_fails_with_its_journal_and_the_tree_stays(host, systemd, bad, said):
    systemd.add("app.service", "inactive", bad=bad)
    for _attempt in range(2):
        with pytest.raises(ConfigTreeError, match=f"app.service {said}.*ends: --unit=app.service: no such option"):
            host.run(FILES, units=["app.service"])
        assert host.read() == "one\n" and host.siblings == [] and not host.has(model.PENDING)


def test_a_run_that_fails_leaves_no_unit_down(host, systemd):
    """The old tree is back, so what runs on it runs; where there was none, what ran before runs."""
    systemd.add("app.service")
    apply = host.params["apply"][2]

    def fail(files):
        with pytest.raises(ConfigTreeError) as error, pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "run_command", stopping)
            host.run(files, units=["app.service", "other.service"])
        return str(error.value)

    def stopping(argv, timeout):
        systemd.units["app.service"]["ActiveState"] = "failed"
        return command.run_command(argv, timeout)

    assert apply in fail({"a.conf": "broken\n"}) and not host.root.exists()
    assert systemd.units["app.service"]["ActiveState"] == "active"
    host.run(FILES)
    systemd.add("other.service", "inactive", "disabled")
    assert "back in place and applied" in fail({"a.conf": "broken\n"})
    assert systemd.units["app.service"]["ActiveState"] == systemd.units["other.service"]["ActiveState"] == "active"
    systemd.add("other.service", "inactive", bad="start")
    message = fail({"a.conf": "broken\n"})
    assert "back in place and applied" in message and "And other.service does not start" in message


def test_units_are_up_after_a_run_that_died_anywhere(reaper, tmp_path, monkeypatch, systemd):
    monkeypatch.setattr(host_lock, "LOCKS", tmp_path / "locks")
    calls = range(1000)
    for step in calls:
        place = tmp_path / f"units-{step}"
        place.mkdir()
        host = Host(place)
        systemd.add("app.socket", "inactive", "masked", Triggers="app.service")
        systemd.add("app.service", "active", "disabled")
        left = [step]

        def command(argv, timeout, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Death
            return systemd.command(argv, timeout)

        with monkeypatch.context() as patch:
            patch.setattr(units, "run_command", command)
            try:
                host.run(FILES, units=UNITS)
                died = False
            except Death:
                died = True
        host.run(FILES, units=UNITS)
        states = {(unit["ActiveState"], unit["UnitFileState"]) for unit in systemd.units.values()}
        assert states == {("active", "enabled")}
        assert not host.run(FILES, units=UNITS)["changed"] and host.running.read_text() == "one\n"
        if not died:
            break
    assert step > 5


def test_a_systemd_that_does_not_answer_is_told(monkeypatch):
    def silent(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(units.subprocess, "run", silent)
    with pytest.raises(
        ConfigTreeError, match="systemd has not answered `systemctl show` within 30 s; look at the host"
    ):
        units.read_units(UNITS)
