"""The trial: the release is started beside the live one before anything is switched."""

from __future__ import annotations

import time

from gunicorn_flask import health, sandbox, system
from gunicorn_flask.application import Application, Failure, Helper

LISTENER = """[Socket]
ListenStream={listener}
SocketMode=0600
"""
# One that dies at once is to be seen, one that is stopped gets the time that it will have.
HELPER = """
Restart=no
TimeoutStopSec={timeout}
RemoveIPC=no
RuntimeDirectoryPreserve=yes
"""


def try_out(app: Application) -> None:
    """Start the release with the same rights and a listener of its own that only root can reach, and its services.

    So no request reaches a release that dies, hangs or answers with errors.
    """
    began = time.time()
    with sandbox.Copies(app, "trial") as copies:
        # Without `--workers`, the last one of which counts, it would be as large as the live one.
        arguments = f"{app.environment().get('GUNICORN_CMD_ARGS', '')} --workers 1".strip()
        copies.write_environment(GUNICORN_CMD_ARGS=arguments)
        listener = copies.folder / "listener"
        units = [
            copies.write(LISTENER.format(listener=listener), "socket"),
            copies.add(app.service, "service", sandbox.TRIAL),
        ]
        tried = [helper for helper in app.helpers if helper.trial and not helper.schedule]
        helpers = [(helper, add_helper(copies, helper)) for helper in tried]
        names = [unit.name for unit in units]
        started = system.run(["systemctl", "start", *names, *(unit for _helper, unit in helpers)])
        if system.show(names[1], "ActiveState") == "failed" or (started.returncode != 0 and not helpers):
            problem = "it did not start"
        else:
            problem = watch_trial(app, names[1], str(listener))
        if problem:
            log = system.last_lines(names[1], began)
            raise Failure(
                f"release {app.release.name} did not pass its trial, so it was not switched to: "
                + explained(problem, log)
            )
        for helper, unit in helpers:
            refuse_bad_helper(app, helper, unit, began)


def add_helper(copies: sandbox.Copies, helper: Helper) -> str:
    extra = HELPER.format(timeout=helper.stop_timeout)
    return copies.add(helper.service, "service", extra, suffix=f"-{helper.unit}").name


def refuse_bad_helper(app: Application, helper: Helper, unit: str, began: float) -> None:
    """It has been up for as long as the application was watched. Now it has to end when it is asked to."""
    problem = ""
    if not system.is_active(unit):
        problem = f"ended at once (exit code or signal {system.show(unit, 'ExecMainStatus')})"
    else:
        system.run(["systemctl", "stop", unit])
        if system.show(unit, "Result") == "timeout":
            problem = f"did not end within {helper.stop_timeout} s of SIGTERM (stop_timeout)"
    if problem:
        said = explained(f"`{' '.join(helper.command)}` {problem}", system.last_lines(unit, began))
        raise Failure(f"{helper.place}: of release {app.release.name}, which was not switched to, {said}")


def explained(problem: str, log: str) -> str:
    """With what the log says, a death by a signal in words."""
    death = sandbox.death_in(log)
    return problem + (f"; {death}" if death else "") + (f"; its log ends with:\n{log}" if log else "")


def watch_trial(app: Application, unit: str, listener: str, pause: float = 0.1, proof: float = 1.0) -> str | None:
    """What is wrong; None if it is healthy within the timeout and for `proof` seconds more, with the same workers."""
    end = time.monotonic() + app.health_timeout
    healthy: tuple[float, dict[str, float]] | None = None
    while True:
        main = system.show(unit, "MainPID")
        if main == "0" or not system.is_active(unit):
            return "it did not stay up"
        problem = health.request_health(app, listener) if app.health_path else None
        workers = system.children(main)
        now = time.monotonic()
        if problem is None and not workers:
            problem = "gunicorn had no worker"
        if problem is None and healthy and healthy[1] != workers:
            problem = "its workers end after a moment and are started anew"
        if problem is None:
            other = health.find_other_code(app, workers)
            if other and other.other_code:
                return other.said
            problem = other.said if other else None
        if problem is None:
            healthy = healthy or (now, workers)
            if now - healthy[0] >= proof:
                return None
        else:
            healthy = None
            # Waiting does not change where a path leads.
            if "redirects" in problem:
                return problem
            if now > end:
                return f"{problem} for {app.health_timeout} s (gunicorn_flask_health_timeout)"
        time.sleep(pause)
