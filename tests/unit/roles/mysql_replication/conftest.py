"""Makes the programs of the role importable as they are on a host: `from mysql_replication import plans`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles/mysql_replication/files"))
