"""How tests reach a site: scheme, port, and whose certificates they trust. It stands here and nowhere else."""

from __future__ import annotations

import html
import http.client
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import requests

from .run import RELEASE_MARK


@dataclass(frozen=True)
class Web:
    """The way to a site.

    Args:
        scheme: ``http`` or ``https``.
        ca: file with the certificates to trust; the machine's own ones without it.
        timeout: seconds that a visitor waits for an answer.
    """

    scheme: str = "http"
    ca: str | None = None
    timeout: float = 5

    def url(self, address: str, port: int | str | None = None) -> str:
        """The URL of an address, without a slash at its end: IPv6 in brackets, the port where it is given."""
        host = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{host}" + (f":{port}" if port else "")

    def request(self, method: str, url: str, host: str, timeout: float | None = None, **arguments) -> requests.Response:
        """Send one request over a connection of its own, under the name of a site. A redirect is an answer."""
        headers = {"Host": host, **arguments.pop("headers", {})}
        settings = {"allow_redirects": False, "verify": self.ca or True} | arguments
        return requests.request(method, url, headers=headers, timeout=timeout or self.timeout, **settings)

    def connection(self, address: str) -> http.client.HTTPConnection:
        """A connection that is kept as long as its user likes."""
        if self.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca)
            return http.client.HTTPSConnection(address, timeout=10, context=context)
        return http.client.HTTPConnection(address, timeout=10)


def load_page(get: Callable[[str], requests.Response], url: str) -> requests.Response:
    """Load a page of the sample application and then its style sheet, and return the answer to the latter.

    Raises:
        requests.RequestException: there is no answer, or the style sheet is one of another release than the page.
    """
    page = get(f"{url}/")
    page.raise_for_status()
    sheet = get(url + html.unescape(re.search(r'<link rel="stylesheet" href="([^"]+)"', page.text)[1]))
    sheet.raise_for_status()
    mark = re.search(rf'<meta name="{RELEASE_MARK}" content="([^"]+)"', page.text)
    theirs = re.search(rf"{RELEASE_MARK}: (.+?) \*/", sheet.text)
    if (mark and mark[1]) != (theirs and theirs[1]):
        raise requests.RequestException(f"the page is of {mark and mark[1]}, its style sheet of {theirs and theirs[1]}")
    return sheet
