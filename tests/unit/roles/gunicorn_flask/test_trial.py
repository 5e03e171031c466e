"""A release is tried the way it will run, before anything is switched."""

from __future__ import annotations

import pytest
from gunicorn_flask import health, system, trial


@pytest.mark.parametrize(
    ("answers", "workers", "said"),
    [
        ([None], [{"1": 1.0}], None),
        (["starting", "starting", None], [{"1": 1.0}], None),
        (["answered 500"], [{"1": 1.0}], "answered 500 for 1 s"),
        (["redirects (302) to /login"], [{"1": 1.0}], "redirects"),
        ([None], [{"1": float(number)} for number in range(500)], "its workers end after a moment"),
        ([None], [{}], "gunicorn had no worker"),
    ],
)
def test_a_trial_wants_an_answer_that_lasts(app, monkeypatch, answers, workers, said):
    given, living = iter(answers), iter(workers)
    monkeypatch.setattr(system, "show", lambda *words: "1")
    monkeypatch.setattr(system, "is_active", lambda unit: True)
    monkeypatch.setattr(health, "request_health", lambda app, listener: next(given, answers[-1]))
    monkeypatch.setattr(system, "children", lambda main: next(living, workers[-1]))
    monkeypatch.setattr(health, "find_other_code", lambda app, workers: None)
    found = trial.watch_trial(app, "web-trial.service", "/x", pause=0.01, proof=0.1)
    assert found == said if said is None else said in found
    monkeypatch.setattr(system, "is_active", lambda unit: False)
    assert trial.watch_trial(app, "web-trial.service", "/x") == "it did not stay up"


def test_a_release_that_runs_code_of_another_one_does_not_pass(app, monkeypatch):
    monkeypatch.setattr(system, "show", lambda *words: "1")
    monkeypatch.setattr(system, "is_active", lambda unit: True)
    monkeypatch.setattr(system, "children", lambda main: {"1": 1.0})
    monkeypatch.setattr(health, "request_health", lambda app, listener: None)
    monkeypatch.setattr(health, "find_other_code", lambda app, workers: health.Problem("code of two", other_code=True))
    app.health_timeout = 1000
    assert trial.watch_trial(app, "web-trial.service", "/x") == "code of two"
