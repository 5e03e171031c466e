"""What nginx has logged, while it goes on logging."""

from __future__ import annotations

import json


def access_log(host) -> list[dict]:
    """The requests in the access log of a host, the oldest first.

    A reader may meet the last line half written, so only what ends with a newline is a line.

    Args:
        host: connection of testinfra to the host.
    """
    text = host.run("cat /var/log/nginx/access.log").stdout
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
