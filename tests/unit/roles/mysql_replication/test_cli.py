"""What the programs print: one JSON object, and a refusal on standard error."""

from __future__ import annotations

import json

import pytest
from mysql_replication import backup, cli, local, mode
from mysql_replication.local import Failure, Report


@pytest.fixture
def logged(monkeypatch):
    lines: list[str] = []
    for module in (local, cli):
        monkeypatch.setattr(module, "log", lambda text, *_: lines.append(text))
    return lines


def test_a_change_is_planned_in_check_mode_and_logged_otherwise(logged):
    report = Report(check=True)
    report.change("db1: promoted")
    assert (report.changed, report.plan, report.done, logged) == (True, ["db1: promoted"], [], [])
    report = Report()
    report.announce("db1 takes over")
    report.change("db1: promoted")
    report.note("db1 is the source")
    assert (report.changed, report.plan) == (True, ["db1 takes over"])
    assert report.done == logged == ["db1: promoted", "db1 is the source"]


def test_what_was_found_is_no_change(logged):
    report = Report()
    report.announce("nothing to do")
    report.note("db1 is the source")
    assert not report.changed


def test_a_program_prints_one_object(monkeypatch, capsys, logged):
    def fence(report: Report) -> None:
        report.facts["fenced"] = True
        report.change("db1 is fenced")

    monkeypatch.setattr(mode, "configured", lambda: type("Mode", (), {"fence": staticmethod(fence)}))
    cli.main(["fence", "--check"])
    assert json.loads(capsys.readouterr().out) == {
        "changed": True,
        "plan": ["db1 is fenced"],
        "done": [],
        "fenced": True,
    }


def test_a_refusal_keeps_what_was_planned_and_is_logged(monkeypatch, capsys, logged):
    def restore(report: Report, **_: object) -> None:
        report.announce("restore guestbook")
        raise Failure("guestbook holds data")

    monkeypatch.setattr(backup, "restore", restore)
    options = ["--database=x", "--backup=", "--until=", "--overwrite=", "--directory=/x"]
    with pytest.raises(SystemExit, match="guestbook holds data"):
        cli.main(["restore", *options])
    assert json.loads(capsys.readouterr().out)["plan"] == ["restore guestbook"]
    assert logged == ["restore refused or failed: guestbook holds data"]
    with pytest.raises(SystemExit):
        cli.main(["restore", *options, "--check"])
    assert len(logged) == 1


@pytest.mark.parametrize("command", ["backup", "restore", "switchover", "failover", "rejoin"])
def test_options_have_no_default_here(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--check"])
    assert "the following arguments are required" in capsys.readouterr().err


def test_a_list_of_names_may_be_empty():
    arguments = cli.parser().parse_args(["failover", "--fenced=a,b", "--accept-loss="])
    assert (arguments.fenced, arguments.accept_loss) == (["a", "b"], [])


def test_a_name_with_a_comma_is_one_account(capsys):
    arguments = cli.parser().parse_args(
        ["remove-accounts", '--accounts=["shop,mysql.sys@localhost", "blog@localhost"]']
    )
    assert arguments.accounts == ["shop,mysql.sys@localhost", "blog@localhost"]
    for wrong in ("shop@localhost", '"shop@localhost"', "[1]"):
        with pytest.raises(SystemExit):
            cli.parser().parse_args(["remove-accounts", f"--accounts={wrong}"])
    assert "argument --accounts" in capsys.readouterr().err


def test_every_command_of_a_mode_is_a_method():
    for name, (_, options) in cli.MODE_COMMANDS.items():
        method = getattr(mode.SourceReplica, name.replace("-", "_"))
        names = method.__code__.co_varnames[2 : method.__code__.co_argcount]
        wanted = [option.lstrip("+").replace("-", "_") for option in options]
        assert list(names[: len(wanted)]) == wanted
        for made in mode.MODES.values():
            assert hasattr(made, name.replace("-", "_"))
