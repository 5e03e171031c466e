"""Leaves a line for each migration, with the release that made it."""

import os
from pathlib import Path

with Path("/var/lib/web/migrations").open("a") as file:
    file.write(os.environ["APP_RELEASE"] + "\n")
