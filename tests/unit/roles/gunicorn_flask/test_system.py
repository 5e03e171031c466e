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
