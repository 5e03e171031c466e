"""What the programs ask of the system."""

from __future__ import annotations

import stat

import pytest
from gunicorn_flask import system
from gunicorn_flask.application import Failure


def test_the_lock_is_out_of_reach_of_others_and_is_not_waited_for_for_ever(monkeypatch, tmp_path):
    monkeypatch.setattr(system, "RUN", tmp_path / "run")
    monkeypatch.setattr(system, "LOCK_S", 0.05)
    monkeypatch.setattr(system, "LOCK_RETRY_S", 0.01)
    with system.application_lock("web"):
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
        with pytest.raises(Failure, match="web: another deployment has been at work"), system.application_lock("web"):
            pass
        with system.application_lock("other"):
            pass
    with system.application_lock("web"):
        pass


def test_of_what_a_command_says_only_the_end_is_held(monkeypatch):
    monkeypatch.setattr(system, "OUTPUT_LIMIT", 10)
    done = system.run(["sh", "-c", "yes | head -c 1000000; echo; echo the end; exit 3"])
    assert (done.returncode, done.stdout) == (3, "\n\nthe end\n")


def test_what_a_unit_says_is_heard_while_it_starts(tmp_path):
    pipe = tmp_path / "output"
    # As systemd opens it, late and more than once.
    said = f"sleep 0.2; echo one > {pipe}; (yes | head -c 3000000; echo two) > {pipe}; exit 4"
    done = system.run_and_hear(["sh", "-c", said], pipe)
    assert done.returncode == 4 and done.stdout.endswith("y\ntwo\n") and len(done.stdout) == system.OUTPUT_LIMIT
    done = system.run_and_hear(["true"], tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (0, "")
