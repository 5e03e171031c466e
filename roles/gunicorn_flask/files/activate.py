#!/usr/bin/python3
"""Make what runs equal to what stands in this directory: release, units, environment, gunicorn's configuration.

config_tree runs it with check and without, and takes the old directory back and runs that one's again when the second
time fails:

    activate.py check [COMMAND ...]   check a directory before it is used; run COMMAND, a migration, in the release if
                                      that has not been done; start the release beside the live one
    activate.py judge                 say what of that can be said without changing anything, in check mode
    activate.py                       switch, reload or restart, wait until the release answers, delete old releases

gunicorn is reloaded where that is enough. Its environment, its unit and its packages need a restart, in which the
listener stays open, because systemd owns it. What a process was started with is recorded in /run. Its workers have the
releases open that their code is from: that is how the new release is known to be the one that answers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

# This directory is compared as a whole.
sys.dont_write_bytecode = True

from gunicorn_flask import checks, switch, system  # noqa: E402 - see above
from gunicorn_flask.application import Application, Failure  # noqa: E402


def main(arguments: Sequence[str]) -> int:
    app = Application()
    try:
        with system.application_lock(app.name):
            if arguments[:1] == ["check"]:
                checks.check(app, arguments[1:])
            elif arguments == ["judge"]:
                checks.judge(app)
            else:
                print(switch.activate(app))
    except Failure as failure:
        print(failure)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
