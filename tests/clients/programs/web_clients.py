"""One HTTP client that many goroutines share: `LIBRARY [plain|tls]`."""

import ssl
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from goroutines.patch import patch

patch()

from crowd import COUNT, all_of, held
from web import BIG, serving

library, tls = sys.argv[1], sys.argv[2] == "tls"
Get = Callable[..., bytes]
Post = Callable[[str, Any], Any]


def use_requests(ca: str | None) -> tuple[Get, Post, type[Exception], type[Exception]]:
    """How requests is used."""
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    verify = ca or True  # for each request: the session's yields to REQUESTS_CA_BUNDLE
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=COUNT))

    def get(url: str, timeout: float | None = None) -> bytes:
        return session.get(url, timeout=timeout, verify=verify).content

    def post(url: str, value: Any) -> Any:
        return session.post(url, json=value, verify=verify).json()

    return get, post, requests.Timeout, requests.ConnectionError


def use_urllib3(ca: str | None) -> tuple[Get, Post, type[Exception], type[Exception]]:
    """How urllib3 is used."""
    import urllib3
    from urllib3.exceptions import MaxRetryError, ReadTimeoutError

    pool = urllib3.PoolManager(maxsize=COUNT, block=True, ca_certs=ca)

    def get(url: str, timeout: float | None = None) -> bytes:
        retries = False if timeout else None
        return pool.request("GET", url, timeout=timeout, retries=retries).data

    def post(url: str, value: Any) -> Any:
        return pool.request("POST", url, json=value).json()

    return get, post, ReadTimeoutError, MaxRetryError


def use_httpx(ca: str | None) -> tuple[Get, Post, type[Exception], type[Exception]]:
    """How httpx is used."""
    import httpx

    limits = httpx.Limits(max_connections=COUNT, max_keepalive_connections=COUNT)
    verify = ssl.create_default_context(cafile=ca) if ca else True
    client = httpx.Client(verify=verify, limits=limits, timeout=None)

    def get(url: str, timeout: float | None = None) -> bytes:
        return client.get(url, timeout=timeout).content

    def post(url: str, value: Any) -> Any:
        return client.post(url, json=value).json()

    return get, post, httpx.TimeoutException, httpx.ConnectError


def program(context: ssl.SSLContext | None, ca: str | None) -> None:
    """Send all kinds of requests."""
    use = globals()[f"use_{library}"]
    get, post, timeout_error, connect_error = use(ca)
    with serving(context) as server:
        url = server.url
        assert held(
            lambda i: get(f"{url}/held/{i}"), lambda: server.in_flight, server.gate.set
        ) == [b"/held/%d" % i for i in range(COUNT)]
        values = [{"i": i, "text": "é" * 1000 * i} for i in range(COUNT)]
        assert all_of(lambda i: post(f"{url}/echo", values[i])) == values
        assert all(body == BIG for body in all_of(lambda i: get(f"{url}/big"), 4))
        try:
            get(f"{url}/stuck", timeout=0.05)
            raise AssertionError("no timeout")
        except timeout_error:
            pass
        if tls:
            try:
                use(None)[0](f"{url}/big")
                raise AssertionError("trusted an unknown certificate")
            except connect_error as error:
                assert "CERTIFICATE_VERIFY_FAILED" in str(error), error
    try:
        use(ca)[0](f"{url}/big")  # anew, as the others' connections live on
        raise AssertionError("nobody listens there")
    except connect_error:
        print("ok")


def with_tls() -> None:
    """Have a certificate made for this run."""
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with tempfile.NamedTemporaryFile(suffix=".pem") as ca:
        authority.cert_pem.write_to_path(ca.name)
        program(context, ca.name)


if tls:
    with_tls()
else:
    program(None, None)
