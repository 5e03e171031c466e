"""A service or a job: leaves a line with its release, and ends at once, or never, or not when it is asked to."""

import os
import signal
import sys
from pathlib import Path

with Path("/var/lib/web", sys.argv[1]).open("a") as file:
    file.write(os.environ["APP_RELEASE"] + " " + Path(os.environ["WEB_SETTINGS"]).read_text() + "\n")
if sys.argv[2:] == ["deaf"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while sys.argv[2:] not in ([], ["dies"]):
    signal.pause()
if sys.argv[2:] == ["dies"]:
    sys.exit("out of order")
