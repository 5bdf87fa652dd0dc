"""requests, urllib3 and httpx with a server of the standard library; Flask; paramiko."""

from __future__ import annotations

import pytest

from .conftest import needs, succeeds

BEFORE = {
    "requests": "requests,http.server",
    "urllib3": "urllib3,http.server",
    "httpx": "httpx,http.server",
}


@pytest.mark.parametrize("early", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("library", BEFORE)
def test_http(library: str, early: bool) -> None:
    """Fifty requests of one client wait in the server at once; bodies, timeouts, errors."""
    needs(library)
    succeeds("web_clients", library, "plain", first=BEFORE[library] if early else "")


@pytest.mark.parametrize("early", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("library", BEFORE)
def test_https(library: str, early: bool) -> None:
    """The same over TLS, with a certificate that is verified."""
    needs(library, "trustme")
    succeeds("web_clients", library, "tls", first=BEFORE[library] if early else "")


@pytest.mark.parametrize("first", ["", "requests,flask,werkzeug.serving"])
def test_flask(first: str) -> None:
    """Fifty requests are inside a Flask app at once, each with its own request and `g`."""
    needs("flask", "requests")
    succeeds("flask_app", first=first)


@pytest.mark.parametrize("first", ["", "paramiko"])
def test_paramiko(first: str) -> None:
    """Server and clients: commands, data both ways, files."""
    needs("paramiko")
    succeeds("ssh", first=first)
